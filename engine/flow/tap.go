package flow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/weir-project/weir/engine/journal"
)

// Limits of taps: what they hold, and how much of the path's time they take.
const (
	maxTaps   = 16
	tapEvents = 256  // events that wait for a viewer
	tapRate   = 2000 // events a second that a tap is shown
	tapRefill = 50 * time.Millisecond
	tapBytes  = 16 << 10 // of an event that are shown
)

// TapQuery chooses the events that a tap shows. Empty fields choose everything; the
// others must all hold.
type TapQuery struct {
	Route  string // a route that takes the event
	Source string
	Sink   string // a sink that the event goes to
	Sample int    // one of so many; 0 and 1 = all
}

// Tapped is an event that was just settled, as a tap shows it. Its record is not
// durable yet.
type Tapped struct {
	*journal.Line
	// Event is the event as it came, if it is JSON, else Text or Bytes. Of a longer one
	// than 16 KiB there is only Text or Bytes, and Size.
	Event json.RawMessage `json:"event,omitempty"`
	Text  string          `json:"text,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
	Size  int             `json:"size,omitempty"`
	// Dropped is how many events the tap would have shown since the one before, but that
	// came too fast.
	Dropped uint64 `json:"dropped,omitempty"`
}

// Tap is a live view of events. It never holds the path up: what its viewer does not
// take in time is dropped and counted. One goroutine calls Next.
type Tap struct {
	f       *Flow
	q       TapQuery
	events  chan tapped
	credit  atomic.Int64
	dropped atomic.Uint64
	seen    atomic.Uint64 // for Sample
	makers  map[*Generation]journal.Lines
	refill  *time.Ticker
}

// tapped is what a lane hands over: copies, since its own memory goes on.
type tapped struct {
	at      time.Time
	gen     *Generation
	section journal.Section
	entry   journal.Entry
	data    []byte
	size    int
}

// ErrTaps: there are as many taps as there may be.
var ErrTaps = errors.New("too many taps")

// Tap begins a live view. Close it when done. A name that the generation at work does
// not have is an error.
func (f *Flow) Tap(q TapQuery) (*Tap, error) {
	g := f.gen.Load()
	switch {
	case q.Route != "" && !slices.ContainsFunc(g.routes, func(r route) bool { return r.name == q.Route }):
		return nil, fmt.Errorf("tap: no route %q; weir status lists those that are there", q.Route)
	case q.Source != "" && g.reading(q.Source) == nil:
		return nil, fmt.Errorf("tap: no source %q; weir status lists those that are there", q.Source)
	case q.Sink != "" && !slices.Contains(g.sinks, q.Sink):
		return nil, fmt.Errorf("tap: no sink %q; weir status lists those that are there", q.Sink)
	case q.Sample < 0:
		return nil, fmt.Errorf("tap: sample %d is negative", q.Sample)
	}
	t := &Tap{f: f, q: q, events: make(chan tapped, tapEvents), makers: map[*Generation]journal.Lines{}, refill: time.NewTicker(tapRefill)}
	t.give()
	f.tapping.Lock()
	defer f.tapping.Unlock()
	var list []*Tap
	if old := f.taps.Load(); old != nil {
		list = slices.Clone(*old)
	}
	if len(list) == maxTaps {
		t.refill.Stop()
		return nil, fmt.Errorf("%w: there are %d", ErrTaps, maxTaps)
	}
	list = append(list, t)
	f.taps.Store(&list)
	return t, nil
}

// Close ends the view. It may be called twice.
func (t *Tap) Close() {
	t.refill.Stop()
	t.f.tapping.Lock()
	defer t.f.tapping.Unlock()
	old := t.f.taps.Load()
	if old == nil {
		return
	}
	list := slices.DeleteFunc(slices.Clone(*old), func(x *Tap) bool { return x == t })
	if len(list) == 0 {
		t.f.taps.Store(nil)
		return
	}
	t.f.taps.Store(&list)
}

// give lets lanes hand over as many events as the rate allows until the next time.
func (t *Tap) give() { t.credit.Store(int64(tapRate * tapRefill / time.Second)) }

// Next waits for the next event; it returns ctx's error, or ErrClosed when the flow ends.
func (t *Tap) Next(ctx context.Context) (*Tapped, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-t.f.life.Done():
			return nil, ErrEnded
		case <-t.refill.C:
			t.give()
		case e := <-t.events:
			return t.show(&e), nil
		}
	}
}

// ErrEnded: the flow has ended.
var ErrEnded = errors.New("the engine has stopped")

// show makes what the viewer gets, on its own time.
func (t *Tap) show(e *tapped) *Tapped {
	maker, ok := t.makers[e.gen]
	if !ok {
		clear(t.makers) // of generations that are gone
		maker = journal.NewLines(t.f.namesOf(e.gen))
		t.makers[e.gen] = maker
	}
	x := &Tapped{Line: maker.Line(&e.section, &e.entry), Dropped: t.dropped.Swap(0)}
	x.Time = e.at
	switch {
	case e.size == len(e.data) && json.Valid(e.data):
		x.Event = bytes.TrimSpace(e.data)
	case utf8.Valid(e.data):
		x.Text, x.Size = string(e.data), e.size
	default:
		x.Bytes, x.Size = e.data, e.size
	}
	return x
}

// tap shows an event that was just settled to those who look. The lane's record is the
// event's.
func (l *lane) tap(taps []*Tap, r ref) {
	for _, t := range taps {
		if !t.wants(l, r) {
			continue
		}
		if n := t.seen.Add(1); t.q.Sample > 1 && n%uint64(t.q.Sample) != 1 {
			continue
		}
		if len(t.events) == cap(t.events) || t.credit.Add(-1) < 0 {
			t.dropped.Add(1)
			continue
		}
		select {
		case t.events <- l.copyTapped(r):
		default:
			t.dropped.Add(1)
		}
	}
}

func (t *Tap) wants(l *lane, r ref) bool {
	it, c := r.item(), r.c
	if t.q.Source != "" && c.source.name != t.q.Source {
		return false
	}
	is := func(route uint32) bool {
		return int(route) < len(c.gen.routes) && c.gen.routes[route].name == t.q.Route
	}
	if t.q.Route != "" && !slices.ContainsFunc(l.record.Routes, is) && !slices.ContainsFunc(l.record.Notes, func(n journal.Note) bool { return is(n.Route) }) {
		return false
	}
	if t.q.Sink == "" {
		return true
	}
	found := slices.ContainsFunc(l.record.Notes, func(n journal.Note) bool { return int(n.Sink) < len(c.gen.sinks) && c.gen.sinks[n.Sink] == t.q.Sink })
	if it.routeCount > 0 || it.outcome == journal.Unmatched {
		l.each(r, func(_ uint32, sink int) { found = found || c.gen.sinks[sink] == t.q.Sink })
	}
	return found
}

func (l *lane) copyTapped(r ref) tapped {
	it, c := r.item(), r.c
	data := c.raw(it)
	e := tapped{
		at: l.f.cfg.Now(), gen: c.gen, entry: l.record, size: len(data),
		section: journal.Section{Source: c.source.name, Partition: c.Partition},
		data:    bytes.Clone(data[:min(len(data), tapBytes)]),
	}
	e.entry.ID = bytes.Clone(l.record.ID)
	e.entry.Routes, e.entry.Taken, e.entry.Notes = slices.Clone(l.record.Routes), slices.Clone(l.record.Taken), slices.Clone(l.record.Notes)
	return e
}
