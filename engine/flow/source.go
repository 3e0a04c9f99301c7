package flow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
)

// Sizes of intake.
const (
	defaultChunk = 256 << 10
	receiveMax   = 512                    // deliveries asked for at once
	receiveWait  = 250 * time.Millisecond // how long a source may wait for its first byte
	fullPause    = 100 * time.Millisecond // between looks at a full sink
	maxChunks    = 1024                   // chunks in flight, whatever their size
)

// source is an open source and where it stands. It lives outside of generations.
type source struct {
	name        string
	index       int
	end         transports.Source
	chunks      transports.ChunkSource // nil = deliveries
	brokerKeeps bool
	nacks       bool
	table       *dedup.Table[ref] // nil = no de-duplication

	mu      sync.Mutex // guards pending: chunks in the order in which they were received
	pending []*chunk
	usual   int // events in the last chunk: the guess for the next one

	settleMu sync.Mutex // guards acks
	acks     []transports.Settlement
	moved    atomic.Bool
	bell     chan struct{}

	before   uint64 // events that were settled before this start
	received atomic.Uint64
	outcomes [journal.Discarded + 1]atomic.Uint64
	ended    atomic.Bool
}

// intake asks one source for events while there is room. It returns nil when the
// source has ended or ctx is done.
func (f *Flow) intake(ctx context.Context, s *source) error {
	defer s.ended.Store(true)
	for ctx.Err() == nil {
		c, ok := f.vacancy(ctx, s)
		if !ok {
			return nil
		}
		err := f.receive(ctx, s, c)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("source %s: %w", s.name, err)
		}
	}
	return nil
}

// receive fills a chunk and hands it on, or gives it back where there was nothing.
func (f *Flow) receive(ctx context.Context, s *source, c *chunk) error {
	if s.chunks == nil {
		return f.receiveDeliveries(ctx, s, c)
	}
	err := s.chunks.ReceiveChunk(ctx, &c.Chunk, receiveWait)
	if len(c.Data) == 0 && c.Oversize == 0 {
		f.discard(c)
		return err
	}
	f.toScan(s, c)
	return err
}

// receiveDeliveries packs deliveries of one partition into a chunk; what is left of
// another partition follows in chunks of its own.
func (f *Flow) receiveDeliveries(ctx context.Context, s *source, c *chunk) error {
	list, err := s.end.Receive(ctx, receiveMax, receiveWait)
	if len(list) == 0 {
		f.discard(c)
		return err
	}
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].Partition == list[0].Partition {
			n++
		}
		c.pack(list[:n])
		f.toScan(s, c)
		if list = list[n:]; len(list) > 0 {
			// The room was given for one Receive: its further chunks are not waited for.
			c = f.chunk(s)
			f.room.add(int64(f.cfg.ChunkBytes))
		}
	}
	return err
}

func (c *chunk) pack(list []transports.Delivery) {
	c.deliveries = append(c.deliveries, list...)
	c.Ends = c.Ends[:0]
	for i := range list {
		c.Data = append(c.Data, list[i].Data...)
		c.Ends = append(c.Ends, uint32(len(c.Data)))
		c.deliveries[i].Data = nil // it stands in the chunk now
		c.unitsLeft = append(c.unitsLeft, 0)
	}
	c.Partition = list[0].Partition
	c.Ordinal, c.Start, c.Chunk.End = list[0].Ordinal, list[0].Position, list[len(list)-1].Next
}

// vacancy waits until the in-flight limits leave room and returns an empty chunk.
func (f *Flow) vacancy(ctx context.Context, s *source) (*chunk, bool) {
	s.mu.Lock()
	usual := s.usual
	s.mu.Unlock()
	if !f.sinksHaveRoom(ctx) || !f.room.wait(ctx, int64(f.cfg.ChunkBytes), usual) {
		return nil, false
	}
	c := f.chunk(s)
	c.guess = usual
	return c, true
}

// sinksHaveRoom waits until every local sink that has a bound can take all that is
// in flight, and a chunk more, twice over: framing and dead letters make it longer.
func (f *Flow) sinksHaveRoom(ctx context.Context) bool {
	for _, s := range f.sinks {
		for told := false; s.bounded != nil; {
			_, bytes := f.room.held()
			if s.bounded.Room() >= 2*(bytes+int64(f.cfg.ChunkBytes)) {
				break
			}
			if !told {
				f.cfg.Log.Warn("sink is full: sources wait", "sink", s.name, "room", s.bounded.Room())
				told = true
			}
			select {
			case <-time.After(fullPause):
			case <-ctx.Done():
				return false
			}
		}
	}
	return true
}

// chunk takes a chunk from those that are free, or makes one.
func (f *Flow) chunk(s *source) *chunk {
	var c *chunk
	select {
	case c = <-f.free:
	default:
		c = &chunk{byLane: make([][]uint32, len(f.lanes))}
		c.Data = make([]byte, 0, f.cfg.ChunkBytes)
	}
	c.source = s
	c.bytes = int64(f.cfg.ChunkBytes)
	return c
}

// toScan gives a chunk to the scanners and remembers its place in the source's order.
func (f *Flow) toScan(s *source, c *chunk) {
	c.gen = f.gen.Load()
	c.reading = c.gen.readings[s.index]
	if n := int64(cap(c.Data)); n > c.bytes {
		f.room.grow(n - c.bytes)
		c.bytes = n
	}
	s.mu.Lock()
	s.pending = append(s.pending, c)
	s.mu.Unlock()
	f.scanq <- c
}

// scanChunks is one scanner goroutine.
func (f *Flow) scanChunks() {
	s := scanner{lanes: len(f.lanes), now: f.cfg.Now}
	for c := range f.scanq {
		s.scan(c)
		f.room.scanned(len(c.items), c.guess)
		c.guess, c.counted = len(c.items), true
		c.source.received.Add(uint64(len(c.items)))
		c.scanned.Store(true)
		f.handOver(c.source)
	}
}

// handOver gives what is scanned to the lanes, in source order.
func (f *Flow) handOver(s *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) > 0 && s.pending[0].scanned.Load() {
		c := s.pending[0]
		s.pending = slices.Delete(s.pending, 0, 1)
		s.usual = len(c.items)
		for i := range c.deliveries {
			c.unitsLeft[i] = 0
		}
		for i := range c.items {
			if len(c.deliveries) > 0 {
				c.unitsLeft[c.items[i].unit]++
			}
		}
		whole := f.positions.open(c)
		c.left.Store(int32(len(c.items)) + 1)
		for i, list := range c.byLane {
			if len(list) > 0 {
				f.lanes[i].work <- c
			}
		}
		if whole {
			f.settled(c, nil)
		}
		f.finished(c, 1)
	}
}

// finished counts items off; the last one frees the chunk.
func (f *Flow) finished(c *chunk, n int) {
	if c.left.Add(int32(-n)) == 0 {
		f.discard(c)
	}
}

// discard gives a chunk and its room back.
func (f *Flow) discard(c *chunk) {
	bytes, guess, counted := c.bytes, c.guess, c.counted
	if cap(c.Data) > 4*f.cfg.ChunkBytes {
		c.Data = make([]byte, 0, f.cfg.ChunkBytes) // one huge event must not stay for ever
	}
	c.reset()
	select {
	case f.free <- c:
	default:
	}
	f.room.give(bytes, guess, counted)
}

// settled notes that items are settled and durable, and tells the source.
func (f *Flow) settled(c *chunk, items []uint32) {
	s := c.source
	if f.positions.settle(c, items) {
		s.moved.Store(true)
		s.ring()
	}
	if !s.brokerKeeps {
		return
	}
	s.settleMu.Lock()
	for _, i := range items {
		u := c.items[i].unit
		if c.unitsLeft[u]--; c.unitsLeft[u] == 0 {
			s.acks = append(s.acks, transports.Settlement{ID: c.deliveries[u].ID})
		}
	}
	s.settleMu.Unlock()
	s.ring()
}

func (s *source) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// settler tells one source what is settled, until done is closed; then a last time.
func (f *Flow) settler(ctx context.Context, s *source, done <-chan struct{}) {
	for last := false; !last; {
		select {
		case <-s.bell:
		case <-done:
			last = true
		}
		f.settleNow(ctx, s)
	}
}

func (f *Flow) settleNow(ctx context.Context, s *source) {
	s.settleMu.Lock()
	list := s.acks
	s.acks = nil
	s.settleMu.Unlock()
	if s.moved.Swap(false) {
		list = f.positions.lowMarks(s.name, list)
	}
	if len(list) == 0 {
		return
	}
	for i, err := range s.end.Settle(ctx, list) {
		if err != nil && !errors.Is(err, transports.ErrNotHeld) {
			f.cfg.Log.Warn("settle", "source", s.name, "delivery", list[i].ID, "partition", list[i].Partition, "error", err)
		}
	}
}

// room is the in-flight limit in events and bytes.
type room struct {
	mu            sync.Mutex // guards all
	events, bytes int64      // held; for chunks that are not scanned yet events are a guess
	inFlight      int64      // events of the chunks that are
	chunks        int
	maxEvents     int64
	maxBytes      int64
	changed       chan struct{} // closed and renewed when room was given back
}

// wait takes room for a chunk as soon as the limits allow it.
func (r *room) wait(ctx context.Context, bytes int64, events int) bool {
	for {
		r.mu.Lock()
		free := r.chunks == 0 || r.chunks < maxChunks && r.bytes+bytes <= r.maxBytes && r.events+int64(events) <= r.maxEvents
		if free {
			r.bytes += bytes
			r.events += int64(events)
			r.chunks++
			r.mu.Unlock()
			return true
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// grow takes more bytes for a chunk that became larger.
func (r *room) grow(bytes int64) {
	r.mu.Lock()
	r.bytes += bytes
	r.mu.Unlock()
}

// scanned replaces a chunk's guess by the count of its events.
func (r *room) scanned(events, guess int) {
	r.mu.Lock()
	r.events += int64(events - guess)
	r.inFlight += int64(events)
	r.mu.Unlock()
}

// add is wait without waiting.
func (r *room) add(bytes int64) {
	r.mu.Lock()
	r.bytes += bytes
	r.chunks++
	r.mu.Unlock()
}

func (r *room) give(bytes int64, events int, counted bool) {
	r.mu.Lock()
	if counted {
		r.inFlight -= int64(events)
	}
	r.bytes -= bytes
	r.events -= int64(events)
	r.chunks--
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
}

// empty waits until nothing is in flight.
func (r *room) empty(ctx context.Context) error {
	for {
		r.mu.Lock()
		n, changed := r.chunks, r.changed
		r.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *room) held() (events, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inFlight, r.bytes
}
