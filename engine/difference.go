package engine

import (
	"fmt"
	"maps"
	"slices"

	"github.com/weir-project/weir/engine/config"
)

// contents are the digests of a version's parts, by name.
type contents struct{ sources, plugins, routes, sinks map[string]string }

func sections(v *version) contents {
	c := contents{map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}}
	for i := range v.plan.Sources {
		c.sources[v.plan.Sources[i].Name] = v.plan.Sources[i].Digest
	}
	for i := range v.plan.Plugins {
		p := &v.plan.Plugins[i]
		c.plugins[p.Name] = p.Digest + v.plugins[p.Name].Digest()
	}
	for i := range v.plan.Routes {
		r := &v.plan.Routes[i]
		c.routes[r.Name] = fmt.Sprintf("%q %s %q %q", r.From, r.When, r.Filter, r.To)
		if r.Switch != nil {
			c.routes[r.Name] += fmt.Sprintf(" %q", *r.Switch)
		}
	}
	for i := range v.plan.Sinks {
		c.sinks[v.plan.Sinks[i].Name] = v.plan.Sinks[i].Digest
	}
	if dead := &v.plan.DeadLetters.Sink; dead.Transport != "" {
		c.sinks[config.DeadLettersName] = dead.Digest
	}
	return c
}

func difference(was, now map[string]string) Names {
	var n Names
	for _, name := range slices.Sorted(maps.Keys(now)) {
		switch digest, known := was[name]; {
		case !known:
			n.Added = append(n.Added, name)
		case digest != now[name]:
			n.Changed = append(n.Changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if _, still := now[name]; !still {
			n.Removed = append(n.Removed, name)
		}
	}
	return n
}
