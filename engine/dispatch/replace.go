package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/weir-project/weir/transports"
)

// order is a change that the dispatcher makes between two writes.
type order struct {
	change func(Config) (Config, error)
	done   chan error // holds one
}

// Replace changes what the dispatcher delivers to, or how, while it runs: its jobs
// stay, in order, and those that wait for another attempt are tried at once. change is
// called while nothing is being written, with the Config in use; it closes and opens
// what must be and returns the Config to go on with (Name, Park and Ended stay what
// they were), also where it fails: its error is Replace's. With the error of ctx, or
// ErrStopped, change was not called.
func (d *Dispatcher) Replace(ctx context.Context, change func(Config) (Config, error)) error {
	o := &order{change: change, done: make(chan error, 1)}
	select {
	case d.orders <- o:
		return <-o.done
	case <-d.stopped:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ErrStopped says that the dispatcher does not run any more.
var ErrStopped = errors.New("the dispatcher has stopped")

// Sink is what the dispatcher delivers to. It is for who has stopped it.
func (d *Dispatcher) Sink() transports.Sink { return d.cfg.Sink }

func (d *Dispatcher) obey(o *order) {
	next, err := o.change(d.cfg)
	next.Name, next.Park, next.Ended, next.Seed = d.cfg.Name, d.cfg.Park, d.cfg.Ended, d.cfg.Seed
	next.fill()
	d.cfg, d.limits = next, next.Sink.Limits()
	now := time.Now()
	d.failures, d.nextProbe = 0, now
	for _, q := range d.delayed {
		q.notBefore = now
	}
	o.done <- err
}
