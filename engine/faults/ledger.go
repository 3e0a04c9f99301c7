// Package faults proves that the engine loses nothing. It holds what a fault test
// needs beside the engine: a ledger of what was given in, readers of what came out
// that share no code with what wrote it, and the comparison of the two. Its tests
// break the engine in every way that the machine allows.
//
// Promise: with
//
//	obliged    events whose source had confirmed them (the write returned, Send was nil)
//	delivered  what the sinks hold, byte for byte as it was issued
//	dead       dead letters
//	dropped    events that the journal says a named rule dropped
//
// a Report lists what of obliged is in none of the others (lost, I1), what was
// delivered and never issued, or issued with other bytes (invented, I2), what
// stands more than once at an event, route and sink (doubled, I5), and keys whose
// events came first in another order than they were issued (disordered, I7). That
// an event was dropped as a duplicate excuses a copy of it, never the event.
//
// An event's bytes are a function of the ledger's seed and the event's number, so
// that a run can be repeated and nothing need be remembered to judge it.
package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// Event is an event that a ledger issued.
type Event struct {
	ID     string
	Key    string
	Seq    int // place among the events of its key
	Source string
	Type   string
	Sinks  []string // where it must arrive
	Data   []byte   // the event, one line of CloudEvents JSON without its line break
}

// Delivered is an event found in a sink. Deliveries of one sink stand in the
// order in which they stand there.
type Delivered struct {
	Sink  string
	Route string // "" where the sink does not say
	Data  []byte
}

// Dead is a dead letter.
type Dead struct {
	ID     string
	Reason string
	Sink   string // "" = the event as a whole
}

// Dropped is what the journal says of an event that reached no sink.
type Dropped struct {
	ID   string
	Rule string // the journal's outcome, such as "duplicate" or "expired"
}

// Found is what came out of an engine.
type Found struct {
	Delivered []Delivered
	Dead      []Dead
	Dropped   []Dropped
}

// Ledger notes what was given to an engine. Its methods may be called from any goroutine.
type Ledger struct {
	seed uint64

	mu      sync.Mutex // guards what follows
	order   []*Event
	issued  map[string]*Event
	obliged map[string]bool
	keys    map[string]int
}

// NewLedger returns an empty ledger.
func NewLedger(seed uint64) *Ledger {
	return &Ledger{seed: seed, issued: map[string]*Event{}, obliged: map[string]bool{}, keys: map[string]int{}}
}

// Issue makes the next event of a key. It may be given to the engine several
// times; it must arrive once at each of the sinks.
func (l *Ledger) Issue(key, eventType string, sinks ...string) Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.order)
	e := &Event{
		ID: fmt.Sprintf("%s-%06d", key, n), Key: key, Seq: l.keys[key],
		Source: "/faults/" + key, Type: eventType, Sinks: sinks,
	}
	e.Data = []byte(fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":%q,"data":{"key":%q,"seq":%d,"body":%q}}`,
		e.ID, e.Source, e.Type, e.Key, e.Seq, l.body(n)))
	l.keys[key]++
	l.order = append(l.order, e)
	l.issued[e.ID] = e
	return *e
}

// body is the part of an event that only seed and number decide.
func (l *Ledger) body(n int) string {
	random := rand.New(rand.NewPCG(l.seed, uint64(n)))
	b := make([]byte, 0, 64)
	for range 1 + random.IntN(8) {
		b = binary.BigEndian.AppendUint64(b, random.Uint64())
	}
	return fmt.Sprintf("%x", b)
}

// Oblige notes that an event's source has confirmed it: from now on it may not be lost.
func (l *Ledger) Oblige(events ...Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		l.obliged[events[i].ID] = true
	}
}

// Obliged is how many events the engine owes.
func (l *Ledger) Obliged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.obliged)
}

// Report is what is wrong; each line names an event and where.
type Report struct {
	Lost, Invented, Doubled, Disordered []string
}

// Err joins what is wrong into one error, nil where nothing is.
func (r Report) Err() error {
	var errs []error
	for _, part := range []struct {
		name string
		list []string
	}{{"lost (I1)", r.Lost}, {"invented (I2)", r.Invented}, {"doubled (I5)", r.Doubled}, {"disordered (I7)", r.Disordered}} {
		if n := len(part.list); n > 0 {
			errs = append(errs, fmt.Errorf("%d %s: %s", n, part.name, strings.Join(part.list[:min(n, maxNamed)], "; ")))
		}
	}
	return errors.Join(errs...)
}

// maxNamed is how many events an error names of each sort.
const maxNamed = 8

// Check compares what came out with what was given in. Repeats are judged only
// where repeatsOK does not say that a sink may repeat what was in flight at a crash.
func (l *Ledger) Check(found Found, repeatsOK ...string) Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := check{ledger: l, arrived: map[place]bool{}, times: map[place]int{}, last: map[place]string{}}
	for i := range found.Delivered {
		c.delivery(&found.Delivered[i])
	}
	excused := map[place]bool{}
	for _, d := range found.Dead {
		excused[place{d.ID, d.Sink, ""}] = true
	}
	for _, d := range found.Dropped {
		if d.Rule != "duplicate" {
			excused[place{d.ID, "", ""}] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.obliged)) {
		for _, sink := range l.issued[id].Sinks {
			if !c.arrived[place{id, sink, ""}] && !excused[place{id, "", ""}] && !excused[place{id, sink, ""}] {
				c.report.Lost = append(c.report.Lost, id+" at "+sink)
			}
		}
	}
	for at, n := range c.times {
		if n > 1 && !slices.Contains(repeatsOK, at.sink) {
			c.report.Doubled = append(c.report.Doubled, fmt.Sprintf("%s at %s, %d times", at.name, at.sink, n))
		}
	}
	slices.Sort(c.report.Doubled)
	return c.report
}

// place is an event's id, or a key, at a sink and route.
type place struct{ name, sink, route string }

// check is a comparison on its way.
type check struct {
	ledger  *Ledger
	arrived map[place]bool
	times   map[place]int    // by id, sink and route
	last    map[place]string // by key and sink: the newest event that came for the first time
	report  Report
}

func (c *check) delivery(d *Delivered) {
	id := idOf(d.Data)
	e := c.ledger.issued[id]
	switch {
	case e == nil:
		c.report.Invented = append(c.report.Invented, fmt.Sprintf("%q at %s was never issued", id, d.Sink))
		return
	case string(e.Data) != string(d.Data):
		c.report.Invented = append(c.report.Invented, fmt.Sprintf("%s at %s has other bytes: hash %x, issued %x", id, d.Sink, hash(d.Data), hash(e.Data)))
		return
	case !slices.Contains(e.Sinks, d.Sink):
		c.report.Invented = append(c.report.Invented, fmt.Sprintf("%s at %s does not belong there", id, d.Sink))
		return
	}
	c.times[place{id, d.Sink, d.Route}]++
	if c.arrived[place{id, d.Sink, ""}] {
		return
	}
	c.arrived[place{id, d.Sink, ""}] = true
	at := place{e.Key, d.Sink, ""}
	if before := c.ledger.issued[c.last[at]]; before != nil && before.Seq > e.Seq {
		c.report.Disordered = append(c.report.Disordered, fmt.Sprintf("%s came after %s at %s", id, before.ID, d.Sink))
		return
	}
	c.last[at] = id
}

func hash(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// idOf cuts the id out of an event as Issue writes it; "" where there is none.
func idOf(data []byte) string {
	_, rest, _ := strings.Cut(string(data), `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}
