package flow

import (
	"maps"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/measure"
	"github.com/weir-project/weir/transports"
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
	LettersDropped    uint64            // dead letters that retention has dropped
	DiskUsed          int64             // bytes of the data folder
	InFlight          int64             // events
	InFlightBytes     int64
	LogBytes          int64
	Commit            commit.Stats
	Lanes             []LaneStatus
	Plugins           map[string]PluginStatus
	Exports           map[string]ExportStatus // of the journal, by sink
	Waits             []Wait                  // what waits for what, at this moment
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
	InFlight int64 // events with the lanes, not durable

	Bytes       uint64 // received
	Redelivered uint64 // deliveries that came again
	Acked       uint64 // settlements that the other side took
	Nacked      uint64
	LeaseLost   uint64               // settlements of what was not held any more
	Unsettled   uint64               // settlements that failed otherwise
	LastDurable time.Time            // of an event; zero = there was none
	Latency     measure.Distribution // seconds from receipt to durable, by event
	Settle      measure.Distribution // seconds of a call that settles
	Measures    *transports.Measures // nil = the transport does not say
}

// SinkStatus is one sink's part.
type SinkStatus struct {
	Local     bool   // takes part in the commit
	Delivered uint64 // entries
	Room      int64  // bytes that a local sink still takes, -1 = it has no bound
	Dispatch  dispatch.Stats
	Parked    int   // deliveries in the park queue
	ParkBytes int64 // their data
	ParkLimit int64
	Measures  *transports.Measures // nil = the transport does not say
}

// Status may be called from any goroutine.
func (f *Flow) Status() Status {
	events, bytes := f.held()
	st := Status{
		Phase: Phase(f.phase.Load()),
		Epoch: f.epoch, Generation: f.gen.Load().Number,
		Sources: map[string]SourceStatus{}, Sinks: map[string]SinkStatus{},
		Routes: f.routeCounts.all(), DeadLetters: f.letterCounts.all(), LettersDropped: f.lettersGone.Load(), DiskUsed: f.disk.used.Load(),
		InFlight: events, InFlightBytes: bytes, LogBytes: f.log.Size(), Commit: f.log.Stats(), Lanes: f.laneStatus(), Plugins: f.pluginStatus(), Exports: f.exports.status(), Waits: f.waits(), Failure: f.Err(),
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
		s.measures.status(&ss)
		ss.InFlight, ss.Measures = s.events.Load(), measuresOf(s.end)
		st.Sources[s.name] = ss
	}
	for _, s := range at.sinks {
		ss := SinkStatus{Local: s.staged != nil, Room: -1, Measures: measuresOf(s.end)}
		if s.bounded != nil {
			ss.Room = s.bounded.Room()
		}
		if s.staged != nil {
			ss.Delivered = f.log.Appended(s.stage)
		}
		if s.dispatcher != nil {
			ss.Dispatch = s.dispatcher.Stats()
			ss.Delivered = ss.Dispatch.Delivered
		}
		if s.park != nil {
			ss.Parked, ss.ParkBytes, ss.ParkLimit = s.park.Waiting(), s.park.Bytes(), s.park.Limit()
		}
		st.Sinks[s.name] = ss
	}
	return st
}
