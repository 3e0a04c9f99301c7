package flow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/plugins"
)

// filtered asks the plug-ins of the routes that match, and says where those lead
// whose plug-ins agree.
func (e *examiner) filtered(ctx context.Context, it *item, l *lane) {
	l.batch = append(l.batch[:0], e.r)
	for p := range e.g.plugins {
		l.ask(ctx, p)
	}
	dead, taken := false, 0
	for _, i := range e.c.routesOf(it) {
		rt := &e.g.routes[i]
		for _, p := range rt.filters {
			if e.asked(l, rt.name, p); l.answers[p][0]&1 == 0 || l.answers[p][0]&plugins.Failed != 0 {
				break
			}
		}
		verdict, p := l.verdict(rt, 0)
		if rt.choice >= 0 && (p == rt.choice || verdict != 0) {
			e.chose(l, rt)
		}
		switch {
		case verdict == verdictNack:
			e.step(StageDeliver, rt.name, "given back", "the source gets the whole event back and gives it again")
		case verdict&plugins.Failed != 0 && e.g.plugins[p].onError == plugins.Drop:
		case verdict&plugins.Failed != 0:
			dead = true
			e.buried("plugin_failed")
		case verdict != 0:
			if !e.made(l, i) {
				dead = true
				continue
			}
			taken++
			e.leads(i, verdict)
		}
	}
	switch {
	case taken > 0:
		e.end(journal.Delivered, "")
	case dead:
		e.end(journal.Dead, "plugin_failed")
	default:
		e.step(StageDeliver, "", "nowhere", "every route that matched was left by its filters")
		e.end(journal.Filtered, "")
	}
}

// leads tells the sinks of a route that takes the event.
func (e *examiner) leads(route uint32, verdict uint32) {
	rt := &e.g.routes[route]
	if rt.choice < 0 {
		for _, s := range rt.to {
			e.delivered(route, s, "")
		}
		return
	}
	rt.chosen(verdict, func(s int) { e.delivered(route, s, "") })
}

// made runs the steps of a route; false = one of them failed.
func (e *examiner) made(l *lane, route uint32) bool {
	rt := &e.g.routes[route]
	if len(rt.transforms)+len(rt.reactions) == 0 {
		return true
	}
	ev, err := l.f.eventOf(e.r)
	if err != nil {
		return e.failed(rt.name, reasonTransform, err)
	}
	for i, st := range rt.transforms {
		l.fields.of(l.f, e.r, route, st)
		if ev, err = l.fields.makeEvent(ev); err != nil {
			return e.failed(rt.name, reasonTransform, errors.New(place("transform", i, err)))
		}
		e.step(StageTransform, rt.name, "changed", "transform %d makes it type %s, id %s", i+1, quoted(ev.Type), ev.ID)
	}
	if len(rt.transforms) > 0 {
		x := e.r.item().more()
		x.made = append(x.made, madeEvent{route: route, event: &ev})
	}
	for i, st := range rt.reactions {
		rec, err := l.derived(e.r, route, i, st, &ev)
		switch {
		case err != nil:
			e.step(StageReact, rt.name, "failed", "%s: %s", reasonReact, place("react", i, err))
			e.buried(reasonReact)
		case rec.Lineage.Hop > derive.MaxHops:
			e.step(StageReact, rt.name, "failed", "%s: %d hops from the event that began it, at most %d", reasonHops, rec.Lineage.Hop, derive.MaxHops)
			e.buried(reasonHops)
		default:
			e.step(StageReact, rt.name, "emits", "%s", emitted(rec.Data))
		}
	}
	return true
}

// emitted names a derived event.
func emitted(data []byte) string {
	const longest = 300
	if ev, err := event.Decode(data, event.Codec{}, event.Missing{}, event.Limits{}); err == nil {
		return fmt.Sprintf("event %s of type %s, which enters the path as source %s", ev.ID, quoted(ev.Type), derive.Name)
	}
	return string(data[:min(longest, len(data))])
}

func (e *examiner) failed(route, reason string, err error) bool {
	e.step(StageTransform, route, "failed", "%s: %v", reason, err)
	e.buried(reason)
	return false
}

// name of a plug-in with its version.
func (p *plugin) title() string {
	digest := p.loaded.Digest()
	return fmt.Sprintf("%s %s (%s)", p.name, p.loaded.Manifest().Version, digest[:min(12, len(digest))])
}

// asked tells what a filter said for a route.
func (e *examiner) asked(l *lane, route string, p int) {
	pl := &e.g.plugins[p]
	a := l.answers[p][0]
	switch {
	case a&plugins.Failed != 0:
		e.step(StageFilter, route, "failed", "%s: %s; on_error: %s", pl.title(), l.reasons[p][0], pl.onError)
	case l.reasons[p][0] != "":
		e.step(StageFilter, route, "yes", "%s failed: %s; on_error: %s", pl.title(), l.reasons[p][0], pl.onError)
	case a&1 != 0:
		e.step(StageFilter, route, "yes", "%s%s", pl.title(), e.reason(l, p))
	default:
		e.step(StageFilter, route, "no", "%s%s", pl.title(), e.reason(l, p))
	}
}

// reason is what the plug-in said beside its answer.
func (e *examiner) reason(l *lane, p int) string {
	if l.instances[p] == nil {
		return ""
	}
	if why := l.instances[p].Reason(0); why != "" {
		return ": " + why
	}
	return ""
}

// chose tells the outputs that a plug-in named.
func (e *examiner) chose(l *lane, rt *route) {
	pl := &e.g.plugins[rt.choice]
	a := l.answers[rt.choice][0]
	if a&plugins.Failed != 0 {
		e.step(StageFilter, rt.name, "failed", "%s: %s; on_error: %s", pl.title(), l.reasons[rt.choice][0], pl.onError)
		return
	}
	var names []string
	for bit, o := range pl.loaded.Manifest().Outputs {
		switch {
		case a&(1<<bit) == 0:
		case rt.named&(1<<bit) == 0:
			names = append(names, o+" (which the route does not name)")
		default:
			names = append(names, o)
		}
	}
	switch {
	case len(names) > 0:
		e.step(StageFilter, rt.name, "chose", "%s: %s%s", pl.title(), strings.Join(names, ", "), e.reason(l, rt.choice))
	case rt.rest != nil:
		e.step(StageFilter, rt.name, "chose", "%s: none of its outputs, so else%s", pl.title(), e.reason(l, rt.choice))
	default:
		e.step(StageFilter, rt.name, "no", "%s: none of its outputs%s", pl.title(), e.reason(l, rt.choice))
	}
}

// delivered tells a sink that the event would go to, and whether it can be encoded for it.
func (e *examiner) delivered(route uint32, s int, why string) {
	name := ""
	if route != journal.NoRoute {
		name = e.g.routes[route].name
	}
	p := e.g.plan.Sink(e.g.sinks[s])
	codec, err := event.ParseCodec(p.Codec)
	form := "as it came"
	if e.r.item().madeFor(route) != nil {
		form = "in the envelope it came in"
	}
	if err == nil && !codec.IsOriginal() {
		form = "as " + strings.Join(p.Codec, " > ")
	}
	if err == nil {
		_, _, err = dryFlow(e.now).render(e.r, route, &sink{codec: codec, original: codec.IsOriginal()})
	}
	to := p.Transport + ", " + form
	if why != "" {
		to = why + "; " + to
	}
	d := journal.Delivery{Route: name, Sink: p.Name, Outcome: journal.Delivered.String()}
	if err != nil {
		e.step(StageDeliver, p.Name, "dead letter", "encode_failed: %v", err)
		d.Outcome, d.Reason = journal.Dead.String(), "encode_failed"
	} else {
		e.step(StageDeliver, p.Name, "delivered", "%s%s", byRoute(name), to)
	}
	e.x.Deliveries = append(e.x.Deliveries, d)
}

func byRoute(route string) string {
	if route == "" {
		return ""
	}
	return "by route " + route + "; "
}

// dryFlow is a flow that has a clock and nothing else.
func dryFlow(now time.Time) *Flow { return &Flow{cfg: Config{Now: func() time.Time { return now }}} }
