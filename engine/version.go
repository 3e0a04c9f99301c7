package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/plugins"
)

// version is a configuration with its plug-ins loaded.
type version struct {
	plan    *config.Plan
	plugins map[string]plugins.Plugin // by name
}

// load loads every plug-in of a plan and reports all that fail. Those that the running
// configuration, or the one before it, has in the same form are used again: of a plug-in
// that did not change, nothing is compiled.
func (e *Engine) load(ctx context.Context, plan *config.Plan) (version, error) {
	v := version{plan: plan, plugins: map[string]plugins.Plugin{}}
	e.expect(v)
	bad := &config.Errors{}
	for i := range plan.Plugins {
		p := &plan.Plugins[i]
		plugin, err := e.loadPlugin(ctx, plan, p)
		if err != nil {
			bad.Mistakes = append(bad.Mistakes, plan.Mistake("plugins."+p.Name, err.Error(), ""))
			continue
		}
		e.mu.Lock()
		v.plugins[p.Name] = plugin // where loadPlugin found it in another version
		e.mu.Unlock()
	}
	if len(bad.Mistakes) > 0 {
		return v, bad
	}
	return v, nil
}

func (e *Engine) loadPlugin(ctx context.Context, plan *config.Plan, p *config.Plugin) (plugins.Plugin, error) {
	at := slices.IndexFunc(e.cfg.Plugins, func(h plugins.Host) bool { return h.Name() == p.Host })
	if at < 0 {
		return nil, fmt.Errorf("no plug-in host %q in this program", p.Host)
	}
	host := e.cfg.Plugins[at]
	spec := plugins.Spec{
		Name: p.Name, Path: p.Path, Config: p.Config, Limits: p.Limits,
		Cache: filepath.Join(plan.Node.Data, "plugins"), Log: e.cfg.Log.With("plugin", p.Name),
	}
	if e.dry {
		spec.Cache = ""
	}
	alike := e.alike(p)
	if identifier, ok := host.(plugins.Identifier); ok && len(alike) > 0 {
		digest, err := identifier.Identify(ctx, spec)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(alike, func(l plugins.Plugin) bool { return l.Digest() == digest }); i >= 0 {
			return alike[i], nil
		}
	}
	loaded, err := host.Load(ctx, spec)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(alike, func(l plugins.Plugin) bool { return l.Digest() == loaded.Digest() }); i >= 0 {
		return alike[i], loaded.Close(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.loaded = append(e.loaded, loaded)
	e.coming.plugins[p.Name] = loaded // before anybody can let go of it
	return loaded, nil
}

// alike lists the loaded plug-ins that are configured in the same way.
func (e *Engine) alike(p *config.Plugin) []plugins.Plugin {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []plugins.Plugin
	for _, v := range []version{e.running, e.previous} {
		if v.plan == nil {
			continue
		}
		if was := v.plan.Plugin(p.Name); was != nil && was.Digest == p.Digest {
			list = append(list, v.plugins[p.Name])
		}
	}
	return list
}

// expect keeps letGo from the plug-ins of a version that is about to run.
func (e *Engine) expect(v version) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.coming = v
}

// letGo closes the plug-ins that neither the running configuration has, nor the one to
// roll back to, which may still have events in flight, nor one that is being loaded.
func (e *Engine) letGo() {
	for _, p := range e.unused() { // without the lock: a plug-in process may take its time
		if err := p.Close(context.Background()); err != nil {
			e.cfg.Log.Warn("close a plug-in that is not used any more", "plugin", p.Manifest().Name, "error", err)
		}
	}
}

// unused takes from the plug-ins that are open those that nobody needs.
func (e *Engine) unused() (list []plugins.Plugin) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.loaded = slices.DeleteFunc(e.loaded, func(p plugins.Plugin) bool {
		if e.running.has(p) || e.previous.has(p) || e.coming.has(p) {
			return false
		}
		list = append(list, p)
		return true
	})
	return list
}

func (v *version) has(p plugins.Plugin) bool {
	for _, own := range v.plugins {
		if own == p {
			return true
		}
	}
	return false
}
