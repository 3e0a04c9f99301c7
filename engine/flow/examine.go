package flow

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/pattern"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
)

// This file runs an event through a generation without any effect: the same scanner,
// patterns and plug-ins as on the path, and no claim, record or delivery.

// MaxExplainedRoutes bounds how many routes that do not match are explained one by one.
const MaxExplainedRoutes = 1000

// Stages of steps, in order.
const (
	StageDecode    = "decode"
	StageValidate  = "validate"
	StageStamp     = "stamp"
	StageExpire    = "expire"
	StageClaim     = "claim"
	StageMatch     = "match"
	StageFilter    = "filter"
	StageTransform = "transform"
	StageReact     = "react"
	StageDeliver   = "deliver"
)

// Verdicts of routes that do not take an event.
const (
	NoMatch  = "no match"
	NotAsked = "not asked"
)

// Step is one verdict on an event. Why is in words for people; the rest is stable.
type Step struct {
	Stage   string `json:"stage"`
	Subject string `json:"subject,omitempty"` // the route, plug-in or sink that it is about
	Verdict string `json:"verdict"`
	Why     string `json:"why,omitempty"`
}

// Sample is an event to be examined, in bytes as its source would hand it over.
type Sample struct {
	Source string
	Data   []byte
	Key    []byte // of the transport; nil = none
}

// Examination is what a generation says of one event.
type Examination struct {
	Source  string `json:"source"`
	ID      string `json:"id"`
	Stamped bool   `json:"stamped,omitempty"` // the id is made of where the event stands
	Type    string `json:"type,omitempty"`
	Key     string `json:"key,omitempty"`
	Steps   []Step `json:"steps"`
	// Outcome is what would become of the event if it came now; Anew what would if
	// the window did not know it, where that differs.
	Outcome string `json:"outcome"`
	Anew    string `json:"anew,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Deliveries are where the event would go, dead letters among them.
	Deliveries []journal.Delivery `json:"deliveries,omitempty"`

	Hi, Lo uint64 `json:"-"` // fingerprint of its identity, where it has one
}

// Sources are the names of the sources that a generation reads, in order.
func (g *Generation) Sources() []string {
	names := make([]string, len(g.readings))
	for i, r := range g.readings {
		names[i] = r.source
	}
	return names
}

// Window says what de-duplication knows of an identity; known false: nobody can say.
type Window func(source *config.Source, x *Examination) (st dedup.State, known bool, note string)

// examiner is one examination at work.
type examiner struct {
	g      *Generation
	c      *chunk
	r      ref
	x      *Examination
	plan   *config.Source
	now    time.Time
	window Window
}

// Examine says what a generation would do with a sample, which may hold several
// events. It changes nothing. Plug-ins get instances of their own.
func (g *Generation) Examine(ctx context.Context, in Sample, now time.Time, window Window) ([]Examination, error) {
	rd := g.reading(in.Source)
	if rd == nil {
		return nil, fmt.Errorf("no source %q", in.Source)
	}
	plan := g.plan.Source(in.Source)
	c := &chunk{gen: g, reading: rd, source: &source{name: in.Source, plan: plan}, byLane: make([][]uint32, 1)}
	c.Data, c.Ends = slices.Clone(in.Data), []uint32{uint32(len(in.Data))}
	c.deliveries = append(c.deliveries, transports.Delivery{Key: in.Key})
	s := &scanner{lanes: 1, now: func() time.Time { return now }}
	s.scan(c)
	l := &lane{aside: map[plugins.Plugin]plugins.Instance{}}
	l.f = dryFlow(now)
	l.adopt(g)
	defer l.forget(context.WithoutCancel(ctx), func(plugins.Plugin) bool { return false })
	list := make([]Examination, len(c.items))
	for i := range c.items {
		e := examiner{g: g, c: c, r: ref{c, uint32(i)}, x: &list[i], plan: plan, now: now, window: window}
		e.x.Source = in.Source
		if err := e.run(ctx, l); err != nil {
			return nil, err
		}
	}
	return list, ctx.Err()
}

func (e *examiner) step(stage, subject, verdict, why string, args ...any) {
	if len(args) > 0 {
		why = fmt.Sprintf(why, args...)
	}
	e.x.Steps = append(e.x.Steps, Step{Stage: stage, Subject: subject, Verdict: verdict, Why: why})
}

// end sets the outcome; the first one stays. What would happen after it is looked at
// all the same.
func (e *examiner) end(o journal.Outcome, reason string) {
	if e.x.Outcome == "" {
		e.x.Outcome, e.x.Reason = o.String(), reason
		return
	}
	if e.x.Anew == "" {
		e.x.Anew = o.String()
	}
}

func (e *examiner) run(ctx context.Context, l *lane) error {
	it := e.r.item()
	e.x.ID, e.x.Stamped = string(e.c.id(it)), it.idLen == 0
	if it.outcome == outcomeTest {
		e.step(StageDecode, "", "discarded", it.reason)
		e.end(journal.Discarded, it.reason)
		return nil
	}
	if !e.decoded(it) {
		return nil
	}
	e.stamped(it)
	e.expired(it)
	e.claimed(it)
	if err := e.matched(it); err != nil {
		return err
	}
	if it.flags&flagUnmatched != 0 {
		e.unmatched()
		return nil
	}
	e.filtered(ctx, it, l)
	return nil
}

// decoded tells envelope and faults; false = the event is refused.
func (e *examiner) decoded(it *item) bool {
	if it.fault != 0 {
		f := &e.c.faults[it.fault-1]
		stage := StageValidate
		switch f.reason {
		case reasonJSON, reasonUTF8, reasonDepth, reasonSize, reasonKeys, reasonElements, reasonEnvelope:
			stage = StageDecode
		default:
			e.step(StageDecode, "", "read", "%s", e.envelope(it))
		}
		e.step(stage, "", "refused", "%s: %s", f.reason, f.detail)
		e.end(journal.Refused, f.reason)
		e.buried(f.reason)
		return false
	}
	e.step(StageDecode, "", "read", "%s", e.envelope(it))
	e.x.Type = e.text(it, "type")
	e.step(StageValidate, "", "valid", "type %s, source %s%s", quoted(e.x.Type), quoted(e.text(it, "source")), e.optional(it, "time", "subject"))
	return true
}

// optional lists attributes that an event need not have.
func (e *examiner) optional(it *item, names ...string) string {
	var b strings.Builder
	for _, n := range names {
		if v := e.text(it, n); v != "" {
			fmt.Fprintf(&b, ", %s %s", n, quoted(v))
		}
	}
	return b.String()
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// text is an attribute of the event, "" where it has none.
func (e *examiner) text(it *item, name string) string {
	raw, ok := e.c.look(it, field.Path{name})
	if !ok || len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	if raw[0] == '"' {
		return string(field.AppendUnescaped(nil, raw[1:len(raw)-1]))
	}
	return string(raw)
}

// envelope names the envelopes that the event was found in.
func (e *examiner) envelope(it *item) string {
	chain := []event.Envelope(nil)
	if it.cold != 0 {
		chain = e.c.cold[it.cold-1].event.Chain
	} else if it.fault == 0 || it.layout >= 0 && int(it.layout) < len(e.c.reading.layouts) {
		chain = e.c.layout(it).Chain
	}
	names := make([]string, len(chain))
	for i, n := range chain {
		names[i] = n.String()
	}
	text := "as " + strings.Join(names, " > ")
	if len(names) > 1 {
		text = "as " + names[len(names)-1] + " inside of " + strings.Join(names[:len(names)-1], " > ")
	}
	if e.c.reading.codec.IsAuto() {
		text += ", found by itself (codec: auto)"
	}
	if it.sub > 0 || len(e.c.items) > 1 {
		text += fmt.Sprintf("; event %d of %d in this unit", it.sub+1, len(e.c.items))
	}
	return text
}

// stamped tells id and key.
func (e *examiner) stamped(it *item) {
	if it.cold == 0 && e.text(it, "id") == "" {
		e.x.Stamped = true
		e.step(StageStamp, "", "stamped", "the event has no id: it gets one made of source, partition and place, here %s", e.x.ID)
	} else {
		e.step(StageStamp, "", "own id", "%s", e.x.ID)
	}
	e.x.Key = string(e.c.keyBytes(it))
	switch {
	case it.flags&flagKeyed == 0:
		e.step(StageStamp, "", "key", "none; in order with repeats of the same identity only")
	case e.c.reading.key >= 0:
		e.step(StageStamp, "", "key", "%s, from %s", quoted(e.x.Key), e.plan.Key)
	default:
		e.step(StageStamp, "", "key", "%s, from the transport", quoted(e.x.Key))
	}
}

func (e *examiner) expired(it *item) {
	rd := e.c.reading
	switch {
	case !rd.expire.On:
		return
	case it.flags&flagExpired != 0:
		e.step(StageExpire, "", "expired", "time %s, expirytime %s; limit %v", orNone(e.text(it, "time")), orNone(e.text(it, "expirytime")), rd.expire.After)
		e.end(journal.Expired, "")
	case rd.expire.After > 0:
		e.step(StageExpire, "", "in time", "not older than %v", rd.expire.After)
	default:
		e.step(StageExpire, "", "in time", "no expirytime, or not past it")
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// claimed tells what the window knows.
func (e *examiner) claimed(it *item) {
	d := e.plan.Dedup
	if d == nil {
		e.step(StageClaim, "", "off", "dedup: false: every repeat is an event of its own")
		return
	}
	identity := "source and id"
	if len(d.ID) > 0 {
		identity = strings.Join(d.ID, ", ")
	}
	e.x.Hi, e.x.Lo = it.hi, it.lo
	if e.window == nil {
		e.step(StageClaim, "", "not looked at", "identity: %s; there is no window to look at", identity)
		return
	}
	st, known, note := e.window(e.plan, e.x)
	if !known {
		e.step(StageClaim, "", "not known", "identity: %s; %s", identity, note)
		return
	}
	v := dedup.Judge(st, &dedup.Request[ref]{
		Data: it.data, Version: it.version, HasVersion: it.flags&flagVersion != 0, MayUpdate: it.flags&flagMayUpdate != 0,
	})
	e.step(StageClaim, "", v.String(), "identity: %s; %s", identity, note)
	switch v {
	case dedup.Follows:
		e.end(journal.Duplicate, "")
	case dedup.Duplicate:
		e.end(journal.Duplicate, "")
	case dedup.Stale:
		e.end(journal.Stale, "")
	case dedup.Conflict:
		if d.OnConflict == conflictDuplicate {
			e.end(journal.Duplicate, "conflict")
			return
		}
		e.end(journal.Conflict, "conflict")
	}
}

// matched tells each route's pattern, those that match first.
func (e *examiner) matched(it *item) error {
	routes := e.c.routesOf(it)
	left := 0
	for i := range e.g.routes {
		p := &e.g.plan.Routes[i]
		switch {
		case slices.Contains(routes, uint32(i)) && p.When == nil:
			e.step(StageMatch, p.Name, "matched", "no pattern: takes every event of its sources")
		case slices.Contains(routes, uint32(i)):
			e.step(StageMatch, p.Name, "matched", "")
		}
	}
	for i := range e.g.routes {
		p := &e.g.plan.Routes[i]
		if slices.Contains(routes, uint32(i)) {
			continue
		}
		if left++; left > MaxExplainedRoutes {
			continue
		}
		if !slices.Contains(p.From, e.x.Source) {
			e.step(StageMatch, p.Name, NotAsked, "takes events from %s only", strings.Join(p.From, ", "))
			continue
		}
		v, err := e.c.explainPattern(it, p.When)
		if err != nil {
			return fmt.Errorf("route %s: %w", p.Name, err)
		}
		e.step(StageMatch, p.Name, NoMatch, "%s", v.String())
	}
	if left > MaxExplainedRoutes {
		e.step(StageMatch, "", NoMatch, "and %d further routes", left-MaxExplainedRoutes)
	}
	return nil
}

// explainPattern judges an event by one pattern, by itself.
func (c *chunk) explainPattern(it *item, when []byte) (v pattern.Verdict, err error) {
	p, err := pattern.Compile(when)
	if err != nil {
		return v, err
	}
	of := c.layout(it)
	l := layout{Layout: of.Layout, bridged: of.bridged}
	var raw paths
	var slots []int32
	for _, f := range p.Fields() {
		slots = append(slots, int32(l.resolve(f, &raw)))
	}
	program, err := field.Compile(raw.list, field.Options{Root: true})
	if err != nil {
		return v, err
	}
	var values field.Values
	if err := program.Scan(c.doc(it), &values); err != nil {
		return v, err
	}
	return p.Explain(&pattern.View{Doc: c.doc(it), Values: &values, Slots: slots, Consts: l.consts}), nil
}

func (e *examiner) unmatched() {
	if len(e.g.unmatched) == 0 {
		e.step(StageDeliver, "", "unmatched", "no route's pattern matched, and unmatched names no sink")
	}
	for _, s := range e.g.unmatched {
		e.delivered(journal.NoRoute, s, "no route's pattern matched")
	}
	e.end(journal.Unmatched, "")
}

// buried tells where a dead letter would go.
func (e *examiner) buried(reason string) {
	if e.g.dead < 0 {
		e.step(StageDeliver, "", "dropped", "there are no dead letters (dead_letters: false)")
		return
	}
	e.step(StageDeliver, e.g.sinks[e.g.dead], "dead letter", "with reason %s", reason)
	e.x.Deliveries = append(e.x.Deliveries, journal.Delivery{Sink: e.g.sinks[e.g.dead], Outcome: journal.Dead.String(), Reason: reason})
}
