package dispatch

import (
	"sync/atomic"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
)

// Stats are counts since the start.
type Stats struct {
	Delivered, Parked, Dead uint64
	Results                 map[string]uint64 // by class of result
	Fatal                   bool              // the last write failed for good: a person must act
}

type stats struct {
	outcomes [3]atomic.Uint64
	classes  [transports.LeaseLost + 1]atomic.Uint64
	fatal    atomic.Bool
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

func (s *stats) count(c transports.Class) {
	if int(c) < len(s.classes) {
		s.classes[c].Add(1)
	}
}

// Stats may be called from any goroutine.
func (d *Dispatcher) Stats() Stats {
	st := Stats{
		Delivered: d.stats.outcomes[0].Load(), Parked: d.stats.outcomes[1].Load(), Dead: d.stats.outcomes[2].Load(),
		Fatal: d.stats.fatal.Load(), Results: map[string]uint64{},
	}
	for c := range d.stats.classes {
		if n := d.stats.classes[c].Load(); n > 0 {
			st.Results[transports.Class(c).String()] = n
		}
	}
	return st
}
