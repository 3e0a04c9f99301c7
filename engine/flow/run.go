package flow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/transports"
)

// closeLimit is how long sources and sinks may take to close.
const closeLimit = 10 * time.Second

// Run works until every source has ended and all is settled, or until ctx is done
// and what was in flight is settled (at most Config.DrainLimit later), or until
// something fails that must not be worked around (I4). It closes everything.
func (f *Flow) Run(ctx context.Context) error {
	defer f.end()
	defer f.enter(Stopped)
	f.enter(Opening)
	f.log.Start()
	f.named.Store(&[]*Generation{f.gen.Load()})
	f.log.Preamble(f.announcements)
	if err := f.announce(f.gen.Load()); err != nil {
		return errors.Join(err, f.close(context.Background()))
	}
	for _, s := range f.asked() {
		if err := f.openSource(ctx, s); err != nil {
			return errors.Join(err, f.close(context.Background()))
		}
	}
	if err := f.startDerived(ctx); err != nil {
		return errors.Join(err, f.close(context.Background()))
	}
	for _, s := range f.ends.Load().sinks {
		f.startSink(s)
	}
	stopKeeping, stopUpkeep := f.keepJournal(), f.upkeep()
	finishExports := f.startExports()
	var work sync.WaitGroup
	for _, l := range f.lanes {
		work.Go(func() { l.loop(f.life) })
	}
	f.enter(Running)
	defer context.AfterFunc(ctx, func() { f.enter(Draining) })()
	err := f.houseOrphans(f.life)
	if err == nil {
		err = f.ask(ctx)
	}
	f.enter(Draining)
	late := f.drain(ctx)
	if late != nil {
		f.hurry()
	}
	f.retiring.Wait()
	err = errors.Join(err, late)
	finishExports()
	for _, s := range f.ends.Load().sinks {
		err = errors.Join(err, s.stop())
	}
	for _, l := range f.lanes {
		close(l.work)
	}
	work.Wait()
	stopKeeping()
	stopUpkeep()
	err = errors.Join(err, f.log.Close(f.life))
	for _, s := range f.ends.Load().sources {
		s.stopSettling()
	}
	f.derived.source.stopSettling()
	return errors.Join(f.Err(), err, f.close(context.Background()))
}

// ask asks all sources until they have ended, ctx is done or the flow failed.
func (f *Flow) ask(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(f.life, stop)()
	f.asking = ctx
	finish := f.askDerived(ctx)
	var err error
	f.askers.join()
	for _, s := range f.asked() {
		f.startSource(s)
	}
	f.running.Store(true)
	if f.instead != nil {
		err = f.instead(ctx)
	}
	f.askers.leave(err)
	return errors.Join(f.askers.wait(), finish())
}

// asked are the sources that Run asks.
func (f *Flow) asked() []*source {
	if f.instead != nil {
		return nil
	}
	return f.ends.Load().sources
}

// Do runs the flow without asking its sources: work runs, and Do returns when what
// it added is settled.
func (f *Flow) Do(ctx context.Context, work func(context.Context) error) error {
	f.instead = work
	return f.Run(ctx)
}

// announce writes what the indices in a generation's records stand for. It comes
// before the first of them.
func (f *Flow) announce(g *Generation) error {
	done := make(chan error, 1)
	t := &commit.Ticket{
		Record:    f.announcement(g),
		Committed: func(err error) { done <- err },
	}
	if err := f.log.Submit(f.life, t); err != nil {
		return err
	}
	return <-done
}

// listener hears of partitions. No source of this version moves partitions between
// instances, so there is nothing to drain.
type listener struct{}

func (listener) Assigned(string)           {}
func (listener) Revoked(string, time.Time) {}

// drain waits until nothing is in flight; asked to stop, no longer than the drain limit.
func (f *Flow) drain(ctx context.Context) error {
	wait, cancel := context.WithCancel(f.life)
	defer cancel()
	stopping := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(f.cfg.DrainLimit):
			cancel()
		case <-wait.Done():
		}
	})
	defer stopping()
	if (!f.room.empty(wait) || !f.derived.room.empty(wait)) && f.Err() == nil {
		events, _ := f.held()
		return fmt.Errorf("drain: %d events were not settled within %v; they come again at the next start", events, f.cfg.DrainLimit)
	}
	return nil
}

// fail notes the first failure and makes the flow stop: no more acks (I4).
func (f *Flow) fail(err error) {
	f.once.Do(func() {
		f.failure.Store(&err)
		f.end()
	})
}

// Err is what made the flow fail, nil while it works.
func (f *Flow) Err() error {
	if err := f.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Close frees what a flow holds that is not to run. After Run it does nothing.
func (f *Flow) Close() error {
	f.end()
	return f.close(context.Background())
}

func (f *Flow) close(ctx context.Context) error {
	if f.closed.Swap(true) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	var errs []error
	for _, s := range f.ends.Load().sources {
		if err := s.end.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("source %s: close: %w", s.name, err))
		}
	}
	if f.log != nil {
		errs = append(errs, f.log.Close(ctx))
	}
	errs = append(errs, f.closeDerived(ctx))
	for _, s := range slices.Concat(f.orphans, f.ends.Load().sinks) {
		errs = append(errs, s.close(ctx))
	}
	if f.poison != nil {
		errs = append(errs, f.poison.Close())
	}
	return errors.Join(append(errs, f.hold.Close())...)
}

// route mails followers their verdicts.
func (f *Flow) route(list []dedup.Follower[ref]) {
	for _, fw := range list {
		f.laneOf(fw.Ref.item().key).follow(fw)
	}
}

func (f *Flow) laneOf(key uint64) *lane {
	return f.lanes[(key>>32)*uint64(len(f.lanes))>>32]
}

// deliverLetter gives a dead letter to a sink outside the commit and waits until it
// arrived: only then may the delivery be recorded as ended.
func (f *Flow) deliverLetter(ctx context.Context, s *sink, entry *transports.Entry) error {
	w := waiter{done: make(chan *dispatch.Job, 1)}
	s.dispatcher.Offer(&dispatch.Job{Entry: *entry, Owner: w})
	select {
	case <-w.done: // it arrived: the dispatcher of dead letters insists
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type waiter struct{ done chan *dispatch.Job }

func (w waiter) Done(j *dispatch.Job) { w.done <- j }

// render encodes an event as a sink wants it.
func (f *Flow) render(r ref, route uint32, s *sink) ([]byte, []transports.Header, error) {
	it, c := r.item(), r.c
	if made := it.madeFor(route); made != nil {
		data, err := f.renderMade(r, made, s)
		return data, nil, err
	}
	if s.original {
		return c.raw(it), nil, nil
	}
	e, err := f.eventOf(r)
	if err != nil {
		return nil, nil, err
	}
	data, err := event.Encode(nil, &e, s.codec, event.Stamps{Processed: f.cfg.Now()})
	return data, nil, err
}

func (f *Flow) nackOf(c *chunk, it *item, reason string) transports.Settlement {
	return transports.Settlement{ID: c.deliveries[it.unit].ID, Nack: true, Delay: nackDelay, Reason: reason}
}

// look reads any canonical field of an event, the long way.
func (c *chunk) look(it *item, path field.Path) ([]byte, bool) {
	l := c.layout(it)
	at := l.Resolve(path)
	switch at.Kind {
	case event.RefConst:
		return []byte(`"` + at.Const + `"`), true
	case event.RefPath:
	default:
		return nil, false
	}
	p, err := field.Compile([]field.Path{at.Path}, field.Options{})
	if err != nil {
		return nil, false
	}
	var v field.Values
	if err := p.Scan(c.doc(it), &v); err != nil {
		return nil, false
	}
	raw := v.Get(0).JSON(c.doc(it))
	return raw, raw != nil
}

// timeOf is the event's time in nanoseconds since 1970, 0 where it has none.
func (c *chunk) timeOf(it *item) int64 {
	raw, ok := c.look(it, field.Path{"time"})
	if !ok {
		return 0
	}
	at, err := event.CheckTime(raw, c.layout(it).Layout, c.reading.missing)
	if err != nil {
		return 0
	}
	return at
}
