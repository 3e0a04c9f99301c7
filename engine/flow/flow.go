package flow

import (
	"context"

	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/plugins"
)

// This file is the path of an event through its lane, one function a stage, in
// the order in which they run. What comes before (receive, decode, validate,
// stamp, expire, match) needs no order and stands in scan.go and read.go; what comes after
// (commit, ack) is shared by all lanes and stands in ticket.go and source.go.

// batchEvents is how many events a lane works on at once.
const batchEvents = 64

// chunk runs a chunk's events of this lane, batch by batch.
func (l *lane) chunk(ctx context.Context, c *chunk) {
	l.adopt(c.gen)
	l.at, l.done = c, 0
	list := c.byLane[l.id]
	for len(list) > 0 {
		n := min(len(list), batchEvents)
		l.batch = l.batch[:0]
		for _, i := range list[:n] {
			l.batch = append(l.batch, ref{c, i})
		}
		list = list[n:]
		l.runNoted(ctx)
	}
	l.at = nil
	l.f.ran(c)
	l.f.finished(c, l.done)
}

// doneWith notes that an event's bytes are not needed any more. The chunk at work is
// counted off once, at its end.
func (l *lane) doneWith(c *chunk) {
	if c == l.at {
		l.done++
		return
	}
	l.f.finished(c, 1)
}

// run takes the batch, whose events are of one chunk, through all stages.
func (l *lane) run(ctx context.Context) {
	l.skip()
	l.refuse()
	l.claim()
	l.filter(ctx)
	l.transform()
	l.deliver()
}

// skip leaves out what was settled before the engine started.
func (l *lane) skip() {
	kept := l.batch[:0]
	for _, r := range l.batch {
		if r.item().flags&flagSettled != 0 {
			l.f.leave(r.c.gen, r.c.source, 1)
			l.doneWith(r.c)
			continue
		}
		kept = append(kept, r)
	}
	l.batch = kept
}

// refuse ends what the scan found fault with, and what is past its expiry.
func (l *lane) refuse() {
	kept := l.batch[:0]
	for _, r := range l.batch {
		it := r.item()
		switch {
		case it.fault != 0:
			why := &r.c.faults[it.fault-1]
			l.bury(r, journal.Refused, why.reason, why.detail)
		case it.outcome == outcomeTest:
			l.settle(r, journal.Discarded, it.reason)
		case it.flags&flagExpired != 0:
			l.settle(r, journal.Expired, "")
		default:
			kept = append(kept, r)
			continue
		}
	}
	l.batch = kept
}

// claim asks the source's window for each event's identity. Only who holds the
// claim goes on; followers of an event in flight come back by mail.
func (l *lane) claim() {
	if len(l.batch) == 0 || l.batch[0].c.source.table == nil {
		return
	}
	table := l.batch[0].c.source.table
	l.requests = l.requests[:0]
	for _, r := range l.batch {
		it := r.item()
		l.requests = append(l.requests, dedup.Request[ref]{
			Hi: it.hi, Lo: it.lo, Data: it.data, Version: it.version,
			HasVersion: it.flags&flagVersion != 0, MayUpdate: it.flags&flagMayUpdate != 0, Ref: r,
		})
	}
	claims := l.claims[:len(l.batch)]
	table.Claim(l.f.log.Now(), l.requests, claims)
	kept := l.batch[:0]
	for i, r := range l.batch {
		if l.judged(r, claims[i].Verdict, claims[i].Token) {
			kept = append(kept, r)
		}
	}
	l.batch = kept
}

// judged acts on a verdict of the window; true = the event holds its claim and goes
// on, or keeps its place in its key's order until it has a verdict.
func (l *lane) judged(r ref, v dedup.Verdict, token dedup.Token) bool {
	it := r.item()
	switch v {
	case dedup.Fresh, dedup.Update:
		it.token, it.flags = token, it.flags|flagClaimed
		return true
	case dedup.Follows:
		return l.hold(r)
	case dedup.Duplicate:
		l.settle(r, journal.Duplicate, "")
	case dedup.Stale:
		l.settle(r, journal.Stale, "")
	case dedup.Conflict:
		if r.c.reading.updates != nil && it.flags&flagMayUpdate == 0 {
			l.settle(r, journal.Duplicate, "") // update_types: whatever else repeats is one
			break
		}
		if r.c.reading.dedup.OnConflict == conflictDuplicate {
			l.settle(r, journal.Duplicate, "conflict")
			break
		}
		l.bury(r, journal.Conflict, "conflict", "the same identity and version came before with other data")
	}
	return false
}

// filter asks the plug-ins and strikes out the routes that they say no to.
func (l *lane) filter(ctx context.Context) {
	for p := range l.gen.plugins {
		l.ask(ctx, p)
	}
	if len(l.gen.plugins) == 0 {
		return
	}
	kept := l.batch[:0]
	for i, r := range l.batch {
		if l.agree(r, i) {
			kept = append(kept, r)
		}
	}
	l.batch = kept
}

// agree keeps those routes of an event whose plug-ins said yes; false = a
// plug-in's failure has decided about the whole event.
func (l *lane) agree(r ref, at int) bool {
	it, c := r.item(), r.c
	if it.flags&flagFollows != 0 {
		return true
	}
	routes := c.routesOf(it)
	for _, route := range routes {
		if verdict, p := l.verdict(&l.gen.routes[route], at); verdict == verdictNack {
			l.nack(r, "plug-in "+l.gen.plugins[p].name+": "+l.reasons[p][at])
			return false
		}
	}
	n := 0
	for _, route := range routes {
		verdict, p := l.verdict(&l.gen.routes[route], at)
		switch {
		case verdict&plugins.Failed != 0 && l.gen.plugins[p].onError == plugins.Drop:
			l.note(r, journal.Note{Route: route, Sink: journal.NoRoute, Outcome: journal.Discarded, Reason: "plugin " + l.gen.plugins[p].name + ": " + l.reasons[p][at]})
			continue
		case verdict&plugins.Failed != 0:
			l.letter(r, letter{reason: "plugin_failed", detail: "plug-in " + l.gen.plugins[p].name + ": " + l.reasons[p][at], route: route, sink: journal.NoRoute})
			continue
		case verdict == 0:
			continue
		}
		routes[n] = route
		if len(c.taken) > 0 {
			c.taken[int(it.routes)+n] = verdict
		}
		n++
	}
	it.routeCount = uint16(n)
	return true
}

// deliver hands the event to the sinks that stand outside the commit. Where there
// are none it is settled at once: the local sinks take part in the commit itself.
func (l *lane) deliver() {
	for _, r := range l.batch {
		l.send(r)
	}
}

// send delivers one event and settles it when all its deliveries have ended.
func (l *lane) send(r ref) {
	if it := r.item(); it.flags&flagFollows != 0 || l.mustWait(r) {
		it.flags |= flagDeferred
		if it.flags&flagHeld == 0 {
			l.keep(r)
		}
		return
	}
	l.dispatch(r)
	l.finish(r)
}

// dispatch gives the event to the dispatchers of those of its sinks that have one.
func (l *lane) dispatch(r ref) {
	it := r.item()
	it.outcome = l.result(it)
	l.each(r, func(route uint32, sink int) {
		switch s := r.c.gen.ends[sink]; {
		case s.dispatcher != nil:
			l.offer(r, route, sink)
		case !s.original || it.madeFor(route) != nil || r.c.gen.texts[sink] != nil:
			l.prepare(r, route, sink)
		}
	})
}

// result is the outcome of an event whose deliveries all arrive.
func (l *lane) result(it *item) journal.Outcome {
	switch {
	case it.flags&flagUnmatched != 0:
		return journal.Unmatched
	case it.routeCount > 0:
		return journal.Delivered
	case it.extra != nil && len(it.extra.letters) > 0:
		return journal.Dead
	}
	return journal.Filtered
}

// each calls do for every delivery of an event: its routes' sinks, or the
// unmatched ones.
func (l *lane) each(r ref, do func(route uint32, sink int)) {
	if rec := r.c.record(r.item()); rec != nil && rec.Sink != "" {
		l.every(r, func(route uint32, sink int) {
			if r.c.gen.sinks[sink] == rec.Sink {
				do(route, sink)
			}
		})
		return
	}
	l.every(r, do)
}

func (l *lane) every(r ref, do func(route uint32, sink int)) {
	it, c := r.item(), r.c
	if it.flags&flagUnmatched != 0 {
		for _, sink := range c.gen.unmatched {
			do(journal.NoRoute, sink)
		}
		return
	}
	for k, route := range c.routesOf(it) {
		rt := &c.gen.routes[route]
		if rt.choice < 0 {
			for _, sink := range rt.to {
				do(route, sink)
			}
			continue
		}
		rt.chosen(c.taken[int(it.routes)+k], func(sink int) { do(route, sink) })
	}
}
