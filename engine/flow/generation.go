package flow

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/pattern"
	"github.com/weir-project/weir/plugins"
)

// Generation is all that configuration decides, compiled: immutable once it is at
// work, and carried by every chunk that was scanned under it, so that an event meets
// one version of everything. Sources and sinks live outside of it; its indices of sinks
// are its own, and so are those in its records.
type Generation struct {
	Number uint64
	Digest string

	plan      *config.Plan
	readings  []*reading // of each source, by name
	derived   *reading   // of derived events
	makes     bool       // some route transforms or reacts
	early     []*step    // those that see events as they came
	texts     [][]text   // by sinks: settings that are templates; nil = none
	routes    []route
	plugins   []plugin
	sinks     []string // names, as journal notes index them
	ends      []*sink  // by sinks; set before the generation is put to work
	unmatched []int    // sinks
	traced    bool     // readings keep the traceparent
	dead      int      // the sink of dead letters, -1 = none

	inFlight atomic.Int64  // events that lanes were given under it, not settled
	old      atomic.Bool   // nothing is handed over under it any more
	drained  chan struct{} // closed when it is old and nothing is in flight
	closing  atomic.Bool   // drained is being closed
}

// enter counts events that are handed to lanes, or other work under the generation.
func (g *Generation) enter(n int) { g.inFlight.Add(int64(n)) }

// left counts them off.
func (g *Generation) left(n int) {
	if g.inFlight.Add(int64(-n)) == 0 {
		g.tell()
	}
}

// retire says that nothing enters any more.
func (g *Generation) retire() {
	g.old.Store(true)
	g.tell()
}

func (g *Generation) tell() {
	if g.old.Load() && g.inFlight.Load() == 0 && !g.closing.Swap(true) {
		close(g.drained)
	}
}

// reading is how the generation reads a source, nil where it does not.
func (g *Generation) reading(source string) *reading {
	for _, r := range g.readings {
		if r.source == source {
			return r
		}
	}
	return nil
}

// route is one way out: which plug-ins must agree, and where to.
type route struct {
	name    string
	filters []int // plug-ins

	transforms []*step
	reactions  []*step

	to      []int // sinks; with outputs nil
	choice  int   // the plug-in whose outputs choose, -1 = none
	outputs [maxOutputs][]int
	named   uint32 // bits of the outputs that the route names
	rest    []int  // sinks for events that take none of the outputs
}

// maxOutputs is how many outputs a plug-in may choose from: two bits of an answer say
// that it failed and that none was taken.
const maxOutputs = 30

// plugin is a loaded plug-in and where its fields lie among a reading's kept ones.
type plugin struct {
	name    string
	loaded  plugins.Plugin
	onError plugins.OnError
	data    bool
	slots   int
}

// Compile makes a generation of a plan; loaded holds the plug-ins by name. Numbers
// grow within one life of a flow.
func Compile(plan *config.Plan, number uint64, loaded map[string]plugins.Plugin) (*Generation, error) {
	g := &Generation{Number: number, Digest: plan.Digest, plan: plan, dead: -1, traced: plan.Node.Trace.Endpoint != "", drained: make(chan struct{})}
	for _, p := range sinksOf(plan) {
		if p.Name == config.DeadLettersName {
			g.dead = len(g.sinks)
		}
		g.sinks = append(g.sinks, p.Name)
	}
	for i := range plan.Plugins {
		if err := g.addPlugin(&plan.Plugins[i], loaded); err != nil {
			return nil, err
		}
	}
	patterns := make([]*pattern.Pattern, len(plan.Routes))
	for i := range plan.Routes {
		r := &plan.Routes[i]
		compiled, err := g.route(r)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Name, err)
		}
		g.routes = append(g.routes, compiled)
		if r.When == nil {
			continue
		}
		if patterns[i], err = pattern.Compile(r.When); err != nil {
			return nil, fmt.Errorf("route %s: when: %w", r.Name, err)
		}
	}
	g.unmatched = g.sinksNamed(plan.Unmatched)
	if err := g.compileTexts(plan); err != nil {
		return nil, err
	}
	for i := range plan.Sources {
		rd, err := g.newReading(plan, &plan.Sources[i], patterns)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", plan.Sources[i].Name, err)
		}
		g.readings = append(g.readings, rd)
	}
	var err error
	g.derived, err = g.newDerivedReading(plan, patterns)
	return g, err
}

// sinksOf lists a plan's sinks and, where there is one, that of dead letters.
func sinksOf(plan *config.Plan) []*config.Sink {
	var list []*config.Sink
	for i := range plan.Sinks {
		list = append(list, &plan.Sinks[i])
	}
	if plan.DeadLetters.Sink.Transport != "" {
		list = append(list, &plan.DeadLetters.Sink)
	}
	return list
}

func (g *Generation) addPlugin(p *config.Plugin, loaded map[string]plugins.Plugin) error {
	l := loaded[p.Name]
	if l == nil {
		return fmt.Errorf("plug-in %s: not loaded", p.Name)
	}
	m := l.Manifest()
	if m.Kind != plugins.Filter {
		return fmt.Errorf("plug-in %s: is a %s; this version runs filters only", p.Name, m.Kind)
	}
	c := plugin{name: p.Name, loaded: l, onError: p.OnError, data: m.Data, slots: len(m.Fields)}
	if m.Data {
		c.slots++
	}
	if c.onError == "" {
		c.onError = m.OnError
	}
	if c.onError == "" {
		c.onError = plugins.DeadLetter
	}
	g.plugins = append(g.plugins, c)
	return nil
}

func (g *Generation) route(r *config.Route) (route, error) {
	c := route{name: r.Name, to: g.sinksNamed(r.To), choice: -1}
	for _, name := range r.Filter {
		c.filters = append(c.filters, g.plugin(name))
	}
	if err := g.steps(r, &c); err != nil {
		return c, err
	}
	if r.Switch == nil {
		return c, nil
	}
	c.choice = g.plugin(r.Switch.Plugin)
	outputs := g.plugins[c.choice].loaded.Manifest().Outputs
	if len(outputs) > maxOutputs {
		return c, fmt.Errorf("plug-in %s has %d outputs, at most %d can be told apart", r.Switch.Plugin, len(outputs), maxOutputs)
	}
	for _, o := range r.Switch.Outputs {
		bit := slices.Index(outputs, o.Name)
		if bit < 0 {
			return c, fmt.Errorf("plug-in %s has no output %q, it has %q", r.Switch.Plugin, o.Name, outputs)
		}
		c.outputs[bit] = g.sinksNamed(o.To)
		c.named |= 1 << bit
	}
	c.rest = g.sinksNamed(r.Switch.Else)
	return c, nil
}

func (g *Generation) plugin(name string) int {
	return slices.IndexFunc(g.plugins, func(p plugin) bool { return p.name == name })
}

func (g *Generation) sinksNamed(names []string) []int {
	var list []int
	for _, n := range names {
		list = append(list, slices.Index(g.sinks, n))
	}
	return list
}

// routeNames are the names that journal entries index.
func (g *Generation) routeNames() []string {
	names := make([]string, len(g.routes))
	for i := range g.routes {
		names[i] = g.routes[i].name
	}
	return names
}

// uses says whether a route asks a plug-in anything.
func (r *route) uses(p int) bool { return r.choice == p || slices.Contains(r.filters, p) }
