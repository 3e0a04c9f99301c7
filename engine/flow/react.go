package flow

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/journal"
)

// Reasons why an event that was to be emitted is a dead letter instead.
const (
	reasonHops        = "hop_limit"
	reasonDescendants = "descendant_limit"
	reasonDerivedFull = "derived_queue_full"
)

// templatePlugin stands for a plug-in's name in ids of events that templates emit.
const templatePlugin = "template"

// rootKey is the fingerprint of an event that others descend from.
type rootKey struct{ hi, lo uint64 }

func rootOf(l *derive.Lineage) rootKey { return rootKey{l.RootHi, l.RootLo} }

// descent is what a lane knows of a root's descendants: they have its key, so they
// meet no other lane. It lasts as long as one of them waits.
type descent struct {
	emitted uint32 // ever
	waiting uint32 // not settled
}

// found counts a descendant that waited in the queue at the start. The newest of a root
// has the highest number, and settles last.
func (d *descent) found(l *derive.Lineage) {
	d.waiting++
	d.emitted = max(d.emitted, l.Number)
}

func (l *lane) descentOf(root rootKey) *descent {
	d := l.descents[root]
	if d == nil {
		d = &descent{}
		l.descents[root] = d
	}
	return d
}

// settledDerived counts off an event of the internal queue.
func (l *lane) settledDerived(rec *derive.Record) {
	root := rootOf(&rec.Lineage)
	d := l.descents[root]
	if d == nil || !rec.Lineage.Derived() {
		return
	}
	if d.waiting--; d.waiting == 0 {
		delete(l.descents, root)
	}
}

// place says which step of a route failed.
func place(what string, i int, err error) string { return fmt.Sprintf("%s %d: %v", what, i+1, err) }

// react emits one event: it becomes part of its cause's record.
func (l *lane) react(r ref, route uint32, i int, st *step, cause *event.Event) {
	rec, err := l.derived(r, route, i, st, cause)
	w := letter{route: route, sink: journal.NoRoute, part: i + 1, rendered: rec.Data}
	switch d := l.descents[rootOf(&rec.Lineage)]; {
	case err != nil:
		w.reason, w.detail, w.rendered = reasonReact, place("react", i, err), nil
	case rec.Lineage.Hop > derive.MaxHops:
		w.reason, w.detail = reasonHops, fmt.Sprintf("it would be %d hops from the event that began it, at most %d are allowed", rec.Lineage.Hop, derive.MaxHops)
	case d != nil && d.emitted >= derive.MaxDescendants:
		w.reason, w.detail = reasonDescendants, fmt.Sprintf("the event that began it has %d descendants already", d.emitted)
	case l.f.derived.queue.Over():
		w.reason, w.detail = reasonDerivedFull, fmt.Sprintf("the internal queue holds %d bytes", l.f.derived.queue.Bytes())
	}
	if w.reason != "" {
		l.letter(r, w)
		return
	}
	d := l.descentOf(rootOf(&rec.Lineage))
	d.emitted, d.waiting = d.emitted+1, d.waiting+1
	rec.Lineage.Number = d.emitted
	x := r.item().more()
	x.emitted = derive.AppendRecord(x.emitted, &rec)
	x.emissions++
}

// derived makes the record of an event that a step emits.
func (l *lane) derived(r ref, route uint32, i int, st *step, cause *event.Event) (derive.Record, error) {
	it, c := r.item(), r.c
	rec := derive.Record{
		Kind: derive.Derived, Source: c.source.name, Partition: c.Partition, Ordinal: it.ordinal, Sub: it.sub,
		KeyHash: it.key, Keyed: true, Key: c.keyBytes(it), Lineage: l.lineage(r, cause),
	}
	if before := c.record(it); before != nil {
		rec.Source, rec.Partition, rec.Ordinal, rec.Sub = before.Source, before.Partition, before.Ordinal, before.Sub
	}
	rec.Lineage.Route = c.gen.routes[route].name
	l.fields.of(l.f, r, route, st)
	replay, _ := cause.Extension("replayname").(string)
	id := derive.Emission{
		Source: cause.Source, ID: cause.ID, Version: it.version, Replay: replay,
		Route: rec.Lineage.Route, Plugin: templatePlugin, Ordinal: i,
	}
	var err error
	if n := &rec.Lineage; cause.Original == nil && c.plainCloud(it) { // see plainSteps
		n.Envelopes = cloudNames
		if rec.Data, n.EventSource, err = l.derivedCloud(r, n, id.EventID(), cause.Source); err == nil {
			err = checkSize(rec.Data, c.reading.maxEvent)
		}
		return rec, err
	}
	made, err := l.fields.makeEvent(*cause)
	if err != nil {
		return rec, err
	}
	e := detached(&made)
	e.ID, e.Version, e.HasVersion = id.EventID(), 0, false
	rec.Lineage.EventSource = e.Source
	rec.Lineage.Envelopes, rec.Data, err = encodeDerived(e, cause.Chain, &rec.Lineage, c.reading.limits)
	if err == nil {
		err = checkSize(rec.Data, c.reading.maxEvent)
	}
	return rec, err
}

// cloudNames are the envelopes of a CloudEvent.
var cloudNames = []string{event.CloudEvents.String()}

func checkSize(data []byte, limit int) error {
	if len(data) > limit {
		return fmt.Errorf("%d bytes, at most %d are allowed", len(data), limit)
	}
	return nil
}

// lineage is that of an event that r causes.
func (l *lane) lineage(r ref, cause *event.Event) derive.Lineage {
	it := r.item()
	n := derive.Lineage{Hop: 1, Cause: cause.ID, Correlation: cause.ID}
	if text, ok := cause.Extension(derive.CorrelationAttribute).(string); ok && text != "" {
		n.Correlation = text
	}
	if rec := r.c.record(it); rec != nil && rec.Lineage.Derived() {
		n.Hop, n.RootHi, n.RootLo = rec.Lineage.Hop+1, rec.Lineage.RootHi, rec.Lineage.RootLo
		n.Correlation = rec.Lineage.Correlation
		return n
	}
	var b [20]byte
	binary.LittleEndian.PutUint64(b[:], it.hi)
	binary.LittleEndian.PutUint64(b[8:], it.lo)
	binary.LittleEndian.PutUint32(b[16:], it.version)
	h := xxh3.Hash128(b[:])
	n.RootHi, n.RootLo = h.Hi, h.Lo
	return n
}

// encodeDerived writes a derived event in the envelopes of its cause where they can
// hold all of it, so that rules which know them match it; else as a CloudEvent.
func encodeDerived(e *event.Event, chain []event.Envelope, l *derive.Lineage, limits event.Limits) ([]string, []byte, error) {
	if data, ok := encodeLike(*e, chain, limits); ok {
		names := make([]string, len(chain))
		for i, envelope := range chain {
			names[i] = envelope.String()
		}
		return names, data, nil
	}
	l.Mark(e)
	data, err := e.AppendCloudEvent(nil, event.Stamps{})
	return cloudNames, data, err
}

// encodeLike writes an event in envelopes that are no CloudEvent, if they give it back
// whole. The marks of its descent are not among what they must hold.
func encodeLike(e event.Event, chain []event.Envelope, limits event.Limits) ([]byte, bool) {
	if len(chain) == 0 {
		return nil, false
	}
	inner := chain[len(chain)-1]
	switch inner {
	case event.CloudEvents:
		if len(chain) == 1 {
			return nil, false
		}
	case event.Attributes:
		e.Subject = e.ID // one member is both
		e.SetExtension("eventid", e.ID)
		e.SetExtension("eventcount", nil)
	case event.Raw, event.S3:
		return nil, false
	}
	derive.Unmark(&e, chain)
	codec := event.CodecOf(chain...)
	data, err := event.Encode(nil, &e, codec, event.Stamps{Bare: true})
	if err != nil {
		return nil, false
	}
	back, err := event.Decode(data, codec, event.Missing{Source: e.Source, Zone: time.UTC}, limits)
	return data, err == nil && sameEvent(&e, &back)
}

// unmarked is a derived event without the marks of its descent, where its own envelopes
// have no place for them.
func unmarked(c *chunk, it *item, e *event.Event) *event.Event {
	if rec := c.record(it); rec == nil || !rec.Lineage.Derived() || slices.Contains(e.Chain, event.CloudEvents) {
		return e
	}
	plain := *e
	derive.Unmark(&plain, plain.Chain)
	return &plain
}

// sameEvent says that nothing was lost of e.
func sameEvent(e, back *event.Event) bool {
	if e.ID != back.ID || e.Source != back.Source || e.Type != back.Type || e.Subject != back.Subject ||
		e.DataContentType != back.DataContentType || e.DataSchema != back.DataSchema || !e.Time.Equal(back.Time) ||
		e.DataKind != back.DataKind || string(e.Data) != string(back.Data) {
		return false
	}
	for _, a := range e.Extensions {
		if back.Extension(a.Name) != a.Value {
			return false
		}
	}
	return true
}

// stageEmitted puts what an event emits into the internal queue's part of its record.
func (l *lane) stageEmitted(t *ticket, x *extra) {
	if x.emissions == 0 {
		return
	}
	run := t.run(l.f.derived.stage)
	run.Framed = append(run.Framed, x.emitted...)
	run.Count += x.emissions
	t.staged += len(x.emitted)
}
