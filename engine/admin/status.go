package admin

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/flow"
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
	Dead       map[string]uint64 `json:"dead_letters"` // by reason
	Waits      []flow.Wait       `json:"waits"`        // what waits for what, and why
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
	LogBytes      int64  `json:"commit_log_bytes"`
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
}

// Plugin is a plug-in of the configuration.
type Plugin struct {
	Name string `json:"name"`
	Host string `json:"host"`
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
	Results   map[string]uint64 `json:"results"` // of writes, by class
	Fatal     bool              `json:"fatal"`   // a person must act
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
			Data: plan.Node.Data, Lanes: st.Lanes, MaxEvent: limits.Event, LogBytes: st.LogBytes,
			InFlight:      Use{st.InFlight, int64(limits.InFlight)},
			InFlightBytes: Use{st.InFlightBytes, limits.InFlightBytes},
		},
		Sources: []Source{}, Plugins: []Plugin{}, Routes: []Route{}, Sinks: []Sink{},
		Dead: maps.Clone(st.DeadLetters), Waits: st.Waits,
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
	for i := range plan.Plugins {
		out.Plugins = append(out.Plugins, Plugin{Name: plan.Plugins[i].Name, Host: plan.Plugins[i].Host})
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
	s := Source{Name: name, Received: st.Received, Before: st.Before, Outcomes: st.Outcomes, Evicted: st.Evicted, Ended: st.Ended}
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
		Name: name, Local: st.Local, Delivered: d.Delivered, Dead: d.Dead, Parked: d.Parked,
		Waiting: st.Parked, Results: d.Results, Fatal: d.Fatal,
	}
	if s.Results == nil {
		s.Results = map[string]uint64{}
	}
	if p != nil {
		s.Transport = p.Transport
	}
	return s
}
