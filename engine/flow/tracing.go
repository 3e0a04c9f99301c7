package flow

import (
	"time"

	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/trace"
	"github.com/weir-project/weir/plugins"
)

// This file notes what becomes of the events that the tracer samples. Everything here
// is reached only where there is a tracer.

// traceField is what readings have for the tracer.
const traceField = "traceparent"

// spread makes a hash of an ordinal, for events whose identity was not found.
const spread = 0x9e3779b97f4a7c15

// sample begins the trace of an event that was just read, if it is sampled. An event
// that could not be read is not.
func (s *scanner) sample(c *chunk, it *item, doc []byte, l *layout) {
	var parent []byte
	if at := c.reading.trace; at >= 0 && s.get(l, at).Kind == field.String {
		if parent = s.bytes(l, doc, at); len(parent) < 3 || parent[2] != '-' {
			made, _ := event.TraceParent(string(parent)) // X-Ray's form
			parent = []byte(made)
		}
	}
	hash := it.hi
	if it.flags&flagIdentified == 0 {
		hash = it.ordinal * spread
	}
	if !s.tracer.Sample(parent, hash) {
		return
	}
	e := &trace.Event{Parent: string(parent), Source: c.source.name, Partition: c.Partition, Received: c.at}
	e.Add(trace.Step{Kind: trace.Receive, Began: c.at, Ended: time.Now()})
	it.more().trace = e
}

// traceOf is the trace of an event, nil where it is not sampled.
func traceOf(it *item) *trace.Event {
	if it.extra == nil {
		return nil
	}
	return it.extra.trace
}

// traceAsked notes a plug-in's part.
func (l *lane) traceAsked(p int, began time.Time, out []uint32) {
	now := time.Now()
	for k, i := range l.asked {
		e := traceOf(l.batch[i].item())
		if e == nil {
			continue
		}
		outcome := "yes"
		switch {
		case out[k]&plugins.Failed != 0:
			outcome = "failed"
		case out[k] == 0:
			outcome = "no"
		}
		e.Add(trace.Step{Kind: trace.Plugin, Name: l.gen.plugins[p].name, Began: began, Ended: now, Outcome: outcome, Reason: l.reasons[p][i]})
	}
}

// traceEnded notes the end of a delivery.
func (l *lane) traceEnded(e *trace.Event, j *dispatch.Job, sink string) {
	e.Add(trace.Step{
		Kind: trace.Deliver, Name: sink, Began: j.Offered(), Ended: time.Now(),
		Outcome: j.Outcome.String(), Reason: j.Reason, Attempts: j.Attempts,
	})
}

// traceRecord notes that an event's record is made; its commit begins. The event's
// chunk may be gone from now on.
func (l *lane) traceRecord(t *ticket, e *trace.Event, r ref) {
	it, c := r.item(), r.c
	now := time.Now()
	e.ID, e.Outcome, e.Reason = string(c.id(it)), it.outcome.String(), it.reason
	for _, route := range c.routesOf(it) {
		e.Routes = append(e.Routes, l.routeName(c.gen, route))
	}
	if it.routeCount > 0 || it.outcome == journal.Unmatched {
		l.each(r, func(_ uint32, sink int) {
			if s := c.gen.ends[sink]; s.staged != nil {
				e.Add(trace.Step{Kind: trace.Deliver, Name: s.name, Began: now, Outcome: journal.Delivered.String(), Attempts: 1})
			}
		})
	}
	e.Add(trace.Step{Kind: trace.Commit, Began: now})
	t.traces = append(t.traces, e)
}

// traceNacked ends the trace of an event that is given back.
func (l *lane) traceNacked(e *trace.Event, r ref, reason string) {
	e.ID, e.Outcome, e.Reason, e.Ended = string(r.c.id(r.item())), "nacked", reason, time.Now()
	l.f.cfg.Tracer.Done(e)
}

// traced ends the traces of a ticket that is durable: what had no end before ended
// with the commit.
func (t *ticket) traced() {
	if len(t.traces) == 0 {
		return
	}
	now := time.Now()
	for _, e := range t.traces {
		e.Ended = now
		for i := range e.Steps {
			if e.Steps[i].Ended.IsZero() {
				e.Steps[i].Ended = now
			}
		}
		t.lane.f.cfg.Tracer.Done(e)
	}
	clear(t.traces) // they are the tracer's now
	t.traces = t.traces[:0]
}
