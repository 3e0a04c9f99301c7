package flow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/pattern"
	"github.com/weir-project/weir/transports"
)

// derivation is the internal queue at work: a staged sink, and a source that stands
// beside those of the configuration. It has lanes' attention before them, an
// in-flight limit of its own, and is still asked when they have ended.
type derivation struct {
	queue  *derive.Queue
	stage  int
	source *source
	room   room

	// adding ends when no other source adds to the queue any more.
	adding context.Context
	ended  context.CancelFunc
}

// derivedShare is the internal queue's part of the in-flight limits, on top of them.
const derivedShare = 4

// openDerived opens the internal queue.
func (f *Flow) openDerived() (err error) {
	d := &f.derived
	if d.queue, err = derive.OpenQueue(f.cfg.FS, filepath.Join(f.node.Data, "derived"), f.cfg.DerivedBytes); err != nil {
		return err
	}
	limits := f.node.Limits
	d.room.maxEvents, d.room.maxBytes = int64(limits.InFlight/derivedShare), limits.InFlightBytes/derivedShare
	d.room.changed = make(chan struct{})
	d.source = &source{name: derive.Name, measures: newSourceMeasures(), room: &d.room, bell: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	d.source.take(d.queue)
	return nil
}

// joinDerived makes the internal queue part of the commit.
func (f *Flow) joinDerived() (err error) {
	d := &f.derived
	d.source.before = f.positions.before(derive.Name)
	if d.stage, err = f.log.Stage(derive.Name, d.queue); err != nil {
		return fmt.Errorf("internal queue: %w", err)
	}
	return nil
}

// startDerived readies the internal queue before lanes run: they must know how many
// descendants the events have had of which some still wait.
func (f *Flow) startDerived(ctx context.Context) error {
	if err := f.openSource(ctx, f.derived.source); err != nil {
		return err
	}
	return f.derived.queue.Each(func(ordinal uint64, r *derive.Record) {
		if r.Lineage.Derived() && !f.positions.knew(derive.Name, ordinal) {
			f.laneOf(r.KeyHash).descentOf(rootOf(&r.Lineage)).found(&r.Lineage)
		}
	})
}

// askDerived asks the internal queue until ctx is done, or until finish was called and
// it is empty.
func (f *Flow) askDerived(ctx context.Context) (finish func() error) {
	d := &f.derived
	s := d.source
	d.adding, d.ended = context.WithCancel(ctx)
	s.last, s.told = make(chan struct{}), make(chan struct{})
	go f.settler(f.life, s) // stopSettling waits for it
	var wait sync.WaitGroup
	var err error
	wait.Go(func() {
		if err = f.intake(ctx, s); err != nil {
			f.fail(err) // what is in the queue would never be worked on, and it would fill up
		}
	})
	return func() error {
		f.room.empty(ctx) // what the last events of the other sources emit is in the queue then
		d.ended()
		wait.Wait()
		s.mute()
		return err
	}
}

// closeDerived frees the internal queue's files.
func (f *Flow) closeDerived(ctx context.Context) error {
	if f.derived.queue == nil {
		return nil
	}
	return f.derived.queue.Close(ctx)
}

// receiveDerived takes committed records from the internal queue. io.EOF says that
// there is none, and that nobody is left who could add one.
func (f *Flow) receiveDerived(ctx context.Context, c *chunk, list []*chunk) ([]*chunk, error) {
	d := &f.derived
	if d.adding.Err() == nil {
		ask, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(d.adding, stop)()
		deliveries, err := d.queue.Receive(ask, receiveMax, receiveWait)
		if errors.Is(err, context.Canceled) {
			err = nil // asked to end: the next turn sees to it
		}
		return f.packDerived(c, list, deliveries, err)
	}
	for range 2 {
		deliveries, err := d.queue.Receive(ctx, receiveMax, 0)
		if err != nil || len(deliveries) > 0 {
			return f.packDerived(c, list, deliveries, err)
		}
		// What is in flight may emit more; that is committed before the room is empty.
		if !d.room.empty(ctx) {
			break
		}
	}
	f.recycle(c)
	return list, io.EOF
}

// packDerived makes chunks of records: one for each run that is read in the same way.
func (f *Flow) packDerived(c *chunk, list []*chunk, deliveries []transports.Delivery, err error) ([]*chunk, error) {
	if len(deliveries) == 0 {
		f.recycle(c)
		return list, err
	}
	for i := range deliveries {
		r, parseErr := derive.Parse(deliveries[i].Data)
		if parseErr != nil {
			if len(c.records) == 0 {
				f.recycle(c)
			} else {
				list = append(list, f.received(f.derived.source, c))
			}
			return list, fmt.Errorf("internal queue: record %d: %w", deliveries[i].Ordinal, parseErr)
		}
		if n := len(c.records); n > 0 && !sameReading(&c.records[n-1], &r) {
			list = append(list, f.received(f.derived.source, c))
			c = f.chunk(f.derived.source)
		}
		c.add(&deliveries[i], &r)
	}
	return append(list, f.received(f.derived.source, c)), err
}

func sameReading(a, b *derive.Record) bool {
	return a.Lineage.Derived() == b.Lineage.Derived() && (a.Lineage.Derived() || a.Source == b.Source)
}

// add appends a record of the internal queue.
func (c *chunk) add(d *transports.Delivery, r *derive.Record) {
	if len(c.records) == 0 {
		c.Ends, c.Ordinal, c.Start = c.Ends[:0], d.Ordinal, d.Position
	}
	c.Data = append(c.Data, r.Data...)
	c.Ends = append(c.Ends, uint32(len(c.Data)))
	c.Chunk.End = d.Next
	c.deliveries = append(c.deliveries, transports.Delivery{Ordinal: d.Ordinal, Key: r.Key})
	r.Data = nil // it stands in the chunk now
	c.records = append(c.records, *r)
}

// record is what the internal queue says of an event, nil for one that came from
// another source.
func (c *chunk) record(it *item) *derive.Record {
	if len(c.records) == 0 {
		return nil
	}
	return &c.records[it.unit]
}

// readingOf is how a chunk is read: as its source's events are; of the internal queue,
// as those of the source where they came from first, or as derived events.
func (g *Generation) readingOf(c *chunk) *reading {
	if len(c.records) == 0 {
		return g.reading(c.source.name)
	}
	if r := &c.records[0]; !r.Lineage.Derived() {
		if rd := g.reading(r.Source); rd != nil {
			return rd
		}
	}
	return g.derived
}

// newDerivedReading is how derived events are read that stand in CloudEvents.
func (g *Generation) newDerivedReading(plan *config.Plan, patterns []*pattern.Pattern) (*reading, error) {
	return g.newReading(plan, &config.Source{Name: derive.Name, Codec: []string{event.CloudEvents.String()}}, patterns)
}

// readRecord reads a unit of the internal queue that is not read as all others are;
// false = it is.
func (s *scanner) readRecord(c *chunk, it *item, doc []byte) bool {
	rec := c.record(it)
	switch {
	case rec == nil:
		return false
	case !rec.Lineage.Derived():
		if c.reading.source == rec.Source {
			return false
		}
		c.fail(it, reasonRemoved, fmt.Sprintf("the source %q is not in the configuration any more", rec.Source))
		s.place(c, it)
		return true
	case len(rec.Lineage.Envelopes) == 1 && rec.Lineage.Envelopes[0] == event.CloudEvents.String():
		return false
	}
	e, err := decodeDerived(doc, &rec.Lineage, c.reading.limits)
	if err != nil {
		c.fail(it, reasonField, err.Error())
	} else {
		s.canonical(c, it, &e, false)
	}
	s.place(c, it)
	return true
}

// reasonRemoved is why an event is refused that comes again from a source that is gone.
const reasonRemoved = "source_removed"

// decodeDerived reads a derived event in the envelopes of its cause. What they have no
// place for stands in its lineage.
func decodeDerived(doc []byte, l *derive.Lineage, limits event.Limits) (event.Event, error) {
	codec, err := event.ParseCodec(l.Envelopes)
	if err != nil {
		return event.Event{}, err
	}
	e, err := event.Decode(doc, codec, event.Missing{Source: l.EventSource, Zone: time.UTC}, limits)
	if err != nil {
		return e, err
	}
	l.Mark(&e)
	return e, nil
}

// derivedHasRoom waits until the internal queue is below its bound. It does not wait
// for itself.
func (f *Flow) derivedHasRoom(ctx context.Context, s *source) bool {
	for told := false; s != f.derived.source && f.derived.queue.Full(); {
		if !told {
			f.cfg.Log.Warn("the internal queue is full: sources wait", "bytes", f.derived.queue.Bytes())
			told = true
		}
		select {
		case <-time.After(fullPause):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// statusSources are the configuration's sources, and the internal queue if there ever
// was something in it.
func (f *Flow) statusSources(at *ends) []*source {
	if d := f.derived.source; d.received.Load()+d.before > 0 {
		return append(slices.Clone(at.sources), d)
	}
	return at.sources
}

// held is what is in flight.
func (f *Flow) held() (events, bytes int64) {
	events, bytes = f.room.held()
	n, b := f.derived.room.held()
	return events + n, bytes + b
}

// Reenter sends events into the data path again, which were in it before: they are
// read as the source they name reads its own, past de-duplication and expiry. It
// returns when they are durable. The records' bytes are the caller's again then.
func (f *Flow) Reenter(ctx context.Context, records []derive.Record) error {
	if f.derived.queue.Over() {
		return fmt.Errorf("re-enter %d events: the internal queue is full (%d bytes)", len(records), f.derived.queue.Bytes())
	}
	run := commit.StagedRun{Stage: f.derived.stage, Count: len(records)}
	for i := range records {
		run.Framed = derive.AppendRecord(run.Framed, &records[i])
	}
	done := make(chan error, 1)
	t := &commit.Ticket{Stages: []commit.StagedRun{run}, Committed: func(err error) { done <- err }}
	if err := f.log.Submit(ctx, t); err != nil {
		return fmt.Errorf("re-enter %d events: %w", len(records), err)
	}
	if err := <-done; err != nil {
		return fmt.Errorf("re-enter %d events: %w", len(records), err)
	}
	return nil
}
