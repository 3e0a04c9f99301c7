package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/plugins"
)

// loaded are the plug-ins of a plan, loaded once and lent to every test. They live
// outside of the bubbles: what a host shares between calls, such as a wait group or a
// connection to a process, must not belong to one of them. So a lane in a bubble
// hands each call to the outside and waits; virtual time stands still meanwhile.
type loaded struct {
	byName  map[string]plugins.Plugin
	names   map[string]bool // of hosts
	calls   chan func()
	answers chan error // of the call that was made last
	turn    sync.Mutex // held by the caller
	ended   chan struct{}
}

func load(ctx context.Context, cfg Config) (*loaded, error) {
	l := &loaded{byName: map[string]plugins.Plugin{}, names: map[string]bool{}, calls: make(chan func()), answers: make(chan error), ended: make(chan struct{})}
	go l.serve()
	bad := &config.Errors{}
	for i := range cfg.Plan.Plugins {
		x := &cfg.Plan.Plugins[i]
		plugin, err := loadOne(ctx, cfg, x)
		if err != nil {
			bad.Mistakes = append(bad.Mistakes, cfg.Plan.Mistake("plugins."+x.Name, err.Error(), ""))
			continue
		}
		l.byName[x.Name], l.names[x.Host] = plugin, true
	}
	if len(bad.Mistakes) > 0 {
		return nil, errors.Join(bad, l.close(ctx))
	}
	return l, nil
}

func loadOne(ctx context.Context, cfg Config, x *config.Plugin) (plugins.Plugin, error) {
	for _, h := range cfg.Hosts {
		if h.Name() == x.Host {
			return h.Load(ctx, plugins.Spec{Name: x.Name, Path: x.Path, Config: x.Config, Limits: x.Limits, Log: cfg.Log.With("plugin", x.Name)})
		}
	}
	return nil, fmt.Errorf("no plug-in host %q in this program", x.Host)
}

// serve makes the calls.
func (l *loaded) serve() {
	defer close(l.ended)
	for call := range l.calls {
		call()
	}
}

// outside makes a call outside of the bubble and waits for it. The context is not
// the caller's, which belongs to the bubble.
func (l *loaded) outside(call func(ctx context.Context) error) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.calls <- func() { l.answers <- call(context.Background()) }
	return <-l.answers
}

func (l *loaded) close(ctx context.Context) error {
	close(l.calls)
	<-l.ended
	var errs []error
	for _, p := range l.byName {
		errs = append(errs, p.Close(ctx))
	}
	return errors.Join(errs...)
}

// hosts lend the plug-ins under the names of their hosts.
func (l *loaded) hosts() (list []plugins.Host) {
	for name := range l.names {
		list = append(list, lender{name, l})
	}
	return list
}

// lender is a host that has loaded everything before.
type lender struct {
	name   string
	loaded *loaded
}

func (h lender) Name() string { return h.name }

func (h lender) Load(_ context.Context, spec plugins.Spec) (plugins.Plugin, error) {
	return lent{h.loaded.byName[spec.Name], h.loaded}, nil
}

func (lender) Close(context.Context) error { return nil }

// lent is a plug-in whose closing is its owner's.
type lent struct {
	plugins.Plugin
	loaded *loaded
}

func (p lent) Instance(context.Context) (in plugins.Instance, err error) {
	err = p.loaded.outside(func(ctx context.Context) (err error) {
		in, err = p.Plugin.Instance(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &distant{in, p.loaded}, nil
}

func (lent) Close(context.Context) error { return nil }

// distant is an instance that is called from a bubble.
type distant struct {
	plugins.Instance
	loaded *loaded
}

func (d *distant) Filter(_ context.Context, batch *plugins.Batch, answers []uint32) error {
	return d.loaded.outside(func(ctx context.Context) error { return d.Instance.Filter(ctx, batch, answers) })
}

func (d *distant) Reason(event int) (reason string) {
	_ = d.loaded.outside(func(context.Context) error {
		reason = d.Instance.Reason(event)
		return nil
	})
	return reason
}

func (d *distant) Close(context.Context) error { return d.loaded.outside(d.Instance.Close) }
