package admin

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/measure"
)

// Status is the answer of GET /status. Counts are since the start, but for Before;
// lists are sorted by name.
type Status struct {
	Version    string            `json:"version"`
	Started    time.Time         `json:"started"`
	Uptime     float64           `json:"uptime_seconds"`
	Phase      string            `json:"phase"`             // recovered, opening, running, draining, stopped
	Failure    string            `json:"failure,omitempty"` // why nothing is acknowledged any more
	Generation Generation        `json:"generation"`
	Node       Node              `json:"node"`
	Sources    []Source          `json:"sources"`
	Plugins    []Plugin          `json:"plugins"`
	Routes     []Route           `json:"routes"`
	Sinks      []Sink            `json:"sinks"`
	Dead       map[string]uint64 `json:"dead_letters"`         // by reason
	Dropped    uint64            `json:"dead_letters_dropped"` // by dead_letters.keep and max
	Waits      []flow.Wait       `json:"waits"`                // what waits for what, and why
}

// Generation is the configuration that runs.
type Generation struct {
	Number uint64 `json:"number"` // since the start
	Epoch  uint64 `json:"epoch"`  // starts of the engine on this data folder
	Digest string `json:"digest"` // of the configuration
}

// Node is this instance: its limits and how much of them is used.
type Node struct {
	Data          string `json:"data"`
	Lanes         int    `json:"lanes"`
	InFlight      Use    `json:"in_flight"`       // events
	InFlightBytes Use    `json:"in_flight_bytes"` // of what the lanes are not done with
	MaxEvent      int    `json:"max_event_bytes"`
	Disk          Use    `json:"disk_bytes"` // of the data folder
	Commit        Commit `json:"commit"`
	LaneQueues    []Lane `json:"lane_queues"`
}

// Commit is the commit log.
type Commit struct {
	Bytes    int64      `json:"bytes"`   // of its segments
	Queue    Use        `json:"queue"`   // records that wait to be written
	Records  uint64     `json:"records"` // of this run
	Groups   uint64     `json:"groups"`  // in which they were written
	Write    Times      `json:"write"`   // of a group
	Snapshot *time.Time `json:"last_snapshot,omitempty"`
}

// Lane is what waits in one lane.
type Lane struct {
	Chunks  Use `json:"chunks"`  // of events, for the lane
	Records Use `json:"records"` // filled or waiting for their sync
}

// Times says how long something took, in seconds: estimates from histograms.
type Times struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

func timesOf(d measure.Distribution) Times {
	return Times{Count: d.Count, Mean: d.Mean(), P50: d.Quantile(0.5), P99: d.Quantile(0.99)}
}

// Use is how much of a limit is used.
type Use struct {
	Used int64 `json:"used"`
	Max  int64 `json:"max"` // 0 = no limit
}

// Source is an inbound end.
type Source struct {
	Name      string            `json:"name"`
	Transport string            `json:"transport"`
	Received  uint64            `json:"received"` // events, those of before this start among them
	Before    uint64            `json:"before"`   // events that were settled before this start
	Outcomes  map[string]uint64 `json:"outcomes"` // settled events by outcome
	Window    *Use              `json:"dedup_window,omitempty"`
	Evicted   uint64            `json:"dedup_evicted"` // ids that the count took from the window before their time
	Ended     bool              `json:"ended"`
	InFlight  int64             `json:"in_flight"` // events with the lanes and not durable
	Bytes     uint64            `json:"received_bytes"`
	Latency   Times             `json:"latency"`                // from receipt to durable, by event
	Durable   *time.Time        `json:"last_durable,omitempty"` // of an event
	Lag       *int64            `json:"lag,omitempty"`          // events that wait at the other side, where it is known
	Acked     uint64            `json:"acked"`                  // settlements that the other side took
	Nacked    uint64            `json:"nacked"`
	Again     uint64            `json:"redelivered"`
	LeaseLost uint64            `json:"lease_lost"`
	Unsettled uint64            `json:"settle_failures"`
}

// Plugin is a plug-in of the configuration.
type Plugin struct {
	Name    string `json:"name"`
	Host    string `json:"host"`
	Version string `json:"version"`
	Digest  string `json:"digest"` // of the module
	Events  uint64 `json:"events"` // that it was asked about
	Passed  uint64 `json:"passed"`
	Failed  uint64 `json:"failed"`
	Traps   uint64 `json:"traps"` // calls that failed
	Calls   Times  `json:"calls"`
}

// Route is how many events took a route.
type Route struct {
	Name   string `json:"name"`
	Events uint64 `json:"events"`
}

// Sink is an outbound end.
type Sink struct {
	Name      string            `json:"name"`
	Transport string            `json:"transport"`
	Local     bool              `json:"local"` // takes part in the commit
	Delivered uint64            `json:"delivered"`
	Dead      uint64            `json:"dead"`   // deliveries that became dead letters
	Parked    uint64            `json:"parked"` // deliveries that were parked
	Waiting   int               `json:"parked_now"`
	ParkBytes *Use              `json:"parked_bytes,omitempty"`
	Queue     int               `json:"queue"`                // deliveries that wait in memory or are under way
	Room      *int64            `json:"room_bytes,omitempty"` // what a local sink with a bound still takes
	Latency   Times             `json:"latency"`              // from the first offer to arrival
	Write     Times             `json:"write"`
	Down      bool              `json:"down"` // nothing arrives: only probes are sent
	Failed    *Failed           `json:"last_failure,omitempty"`
	Results   map[string]uint64 `json:"results"` // of writes, by class
	Fatal     bool              `json:"fatal"`   // a person must act
}

// Failed is the last entry that did not arrive.
type Failed struct {
	At     time.Time `json:"at"`
	Class  string    `json:"class"`
	Reason string    `json:"reason"`
}

func (s *Server) statusEndpoints() []Endpoint {
	return []Endpoint{{
		Method: http.MethodGet, Path: "/status",
		Answer: func(*http.Request) (any, error) { return s.Status(), nil },
	}}
}

// Status is what GET /status answers.
func (s *Server) Status() Status {
	st, plan := s.cfg.Engine.Status(), s.cfg.Engine.Plan()
	limits := plan.Node.Limits
	out := Status{
		Version: s.cfg.Version, Started: s.started.UTC(), Uptime: s.cfg.Now().Sub(s.started).Seconds(), Phase: st.Phase.String(),
		Generation: Generation{Number: st.Generation, Epoch: st.Epoch, Digest: plan.Digest},
		Node: Node{
			Data: plan.Node.Data, Lanes: len(st.Lanes), MaxEvent: limits.Event, Commit: commitStatus(&st), LaneQueues: []Lane{},
			InFlight:      Use{st.InFlight, int64(limits.InFlight)},
			InFlightBytes: Use{st.InFlightBytes, limits.InFlightBytes},
			Disk:          Use{st.DiskUsed, limits.Disk},
		},
		Sources: []Source{}, Plugins: []Plugin{}, Routes: []Route{}, Sinks: []Sink{},
		Dead: maps.Clone(st.DeadLetters), Dropped: st.LettersDropped, Waits: st.Waits,
	}
	if st.Failure != nil {
		out.Failure = st.Failure.Error()
	}
	if out.Dead == nil {
		out.Dead = map[string]uint64{}
	}
	if out.Waits == nil {
		out.Waits = []flow.Wait{}
	}
	for _, name := range slices.Sorted(maps.Keys(st.Sources)) {
		out.Sources = append(out.Sources, sourceStatus(name, st.Sources[name], plan.Source(name)))
	}
	for _, l := range st.Lanes {
		out.Node.LaneQueues = append(out.Node.LaneQueues, Lane{
			Chunks: Use{int64(l.Chunks), int64(l.MaxChunks)}, Records: Use{int64(l.Records), int64(l.MaxRecords)},
		})
	}
	for i := range plan.Plugins {
		p := &plan.Plugins[i]
		m := st.Plugins[p.Name]
		out.Plugins = append(out.Plugins, Plugin{
			Name: p.Name, Host: p.Host, Version: m.Version, Digest: m.Digest,
			Events: m.Events, Passed: m.Passed, Failed: m.Failed, Traps: m.Traps, Calls: timesOf(m.Calls),
		})
	}
	for i := range plan.Routes {
		out.Routes = append(out.Routes, Route{plan.Routes[i].Name, st.Routes[plan.Routes[i].Name]})
	}
	for _, name := range slices.Sorted(maps.Keys(st.Sinks)) {
		p := plan.Sink(name)
		if name == config.DeadLettersName {
			p = &plan.DeadLetters.Sink
		}
		out.Sinks = append(out.Sinks, sinkStatus(name, st.Sinks[name], p))
	}
	return out
}

func sourceStatus(name string, st flow.SourceStatus, p *config.Source) Source {
	s := Source{
		Name: name, Received: st.Received, Before: st.Before, Outcomes: st.Outcomes, Evicted: st.Evicted, Ended: st.Ended,
		InFlight: st.InFlight, Bytes: st.Bytes, Latency: timesOf(st.Latency), Durable: known(st.LastDurable),
		Acked: st.Acked, Nacked: st.Nacked, Again: st.Redelivered, LeaseLost: st.LeaseLost, Unsettled: st.Unsettled,
	}
	if m := st.Measures; m != nil && m.Lag >= 0 {
		s.Lag = &m.Lag
	}
	if p == nil {
		return s // a source of an older generation that is being drained
	}
	s.Transport = p.Transport
	if p.Dedup != nil {
		s.Window = &Use{int64(st.Window), int64(p.Dedup.MaxIDs)}
	}
	return s
}

func sinkStatus(name string, st flow.SinkStatus, p *config.Sink) Sink {
	d := st.Dispatch
	s := Sink{
		Name: name, Local: st.Local, Delivered: st.Delivered, Dead: d.Dead, Parked: d.Parked,
		Waiting: st.Parked, Results: d.Results, Fatal: d.Fatal,
		Queue: d.Waiting, Latency: timesOf(d.Latency), Write: timesOf(d.Write), Down: d.Down,
	}
	if st.ParkLimit > 0 {
		s.ParkBytes = &Use{st.ParkBytes, st.ParkLimit}
	}
	if st.Room >= 0 {
		s.Room = &st.Room
	}
	if f := d.Failed; !f.At.IsZero() {
		s.Failed = &Failed{At: f.At.UTC(), Class: f.Class.String(), Reason: f.Reason}
	}
	if s.Results == nil {
		s.Results = map[string]uint64{}
	}
	if p != nil {
		s.Transport = p.Transport
	}
	return s
}

func commitStatus(st *flow.Status) Commit {
	c := &st.Commit
	return Commit{
		Bytes: st.LogBytes, Queue: Use{int64(c.Queued), int64(c.Queue)}, Records: c.Tickets, Groups: c.Groups,
		Write: timesOf(c.Write), Snapshot: known(c.Snapshot),
	}
}

// known is nil for a time that has not come.
func known(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC()
	return &at
}
