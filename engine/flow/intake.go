package flow

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

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

// intake asks one source for events while there is room, and scans them: as many
// workers as there are lanes take turns. It returns nil when the source has ended
// or ctx is done.
func (f *Flow) intake(ctx context.Context, s *source) error {
	s.ended.Store(false)
	defer s.ended.Store(true)
	errs := make([]error, len(f.lanes))
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() { errs[i] = f.work(ctx, s) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// work is one worker: in its turn it asks the source for a chunk, and then scans the
// chunk beside the others, while the bytes are still in its core's cache.
func (f *Flow) work(ctx context.Context, s *source) error {
	sc := scanner{tracer: f.cfg.Tracer, lanes: len(f.lanes), now: f.cfg.Now}
	for {
		chunks, err := f.turn(ctx, s, sc.chunks[:0])
		for _, c := range chunks {
			sc.scan(c)
			s.room.scanned(len(c.items), c.guess)
			s.received.Add(uint64(len(c.items)))
			c.scanned.Store(true)
			f.handOver(s, &sc)
		}
		sc.chunks = chunks
		if errors.Is(err, errEnded) {
			return nil
		}
		if err != nil {
			return about("source", s.name, err)
		}
	}
}

// errEnded says that the source is not asked any more.
var errEnded = errors.New("ended")

// turn receives once, appends what came to list and gives it its place in the
// source's order.
func (f *Flow) turn(ctx context.Context, s *source, list []*chunk) ([]*chunk, error) {
	s.turn <- struct{}{} // a turn waits for the source: no mutex is held so long
	defer func() { <-s.turn }()
	if s.over || ctx.Err() != nil {
		return list, errEnded
	}
	ask := s.ask(ctx)
	c, ok := f.vacancy(ask, s)
	if !ok {
		return list, nil
	}
	list, err := f.receive(ask, s, c, list)
	if ask.Err() != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) && !errors.Is(err, transports.ErrFatal) {
		err = nil // it was interrupted; what is really wrong shows again
	}
	s.mu.Lock()
	s.pending = append(s.pending, list...)
	s.mu.Unlock()
	if err == nil {
		f.well(s)
		return list, nil
	}
	if ctx.Err() == nil && f.again(ask, s, err) {
		return list, nil
	}
	s.over = true
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		err = errEnded
	}
	return list, err
}

// receive fills a chunk, or gives it back where there was nothing.
func (f *Flow) receive(ctx context.Context, s *source, c *chunk, list []*chunk) ([]*chunk, error) {
	if s == f.derived.source {
		return f.receiveDerived(ctx, c, list)
	}
	if s.chunks == nil {
		return f.receiveDeliveries(ctx, s, c, list)
	}
	err := s.chunks.ReceiveChunk(ctx, &c.Chunk, receiveWait)
	if len(c.Data) == 0 && c.Oversize == 0 {
		f.recycle(c)
		return list, err
	}
	return append(list, f.received(s, c)), err
}

// receiveDeliveries packs deliveries of one partition into a chunk; what is left of
// another partition follows in chunks of its own.
func (f *Flow) receiveDeliveries(ctx context.Context, s *source, c *chunk, list []*chunk) ([]*chunk, error) {
	deliveries, err := s.end.Receive(ctx, receiveMax, receiveWait)
	s.leases.hold(deliveries)
	if len(deliveries) == 0 {
		f.recycle(c)
		return list, err
	}
	for len(deliveries) > 0 {
		n := 1
		for n < len(deliveries) && deliveries[n].Partition == deliveries[0].Partition {
			n++
		}
		c.pack(deliveries[:n])
		list = append(list, f.received(s, c))
		if deliveries = deliveries[n:]; len(deliveries) > 0 {
			c = f.chunk(s) // room was waited for once a Receive
		}
	}
	return list, err
}

func (c *chunk) pack(list []transports.Delivery) {
	c.deliveries = append(c.deliveries, list...)
	c.Ends = c.Ends[:0]
	for i := range list {
		at := uint32(len(c.Data))
		c.Data = append(c.Data, list[i].Data...)
		for _, end := range list[i].Ends {
			c.Ends, c.units = append(c.Ends, at+end), append(c.units, uint32(i))
		}
		if list[i].Ends == nil {
			c.Ends, c.units = append(c.Ends, uint32(len(c.Data))), append(c.units, uint32(i))
		}
		c.deliveries[i].Data, c.deliveries[i].Ends = nil, nil // they stand in the chunk now
	}
	c.Partition = list[0].Partition
	c.Ordinal, c.Start, c.Chunk.End = list[0].Ordinal, list[0].Position, list[len(list)-1].Next
}

// vacancy waits until the in-flight limits leave room and returns an empty chunk.
func (f *Flow) vacancy(ctx context.Context, s *source) (*chunk, bool) {
	s.mu.Lock()
	usual := s.usual
	s.mu.Unlock()
	if !f.diskHasRoom(ctx, s) || !f.sinksHaveRoom(ctx) || !f.derivedHasRoom(ctx, s) || !s.room.wait(ctx, int64(f.cfg.ChunkBytes), usual) {
		return nil, false
	}
	c := f.chunk(s)
	c.guess = usual
	return c, true
}

// sinksHaveRoom waits until every local sink that has a bound can take all that is
// in flight, and a chunk more, twice over: framing and dead letters make it longer.
func (f *Flow) sinksHaveRoom(ctx context.Context) bool {
	for _, s := range f.ends.Load().sinks {
		for told := false; s.bounded != nil; {
			_, bytes := f.held()
			if s.bounded.Room() >= 2*(bytes+int64(f.cfg.ChunkBytes)) {
				if told {
					s.full.Store(0)
				}
				break
			}
			if !told {
				s.full.CompareAndSwap(0, time.Now().UnixNano())
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
	c := f.free.take()
	if c == nil {
		c = &chunk{byLane: make([][]uint32, len(f.lanes))}
		c.Data = make([]byte, 0, f.cfg.ChunkBytes)
	}
	c.source = s
	return c
}

// received puts a filled chunk under the generation of this moment and counts it.
func (f *Flow) received(s *source, c *chunk) *chunk {
	c.gen = f.gen.Load()
	c.reading = c.gen.readingOf(c)
	c.bytes = int64(cap(c.Data))
	f.disk.took(len(c.Data))
	s.measures.received(c)
	s.chunksHeld.Add(1)
	s.unhanded.Add(1)
	s.room.enter(c.bytes, c.guess)
	return c
}

// handOver gives what is scanned to the lanes, in source order.
func (f *Flow) handOver(s *source, sc *scanner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) > 0 && s.pending[0].scanned.Load() {
		c := s.pending[0]
		s.pending = slices.Delete(s.pending, 0, 1)
		f.hand(c, sc)
	}
}

// hand gives a chunk to the lanes, under the generation that runs now: lanes only move
// forward. The caller holds the source's mu.
func (f *Flow) hand(c *chunk, sc *scanner) {
	f.swap.RLock()
	defer f.swap.RUnlock()
	if g := f.gen.Load(); c.gen != g {
		f.rescan(c, g, sc)
	}
	s := c.source
	s.usual = len(c.items)
	defer func() { // c may be somebody else's then
		s.unhanded.Add(-1)
		f.room.wake()
	}()
	c.gen.enter(len(c.items))
	s.events.Add(int64(len(c.items)))
	whole := f.positions.open(c)
	c.left.Store(int32(len(c.items)) + 1)
	c.unrun.Store(int32(len(f.lanes)) + 1)
	for i, list := range c.byLane {
		if len(list) == 0 {
			f.ran(c)
		} else {
			f.lanes[i].queueOf(s) <- c
		}
	}
	if whole {
		f.settled(c.span, nil)
	}
	f.ran(c)
	f.finished(c, 1)
}

// ran counts a lane off that has run the chunk, or has nothing of it.
func (f *Flow) ran(c *chunk) {
	if c.unrun.Add(-1) == 0 {
		c.source.room.ran()
	}
}

// rescan reads a chunk anew that was scanned before the generation changed.
func (f *Flow) rescan(c *chunk, g *Generation, sc *scanner) {
	r := g.readingOf(c)
	if r == nil {
		return // its source left with the old generation, which waits for it
	}
	before := len(c.items)
	c.unscan()
	c.gen, c.reading = g, r
	sc.scan(c)
	c.source.room.scanned(len(c.items), before)
	c.source.received.Add(uint64(len(c.items) - before))
}

// leave takes back events that are durable, or were given back to their source.
func (f *Flow) leave(g *Generation, s *source, n int) {
	g.left(n)
	s.events.Add(int64(-n))
	s.room.leave(n)
	if s.room != &f.room {
		f.room.wake()
	}
}

// finished counts items off that the lanes are done with; the last one frees the chunk.
func (f *Flow) finished(c *chunk, n int) {
	if c.left.Add(int32(-n)) == 0 {
		f.discard(c)
	}
}

// discard gives a chunk and its room back.
func (f *Flow) discard(c *chunk) {
	bytes, room := c.bytes, c.source.room
	c.source.chunksHeld.Add(-1)
	f.recycle(c)
	room.give(bytes)
	if room != &f.room {
		f.room.wake()
	}
}

// recycle makes a chunk free for other events.
func (f *Flow) recycle(c *chunk) {
	if cap(c.Data) > 4*f.cfg.ChunkBytes {
		c.Data = make([]byte, 0, f.cfg.ChunkBytes) // one huge event must not stay for ever
	}
	c.reset()
	f.free.give(c)
}
