package flow

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/transports"
)

// This file says what a reload does with each end, and does it; reload.go has the order.

// change is what a reload does with an end.
type change uint8

const (
	adopt    change = iota // nothing: the open end goes on
	tune                   // the open end is kept and used in another way
	exchange               // a dispatcher gets another end
	reopen                 // closed and opened, while nothing of it is in flight
	add
	remove
)

// sinkChange is what becomes of a sink; was is nil where it is new, now where it goes.
type sinkChange struct {
	was, now *sink
	how      change
}

// sourceChange is what becomes of a source. plan is how it is configured from now on.
type sourceChange struct {
	was, now *source
	plan     *config.Source
	how      change
}

// compare finds out what each end needs, and makes those that are to be opened.
func (r *reload) compare() error {
	for _, p := range sinksOf(r.g.plan) {
		c, err := r.compareSink(p)
		if err != nil {
			return err
		}
		r.sinks = append(r.sinks, c)
	}
	for _, s := range r.was.sinks {
		if planned := r.g.plan.Sink(s.name); planned == nil && (s.name != config.DeadLettersName || r.g.dead < 0) {
			r.sinks = append(r.sinks, &sinkChange{was: s, how: remove})
		}
	}
	for i := range r.g.plan.Sources {
		c, err := r.compareSource(&r.g.plan.Sources[i])
		if err != nil {
			return err
		}
		r.sources = append(r.sources, c)
	}
	for _, s := range r.was.sources {
		if r.g.reading(s.name) == nil {
			r.sources = append(r.sources, &sourceChange{was: s, how: remove})
		}
	}
	return nil
}

func (r *reload) compareSink(p *config.Sink) (*sinkChange, error) {
	was := r.was.sink(p.Name)
	if was != nil && was.plan.Digest == p.Digest {
		return &sinkChange{was, was, adopt}, nil
	}
	if was != nil && was.plan.Transport == p.Transport && reflect.DeepEqual(was.plan.Settings, p.Settings) {
		now, err := was.tuned(p)
		return &sinkChange{was, now, tune}, err
	}
	now, err := r.f.newSink(r.next.Make, p)
	switch {
	case err != nil:
		return nil, err
	case was == nil:
		return &sinkChange{nil, now, add}, nil
	case was.dispatcher != nil && now.staged == nil:
		now.park, now.parkStage, now.parkJoined = was.park, was.parkStage, was.parkJoined
		now.dispatcher, now.watched = was.dispatcher, was.watched
		return &sinkChange{was, now, exchange}, nil
	}
	return &sinkChange{was, now, reopen}, nil
}

func (r *reload) compareSource(p *config.Source) (*sourceChange, error) {
	was := r.was.source(p.Name)
	if was == nil {
		now, err := r.f.newSource(r.next.Make, p)
		return &sourceChange{nil, now, p, add}, err
	}
	same := was.plan.Transport == p.Transport && reflect.DeepEqual(was.plan.Settings, p.Settings)
	window := sameWindow(was.plan.Dedup, p.Dedup)
	if same && window && was.plan.Key == p.Key {
		return &sourceChange{was, was, p, adopt}, nil
	}
	now, err := newSource(p, &r.f.room)
	if err != nil {
		return nil, err
	}
	if window {
		now.table = was.table
	}
	if same {
		now.take(was.end)
		return &sourceChange{was, now, p, tune}, nil
	}
	end, err := r.next.Make.Source(p)
	if err != nil {
		return nil, err
	}
	now.take(end)
	return &sourceChange{was, now, p, reopen}, nil
}

// sameWindow says that two sources' windows have the same bounds.
func sameWindow(a, b *config.Dedup) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Window == b.Window && a.MaxIDs == b.MaxIDs
}

// stillness is what must have come to rest before generations change.
type stillness struct {
	all     bool      // nothing is in flight at all
	derived *source   // with all: the internal queue
	settled []*source // nothing of them is in flight
	handed  []*source // what they gave is with the lanes
	under   *Generation
}

func (r *reload) stillness() *stillness {
	st := &stillness{under: r.old, derived: r.f.derived.source}
	for _, c := range r.sinks {
		st.all = st.all || c.how == reopen
	}
	for _, c := range r.sources {
		switch c.how {
		case tune, reopen:
			st.settled = append(st.settled, c.was)
		case remove:
			st.handed = append(st.handed, c.was)
		}
	}
	return st
}

// reached says whether it is so.
func (st *stillness) reached(r *room) bool {
	if st.all && (r.events > 0 || r.chunks > 0 || !st.derived.quiet() || st.under.inFlight.Load() > 0) {
		return false
	}
	for _, s := range st.settled {
		if !s.quiet() {
			return false
		}
	}
	for _, s := range st.handed {
		if s.unhanded.Load() > 0 {
			return false
		}
	}
	return true
}

// until waits for stillness.
func (f *Flow) until(ctx context.Context, st *stillness) error {
	if f.room.until(ctx, func() bool { return st.reached(&f.room) }) {
		return nil
	}
	what := "what removed sources gave is not with the lanes yet"
	if st.all {
		events, _ := f.held()
		what = fmt.Sprintf("a local sink changes, for which everything must have settled; %d events are in flight", events)
	}
	for _, s := range st.settled {
		if !s.quiet() {
			what = fmt.Sprintf("source %s changes, for which its events must have settled; %d are in flight", s.name, s.events.Load())
		}
	}
	return fmt.Errorf("%s: %w", what, context.Cause(ctx))
}

// lockStill waits for stillness and returns with swap held, also with an error.
func (f *Flow) lockStill(ctx context.Context, st *stillness) error {
	for {
		err := f.until(ctx, st)
		f.swap.Lock()
		if err != nil || f.room.is(st.reached) {
			return err
		}
		f.swap.Unlock() // in between a parked delivery ended, which is being recorded
	}
}

// joinAnew opens a sink and makes it part of the commit. Its dispatcher does not run yet.
func (f *Flow) joinAnew(ctx context.Context, s *sink) error {
	if err := f.openSink(ctx, s); err != nil {
		return err
	}
	return f.joinSink(s)
}

// part is how to undo joinAnew.
func (r *reload) part(s *sink) func(context.Context) error {
	return func(ctx context.Context) error { return r.f.part(ctx, s) }
}

// exchange gives a dispatcher another end. Its jobs wait meanwhile.
func (r *reload) exchange(ctx context.Context, c *sinkChange) error {
	f, d := r.f, c.was.dispatcher
	err := d.Replace(ctx, func(cfg dispatch.Config) (dispatch.Config, error) {
		if err := closeEnd(ctx, cfg.Sink); err != nil {
			f.cfg.Log.Warn("close the sink that is exchanged", "sink", c.was.name, "error", err)
		}
		err := c.now.end.Open(ctx)
		if err == nil {
			return f.dispatchConfig(c.now), nil
		}
		end, again := f.openAgain(f.life, c.was)
		if again != nil {
			return cfg, r.judged(errors.Join(err, again))
		}
		cfg.Sink = end
		return cfg, errors.Join(err, closeEnd(ctx, c.now.end))
	})
	if err != nil {
		return err
	}
	r.backward = append(r.backward, func(ctx context.Context) error {
		return d.Replace(ctx, func(cfg dispatch.Config) (dispatch.Config, error) {
			_ = closeEnd(ctx, cfg.Sink) // what it took it has, and the sink is given up
			end, err := f.openAgain(ctx, c.was)
			if err != nil {
				return cfg, err
			}
			cfg = f.dispatchConfig(c.was)
			cfg.Sink = end
			return cfg, nil
		})
	})
	return nil
}

// openAgain opens a sink's end as it was.
func (f *Flow) openAgain(ctx context.Context, s *sink) (transports.Sink, error) {
	end, err := f.cfg.Make.Sink(s.plan)
	if err != nil {
		return nil, err
	}
	return end, end.Open(ctx)
}

// tune changes how a dispatcher delivers.
func (r *reload) tune(ctx context.Context, c *sinkChange) error {
	set := func(s *sink) func(context.Context) error {
		return func(ctx context.Context) error {
			return s.dispatcher.Replace(ctx, func(cfg dispatch.Config) (dispatch.Config, error) {
				next := r.f.dispatchConfig(s)
				next.Sink = cfg.Sink
				return next, nil
			})
		}
	}
	r.backward = append(r.backward, set(c.was))
	return set(c.now)(ctx)
}

// reopenSink closes a sink and opens it in its new form.
func (r *reload) reopenSink(ctx context.Context, c *sinkChange) error {
	if c.was.dispatcher == nil {
		r.restoring = append(r.restoring, func(ctx context.Context) error { return r.restoreSink(ctx, c.was) })
	}
	if err := r.f.partEnd(ctx, c.was); err != nil {
		return err
	}
	r.restoring = append(r.restoring, r.part(c.now))
	return r.f.joinAnew(ctx, c.now)
}

// rehouse hands what is parked for sinks that are local now to those. It comes when
// nothing else can fail: what it delivers cannot be taken back.
func (r *reload) rehouse(ctx context.Context) error {
	for _, c := range r.sinks {
		if c.how != reopen || c.was.park == nil {
			continue
		}
		if err := r.f.rehouse(ctx, c.was, c.now); err != nil {
			return about("sink", c.now.name, err)
		}
		if err := r.f.partPark(c.was); err != nil {
			return err
		}
	}
	return nil
}

// restoreSink opens a sink as it was, for a generation under which nothing is in flight.
// The caller holds swap.
func (r *reload) restoreSink(ctx context.Context, was *sink) error {
	f := r.f
	if !was.shut { // its dispatcher was stopped, and it got no further
		if err := f.partEnd(ctx, was); err != nil {
			f.cfg.Log.Warn("close the sink that is opened again", "sink", was.name, "error", err)
		}
	}
	if err := f.partPark(was); err != nil {
		return err
	}
	s, err := f.newSink(f.cfg.Make, was.plan)
	if err != nil {
		return err
	}
	if err := f.joinAnew(ctx, s); err != nil {
		return err
	}
	f.startSink(s)
	for i := range r.old.ends {
		if r.old.ends[i] == was {
			r.old.ends[i] = s
		}
	}
	at := f.ends.Load()
	f.ends.Store(at.changed(was, s))
	return f.log.SetTables(f.tables(f.ends.Load()))
}

// reopenSource closes a source and opens it in its new form.
func (r *reload) reopenSource(ctx context.Context, c *sourceChange) error {
	c.was.stopSettling()
	r.restoring = append(r.restoring, func(context.Context) error { return r.restoreSource(c.was) })
	if err := c.was.end.Close(ctx); err != nil {
		r.f.cfg.Log.Warn("close the source that changes", "source", c.was.name, "error", err)
	}
	r.restoring = append(r.restoring, c.now.end.Close)
	return r.f.openSource(r.f.asking, c.now)
}

// restoreSource opens a source as it was. It is paused, and the caller holds swap.
func (r *reload) restoreSource(was *source) error {
	f := r.f
	s, err := newSource(was.plan, &f.room)
	if err != nil {
		return err
	}
	end, err := f.cfg.Make.Source(was.plan)
	if err != nil {
		return err
	}
	s.take(end)
	s.table = was.table
	if err := f.openSource(f.asking, s); err != nil {
		return err
	}
	s.inherit(was)
	at := f.ends.Load()
	now := &ends{sinks: at.sinks}
	for _, other := range at.sources {
		if other == was {
			other = s
		}
		now.sources = append(now.sources, other)
	}
	f.ends.Store(now)
	was.over = true // undo ends its pause
	f.startSource(s)
	return nil
}
