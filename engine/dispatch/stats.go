package dispatch

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/measure"
	"github.com/weir-project/weir/transports"
)

// Stats are counts since the start, and where a dispatcher stands.
type Stats struct {
	Delivered, Parked, Dead uint64
	Results                 map[string]uint64    // of entries, by class of result
	Fatal                   bool                 // the last write failed for good: a person must act
	Down                    bool                 // nothing arrives: only probes are sent
	Waiting                 int                  // jobs that have not ended and are not parked
	Failed                  Failure              // the last entry that did not arrive
	Write                   measure.Distribution // seconds a write took
	Batch                   measure.Distribution // entries of a write
	Latency                 measure.Distribution // seconds from offer to arrival, without what was parked
}

// Failure is why an entry did not arrive.
type Failure struct {
	At     time.Time // zero = there was none
	Class  transports.Class
	Reason string
}

type stats struct {
	outcomes [3]atomic.Uint64
	classes  [transports.LeaseLost + 1]atomic.Uint64
	fatal    atomic.Bool
	down     atomic.Bool
	waiting  atomic.Int64
	write    measure.Histogram
	batch    measure.Histogram
	latency  measure.Histogram

	mu   sync.Mutex // guards last
	last Failure
}

func (s *stats) init() {
	s.write.Seconds()
	s.latency.Seconds()
	s.batch.Counts()
}

func (s *stats) outcome(o journal.Outcome) {
	switch o {
	case journal.Delivered:
		s.outcomes[0].Add(1)
	case journal.Parked:
		s.outcomes[1].Add(1)
	case journal.Dead:
		s.outcomes[2].Add(1)
	}
}

func (s *stats) count(r *transports.Result, now time.Time) {
	if int(r.Class) < len(s.classes) {
		s.classes[r.Class].Add(1)
	}
	if r.Class == transports.OK {
		return
	}
	s.mu.Lock()
	s.last = Failure{At: now, Class: r.Class, Reason: text(r.Err)}
	s.mu.Unlock()
}

// Stats may be called from any goroutine.
func (d *Dispatcher) Stats() Stats {
	s := &d.stats
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	st := Stats{
		Delivered: s.outcomes[0].Load(), Parked: s.outcomes[1].Load(), Dead: s.outcomes[2].Load(),
		Fatal: s.fatal.Load(), Down: s.down.Load(), Waiting: int(s.waiting.Load()), Failed: last,
		Write: s.write.Read(), Batch: s.batch.Read(), Latency: s.latency.Read(), Results: map[string]uint64{},
	}
	for c := range s.classes {
		if n := s.classes[c].Load(); n > 0 {
			st.Results[transports.Class(c).String()] = n
		}
	}
	return st
}
