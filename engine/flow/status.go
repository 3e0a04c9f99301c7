package flow

import (
	"maps"
	"sync"

	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/journal"
)

// counts are totals by name. They are touched once a record, or for what is rare.
type counts struct {
	mu sync.Mutex // guards by
	by map[string]uint64
}

func (c *counts) add(name string) { c.addN(name, 1) }

func (c *counts) addN(name string, n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]uint64{}
	}
	c.by[name] += n
}

func (c *counts) all() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.by)
}

// Status is what the flow has done since it started, but for the Before counts.
// Outcomes count events whose records are durable.
type Status struct {
	Phase             Phase
	Epoch, Generation uint64
	Sources           map[string]SourceStatus
	Sinks             map[string]SinkStatus
	Routes            map[string]uint64 // events that took a route
	DeadLetters       map[string]uint64 // by reason
	InFlight          int64             // events
	InFlightBytes     int64
	LogBytes          int64
	Lanes             int
	Waits             []Wait // what waits for what, at this moment
	Failure           error
}

// SourceStatus is one source's part.
type SourceStatus struct {
	Received uint64            // events read, those settled before this start among them
	Before   uint64            // events that were settled before this start
	Outcomes map[string]uint64 // by outcome
	Window   int               // ids in the dedup window
	Evicted  uint64            // ids the count cap took from the window before their time
	Ended    bool
}

// SinkStatus is one sink's part.
type SinkStatus struct {
	Local    bool // takes part in the commit
	Dispatch dispatch.Stats
	Parked   int // deliveries in the park queue
}

// Status may be called from any goroutine.
func (f *Flow) Status() Status {
	events, bytes := f.held()
	st := Status{
		Phase: Phase(f.phase.Load()),
		Epoch: f.epoch, Generation: f.gen.Load().Number,
		Sources: map[string]SourceStatus{}, Sinks: map[string]SinkStatus{},
		Routes: f.routeCounts.all(), DeadLetters: f.letterCounts.all(),
		InFlight: events, InFlightBytes: bytes, LogBytes: f.log.Size(), Lanes: len(f.lanes), Waits: f.waits(), Failure: f.Err(),
	}
	at := f.ends.Load()
	for _, s := range f.statusSources(at) {
		ss := SourceStatus{Received: s.received.Load(), Before: s.before, Outcomes: map[string]uint64{}, Ended: s.ended.Load()}
		for o := range s.outcomes {
			if n := s.outcomes[o].Load(); n > 0 {
				ss.Outcomes[journal.Outcome(o).String()] = n
			}
		}
		if s.table != nil {
			ss.Window, ss.Evicted = s.table.Len(), s.table.Evicted()
		}
		st.Sources[s.name] = ss
	}
	for _, s := range at.sinks {
		ss := SinkStatus{Local: s.staged != nil}
		if s.dispatcher != nil {
			ss.Dispatch = s.dispatcher.Stats()
		}
		if s.park != nil {
			ss.Parked = s.park.Waiting()
		}
		st.Sinks[s.name] = ss
	}
	return st
}
