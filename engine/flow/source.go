package flow

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
)

// source is an open source and where it stands. It lives outside of generations.
type source struct {
	name        string
	plan        *config.Source
	end         transports.Source
	chunks      transports.ChunkSource // nil = deliveries
	brokerKeeps bool
	nacks       bool
	table       *dedup.Table[ref] // nil = no de-duplication
	room        *room             // the in-flight limit that its events count against

	turn chan struct{} // held while the source is asked; guards over
	over bool          // it is not asked any more

	chunksHeld atomic.Int64 // received, and the lanes are not done with them
	unhanded   atomic.Int64 // received, and not with the lanes
	events     atomic.Int64 // handed to lanes, not settled

	mu      sync.Mutex // guards what follows
	pending []*chunk   // in the order in which they were received
	usual   int        // events in the last chunk: the guess for the next one
	paused  bool
	asking  context.Context
	hush    context.CancelFunc // ends asking

	settleMu sync.Mutex // guards acks
	acks     []transports.Settlement
	moved    atomic.Bool
	bell     chan struct{}
	last     chan struct{} // closed: the settler tells a last time
	told     chan struct{} // closed: it has

	leases   *leases                 // nil = it has none
	trouble  atomic.Pointer[trouble] // nil = it works
	measures *sourceMeasures
	before   uint64 // events that were settled before this start
	received atomic.Uint64
	outcomes [journal.Discarded + 1]atomic.Uint64
	ended    atomic.Bool
}

// settled notes that items are settled and durable, and tells the source.
func (f *Flow) settled(sp *span, items []uint32) {
	s := sp.source
	if f.positions.settle(sp, items) {
		s.moved.Store(true)
		s.ring()
	}
	if !s.brokerKeeps {
		return
	}
	s.settleMu.Lock()
	for _, i := range items {
		u := sp.units[i]
		if sp.unitsLeft[u]--; sp.unitsLeft[u] == 0 {
			s.acks = append(s.acks, transports.Settlement{ID: sp.ids[u], Refused: sp.refused(u)})
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

// ask is what the source is asked with: it ends with ctx, and when the source is to pause.
func (s *source) ask(ctx context.Context) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking == nil || s.asking.Err() != nil && !s.paused {
		s.asking, s.hush = context.WithCancel(ctx)
	}
	return s.asking
}

// mute interrupts whoever asks the source.
func (s *source) mute() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hush != nil {
		s.hush()
	}
}

// pause keeps a source from being asked until resume. It returns when nobody asks it
// any more; what it gave before is still on its way.
func (s *source) pause(ctx context.Context) error {
	s.setPaused(true)
	s.mute()
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		s.setPaused(false)
		return context.Cause(ctx)
	}
}

func (s *source) setPaused(paused bool) {
	s.mu.Lock()
	s.paused = paused
	s.mu.Unlock()
}

// resume ends a pause.
func (s *source) resume() {
	s.setPaused(false)
	<-s.turn
}

// leave ends a pause for good: nobody asks the source any more. It says whether that
// was so before.
func (s *source) leave() (ended bool) {
	ended, s.over = s.over, true
	s.resume()
	return ended
}

// quiet says that nothing of the source is in flight.
func (s *source) quiet() bool { return s.chunksHeld.Load() == 0 && s.events.Load() == 0 }

// settler tells one source what is settled, until s.last is closed; then a last time.
func (f *Flow) settler(ctx context.Context, s *source) {
	defer close(s.told)
	if s.leases != nil {
		extending, stop := context.WithCancel(ctx)
		var wait sync.WaitGroup
		wait.Go(func() { f.extend(extending, s) })
		defer wait.Wait()
		defer stop()
	}
	for last := false; !last; {
		select {
		case <-s.bell:
		case <-s.last:
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
	began := time.Now()
	errs := s.end.Settle(ctx, list)
	s.leases.settled(list)
	s.measures.told(began, list, errs)
	for i, err := range errs {
		if err != nil && !errors.Is(err, transports.ErrNotHeld) {
			f.cfg.Log.Warn("settle", "source", s.name, "delivery", list[i].ID, "partition", list[i].Partition, "error", err)
		}
	}
}
