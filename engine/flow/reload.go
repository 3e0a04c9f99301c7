package flow

import (
	"context"
	"errors"
	"fmt"
)

// This file puts another generation to work while events flow. All that may fail comes
// first: ends that are new are opened beside the others, ends that change are closed and
// opened. Whatever fails is undone, and the running generation never noticed. Then one
// pointer is swapped. What the old generation still has in flight goes its own way; see
// retire.go for what happens once it is through.
//
//	sinks    unchanged, or only in batches, retries or codec: the open end is kept
//	         changed, outside the commit: the dispatcher exchanges its end between two
//	         writes; its jobs and its park queue stay
//	         changed, local: every source pauses until nothing is in flight
//	sources  unchanged, or only in how they are read: the open end is kept
//	         another key, window or end: it pauses until nothing of it is in flight
//	         removed: it is not asked any more; what it gave is done under the old generation

// Errors of Reload that a caller acts on.
var (
	// ErrNotRunning: Run has not begun, or is about to end.
	ErrNotRunning = errors.New("the flow does not run")
	// ErrBusy: what had to settle before the change did not within Config.DrainLimit.
	ErrBusy = errors.New("events in flight do not settle")
)

// Next is a generation to go on with.
type Next struct {
	Generation *Generation
	Make       Maker
	// LetGo is called once the old generation is through and no instance is left of a
	// plug-in that the new one has not.
	LetGo func()
}

// Reload puts another generation to work. With an error the running one goes on as if
// nothing had been asked. Otherwise every event that is handed to a lane from now on
// meets the new one, and the Retirement tells when the old one is through. One reload
// waits until the old generation of the one before is through.
func (f *Flow) Reload(ctx context.Context, next Next) (*Retirement, error) {
	if !f.running.Load() || !f.askers.join() {
		return nil, ErrNotRunning
	}
	defer f.askers.leave(nil)
	ctx, cancel := context.WithTimeoutCause(ctx, f.cfg.DrainLimit, ErrBusy)
	defer cancel()
	defer context.AfterFunc(f.asking, cancel)()
	f.reloading.Lock()
	defer f.reloading.Unlock()
	if old := f.retired; old != nil {
		if err := old.wait(ctx); err != nil {
			return nil, fmt.Errorf("generation %d is not through yet, %d of its events are in flight: %w", old.generation.Number, old.InFlight(), err)
		}
	}
	r := &reload{f: f, next: next, g: next.Generation, old: f.gen.Load(), was: f.ends.Load()}
	err := r.prepare(ctx)
	if err == nil {
		err = r.swap(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, r.undo())
	}
	return r.finish(), nil
}

// reload is one change under way.
type reload struct {
	f    *Flow
	next Next
	g    *Generation
	old  *Generation
	was  *ends
	now  *ends // all that is at work after the swap

	sinks   []*sinkChange
	sources []*sourceChange
	paused  []*source
	leaving ends // they go when the old generation is through

	backward  []func(context.Context) error // how to take steps back
	restoring []func(context.Context) error // the same for steps that were made with swap held
}

// prepare does what can be done beside the running generation.
func (r *reload) prepare(ctx context.Context) error {
	if err := r.compare(); err != nil {
		return err
	}
	for _, c := range r.sinks {
		if c.how == add {
			r.backward = append(r.backward, r.part(c.now))
			if err := r.f.joinAnew(ctx, c.now); err != nil {
				return err
			}
		}
	}
	for _, c := range r.sources {
		if c.how == add {
			r.backward = append(r.backward, c.now.end.Close)
			if err := r.f.openSource(r.f.asking, c.now); err != nil {
				return err
			}
		}
	}
	for _, c := range r.sinks { // last: no event waits for what comes before
		var err error
		switch {
		case c.how == exchange:
			err = r.exchange(ctx, c)
		case c.how == tune && c.now.dispatcher != nil:
			err = r.tune(ctx, c)
		}
		if err != nil {
			return about("sink", c.now.name, err)
		}
	}
	return nil
}

// undo takes the steps back, the last one first. Where the running generation cannot
// have its ends back the flow fails: it must not go on with less than it promised.
func (r *reload) undo() error {
	err := back(r.f.life, r.backward)
	for _, s := range r.paused {
		s.resume()
	}
	return r.judged(err)
}

// restore is undo for the steps that were made with swap held, which it still is.
func (r *reload) restore() error { return r.judged(back(r.f.life, r.restoring)) }

func (r *reload) judged(err error) error {
	if err == nil || r.f.life.Err() != nil {
		return nil
	}
	err = fmt.Errorf("after a failed reload the running generation cannot go on: %w", err)
	r.f.fail(err)
	return err
}

func back(ctx context.Context, steps []func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		errs = append(errs, steps[i](ctx))
	}
	return errors.Join(errs...)
}

// swap pauses what must pause, announces the generation and puts it to work.
func (r *reload) swap(ctx context.Context) error {
	still := r.stillness()
	if err := r.pause(ctx, still.all); err != nil {
		return err
	}
	if err := r.announce(); err != nil {
		return err
	}
	r.f.stilling.Store(still.all)
	defer r.f.stilling.Store(false)
	if err := r.f.until(ctx, still); err != nil {
		return err
	}
	if err := r.stopDispatchers(); err != nil {
		return err
	}
	err := r.f.lockStill(ctx, still)
	defer r.f.swap.Unlock()
	if err == nil {
		err = r.change(ctx)
	}
	if err != nil {
		return errors.Join(err, r.restore())
	}
	r.f.cfg.Make = r.next.Make
	limits := r.g.plan.Node.Limits
	r.f.room.bound(int64(limits.InFlight), limits.InFlightBytes)
	r.f.derived.room.bound(int64(limits.InFlight/derivedShare), limits.InFlightBytes/derivedShare)
	r.f.ends.Store(r.now)
	r.f.gen.Store(r.g)
	return nil
}

// announce makes the generation one that files of the log begin with.
func (r *reload) announce() error {
	r.f.named.Store(&[]*Generation{r.old, r.g})
	r.backward = append(r.backward, func(context.Context) error {
		r.f.named.Store(&[]*Generation{r.old})
		return nil
	})
	return r.f.announce(r.g)
}

// pause keeps those sources from being asked that change in more than how they are
// read; all of them where a local sink is to be closed and opened.
func (r *reload) pause(ctx context.Context, all bool) error {
	for _, c := range r.sources {
		if c.was == nil || !all && c.how == adopt {
			continue
		}
		if err := c.was.pause(ctx); err != nil {
			return about("source", c.was.name, err)
		}
		r.paused = append(r.paused, c.was)
	}
	if !all {
		return nil
	}
	if err := r.f.derived.source.pause(ctx); err != nil {
		return fmt.Errorf("internal queue: %w", err)
	}
	r.paused = append(r.paused, r.f.derived.source)
	return nil
}

// stopDispatchers ends those of sinks that become local; nothing is in flight. It comes
// before swap is held, since a dispatcher may be waiting for that.
func (r *reload) stopDispatchers() error {
	for _, c := range r.sinks {
		if c.how != reopen || c.was.dispatcher == nil {
			continue
		}
		r.restoring = append(r.restoring, func(ctx context.Context) error { return r.restoreSink(ctx, c.was) })
		if err := c.was.stop(); err != nil {
			return err
		}
	}
	return nil
}

// change closes and opens what must not be open twice. Nothing is in flight that would
// notice, and swap is held.
func (r *reload) change(ctx context.Context) error {
	for _, c := range r.sinks {
		if c.how == reopen {
			if err := r.reopenSink(ctx, c); err != nil {
				return err
			}
		}
	}
	for _, c := range r.sources {
		if c.how == reopen {
			if err := r.reopenSource(ctx, c); err != nil {
				return err
			}
		}
	}
	if err := r.arrange(); err != nil {
		return err
	}
	if err := r.rehouse(ctx); err != nil {
		return err
	}
	return r.f.log.SetTables(r.f.tables(r.now))
}

// arrange lists what is at work from now on: the new generation's ends, and those that
// stay until the old one is through.
func (r *reload) arrange() error {
	r.now = &ends{}
	for _, c := range r.sinks {
		if c.how == remove {
			r.leaving.sinks = append(r.leaving.sinks, c.was)
			continue
		}
		r.now.sinks = append(r.now.sinks, c.now)
		r.g.ends = append(r.g.ends, c.now)
	}
	for _, c := range r.sources {
		if c.how == remove {
			r.leaving.sources = append(r.leaving.sources, c.was)
			continue
		}
		r.now.sources = append(r.now.sources, c.now)
		if c.how == tune || c.how == reopen {
			c.now.inherit(c.was)
		}
		if c.was == nil || c.was.table == c.now.table || c.was.table == nil || c.now.table == nil {
			continue
		}
		if err := c.was.table.Snapshot(c.now.table.Load); err != nil {
			return fmt.Errorf("source %s: window: %w", c.now.name, err)
		}
	}
	r.now.sinks = append(r.now.sinks, r.leaving.sinks...)
	r.now.sources = append(r.now.sources, r.leaving.sources...)
	return nil
}

// finish starts what is new and lets the old generation retire.
func (r *reload) finish() *Retirement {
	f := r.f
	for _, c := range r.sinks {
		if c.how == add || c.how == reopen {
			f.startSink(c.now)
		}
	}
	still := map[*source]bool{}
	for _, s := range r.paused {
		still[s] = true
	}
	if still[f.derived.source] {
		f.derived.source.resume()
	}
	for _, c := range r.sources {
		switch c.how {
		case add:
			f.startSource(c.now)
			continue
		case remove:
			c.was.leave()
			continue
		case tune, reopen:
			ended := c.was.leave()
			c.was.stopSettling()
			if c.how == reopen || !ended {
				f.startSource(c.now)
			}
		case adopt:
			if still[c.was] {
				c.was.resume()
			}
		}
		c.now.plan = c.plan
	}
	t := &Retirement{generation: r.old, leaving: r.leaving, letGo: r.next.LetGo, done: make(chan struct{})}
	f.retired = t
	r.old.retire()
	f.retiring.Go(func() { f.retire(t) })
	return t
}
