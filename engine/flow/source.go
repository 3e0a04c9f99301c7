package flow

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
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

	turn chan struct{} // held while the source is asked; guards over
	over bool          // it is not asked any more

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
			s.acks = append(s.acks, transports.Settlement{ID: sp.ids[u]})
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
