package flow

import (
	"context"
	"slices"
	"time"

	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/plugins"
)

// pluginAttempts is how often an event is run before on_error: retry gives up.
const pluginAttempts = 3

// verdictNack says that an event is to be given back to its source.
const verdictNack = 1<<31 | 1<<30

// adopt readies the lane for a generation. Instances of plug-ins that are not the
// generation's are put aside: an event that still follows another one may need them.
func (l *lane) adopt(g *Generation) {
	if l.gen == g {
		return
	}
	l.putAside()
	l.gen = g
	l.instances = make([]plugins.Instance, len(g.plugins))
	for p := range g.plugins {
		l.instances[p] = l.aside[g.plugins[p].loaded]
		delete(l.aside, g.plugins[p].loaded)
	}
	l.measures = make([]*pluginMeasures, len(g.plugins))
	l.answers = make([][]uint32, len(g.plugins))
	l.failures = make([]string, len(g.plugins))
	l.reasons = make([][]string, len(g.plugins))
	for p := range g.plugins {
		l.measures[p] = l.f.measured.plugin(g.plugins[p].name)
		l.answers[p] = make([]uint32, batchEvents)
		l.reasons[p] = make([]string, batchEvents)
	}
}

// putAside takes all instances out of the lane's hands.
func (l *lane) putAside() {
	for p, in := range l.instances {
		if in != nil {
			l.aside[l.gen.plugins[p].loaded] = in
		}
	}
	l.gen, l.instances = nil, nil
}

// forget closes the instances of plug-ins that no generation in use has.
func (l *lane) forget(ctx context.Context, used func(plugins.Plugin) bool) {
	l.putAside()
	for p, in := range l.aside {
		if !used(p) {
			_ = in.Close(ctx) // an instance holds nothing that could be lost
			delete(l.aside, p)
		}
	}
}

// ask runs one plug-in over those events of the batch that a route asks it about.
// answers are by place in the batch; places that were not asked hold 0.
func (l *lane) ask(ctx context.Context, p int) {
	answers := l.answers[p][:len(l.batch)]
	clear(answers)
	clear(l.reasons[p])
	l.asked = l.asked[:0]
	for i, r := range l.batch {
		if r.item().flags&flagFollows == 0 && slices.ContainsFunc(r.c.routesOf(r.item()), func(route uint32) bool { return l.gen.routes[route].uses(p) }) {
			l.asked = append(l.asked, i)
		}
	}
	if len(l.asked) == 0 {
		return
	}
	out, began := l.verdicts[:len(l.asked)], time.Now()
	if err := l.call(ctx, p, l.asked, out); err != nil {
		// Only the event at fault may meet on_error: each runs alone.
		for k := range l.asked {
			l.alone(ctx, p, k, out)
		}
	} else {
		for k, i := range l.asked {
			if out[k]&plugins.Failed != 0 {
				l.reasons[p][i] = l.instances[p].Reason(k)
			}
		}
	}
	if l.f.cfg.Tracer != nil {
		l.traceAsked(p, began, out)
	}
	passed, failed := 0, 0
	for k, i := range l.asked {
		switch {
		case out[k]&plugins.Failed != 0:
			failed++
		case out[k] != 0:
			passed++
		}
		answers[i] = l.answer(ctx, p, i, out[k])
	}
	m := l.measures[p]
	m.events.Add(uint64(len(l.asked)))
	m.passed.Add(uint64(passed))
	m.failed.Add(uint64(failed))
}

// call runs the plug-in over some events of the batch. After an error the instance
// is replaced.
func (l *lane) call(ctx context.Context, p int, asked []int, out []uint32) error {
	in, err := l.instance(ctx, p)
	if err != nil {
		l.failures[p] = err.Error()
		return err
	}
	l.input.Reset(l.gen.plugins[p].slots)
	l.source.lane, l.source.asked = l, asked
	l.input.SetSource(&l.source)
	for _, i := range asked {
		l.encode(p, l.batch[i])
	}
	if err = l.input.Err(); err == nil {
		began := time.Now()
		err = in.Filter(ctx, &l.input, out)
		l.measures[p].calls.Since(began, 1)
	}
	if err != nil {
		l.measures[p].traps.Add(1)
		l.failures[p] = err.Error()
		_ = in.Close(ctx) // spent
		l.instances[p] = nil
	}
	return err
}

func (l *lane) instance(ctx context.Context, p int) (plugins.Instance, error) {
	if l.instances[p] != nil {
		return l.instances[p], nil
	}
	in, err := l.gen.plugins[p].loaded.Instance(ctx)
	l.instances[p] = in
	return in, err
}

// alone runs the k-th asked event by itself, again where on_error says so.
func (l *lane) alone(ctx context.Context, p, k int, out []uint32) {
	attempts := 1
	if l.gen.plugins[p].onError == plugins.Retry {
		attempts = pluginAttempts
	}
	for range attempts {
		if l.call(ctx, p, l.asked[k:k+1], out[k:k+1]) == nil {
			if out[k]&plugins.Failed != 0 {
				l.reasons[p][l.asked[k]] = l.instances[p].Reason(0)
			}
			return
		}
	}
	out[k], l.reasons[p][l.asked[k]] = plugins.Failed, l.failures[p]
}

// answer turns a plug-in's answer into the route's verdict, by on_error where it failed.
func (l *lane) answer(ctx context.Context, p, i int, a uint32) uint32 {
	if a&plugins.Failed == 0 {
		return a
	}
	if l.reasons[p][i] == "" {
		l.reasons[p][i] = "the plug-in refused the event"
	}
	switch l.gen.plugins[p].onError {
	case plugins.Pass:
		return 1
	case plugins.Retry:
		if l.batch[i].c.mayNack(l.batch[i].item()) {
			return verdictNack
		}
	}
	return plugins.Failed
}

// verdict joins what a route's plug-ins said of the event at a place of the batch:
// 0 = no, else the outputs taken, or Failed and the plug-in that failed.
func (l *lane) verdict(rt *route, at int) (uint32, int) {
	for _, p := range rt.filters {
		a := l.answers[p][at]
		if a&plugins.Failed != 0 || a&1 == 0 {
			return a&plugins.Failed | a&verdictNack&^plugins.Failed, p
		}
	}
	if rt.choice < 0 {
		return 1, -1
	}
	a := l.answers[rt.choice][at]
	if a&verdictNack == verdictNack {
		return verdictNack, rt.choice
	}
	if a == 0 && rt.rest != nil {
		return elseOutput, rt.choice
	}
	return a & (plugins.Failed | rt.named), rt.choice // an output that the route does not name goes nowhere
}

// elseOutput says that none of a choosing plug-in's outputs took the event.
const elseOutput = 1 << 30

// chosen calls do for the sinks of the outputs taken.
func (rt *route) chosen(taken uint32, do func(sink int)) {
	if taken == elseOutput {
		for _, sink := range rt.rest {
			do(sink)
		}
		return
	}
	for bit := range maxOutputs {
		if taken&(1<<bit) == 0 {
			continue
		}
		for _, sink := range rt.outputs[bit] {
			do(sink)
		}
	}
}

// encode adds an event's fields to the plug-in's input.
func (l *lane) encode(p int, r ref) {
	it, c := r.item(), r.c
	l.input.Event()
	base := c.reading.plugins[p]
	data := -1
	if l.gen.plugins[p].data {
		data = l.gen.plugins[p].slots - 1
	}
	for s := range l.gen.plugins[p].slots {
		v, raw := c.field(it, base+s)
		if s == data && v.Kind != field.Absent {
			l.input.JSON(v.JSON(c.within(it, v)))
			continue
		}
		switch v.Kind {
		case field.Absent:
			l.input.Absent()
		case field.String:
			l.input.String(raw, v.Flags&field.Escaped != 0)
		case field.Number:
			l.input.Number(raw)
		case field.True, field.False:
			l.input.Bool(v.Kind == field.True)
		case field.Null:
			l.input.Null()
		default:
			l.input.JSON(raw)
		}
	}
}

// mayNack says that an event's source takes single deliveries back, and that this is one.
func (c *chunk) mayNack(it *item) bool { return c.source.nacks && !c.several(it) }

// nack gives an event back to its source: its claim is released, nothing is recorded,
// and it comes again. The event, and maybe its chunk, is gone then.
func (l *lane) nack(r ref, reason string) {
	it, c := r.item(), r.c
	if e := traceOf(it); e != nil {
		l.traceNacked(e, r, reason)
	}
	l.release(r)
	c.source.settleMu.Lock()
	c.source.acks = append(c.source.acks, l.f.nackOf(c, it, reason))
	c.source.settleMu.Unlock()
	c.source.ring()
	l.unhold(r)
	l.f.leave(c.gen, c.source, 1)
	l.doneWith(c)
}

// several says that the event's delivery holds other events too.
func (c *chunk) several(it *item) bool {
	n := 0
	for i := range c.items {
		if c.items[i].unit == it.unit {
			n++
		}
	}
	return n > 1
}

// release gives the event's claim to its oldest follower, or frees its identity (I6).
func (l *lane) release(r ref) {
	it := r.item()
	if it.flags&flagClaimed == 0 || bugClaimKept {
		return
	}
	it.flags &^= flagClaimed
	l.f.route(r.c.source.table.Release(l.f.log.Now(), it.token, nil))
}

// guestSource answers what a guest asks beyond its slots.
type guestSource struct {
	lane  *lane
	asked []int
}

// Field reads a field that the manifest did not name, the long way.
func (s *guestSource) Field(event int, path string) ([]byte, bool) {
	r := s.lane.batch[s.asked[event]]
	return r.c.look(r.item(), field.ParsePath(path))
}

// Time is the event's time, or 0.
func (s *guestSource) Time(event int) int64 {
	r := s.lane.batch[s.asked[event]]
	return r.c.timeOf(r.item())
}

// note is what a delivery that did not simply arrive leaves in the journal.
func (l *lane) note(r ref, n journal.Note) {
	x := r.item().more()
	x.notes = append(x.notes, n)
}
