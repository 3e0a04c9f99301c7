package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Query chooses lines of the journal. Empty fields choose everything; the others
// must all hold.
type Query struct {
	ID     string // the event's id, as the journal lists it
	Source string // name of the source in the configuration
	Key    string // the events' key; the journal keeps its hash
	Route  string // a route that took the event, or one that has a note
	Sink   string // a sink that the event went to, or should have
	// Outcomes: of the event, or of one of its deliveries.
	Outcomes []Outcome
	// Reason: of the event or of one of its deliveries, whole or up to its first colon.
	Reason       string
	Since, Until time.Time // wall time of the commit; Until is not included; zero = open
	// Hi and Lo, where not both 0: events of this identity.
	Hi, Lo uint64
	// Claimed: only events that entered their source's window.
	Claimed bool
	// After: not committed before this engine time.
	After time.Duration
	// Oldest lists oldest first; otherwise newest first.
	Oldest bool
	// Limit is how many lines are given; 0 = all, which newest first allows up to MaxNewest.
	Limit int
}

// MaxNewest bounds what a query newest first gives, since it is held in memory.
const MaxNewest = 100_000

// Validate says what is wrong with a query.
func (q *Query) Validate() error {
	var errs []error
	if q.Limit < 0 {
		errs = append(errs, fmt.Errorf("limit %d is negative", q.Limit))
	}
	if !q.Oldest && q.Limit > MaxNewest {
		errs = append(errs, fmt.Errorf("limit %d: newest first gives at most %d lines; ask for the oldest first", q.Limit, MaxNewest))
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		errs = append(errs, fmt.Errorf("the range from %s until %s is empty", q.Since.Format(time.RFC3339), q.Until.Format(time.RFC3339)))
	}
	for _, o := range q.Outcomes {
		if o == 0 || o > lastResult {
			errs = append(errs, fmt.Errorf("there is no %v", o))
		}
	}
	return errors.Join(errs...)
}

// ParseOutcome is the outcome of a name.
func ParseOutcome(name string) (Outcome, error) {
	for o, n := range outcomeNames {
		if n == name && o != 0 {
			return Outcome(o), nil
		}
	}
	return 0, fmt.Errorf("no outcome %q; there are: %s", name, strings.Join(outcomeNames[1:], ", "))
}

// Line is one line of the journal: what became of an event, or, with Redelivered,
// how a delivery of it ended that had been parked.
type Line struct {
	Time       time.Time  `json:"time"` // of the commit
	Source     string     `json:"source"`
	ID         string     `json:"id"`
	Outcome    string     `json:"outcome"`
	Reason     string     `json:"reason,omitempty"`
	Routes     []string   `json:"routes,omitempty"`
	Deliveries []Delivery `json:"deliveries,omitempty"`
	// Redelivered: the event was settled before; this is the end of one parked delivery.
	Redelivered bool   `json:"redelivered,omitempty"`
	Partition   string `json:"partition,omitempty"`
	Ordinal     uint64 `json:"ordinal"` // of the event in its partition
	Sub         uint32 `json:"sub,omitempty"`
	Epoch       uint64 `json:"epoch"` // counts starts of the engine
	Generation  uint64 `json:"generation,omitempty"`
	Key         string `json:"key_hash,omitempty"` // 16 hexadecimal digits
	Identity    string `json:"identity,omitempty"` // 32 hexadecimal digits; see Fingerprint
	Version     *int64 `json:"version,omitempty"`
	// Record is the ordinal of the record in the commit log, Entry the number in it:
	// together they name the line for ever.
	Record uint64 `json:"record"`
	Entry  int    `json:"entry"`

	Claimed bool          `json:"-"` // it entered the window
	Hi, Lo  uint64        `json:"-"` // fingerprint of its identity
	Data    uint64        `json:"-"` // hash of its data; with Claimed
	At      time.Duration `json:"-"` // engine time of the commit
}

// Delivery is where an event went.
type Delivery struct {
	Route    string `json:"route,omitempty"`
	Sink     string `json:"sink,omitempty"` // empty: the route was left before its sinks
	Outcome  string `json:"outcome"`
	Attempts uint32 `json:"attempts,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// matcher is a query made ready.
type matcher struct {
	q        *Query
	id       []byte
	key      uint64
	outcomes uint32
	names    uint64 // bits that a block must have
	hashes   []uint64
	// needles: a record that holds none of them as bytes holds nothing that is wanted.
	needles [][]byte
}

func newMatcher(q *Query) *matcher {
	m := &matcher{q: q, id: []byte(q.ID)}
	if q.ID != "" {
		m.hashes = append(m.hashes, hashOf(q.ID))
		m.needles = append(m.needles, m.id)
		if short, ok := appendUUID(nil, m.id); ok {
			m.needles = append(m.needles, short)
		}
	}
	if q.Key != "" {
		m.key = hashOf(q.Key)
		m.hashes = append(m.hashes, m.key)
		if q.ID == "" {
			m.needles = append(m.needles, binary.LittleEndian.AppendUint64(nil, m.key))
		}
	}
	if q.Hi|q.Lo != 0 && m.needles == nil {
		m.needles = append(m.needles, binary.LittleEndian.AppendUint64(nil, q.Hi))
	}
	for _, o := range q.Outcomes {
		m.outcomes |= 1 << o
	}
	for _, name := range []string{q.Source, q.Route, q.Reason} {
		if name != "" {
			m.names |= nameBit(ruleOf(name))
		}
	}
	return m
}

// ruleOf is the stable part of a reason.
func ruleOf(reason string) string {
	rule, _, _ := strings.Cut(reason, ":")
	return rule
}

// mayHold says whether a record may hold what is wanted, by a look at its bytes.
func (m *matcher) mayHold(record []byte) bool {
	for _, n := range m.needles {
		if bytes.Contains(record, n) {
			return true
		}
	}
	return m.needles == nil
}

// passes says whether a block may hold what is wanted.
func (m *matcher) passes(b *block) bool {
	return (m.outcomes == 0 || b.outcomes&m.outcomes != 0) && b.names&m.names == m.names && m.during(b.first, b.last)
}

func (m *matcher) during(first, last time.Time) bool {
	return (m.q.Since.IsZero() || !last.Before(m.q.Since)) && (m.q.Until.IsZero() || first.Before(m.q.Until))
}

func (m *matcher) isReason(reason string) bool {
	return reason == m.q.Reason || ruleOf(reason) == m.q.Reason
}

// entry says whether a settled event is wanted, as far as its entry tells by itself.
func (m *matcher) entry(s *Section, e *Entry) bool {
	switch {
	case m.q.ID != "" && string(e.ID) != m.q.ID,
		m.q.Source != "" && s.Source != m.q.Source,
		m.q.Hi|m.q.Lo != 0 && (e.Hi != m.q.Hi || e.Lo != m.q.Lo || !e.Identified),
		m.q.Claimed && !e.Claimed,
		m.q.Key != "" && (e.Key != m.key || e.Identified && e.Key == e.Hi):
		return false
	}
	if m.outcomes != 0 && m.outcomes&(1<<e.Outcome) == 0 && !anyNote(e, func(n *Note) bool { return m.outcomes&(1<<n.Outcome) != 0 }) {
		return false
	}
	return m.q.Reason == "" || m.isReason(e.Reason) || anyNote(e, func(n *Note) bool { return m.isReason(n.Reason) })
}

func anyNote(e *Entry, is func(*Note) bool) bool {
	for i := range e.Notes {
		if is(&e.Notes[i]) {
			return true
		}
	}
	return false
}

// line says whether a line is wanted as to what only its names tell.
func (m *matcher) line(l *Line) bool {
	if m.q.Route == "" && m.q.Sink == "" {
		return true
	}
	route, sink := m.q.Route == "", m.q.Sink == ""
	for _, r := range l.Routes {
		route = route || r == m.q.Route
	}
	for i := range l.Deliveries {
		d := &l.Deliveries[i]
		route = route || d.Route == m.q.Route
		sink = sink || d.Sink == m.q.Sink
	}
	return route && sink
}

// redelivered says whether the end of a parked delivery is wanted.
func (m *matcher) redelivered(r *Redelivery) bool {
	return !m.q.Claimed && m.q.Hi|m.q.Lo == 0 && (m.q.ID == "" || r.ID == m.q.ID) && (m.q.Source == "" || r.Source == m.q.Source) && m.q.Key == "" &&
		(m.outcomes == 0 || m.outcomes&(1<<r.Outcome) != 0) && (m.q.Reason == "" || m.isReason(r.Reason))
}

// lineOf makes a line of a settled event.
func lineOf(g *announced, s *Section, e *Entry) *Line {
	l := &Line{
		Source: s.Source, ID: string(e.ID), Outcome: e.Outcome.String(), Reason: e.Reason,
		Partition: s.Partition, Ordinal: e.Ordinal, Sub: e.Sub,
		Claimed: e.Claimed, Hi: e.Hi, Lo: e.Lo, Data: e.Data,
	}
	if e.Identified {
		l.Identity = fmt.Sprintf("%016x%016x", e.Hi, e.Lo)
	}
	if !e.Identified || e.Key != e.Hi {
		l.Key = fmt.Sprintf("%016x", e.Key)
	}
	if e.HasVersion {
		v := int64(e.Version)
		l.Version = &v
	}
	for i, r := range e.Routes {
		l.Routes = append(l.Routes, g.route(r))
		taken := uint32(NoOutputs)
		if i < len(e.Taken) {
			taken = e.Taken[i]
		}
		g.exits(r, taken, func(sink uint32) { l.arrived(g, e, r, sink) })
	}
	if e.Outcome == Unmatched {
		g.exits(NoRoute, NoOutputs, func(sink uint32) { l.arrived(g, e, NoRoute, sink) })
	}
	for i := range e.Notes {
		n := &e.Notes[i]
		l.Deliveries = append(l.Deliveries, Delivery{
			Route: g.route(n.Route), Sink: g.sink(n.Sink), Outcome: n.Outcome.String(), Attempts: n.Attempts, Reason: n.Reason,
		})
	}
	return l
}

// arrived adds a delivery that left no note: it simply arrived.
func (l *Line) arrived(g *announced, e *Entry, route, sink uint32) {
	if anyNote(e, func(n *Note) bool { return n.Route == route && n.Sink == sink }) {
		return
	}
	l.Deliveries = append(l.Deliveries, Delivery{Route: g.route(route), Sink: g.sink(sink), Outcome: Delivered.String()})
}

// redeliveredLine makes a line of the end of a parked delivery.
func redeliveredLine(sink string, r *Redelivery) *Line {
	return &Line{
		Source: r.Source, ID: r.ID, Outcome: r.Outcome.String(), Reason: r.Reason, Redelivered: true,
		Deliveries: []Delivery{{Route: r.Route, Sink: sink, Outcome: r.Outcome.String(), Attempts: r.Attempts, Reason: r.Reason}},
	}
}
