package local

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engineSide is what an engine's commit log would hold.
type engineSide struct {
	issued int
	mark   transports.Mark
	resume map[string]transports.Position
	taken  uint64 // entries settled, and so committed
}

type ends struct {
	sink   *Sink
	source *source
}

func envOn(fsys vfs.FS, name string) transports.Env {
	return transports.Env{Name: name, DataDir: "/data", FS: fsys, MaxEvent: 1 << 20}
}

func openEnds(fsys vfs.FS, e *engineSide) (*ends, error) {
	t := New()
	sink, err := t.NewSink(envOn(fsys, "sink"), transports.Settings{"queue": "q", "segment": int64(600)})
	if err != nil {
		return nil, err
	}
	src, err := t.NewSource(envOn(fsys, "source"), transports.Settings{"queue": "q"})
	if err != nil {
		return nil, err
	}
	o := &ends{sink.(*Sink), src.(*source)}
	if err := sink.Open(context.Background()); err != nil {
		return o, err
	}
	if err := o.sink.Restore(e.mark); err != nil {
		return o, err
	}
	return o, src.Open(context.Background(), e.resume, nil)
}

func (o *ends) close() error {
	return errors.Join(o.source.Close(context.Background()), o.sink.Close(context.Background()))
}

// workStaged does what an engine does: it stages, commits, publishes, receives,
// commits and settles.
func workStaged(fsys vfs.FS, e *engineSide) error {
	o, err := openEnds(fsys, e)
	if err != nil {
		if o != nil {
			err = errors.Join(err, o.close())
		}
		return err
	}
	return errors.Join(o.work(e), o.close())
}

func (o *ends) work(e *engineSide) error {
	for round := range 10 {
		var framed []byte
		for n := range 3 {
			entry := entryOf(e.issued + n)
			framed = o.sink.Frame(framed, &entry)
		}
		if err := o.sink.Append(framed, 3); err != nil {
			return err
		}
		if round%4 == 3 {
			continue // the next sync covers it
		}
		m, err := o.sink.Sync()
		if err != nil {
			return err
		}
		e.mark, e.issued = m, int(m.Entries)
		if err := o.sink.Publish(m); err != nil {
			return err
		}
		got, err := o.source.Receive(context.Background(), 4, 0)
		if err != nil {
			return err
		}
		if len(got) < 2 {
			continue
		}
		last := got[len(got)-1]
		e.taken, e.resume = last.Ordinal, map[string]transports.Position{partition: last.Position}
		errs := o.source.Settle(context.Background(), []transports.Settlement{{Partition: partition, Through: last.Position, Ordinal: last.Ordinal}})
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// TestI1I2I3I5StagedCrashesAtEveryStep: what the engine committed is there
// exactly once, and nothing else, wherever the crash came.
func TestI1I2I3I5StagedCrashesAtEveryStep(t *testing.T) {
	whole := vfs.NewFaults(vfs.NewMem(), vfs.Fault{})
	must(t, workStaged(whole, &engineSide{}))
	for at := uint64(1); at <= whole.Ops(); at++ {
		for seed := range uint64(6) {
			mem, e := vfs.NewMem(), &engineSide{}
			// Not every operation matters to the work (a segment may be dropped late), but each is tried.
			_ = workStaged(vfs.NewFaults(mem, vfs.Fault{At: at}), e)
			if err := judgeStaged(mem.Crash(seed), e); err != nil {
				t.Fatalf("crash at operation %d of %d, seed %d: %v", at, whole.Ops(), seed, err)
			}
		}
	}
}

func judgeStaged(fsys vfs.FS, e *engineSide) error {
	o, err := openEnds(fsys, e)
	if err != nil {
		return err
	}
	next := e.taken
	for {
		got, err := o.source.Receive(context.Background(), 5, 0)
		if err != nil {
			return err
		}
		if len(got) == 0 {
			break
		}
		for _, d := range got {
			if d.Ordinal != next {
				return fmt.Errorf("entry %d came where %d was next", d.Ordinal, next)
			}
			next++
		}
	}
	if next != e.mark.Entries {
		return fmt.Errorf("%d entries came and %d were committed", next, e.mark.Entries)
	}
	return o.close()
}

// TestSentByHandSurvivesTheNextRestore: the engine's mark is older than what
// was sent while it was down.
func TestSentByHandSurvivesTheNextRestore(t *testing.T) {
	fsys, e := vfs.NewMem(), &engineSide{}
	must(t, workStaged(fsys, e))
	q := openQueue(t, fsys)
	if q.place.log.First() == 0 {
		t.Error("segments that the queue's reader has passed are still there")
	}
	must(t, q.Send(context.Background(), transports.Entry{ID: "by hand"}))
	for seed := range uint64(8) {
		byHandAfterCrash(t, fsys.Crash(seed), e)
	}
	must(t, q.Close())
}

func byHandAfterCrash(t *testing.T, fsys vfs.FS, e *engineSide) {
	t.Helper()
	o, err := openEnds(fsys, e)
	must(t, err)
	if end := o.sink.place.log.End().Entries; end != e.mark.Entries+1 {
		t.Errorf("%d entries, want %d and the one by hand", end, e.mark.Entries)
	}
	must(t, o.close())
}

// TestHandsOffWhatIsNotCommitted: after a kill between Sync and the commit
// only the engine knows where its queue ends.
func TestHandsOffWhatIsNotCommitted(t *testing.T) {
	fsys, e := vfs.NewMem(), &engineSide{}
	o, err := openEnds(fsys, e)
	must(t, err)
	entry := entryOf(1)
	must(t, o.sink.Append(o.sink.Frame(nil, &entry), 1))
	_, err = o.sink.Sync()
	must(t, err)
	if got, err := o.source.Receive(context.Background(), 1, 0); err != nil || len(got) != 0 {
		t.Errorf("before the commit: %v, %v", got, err)
	}
	q := openQueue(t, fsys.Crash(0))
	if err := q.Send(context.Background(), entry); !errors.Is(err, ErrUncommitted) {
		t.Errorf("Send: %v", err)
	}
	must(t, q.Close())
	must(t, o.close())
}

func TestTwoSinksOrSourcesOfOneQueueAreRefused(t *testing.T) {
	fsys, tr := vfs.NewMem(), New()
	open := func(name string, share bool) (transports.Source, error) {
		s, err := tr.NewSource(envOn(fsys, name), transports.Settings{"queue": "q", "share": share})
		must(t, err)
		return s, s.Open(context.Background(), nil, nil)
	}
	a, err := open("a", false)
	must(t, err)
	for _, share := range []bool{false, true} {
		if _, err := open("b", share); err == nil {
			t.Errorf("share %v: a second reader was let in", share)
		}
	}
	must(t, a.Close(context.Background()))
	c, err := open("c", true)
	must(t, err)
	d, err := open("d", true)
	must(t, err)
	must(t, errors.Join(c.Close(context.Background()), d.Close(context.Background())))

	var sinks [2]*Sink
	for i := range sinks {
		s, err := tr.NewSink(envOn(fsys, fmt.Sprint("sink", i)), transports.Settings{"queue": "q"})
		must(t, err)
		must(t, s.Open(context.Background()))
		sinks[i] = s.(*Sink)
	}
	must(t, sinks[0].Restore(transports.Mark{}))
	if err := sinks[1].Restore(transports.Mark{}); err == nil {
		t.Error("two sinks write one queue in the commit")
	}
	must(t, errors.Join(sinks[0].Close(context.Background()), sinks[1].Close(context.Background())))
}

func TestStagedSinkSaysThatItIsFull(t *testing.T) {
	s, err := New().NewSink(envOn(vfs.NewMem(), "sink"), transports.Settings{"queue": "q", "max": int64(1000)})
	must(t, err)
	k := s.(*Sink)
	must(t, k.Open(context.Background()))
	must(t, k.Restore(transports.Mark{}))
	entry := transports.Entry{Data: make([]byte, 500)}
	framed := k.Frame(nil, &entry)
	if room := k.Room(); room < int64(len(framed)) || room > 1000 {
		t.Fatalf("room %d", room)
	}
	must(t, k.Append(framed, 1))
	if err := k.Append(framed, 1); !errors.Is(err, ErrFull) {
		t.Fatalf("append past max: %v", err)
	}
	if _, err := k.Sync(); err != nil {
		t.Fatalf("a refused append broke the sink: %v", err)
	}
	must(t, k.Close(context.Background()))
}

// TestTopicConsumers: each sees all from its first attach on; segments go when
// every consumer has passed them, or when they are older than keep.
func TestTopicConsumers(t *testing.T) {
	fsys, now := vfs.NewMem(), goldenTime
	cfg := placeConfig{fs: fsys, data: "/data", kind: TopicKind, name: "t", segmentBytes: 300, now: func() time.Time { return now }, log: configOf(transports.Env{}, target{}).log}
	p, err := openPlace(cfg)
	must(t, err)
	send := func(n int) {
		e := entryOf(n)
		must(t, p.append(frame(nil, &e, now), 1))
	}
	send(0)
	a, err := p.attach("a", "a", false, p.start(false))
	must(t, err)
	for n := range 9 {
		send(n + 1)
	}
	b, err := p.attach("b", "b", false, p.start(true))
	must(t, err)
	read := func(c *consumer) (list []given) {
		m := c.group.join()
		list, err := c.take(context.Background(), nil, m, 100, 0, nil)
		must(t, err)
		var runs []run
		for _, g := range list {
			runs = c.group.ack([]uint64{g.number}, m, make([]error, 1), runs)
		}
		must(t, c.settle(runs, nil))
		return list
	}
	if got := read(a); len(got) != 9 || got[0].number != 1 {
		t.Errorf("a got %d entries", len(got))
	}
	if p.log.First() != 0 {
		t.Error("entries that b has not read were dropped")
	}
	if got := read(b); len(got) != 10 {
		t.Errorf("b got %d entries", len(got))
	}
	if first := p.log.First(); first == 0 {
		t.Error("segments that all have passed are still there")
	}
	for n := range 6 {
		send(10 + n)
	}
	now = now.Add(DefaultKeep + time.Hour)
	send(99)
	got := read(a)
	if len(got) == 0 || len(got) >= 7 || got[len(got)-1].number != 16 {
		t.Errorf("after keep a got %d entries", len(got))
	}
	if a.group.counts.Expired+uint64(len(got)) != 7 {
		t.Errorf("%d expired and %d came, of 7", a.group.counts.Expired, len(got))
	}
	must(t, errors.Join(a.detach(), b.detach(), p.close()))

	// Known consumers hold their place across a restart.
	p, err = openPlace(cfg)
	must(t, err)
	a, err = p.attach("a", "a", false, p.start(false))
	must(t, err)
	if a.progress.low != 17 {
		t.Errorf("a is at %d after reopening", a.progress.low)
	}
	must(t, errors.Join(a.detach(), p.close()))
}

func TestChunksCarryDataAndRefuseHeaders(t *testing.T) {
	fsys, tr := vfs.NewMem(), New()
	q := openQueue(t, fsys)
	must(t, q.Send(context.Background(), entryOf(0), entryOf(1), transports.Entry{Headers: []transports.Header{{Name: "a", Value: "b"}}}))
	must(t, q.Close())
	s, err := tr.NewSource(envOn(fsys, "source"), transports.Settings{"queue": "q", "chunks": true})
	must(t, err)
	must(t, s.Open(context.Background(), nil, nil))
	c := transports.Chunk{Data: make([]byte, 0, 1024)}
	must(t, s.(transports.ChunkSource).ReceiveChunk(context.Background(), &c, 0))
	if string(c.Data) != "entry 0entry 1" || len(c.Ends) != 2 || c.Ends[0] != 7 || c.Ordinal != 0 || string(c.End) != string(positionOf(2)) {
		t.Errorf("%+v", c)
	}
	for range 2 {
		err = s.(transports.ChunkSource).ReceiveChunk(context.Background(), &c, 0)
		if !errors.Is(err, transports.ErrFatal) || len(c.Data) != 0 {
			t.Errorf("an entry with headers: %v, %q", err, c.Data)
		}
	}
	must(t, s.Close(context.Background()))
}
