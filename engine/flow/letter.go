package flow

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/letters"
	"github.com/weir-project/weir/transports"
)

// letter is a dead letter to be: one (event, route, sink) that cannot be
// delivered, or an event that no route ever saw.
type letter struct {
	reason, detail string
	route, sink    uint32 // journal.NoRoute where there is none
	attempts       int
	part           int    // tells letters of one route apart, where it may have several; 0 = it has one
	rendered       []byte // what was sent, where it is not the original
}

// LetterType is the type of dead letters, which are CloudEvents. Their data is
//
//	{"reason", "detail", "source", "partition", "ordinal", "sub", "event_id", "generation",
//	 "route", "sink", "attempts", "lineage", "size", "original" | "original_base64", "rendered" | "rendered_base64"}
//
// with sub, route, sink, attempts, lineage and rendered only where they apply, and size
// only where original holds no more than the first bytes of an event of that size. Source,
// partition and ordinal of a derived event are its root's; lineage is its
// derive.Lineage.
const LetterType = letters.Type

// letter makes a dead letter of an event: part of its record where the sink of
// dead letters is local, else a delivery that must arrive before the event is settled.
func (l *lane) letter(r ref, w letter) {
	it, g := r.item(), r.c.gen
	if rec := r.c.record(it); rec != nil && rec.Attempts > 0 {
		w.attempts = int(rec.Attempts) + max(w.attempts, 1) // it was a dead letter before
	}
	l.f.letterCounts.add(w.reason)
	if w.sink != journal.NoRoute || w.route != journal.NoRoute {
		l.note(r, journal.Note{Route: w.route, Sink: w.sink, Outcome: journal.Dead, Attempts: uint32(w.attempts), Reason: w.reason})
	}
	if g.dead < 0 {
		return
	}
	if s := g.ends[g.dead]; s.staged == nil {
		j := l.job(r, w.route, g.dead)
		j.Entry.ID, j.Entry.Data = letterID(r, &w), l.f.renderLetter(nil, r, &w)
		it.pending++
		s.dispatcher.Offer(j)
		return
	}
	x := it.more()
	x.letters = append(x.letters, w)
}

// stageLetter frames a dead letter for the local sink of dead letters.
func (l *lane) stageLetter(t *ticket, r ref, w *letter) {
	s := r.c.gen.ends[r.c.gen.dead]
	l.letterBytes = l.f.renderLetter(l.letterBytes[:0], r, w)
	l.entry = transports.Entry{
		ID: letterID(r, w), Key: r.c.keyBytes(r.item()), Data: l.letterBytes,
		Route: "dead_letters", Attempt: 1,
	}
	run := t.run(s.stage)
	run.Framed = s.staged.Frame(run.Framed, &l.entry)
	run.Count++
	t.staged += len(l.letterBytes)
}

func (f *Flow) renderLetter(dst []byte, r ref, w *letter) []byte {
	dst = f.letterHead(dst, letterID(r, w), w)
	dst = append(dst, f.letterContext(r.c, r.item(), w.route)...)
	var sink []byte
	if name := r.c.sinkOf(r.item(), w.sink); name != "" {
		sink = append([]byte(`,"sink":`), appendJSON(nil, name)...)
	}
	return appendLetterTail(dst, sink, w)
}

// letterID tells an event's dead letters apart, and is the same whenever the event fails again.
func letterID(r ref, w *letter) string {
	id := string(r.c.id(r.item()))
	if w.route != journal.NoRoute {
		id += "/" + r.c.gen.routes[w.route].name
	}
	if w.sink != journal.NoRoute {
		id += "/" + r.c.gen.sinks[w.sink]
	}
	if w.part > 0 {
		id += "/" + strconv.Itoa(w.part)
	}
	return id + "/" + w.reason
}

// letterHead begins the CloudEvent.
func (f *Flow) letterHead(b []byte, id string, w *letter) []byte {
	b = append(b, `{"specversion":"1.0","id":`...)
	b = appendJSON(b, id)
	b = append(b, `,"source":"/weir/dead_letters","type":"`+LetterType+`","time":"`...)
	b = f.cfg.Now().UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","datacontenttype":"application/json","data":{"reason":`...)
	b = appendJSON(b, w.reason)
	b = append(b, `,"detail":`...)
	return appendJSON(b, w.detail)
}

func appendLetterTail(b, context []byte, w *letter) []byte {
	b = append(b, context...)
	if w.attempts > 0 {
		b = append(b, `,"attempts":`...)
		b = strconv.AppendInt(b, int64(w.attempts), 10)
	}
	if w.rendered != nil {
		b = appendBytes(b, "rendered", w.rendered)
	}
	return append(b, '}', '}')
}

// letterContext is what a dead letter says of an event and where it was going: members of
// an object, each with a comma before it. Park queues carry it, since a parked
// delivery may die long after its event left memory.
func (f *Flow) letterContext(c *chunk, it *item, route uint32) []byte {
	source, partition, ordinal, sub := c.source.name, c.Partition, it.ordinal, it.sub
	rec := c.record(it)
	if rec != nil {
		source, partition, ordinal, sub = rec.Source, rec.Partition, rec.Ordinal, rec.Sub
	}
	b := append([]byte(nil), `,"source":`...)
	b = appendJSON(b, source)
	b = append(b, `,"partition":`...)
	b = appendJSON(b, partition)
	b = append(b, `,"ordinal":`...)
	b = strconv.AppendUint(b, ordinal, 10)
	if sub != 0 {
		b = append(b, `,"sub":`...)
		b = strconv.AppendUint(b, uint64(sub), 10)
	}
	b = append(b, `,"event_id":`...)
	b = appendJSON(b, string(c.id(it)))
	b = append(b, `,"generation":`...)
	b = strconv.AppendUint(b, c.gen.Number, 10)
	if name := c.routeOf(it, route); name != "" {
		b = append(b, `,"route":`...)
		b = appendJSON(b, name)
	}
	if rec != nil && rec.Lineage.Derived() {
		b = append(append(b, `,"lineage":`...), rec.Lineage.JSON()...)
	}
	if c.Oversize > 0 {
		b = append(b, `,"size":`...)
		b = strconv.AppendInt(b, c.Oversize, 10)
	}
	return appendBytes(b, "original", c.raw(it))
}

// appendBytes writes bytes as a string where they are UTF-8, else as name_base64.
func appendBytes(b []byte, name string, data []byte) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	if utf8.Valid(data) {
		b = append(b, `":`...)
		return appendJSON(b, string(data))
	}
	b = append(b, `_base64":"`...)
	b = base64.StdEncoding.AppendEncode(b, data)
	return append(b, '"')
}

func appendJSON(b []byte, s string) []byte {
	q, _ := json.Marshal(s) // strings always marshal
	return append(b, q...)
}

// reasonOf is the stable name before the colon of a dispatcher's reason.
func reasonOf(reason string) string {
	name, _, _ := strings.Cut(reason, ":")
	return name
}

// parkedLetter is the dead letter of a delivery that died in a park queue.
func (f *Flow) parkedLetter(e *dispatch.Ended, sink string) []byte {
	w := letter{reason: reasonOf(e.Reason), detail: e.Reason, attempts: int(e.Attempts), rendered: e.Entry.Data}
	b := f.letterHead(nil, e.Entry.ID+"/"+sink+"/"+w.reason, &w) // as letterID: the entry's id ends with the route
	context := append([]byte(`,"sink":`), appendJSON(nil, sink)...)
	return appendLetterTail(b, append(context, e.Context...), &w)
}
