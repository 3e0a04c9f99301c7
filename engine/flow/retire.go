package flow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
)

// This file is the end of a generation: once nothing is in flight under it, its plug-ins'
// instances are closed, and the ends that only it used. Deliveries that wait in the park
// queue of a sink that is gone become dead letters.

// reasonSinkRemoved is why the parked work of a sink that is gone dies.
const reasonSinkRemoved = "sink_removed"

// Retirement is an old generation on its way out.
type Retirement struct {
	generation *Generation
	leaving    ends
	letGo      func()
	done       chan struct{}
	err        error // set before done is closed
}

// Done is closed when the old generation is through, or the flow ends before.
func (t *Retirement) Done() <-chan struct{} { return t.done }

// Err says, after Done, what went wrong with the ends that only it used.
func (t *Retirement) Err() error { return t.err }

// InFlight is how many events are still in flight under it.
func (t *Retirement) InFlight() int64 { return t.generation.inFlight.Load() }

func (t *Retirement) wait(ctx context.Context) error {
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// retire waits until a generation is through, then closes what only it used.
func (f *Flow) retire(t *Retirement) {
	defer close(t.done)
	select {
	case <-t.generation.drained:
	case <-f.patience.Done():
		t.err = fmt.Errorf("generation %d: the flow ended with %d events in flight", t.generation.Number, t.InFlight())
		return
	}
	f.named.Store(&[]*Generation{f.gen.Load()})
	f.forgetPlugins()
	at := f.ends.Load()
	ctx, cancel := context.WithTimeout(f.life, f.cfg.DrainLimit)
	defer cancel()
	var errs []error
	for _, s := range t.leaving.sources {
		s.stopSettling()
		if err := s.end.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("source %s: close: %w", s.name, err))
		}
	}
	for _, s := range t.leaving.sinks {
		errs = append(errs, f.removeSink(ctx, s))
	}
	now := at.without(&t.leaving)
	f.ends.Store(now)
	errs = append(errs, f.log.SetTables(f.tables(now)))
	if t.err = errors.Join(errs...); t.err != nil {
		f.cfg.Log.Error("close what a reload removed", "error", t.err)
	}
	if t.letGo != nil {
		t.letGo()
	}
}

// forgetPlugins has all lanes close the instances of plug-ins that the running
// generation has not.
func (f *Flow) forgetPlugins() {
	g := f.gen.Load()
	used := func(p plugins.Plugin) bool {
		for i := range g.plugins {
			if g.plugins[i].loaded == p {
				return true
			}
		}
		return false
	}
	var done sync.WaitGroup
	for _, l := range f.lanes {
		done.Add(1)
		l.order(func(ctx context.Context) {
			l.forget(context.WithoutCancel(ctx), used)
			done.Done()
		})
	}
	done.Wait()
}

// removeSink closes a sink for which nothing is in flight.
func (f *Flow) removeSink(ctx context.Context, s *sink) error {
	err := s.stop()
	if s.park != nil {
		err = errors.Join(err, f.empty(ctx, s))
	}
	return errors.Join(err, f.part(ctx, s))
}

// emptyBatch is how many parked deliveries die in one record.
const emptyBatch = 100

// empty dead-letters what is parked for a sink that is gone.
func (f *Flow) empty(ctx context.Context, s *sink) error {
	return f.eachParked(ctx, s, func(list []dispatch.Ended) error {
		for i := range list {
			list[i].Outcome, list[i].Reason = journal.Dead, reasonSinkRemoved+": the configuration has no such sink any more"
		}
		return f.redelivered(ctx, s, list)
	})
}

// rehouse hands what is parked to the local sink that takes its sink's place.
func (f *Flow) rehouse(ctx context.Context, s, home *sink) error {
	return f.eachParked(ctx, s, func(list []dispatch.Ended) error {
		t := &commit.Ticket{Stages: []commit.StagedRun{{Stage: home.stage, Count: len(list)}}}
		for i := range list {
			list[i].Outcome = journal.Delivered
			t.Stages[0].Framed = home.staged.Frame(t.Stages[0].Framed, &list[i].Entry)
		}
		return f.record(ctx, s, list, t, nil)
	})
}

// eachParked gives all that is parked to do, in order, and returns when it is recorded.
func (f *Flow) eachParked(ctx context.Context, s *sink, do func([]dispatch.Ended) error) error {
	if err := s.park.Resume(); err != nil {
		return err
	}
	for {
		list, err := s.park.Take(emptyBatch)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return f.commitSoFar(ctx)
		}
		if err := do(list); err != nil {
			return err
		}
	}
}

// commitSoFar returns when all that was submitted has been committed and told.
func (f *Flow) commitSoFar(ctx context.Context) error {
	done := make(chan error, 1)
	if err := f.log.Submit(ctx, &commit.Ticket{Committed: func(err error) { done <- err }}); err != nil {
		return err
	}
	return <-done
}

// part takes a sink whose dispatcher does not run out of the commit and closes it.
func (f *Flow) part(ctx context.Context, s *sink) error {
	return errors.Join(f.partEnd(ctx, s), f.partPark(s))
}

func (f *Flow) partEnd(ctx context.Context, s *sink) error {
	var err error
	if s.joined {
		err = f.log.Unstage(s.stage)
		s.joined = false
	}
	s.bounded.close()
	s.tending.Lock()
	defer s.tending.Unlock()
	s.shut = true
	return sinkError(s, "close: ", errors.Join(err, closeEnd(ctx, s.present())))
}

// partPark closes a sink's park queue, where it has one that is open. What it knows of
// entries that have ended stays, for when the sink comes back.
func (f *Flow) partPark(s *sink) error {
	if s.park == nil || f.parks[s.name] == s.park {
		return nil
	}
	var err error
	if s.parkJoined {
		err = f.log.Unstage(s.parkStage)
		s.parkJoined = false
	}
	f.parks[s.name] = s.park
	return sinkError(s, "park queue: ", errors.Join(err, s.park.Close()))
}

// findParks opens the park queues of sinks that the configuration has no more, or that
// are local now.
func (f *Flow) findParks(at *ends) error {
	names, err := f.cfg.FS.List(filepath.Join(f.node.Data, "park"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("park queues: %w", err)
	}
	for _, name := range names {
		if s := at.sink(name); s != nil && s.park != nil {
			continue
		}
		s := &sink{name: name}
		if s.park, err = dispatch.OpenPark(f.cfg.FS, f.parkFolder(name), f.cfg.ParkBytes); err != nil {
			return about("sink", name, err)
		}
		f.orphans = append(f.orphans, s)
	}
	return nil
}

// houseOrphans brings what those park queues hold to where it belongs: first, before any
// source is asked, into local sinks that have taken the place of their own.
func (f *Flow) houseOrphans(ctx context.Context) error {
	for _, s := range f.orphans {
		if home := f.ends.Load().sink(s.name); home != nil && home.staged != nil && s.park.Waiting() > 0 {
			if err := f.rehouse(ctx, s, home); err != nil {
				return sinkError(s, "park queue: ", err)
			}
		}
	}
	t := &Retirement{generation: &Generation{}, done: make(chan struct{})}
	f.retired = t
	f.retiring.Go(func() {
		defer close(t.done)
		for _, s := range f.orphans {
			if s.park.Waiting() > 0 {
				t.err = errors.Join(t.err, sinkError(s, "park queue: ", f.empty(f.patience, s)))
			}
			t.err = errors.Join(t.err, f.partPark(s))
		}
		if f.orphans = nil; t.err != nil {
			f.cfg.Log.Error("dead letters of sinks that are gone", "error", t.err)
		}
	})
	return nil
}

// record writes that parked deliveries have ended, with what is staged in t.
func (f *Flow) record(ctx context.Context, s *sink, ended []dispatch.Ended, t *commit.Ticket, under *Generation) error {
	list := make([]journal.Redelivery, len(ended))
	for i := range ended {
		list[i] = ended[i].Redelivery
		nameParked(&list[i], &ended[i])
	}
	t.Record = journal.AppendRedelivered(nil, f.epoch, s.name, list)
	t.Committed = func(err error) {
		if under != nil {
			defer f.through(under)
		}
		if err != nil {
			f.fail(err)
			return
		}
		for _, e := range list {
			s.park.Ended(e.Ordinal)
		}
		if err := s.park.Trim(); err != nil {
			f.cfg.Log.Warn("trim park queue", "sink", s.name, "error", err)
		}
	}
	return f.log.Submit(ctx, t)
}

// under counts work that is no event as in flight under the running generation.
func (f *Flow) under() *Generation {
	f.swap.RLock()
	defer f.swap.RUnlock()
	g := f.gen.Load()
	g.enter(1)
	return g
}

// through counts it off.
func (f *Flow) through(g *Generation) {
	g.left(1)
	f.room.wake()
}

// redelivered records parked deliveries that ended, with the dead letters of those
// that died.
func (f *Flow) redelivered(ctx context.Context, s *sink, ended []dispatch.Ended) error {
	g := f.under()
	t, err := f.parkedLetters(ctx, g, s, ended)
	if err == nil {
		err = f.record(ctx, s, ended, t, g)
	}
	if err != nil {
		f.through(g)
	}
	return err
}

// parkedLetters stages the dead letters of parked deliveries that died, or delivers
// them where the sink of dead letters is not local.
func (f *Flow) parkedLetters(ctx context.Context, g *Generation, s *sink, ended []dispatch.Ended) (*commit.Ticket, error) {
	t := &commit.Ticket{}
	if g.dead < 0 {
		return t, nil
	}
	dead := g.ends[g.dead]
	for i := range ended {
		if ended[i].Outcome != journal.Dead {
			continue
		}
		reason := reasonOf(ended[i].Reason)
		f.letterCounts.add(reason)
		data := f.parkedLetter(&ended[i], s.name)
		entry := transports.Entry{ID: ended[i].Entry.ID + "/" + s.name + "/" + reason, Key: ended[i].Entry.Key, Data: data, Route: "dead_letters", Attempt: 1}
		if dead.staged == nil {
			if err := f.deliverLetter(ctx, dead, &entry); err != nil {
				return nil, err
			}
			continue
		}
		if len(t.Stages) == 0 {
			t.Stages = append(t.Stages, commit.StagedRun{Stage: dead.stage})
		}
		t.Stages[0].Framed = dead.staged.Frame(t.Stages[0].Framed, &entry)
		t.Stages[0].Count++
	}
	return t, nil
}
