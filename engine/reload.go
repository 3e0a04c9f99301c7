package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/flow"
)

// Errors of Reload and Rollback that a caller acts on. A configuration that is wrong is
// a *config.Errors.
var (
	// ErrNeedsRestart: the new configuration changes what cannot change while the engine
	// runs. Nothing was done.
	ErrNeedsRestart = errors.New("needs a restart")
	// ErrNotRunning: Run has not begun, or is about to end.
	ErrNotRunning = flow.ErrNotRunning
	// ErrBusy: what had to settle before the change did not within Config.DrainLimit.
	ErrBusy = flow.ErrBusy
	// ErrNothingBefore: there is no generation to roll back to.
	ErrNothingBefore = errors.New("there is no generation before this one")
	// ErrNoFile: the engine runs a Plan that was built in the program; see Apply.
	ErrNoFile = errors.New("there is no configuration file to read")
)

// Change is what a reload did.
type Change struct {
	Generation uint64 `json:"generation"` // the one that runs now
	Digest     string `json:"digest"`     // of its configuration
	Unchanged  bool   `json:"unchanged"`  // it means the same as before: nothing was done

	Sources Names `json:"sources"`
	Plugins Names `json:"plugins"` // changed: configured otherwise, or another module
	Routes  Names `json:"routes"`
	Sinks   Names `json:"sinks"`

	// Draining is how many events were still in flight under the generation before when
	// this was told; they end as they began, under that one.
	Draining int64         `json:"draining"`
	Took     time.Duration `json:"took_ns"`
	// Warnings are the configuration's, and what went wrong with ends that were removed.
	Warnings []config.Mistake `json:"warnings,omitempty"`
}

// Names are those of a section that a reload touched, sorted.
type Names struct {
	Added   []string `json:"added,omitempty"`
	Changed []string `json:"changed,omitempty"`
	Removed []string `json:"removed,omitempty"`
}

// Reload reads the configuration anew and puts it to work while events flow: all of it,
// or, with an error, nothing (I14). Every event meets either the configuration before or
// the new one. It returns once the new one is at work and the old one has drained, but
// waits for that no longer than Config.DrainLimit. Reloads come one after the other.
func (e *Engine) Reload(ctx context.Context) (Change, error) {
	if e.cfg.Load == nil {
		return Change{}, ErrNoFile
	}
	return e.exclusively(ctx, func() (Change, error) {
		plan, err := e.cfg.Load()
		if err != nil {
			return Change{}, err
		}
		v, err := e.load(ctx, plan)
		return e.apply(ctx, v, err)
	})
}

// Apply is Reload with a plan that the program made. The plan must not be changed later.
func (e *Engine) Apply(ctx context.Context, plan *config.Plan) (Change, error) {
	return e.exclusively(ctx, func() (Change, error) {
		v, err := e.load(ctx, plan)
		return e.apply(ctx, v, err)
	})
}

// Rollback puts the configuration to work again that ran before the last reload, with
// the plug-ins of then, whatever their files hold now. A second one takes it back.
func (e *Engine) Rollback(ctx context.Context) (Change, error) {
	return e.exclusively(ctx, func() (Change, error) {
		e.mu.Lock()
		before := e.previous
		e.mu.Unlock()
		if before.plan == nil {
			return Change{}, ErrNothingBefore
		}
		e.expect(before)
		return e.apply(ctx, before, nil)
	})
}

// exclusively does one reload at a time.
func (e *Engine) exclusively(ctx context.Context, do func() (Change, error)) (Change, error) {
	select {
	case e.reloading <- struct{}{}:
		defer func() { <-e.reloading }()
	case <-ctx.Done():
		return Change{}, context.Cause(ctx)
	}
	began := time.Now()
	c, err := do()
	c.Took = time.Since(began)
	return c, err
}

// apply puts a version to work, unless it could not be loaded.
func (e *Engine) apply(ctx context.Context, v version, err error) (Change, error) {
	defer e.letGo()
	defer e.expect(version{})
	if err != nil {
		return Change{}, err
	}
	e.mu.Lock()
	was := e.running
	e.mu.Unlock()
	if err := restart(was.plan, v.plan); err != nil {
		return Change{}, err
	}
	c := compare(&was, &v)
	if c.Unchanged {
		c.Generation = e.flow.Status().Generation
		return c, nil
	}
	e.number++
	g, err := flow.Compile(v.plan, e.number, v.plugins)
	if err != nil {
		return Change{}, err
	}
	old, err := e.flow.Reload(ctx, flow.Next{Generation: g, Make: maker{e, v.plan}, LetGo: e.letGo})
	if err != nil {
		return Change{}, placed(v.plan, err)
	}
	e.mu.Lock()
	e.running, e.previous = v, was
	e.mu.Unlock()
	c.Generation = g.Number
	wait := time.NewTimer(cmp.Or(e.cfg.DrainLimit, flow.DefaultDrainLimit))
	defer wait.Stop()
	select {
	case <-old.Done():
		if err := old.Err(); err != nil { // the new one is at work all the same
			c.Warnings = append(slices.Clip(c.Warnings), config.Mistake{Error: "close what the reload removed: " + err.Error()})
		}
	case <-wait.C:
	case <-ctx.Done():
	}
	c.Draining = old.InFlight()
	return c, nil
}

// placed adds where the configuration names the end that an error is of.
func placed(plan *config.Plan, err error) error {
	var end *flow.EndError
	if !errors.As(err, &end) {
		return err
	}
	path := end.Kind + "s." + end.Name
	if end.Name == config.DeadLettersName {
		path = end.Name
	}
	m := plan.Mistake(path, "", "")
	if m.File == "" {
		return err
	}
	return fmt.Errorf("%s:%d:%d: %w", m.File, m.Line, m.Column, err)
}

// restart names what only a restart changes.
func restart(was, now *config.Plan) error {
	bad := &config.Errors{}
	a, b := was.Node, now.Node
	limits, others := a.Limits, b.Limits
	for _, s := range []struct {
		path string
		same bool
	}{
		{"node.data", a.Data == b.Data},
		{"node.lanes", a.Lanes == b.Lanes},
		{"node.limits.event", limits.Event == others.Event},
		{"node.limits.disk", limits.Disk == others.Disk},
		{"node.log", a.Log == b.Log},
		{"node.admin", reflect.DeepEqual(a.Admin, b.Admin)},
		{"node.trace", reflect.DeepEqual(a.Trace, b.Trace)},
	} {
		if !s.same {
			bad.Mistakes = append(bad.Mistakes, now.Mistake(s.path, "cannot change while the engine runs", "restart it, or leave this as it was"))
		}
	}
	if len(bad.Mistakes) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrNeedsRestart, bad)
}

// compare lists what is different.
func compare(was, now *version) Change {
	c := Change{Digest: now.plan.Digest, Warnings: now.plan.Warnings}
	a, b := sections(was), sections(now)
	c.Sources, c.Plugins = difference(a.sources, b.sources), difference(a.plugins, b.plugins)
	c.Routes, c.Sinks = difference(a.routes, b.routes), difference(a.sinks, b.sinks)
	same := len(c.Plugins.Added)+len(c.Plugins.Changed)+len(c.Plugins.Removed) == 0
	c.Unchanged = same && was.plan.Digest == now.plan.Digest
	return c
}
