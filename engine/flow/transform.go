package flow

import (
	"slices"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/journal"
)

// madeEvent is an event as the transforms of a route leave it.
type madeEvent struct {
	route uint32
	raw   []byte       // in the envelope that it came in; nil = not made yet
	event *event.Event // nil = not made yet
}

// transform changes events for those of their routes that say so, and has the routes'
// reactions emit what follows from them. A route whose step fails is struck out: its
// part of the event is a dead letter.
func (l *lane) transform() {
	if !l.gen.makes {
		return
	}
	for _, r := range l.batch {
		if it := r.item(); it.flags&(flagFollows|flagUnmatched) == 0 {
			l.transformOne(r)
		}
	}
}

func (l *lane) transformOne(r ref) {
	it, c := r.item(), r.c
	routes := c.routesOf(it)
	n := 0
	for k, route := range routes {
		rt := &c.gen.routes[route]
		if len(rt.transforms)+len(rt.reactions) > 0 && !l.steps(r, route, rt) {
			continue
		}
		routes[n] = route
		if len(c.taken) > 0 {
			c.taken[int(it.routes)+n] = c.taken[int(it.routes)+k]
		}
		n++
	}
	it.routeCount = uint16(n)
}

// steps runs the steps of one route for one event; false = the event does not take it.
func (l *lane) steps(r ref, route uint32, rt *route) bool {
	if r.c.plainCloud(r.item()) && len(rt.transforms) <= 1 && (len(rt.transforms) == 0 || len(rt.reactions) == 0) {
		return l.plainSteps(r, route, rt)
	}
	e, err := l.f.eventOf(r)
	if err != nil {
		l.letter(r, letter{reason: reasonTransform, detail: err.Error(), route: route, sink: journal.NoRoute})
		return false
	}
	for i, st := range rt.transforms {
		l.fields.of(l.f, r, route, st)
		if e, err = l.fields.makeEvent(e); err != nil {
			l.letter(r, letter{reason: reasonTransform, detail: place("transform", i, err), route: route, sink: journal.NoRoute})
			return false
		}
	}
	if len(rt.transforms) > 0 {
		x := r.item().more()
		x.made = append(x.made, madeEvent{route: route, event: &e})
	}
	for i, st := range rt.reactions {
		l.react(r, route, i, st, &e)
	}
	return true
}

// Reasons of dead letters of steps.
const (
	reasonTransform = "transform_failed"
	reasonReact     = "react_failed"
)

// plainSteps is steps for an event whose bytes are rewritten: the route has one
// transform, or reactions.
func (l *lane) plainSteps(r ref, route uint32, rt *route) bool {
	for _, st := range rt.transforms {
		l.fields.of(l.f, r, route, st)
		raw, err := l.transformed(r)
		if err != nil {
			l.letter(r, letter{reason: reasonTransform, detail: place("transform", 0, err), route: route, sink: journal.NoRoute})
			return false
		}
		x := r.item().more()
		x.made = append(x.made, madeEvent{route: route, raw: raw})
	}
	if len(rt.reactions) > 0 {
		cause := causeOf(r)
		for i, st := range rt.reactions {
			l.react(r, route, i, st, &cause)
		}
	}
	return true
}

// madeFor is the event as a route's transforms left it, nil where the route has none.
func (it *item) madeFor(route uint32) *madeEvent {
	if it.extra == nil {
		return nil
	}
	for i := range it.extra.made {
		if m := &it.extra.made[i]; m.route == route {
			return m
		}
	}
	return nil
}

// renderMade encodes what a route's transforms made as a sink wants it.
func (f *Flow) renderMade(r ref, m *madeEvent, s *sink) ([]byte, error) {
	if m.raw != nil && s.original {
		return m.raw, nil
	}
	if m.event == nil {
		e, err := event.Decode(m.raw, event.CodecOf(event.CloudEvents), event.Missing{}, r.c.reading.limits)
		if err != nil {
			return nil, err
		}
		m.event = &e
	}
	e := detached(m.event)
	if s.original {
		e = unmarked(r.c, r.item(), m.event)
	}
	return event.Encode(nil, e, s.codec, event.Stamps{Processed: f.cfg.Now()})
}

// detached is an event without the envelopes that it came in: what a template made is
// no other form of them, so another envelope need not carry them along.
func detached(e *event.Event) *event.Event {
	return &event.Event{
		ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, DataContentType: e.DataContentType, DataSchema: e.DataSchema,
		Time: e.Time, TimeText: e.TimeText, Extensions: slices.Clone(e.Extensions), Data: e.Data, DataKind: e.DataKind,
		Version: e.Version, HasVersion: e.HasVersion,
	}
}

// eventOf is an event in its canonical form.
func (f *Flow) eventOf(r ref) (event.Event, error) {
	it, c := r.item(), r.c
	var e event.Event
	if it.cold != 0 {
		e = c.cold[it.cold-1].event
	} else {
		var err error
		if e, err = event.Decode(c.raw(it), c.reading.codec, c.reading.missing, c.reading.limits); err != nil {
			return e, err
		}
	}
	if e.ID == "" {
		e.ID = string(c.id(it))
	}
	return e, nil
}
