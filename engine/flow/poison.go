package flow

import (
	"context"
	"fmt"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/poison"
)

// reasonPoison is why an event that took the process down is dead-lettered.
const reasonPoison = "poison"

// A slot holds a whole batch.
const _ = uint(poison.SlotEvents - batchEvents)

// runNoted runs the batch with its events written down for the next process, should
// this one die of them.
func (l *lane) runNoted(ctx context.Context) {
	if l.f.poison.Hunting() {
		l.hunt(ctx)
		return
	}
	l.noteBatch()
	l.run(ctx)
	l.noted.End()
}

// noteBatch writes the batch down. What has no identity is refused in any case.
func (l *lane) noteBatch() {
	n := 0
	for _, r := range l.batch {
		if it := r.item(); it.flags&flagIdentified != 0 {
			l.noted.Note(n, it.hi, it.lo)
			n++
		}
	}
	l.noted.Begin(n)
}

// hunt runs the batch in order, each suspect with nothing beside it, and buries what
// has taken the process down too often.
func (l *lane) hunt(ctx context.Context) {
	var all [batchEvents]ref
	list := all[:copy(all[:], l.batch)]
	for len(list) > 0 {
		n := 0
		for n < len(list) && l.standing(list[n]) == poison.Clear {
			n++
		}
		if n > 0 {
			l.f.poison.Beside(func() { l.runSome(ctx, list[:n]) })
			list = list[n:]
			continue
		}
		id := idOf(list[0])
		if l.standing(list[0]) == poison.Quarantined {
			l.quarantine(list[0])
		} else {
			l.f.poison.Alone(func() { l.runSome(ctx, list[:1]) })
			l.f.poison.Forget(id)
		}
		list = list[1:]
	}
}

func idOf(r ref) poison.ID { return poison.ID{Hi: r.item().hi, Lo: r.item().lo} }

func (l *lane) standing(r ref) poison.Standing {
	if r.item().flags&flagIdentified == 0 {
		return poison.Clear
	}
	return l.f.poison.Standing(idOf(r))
}

func (l *lane) runSome(ctx context.Context, list []ref) {
	l.batch = append(l.batch[:0], list...)
	l.noteBatch()
	l.run(ctx)
	l.noted.End()
}

// quarantine ends an event in the dead letters, with its id claimed as if it had run: a
// producer's resend is a duplicate.
func (l *lane) quarantine(r ref) {
	l.batch = append(l.batch[:0], r)
	l.skip()
	l.refuse()
	l.claim()
	for _, r := range l.batch {
		if r.item().flags&flagFollows != 0 {
			l.send(r) // it waits for another of its identity, and is judged again after it
			continue
		}
		l.buryPoison(r)
	}
}

func (l *lane) buryPoison(r ref) {
	id := idOf(r) // an event is not touched any more once it is written
	l.bury(r, journal.Dead, reasonPoison, fmt.Sprintf("it was at work each of the last %d times the process died", poison.Strikes))
	l.f.poison.Forget(id)
}

// goOnNoted takes one event that has its claim now through the rest of the stages.
func (l *lane) goOnNoted(ctx context.Context) {
	r := l.batch[0]
	goOn := func() {
		l.noteBatch()
		l.filter(ctx)
		l.transform()
		l.deliver()
		l.noted.End()
	}
	if !l.f.poison.Hunting() {
		goOn()
		return
	}
	switch id := idOf(r); l.standing(r) {
	case poison.Quarantined:
		l.buryPoison(r)
	case poison.Suspect:
		l.f.poison.Alone(goOn)
		l.f.poison.Forget(id)
	default:
		l.f.poison.Beside(goOn)
	}
}

// saveSuspects writes down who is a suspect no more. A failure costs no event: who
// stands there longer than needed runs alone once more.
func (f *Flow) saveSuspects() {
	if err := f.poison.Save(); err != nil {
		f.cfg.Log.Warn("the tally of suspects could not be written", "error", err)
	}
}
