package flow

import (
	"fmt"
	"time"
)

// Wait is something that waits for something else, and why.
type Wait struct {
	What  string    `json:"what"`  // such as "source orders"
	For   string    `json:"for"`   // such as "sink kitchen"
	Why   string    `json:"why"`   // in words
	Since time.Time `json:"since"` // the zero time = not known
}

// waits looks at every place where something can be held up.
func (f *Flow) waits() []Wait {
	var list []Wait
	limits := f.node.Limits
	if since, events := f.room.full(); !since.IsZero() && Phase(f.phase.Load()) == Running {
		w := Wait{What: "sources", For: "room in flight", Since: since, Why: fmt.Sprintf("node.limits.in_flight_bytes: %d bytes are worked on", limits.InFlightBytes)}
		if events {
			w.Why = fmt.Sprintf("node.limits.in_flight: %d events are not settled", limits.InFlight)
		}
		list = append(list, w)
	}
	for _, s := range f.ends.Load().sinks {
		if at := s.full.Load(); at != 0 {
			list = append(list, Wait{What: "sources", For: "sink " + s.name, Since: time.Unix(0, at), Why: fmt.Sprintf("it is full: room for %d bytes is left", s.bounded.Room())})
		}
		if s.dispatcher != nil && s.dispatcher.Stats().Fatal {
			list = append(list, Wait{What: "sink " + s.name, For: "a person", Why: "its last write failed in a way that does not pass by itself"})
		}
		if s.park == nil {
			continue
		}
		if n := s.park.Waiting(); n > 0 {
			list = append(list, Wait{What: fmt.Sprintf("%d parked deliveries", n), For: "sink " + s.name, Why: "they were not delivered in time, or wait behind one that was not"})
		}
	}
	return list
}
