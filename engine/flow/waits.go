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
	if at := f.disk.full.Load(); at != 0 {
		list = append(list, Wait{What: "sources", For: "room on the disk", Since: time.Unix(0, at), Why: f.disk.why(f.log.SnapshotSize())})
	}
	for _, s := range f.ends.Load().sources {
		list = append(list, s.waits()...)
	}
	for _, s := range f.ends.Load().sinks {
		if at := s.full.Load(); at != 0 {
			list = append(list, Wait{What: "sources", For: "sink " + s.name, Since: time.Unix(0, at), Why: fmt.Sprintf("it is full: room for %d bytes is left", s.bounded.Room())})
		}
		list = append(list, s.waits()...)
	}
	list = append(list, f.exports.waits()...)
	for i, l := range f.lanes {
		if len(l.free) == 0 && len(l.work) > 0 {
			list = append(list, Wait{What: fmt.Sprintf("lane %d", i), For: "the commit log", Why: fmt.Sprintf("all its %d records wait for their sync", cap(l.free))})
		}
	}
	if at := f.log.Stats().Since; !at.IsZero() && time.Since(at) > slowWrite {
		list = append(list, Wait{What: "the commit log", For: "the disk", Why: "a write or sync has not returned", Since: at})
	}
	return list
}

// slowWrite is how long a group's write may take before it is called a wait.
const slowWrite = time.Second

// waits is what a sink outside the commit waits for.
func (s *sink) waits() (list []Wait) {
	if s.dispatcher == nil {
		return nil
	}
	st := s.dispatcher.Stats()
	why := "nothing arrives"
	if st.Failed.Reason != "" {
		why = st.Failed.Class.String() + ": " + st.Failed.Reason
	}
	switch {
	case st.Fatal:
		list = append(list, Wait{What: "sink " + s.name, For: "a person", Why: why, Since: st.Failed.At})
	case st.Down:
		list = append(list, Wait{What: "sink " + s.name, For: "its other side", Why: why, Since: st.Failed.At})
	}
	if s.park == nil {
		return list
	}
	if n := s.park.Waiting(); n > 0 {
		list = append(list, Wait{What: fmt.Sprintf("%d parked deliveries", n), For: "sink " + s.name, Why: "they were not delivered in time, or wait behind one that was not"})
	}
	if s.park.Full() {
		list = append(list, Wait{What: "sources", For: "sink " + s.name, Why: fmt.Sprintf("its park queue is full: %d bytes", s.park.Limit())})
	}
	return list
}
