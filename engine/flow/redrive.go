package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/letters"
	"github.com/weir-project/weir/transports"
)

// This file sends dead letters on their way again. One commit holds what becomes of a
// letter (its bytes in a sink or park queue, or its event in the internal queue) and
// that the letter is done with. So a crash neither loses it nor does it twice (I1, I5).
// Only then the letter is taken off its queue; if a crash comes in between, the next
// start does that, by the record.

// Limits of a redrive.
const (
	redriveLetters = 100     // of one commit
	redriveBytes   = 1 << 20 // likewise, but for a single letter
	redrivePause   = 20 * time.Millisecond
)

// ErrAtWork says that another order about dead letters is being carried out.
var ErrAtWork = errors.New("another order about dead letters is at work")

// holder is what keeps the dead letters.
func (f *Flow) holder() (transports.Holder, error) {
	g := f.gen.Load()
	if g.dead < 0 {
		return nil, &letters.NotHere{}
	}
	s := g.ends[g.dead]
	h, ok := s.end.(transports.Holder)
	if !ok || s.plan.Settings.String("topic") != "" {
		return nil, &letters.NotHere{Where: letters.Where(s.plan.Transport, s.plan.Settings)}
	}
	return h, nil
}

// nameOf is the name of the queue of dead letters.
func nameOf(h transports.Holder) string { return path.Base(h.Place()) }

// takeOff takes letters off their queue that an earlier run was done with.
func (f *Flow) takeOff() error {
	h, err := f.holder()
	if err != nil {
		return nil // they are not kept here any more
	}
	numbers := f.taken.of(nameOf(h))
	if err := h.TakeOff(numbers); err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	f.taken.forget(nameOf(h), numbers)
	return nil
}

// EachLetter visits the dead letters that are chosen, oldest first, until visit fails.
// It may be called while the flow runs.
func (f *Flow) EachLetter(ctx context.Context, filter *letters.Filter, visit func(*letters.Letter) error) error {
	h, err := f.holder()
	if err != nil {
		return err
	}
	done := f.taken.of(nameOf(h))
	return Letters(h, filter, func(l *letters.Letter) (bool, error) {
		if slices.Contains(done, l.Number) {
			return true, nil
		}
		return ctx.Err() == nil, errors.Join(ctx.Err(), visit(l))
	})
}

// Letters visits those of a queue's dead letters that are chosen, until visit returns
// false. What is no dead letter is passed over: somebody else put it there.
func Letters(h transports.Holder, filter *letters.Filter, visit func(*letters.Letter) (bool, error)) error {
	return h.Held(filter.From, func(d *transports.Delivery) (bool, error) {
		if filter.End > 0 && d.Ordinal >= filter.End {
			return false, nil
		}
		l, err := letters.Parse(d)
		if err != nil || !filter.Takes(l) {
			return true, nil
		}
		return visit(l)
	})
}

// Carry carries out an order about dead letters and returns when what it did is
// durable. Where it stops early, the result says what was done by then. One order is
// carried out at a time.
func (f *Flow) Carry(ctx context.Context, o *letters.Order) (r letters.Result, err error) {
	if err := o.Validate(); err != nil {
		return r, err
	}
	if !f.redriving.TryLock() {
		return r, ErrAtWork
	}
	defer f.redriving.Unlock()
	begun := time.Now()
	r.Counts, r.Why = *letters.NewCounts(), []letters.Kept{}
	defer func() { r.Second = time.Since(begun).Seconds() }()
	batch := redrive{f: f, order: o, result: &r, begun: begun}
	if batch.holder, err = f.holder(); err != nil {
		return r, err
	}
	filter := o.Filter
	if filter.End == 0 { // letters that fail again stand behind it
		if filter.End, err = endOf(batch.holder, filter.From); err != nil {
			return r, err
		}
	}
	err = f.EachLetter(ctx, &filter, func(l *letters.Letter) error {
		if o.Limit > 0 && r.Letters >= o.Limit {
			r.More = true
			return errEnded
		}
		r.Next = l.Number + 1
		r.Add(l)
		if o.Count {
			return nil
		}
		return batch.add(ctx, l)
	})
	if errors.Is(err, errEnded) {
		err = nil
	}
	return r, errors.Join(err, batch.flush(ctx))
}

// endOf is the number after the last letter of now.
func endOf(h transports.Holder, from uint64) (end uint64, err error) {
	err = h.Held(from, func(d *transports.Delivery) (bool, error) {
		end = d.Ordinal + 1
		return true, nil
	})
	return max(end, 1), err
}

// redrive collects letters for one commit.
type redrive struct {
	f      *Flow
	order  *letters.Order
	holder transports.Holder
	result *letters.Result
	begun  time.Time

	gen     *Generation // whose sinks the ticket's stages are of; it is held until the commit
	ticket  *commit.Ticket
	record  []journal.Redelivery
	numbers []uint64
	bytes   int
}

// add makes a letter part of the next commit; one that cannot be redriven is kept.
func (b *redrive) add(ctx context.Context, l *letters.Letter) error {
	if b.ticket == nil {
		b.begin()
	}
	outcome, reason := journal.Redriven, l.Reason
	if b.order.Drop {
		outcome, reason = journal.Discarded, "dropped: "+l.Reason
	} else if err := b.again(ctx, l); err != nil {
		if ctx.Err() != nil || b.f.Err() != nil {
			return err
		}
		b.result.Keep(l, err)
		return nil
	}
	b.record = append(b.record, journal.Redelivery{
		Ordinal: l.Number, Outcome: outcome, Attempts: uint32(l.Attempts), Reason: reason,
		Source: l.Source, ID: l.EventID, Route: l.Route,
	})
	b.numbers = append(b.numbers, l.Number)
	if b.bytes += len(l.Event()) + len(l.Sent()); len(b.numbers) < b.most() && b.bytes < redriveBytes {
		return nil
	}
	return b.flush(ctx)
}

// begin opens the next commit.
func (b *redrive) begin() { b.ticket, b.gen = &commit.Ticket{}, b.f.under() }

// end lets go of its generation.
func (b *redrive) end() {
	if b.gen != nil {
		b.f.through(b.gen)
	}
	b.ticket, b.gen, b.numbers, b.record, b.bytes = nil, nil, nil, nil, 0
}

// most is how many letters a commit holds: with a rate, a tenth of a second's.
func (b *redrive) most() int {
	if b.order.Rate == 0 {
		return redriveLetters
	}
	return min(redriveLetters, max(1, b.order.Rate/10))
}

// again puts a letter where it goes on.
func (b *redrive) again(ctx context.Context, l *letters.Letter) error {
	if l.Way() == letters.ToSink {
		return b.toSink(ctx, l)
	}
	if err := l.Cut(); err != nil {
		return err
	}
	if b.gen.reading(l.Source) == nil {
		return fmt.Errorf("the source %q is not in the configuration any more", l.Source)
	}
	rec := derive.Record{
		Kind: derive.Reentry, Source: l.Source, Partition: l.Partition, Ordinal: l.Ordinal, Sub: l.Sub,
		Attempts: uint32(max(l.Attempts, 1)), Route: l.Route, Sink: l.Sink, Data: l.Event(),
	}
	if l.Key != "" {
		rec.Key = []byte(l.Key)
	}
	if len(l.Lineage) > 0 {
		if err := json.Unmarshal(l.Lineage, &rec.Lineage); err != nil {
			return fmt.Errorf("its lineage cannot be read: %w", err)
		}
		rec.Kind = derive.Derived
	}
	if waited, err := b.waitFor(ctx, func() bool { return !b.f.derived.queue.Full() }); waited || err != nil {
		return again(ctx, b, l, err)
	}
	run := b.run(b.f.derived.stage)
	run.Framed = derive.AppendRecord(run.Framed, &rec)
	run.Count++
	return nil
}

// again judges a letter anew after a wait: the configuration may be another one.
func again(ctx context.Context, b *redrive, l *letters.Letter, err error) error {
	if err != nil {
		return err
	}
	return b.again(ctx, l)
}

// toSink puts the bytes that a sink did not take into its park queue, from where they
// are tried in order, or into the sink itself where that is local.
func (b *redrive) toSink(ctx context.Context, l *letters.Letter) error {
	s := b.gen.sinkNamed(l.Sink)
	if s == nil {
		return fmt.Errorf("the sink %q is not in the configuration any more", l.Sink)
	}
	entry := transports.Entry{ID: strings.TrimSuffix(l.ID, "/"+l.Sink+"/"+l.Reason), Data: l.Sent(), Route: l.Route, Attempt: l.Attempts + 1}
	if l.Route == "" {
		entry.Route = "unmatched"
	}
	key := xxh3.HashString(l.EventID)
	if l.Key != "" {
		entry.Key, key = []byte(l.Key), xxh3.HashString(l.Key)
	}
	if s.staged != nil {
		fits := func() bool { return s.bounded == nil || s.bounded.Room() > int64(2*b.bytes+len(entry.Data)) }
		if waited, err := b.waitFor(ctx, fits); waited || err != nil {
			return again(ctx, b, l, err)
		}
		run := b.run(s.stage)
		run.Framed = s.staged.Frame(run.Framed, &entry)
		run.Count++
		return nil
	}
	if s.park == nil {
		return fmt.Errorf("the sink %q has no park queue", l.Sink)
	}
	if waited, err := b.waitFor(ctx, func() bool { return !s.park.Full() }); waited || err != nil {
		return again(ctx, b, l, err)
	}
	s.dispatcher.Expect(key, len(entry.Data))
	run := b.run(s.parkStage)
	run.Framed = s.park.FrameAgain(run.Framed, &entry, key, l.Attempts, b.f.cfg.Now(), letterAgain(l))
	run.Count++
	return nil
}

// waitFor waits for room, with what was collected so far on its way and no
// generation held. waited = the next commit was begun, maybe under another one.
func (b *redrive) waitFor(ctx context.Context, room func() bool) (waited bool, err error) {
	if room() {
		return false, nil
	}
	if err := b.flush(ctx); err != nil {
		return true, err
	}
	for !room() {
		if err := b.pause(ctx, redrivePause); err != nil {
			return true, err
		}
	}
	b.begin()
	return true, nil
}

func (b *redrive) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-b.f.life.Done():
		return errors.Join(b.f.Err(), transports.ErrClosed)
	}
}

func (b *redrive) run(stage int) *commit.StagedRun {
	for i := range b.ticket.Stages {
		if b.ticket.Stages[i].Stage == stage {
			return &b.ticket.Stages[i]
		}
	}
	b.ticket.Stages = append(b.ticket.Stages, commit.StagedRun{Stage: stage})
	return &b.ticket.Stages[len(b.ticket.Stages)-1]
}

// flush commits what was collected, and only then takes the letters off. It keeps to
// the rate.
func (b *redrive) flush(ctx context.Context) error {
	defer b.end()
	if len(b.numbers) == 0 {
		return nil
	}
	t, numbers, place := b.ticket, b.numbers, nameOf(b.holder)
	t.Record = journal.AppendRedelivered(nil, b.f.epoch, takenSink+place, b.record)
	done := make(chan error, 1)
	t.Committed = func(err error) {
		if err == nil {
			b.f.taken.add(place, numbers...)
		} else {
			b.f.fail(err)
		}
		done <- err
	}
	// From here on it is done, whether or not the caller waits: life, not ctx.
	if err := b.f.log.Submit(b.f.life, t); err != nil {
		return fmt.Errorf("redrive dead letters: %w", err)
	}
	if err := <-done; err != nil {
		return fmt.Errorf("redrive dead letters: %w", err)
	}
	b.result.Done += len(numbers)
	if err := b.holder.TakeOff(numbers); err != nil {
		return fmt.Errorf("dead letters that were redriven cannot be taken off: %w", err)
	}
	b.f.taken.forget(place, numbers)
	b.end()
	if b.order.Rate == 0 {
		return nil
	}
	due := b.begun.Add(time.Duration(b.result.Done) * time.Second / time.Duration(b.order.Rate))
	if wait := time.Until(due); wait > 0 {
		return b.pause(ctx, wait)
	}
	return nil
}

// letterAgain is what the next dead letter of a delivery would say of its event; see
// letterContext.
func letterAgain(l *letters.Letter) []byte {
	d := l.Data
	d.Reason, d.Detail, d.Sink, d.Attempts, d.Rendered, d.RenderedBase64 = "", "", "", 0, nil, nil
	b, err := json.Marshal(&d)
	if err != nil {
		return nil // it was JSON before, so this does not happen
	}
	// The members after reason and detail, each with a comma before it.
	const head = `{"reason":"","detail":""`
	return b[len(head) : len(b)-1]
}

// reasonNoLonger is why an event is refused that comes again for a route or sink that
// does not take it any more.
const reasonNoLonger = "no_longer_taken"

// again leaves an event that comes again the one route that it is for. false = there
// is none: it is refused.
func (c *chunk) again(it *item, rec *derive.Record, at int) bool {
	if rec.Route == "" && rec.Sink == "" {
		return true
	}
	matched := c.matched[at:]
	if rec.Route == "" {
		if len(matched) == 0 && slices.ContainsFunc(c.gen.unmatched, func(s int) bool { return c.gen.sinks[s] == rec.Sink }) {
			return true
		}
		c.fail(it, reasonNoLonger, fmt.Sprintf("sink %q does not take it as an unmatched event any more", rec.Sink))
		return false
	}
	i := slices.IndexFunc(matched, func(route uint32) bool { return c.gen.routes[route].name == rec.Route })
	if i < 0 {
		c.matched = c.matched[:at]
		c.fail(it, reasonNoLonger, fmt.Sprintf("route %q does not take it any more", rec.Route))
		return false
	}
	c.matched = append(c.matched[:at], matched[i])
	if rec.Sink != "" && !c.gen.reaches(&c.gen.routes[c.matched[at]], rec.Sink) {
		c.matched = c.matched[:at]
		c.fail(it, reasonNoLonger, fmt.Sprintf("route %q does not lead to sink %q any more", rec.Route, rec.Sink))
		return false
	}
	return true
}

// sinkNamed is a sink of the generation, nil where it has none of the name.
func (g *Generation) sinkNamed(name string) *sink {
	for _, s := range g.ends {
		if s.name == name && s.name != config.DeadLettersName {
			return s
		}
	}
	return nil
}

// reaches says whether a sink is among those of a route.
func (g *Generation) reaches(rt *route, sink string) bool {
	all := slices.Concat(append([][]int{rt.to, rt.rest}, rt.outputs[:]...)...)
	return slices.ContainsFunc(all, func(s int) bool { return g.sinks[s] == sink })
}

// routeOf is the route that a dead letter is about: its own, or the one that its event
// came again for.
func (c *chunk) routeOf(it *item, route uint32) string {
	if route != journal.NoRoute {
		return c.gen.routes[route].name
	}
	if rec := c.record(it); rec != nil {
		return rec.Route
	}
	return ""
}

// sinkOf is likewise the sink.
func (c *chunk) sinkOf(it *item, sink uint32) string {
	if sink != journal.NoRoute {
		return c.gen.sinks[sink]
	}
	if rec := c.record(it); rec != nil {
		return rec.Sink
	}
	return ""
}
