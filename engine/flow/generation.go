package flow

import (
	"fmt"
	"slices"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/pattern"
	"github.com/weir-project/weir/plugins"
)

// Generation is all that configuration decides, compiled: immutable, and
// carried by every chunk that was scanned under it, so that an event meets one
// version of everything.
type Generation struct {
	Number uint64
	Digest string

	readings  []*reading // by source
	routes    []route
	plugins   []plugin
	sinks     []string // names, as journal notes index them
	unmatched []int    // sinks
	dead      int      // the sink of dead letters, -1 = none
}

// route is one way out: which plug-ins must agree, and where to.
type route struct {
	name    string
	filters []int // plug-ins
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

// Compile makes a generation of a plan. sources and sinks give the order of
// indices; loaded holds the plug-ins by name.
func Compile(plan *config.Plan, number uint64, loaded map[string]plugins.Plugin) (*Generation, error) {
	g := &Generation{Number: number, Digest: plan.Digest, dead: -1}
	for i := range plan.Sinks {
		g.sinks = append(g.sinks, plan.Sinks[i].Name)
	}
	if plan.DeadLetters.Sink.Transport != "" {
		g.dead = len(g.sinks)
		g.sinks = append(g.sinks, config.DeadLettersName)
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
	for i := range plan.Sources {
		rd, err := g.newReading(plan, &plan.Sources[i], patterns)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", plan.Sources[i].Name, err)
		}
		g.readings = append(g.readings, rd)
	}
	return g, nil
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
