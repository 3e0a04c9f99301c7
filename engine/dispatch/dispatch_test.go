package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// fakeSink answers each entry by a function and remembers what arrived, by key.
type fakeSink struct {
	limits transports.Limits
	answer func(e *transports.Entry) transports.Result

	mu      sync.Mutex // guards what follows
	arrived []string   // ids
	byKey   map[string][]string
	writes  int
	largest int
}

func (s *fakeSink) Limits() transports.Limits   { return s.limits }
func (s *fakeSink) Open(context.Context) error  { return nil }
func (s *fakeSink) Flush(context.Context) error { return nil }
func (s *fakeSink) Close(context.Context) error { return nil }

func (s *fakeSink) Write(_ context.Context, batch []transports.Entry, results []transports.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.largest = max(s.largest, len(batch))
	keys := map[string]bool{}
	for i := range batch {
		e := &batch[i]
		if keys[string(e.Key)] && !s.limits.KeyedFailure {
			panic("two entries of one key in a batch")
		}
		keys[string(e.Key)] = true
		if s.answer != nil {
			results[i] = s.answer(e)
		}
		if results[i].Class == transports.OK {
			s.arrived = append(s.arrived, e.ID)
			if s.byKey == nil {
				s.byKey = map[string][]string{}
			}
			s.byKey[string(e.Key)] = append(s.byKey[string(e.Key)], e.ID)
		}
	}
}

func (s *fakeSink) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.arrived)
}

func (s *fakeSink) of(key string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.byKey[key])
}

func (s *fakeSink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

func (s *fakeSink) largestBatch() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.largest
}

// pass lets virtual time go by.
func pass(d time.Duration) { time.Sleep(d) }

// rig plays the engine: it owns the jobs, writes parked ones to the park queue and
// records redeliveries.
type rig struct {
	t    *testing.T
	sink *fakeSink
	park *Park
	d    *Dispatcher

	mu       sync.Mutex // guards what follows
	outcomes map[string]journal.Outcome
	reasons  map[string]string
	ended    map[string]journal.Outcome
}

func newRig(t *testing.T, sink *fakeSink, change func(*Config)) *rig {
	t.Helper()
	return openRig(t, vfs.NewMem(), sink, change)
}

func openRig(t *testing.T, fs vfs.FS, sink *fakeSink, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, sink: sink, outcomes: map[string]journal.Outcome{}, reasons: map[string]string{}, ended: map[string]journal.Outcome{}}
	var err error
	if r.park, err = OpenPark(fs, "park/hook", 0); err != nil {
		t.Fatal(err)
	}
	r.park.log.Publish(r.park.log.End())
	if err := r.park.Resume(); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Name: "hook", Sink: sink, Park: r.park, Seed: 7, Ended: r.onEnded}
	if change != nil {
		change(&cfg)
	}
	if r.d, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	r.d.Start()
	t.Cleanup(func() {
		if err := r.d.Stop(); err != nil {
			t.Errorf("dispatcher: %v", err)
		}
		if err := r.park.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) onEnded(_ context.Context, ended []Ended) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range ended {
		if _, twice := r.ended[e.Entry.ID]; twice {
			r.t.Errorf("parked entry %s ended twice", e.Entry.ID)
		}
		r.ended[e.Entry.ID] = e.Outcome
		r.park.Ended(e.Ordinal)
	}
	return r.park.Trim()
}

// Done is the lane's part: a parked job goes into the park queue and is published,
// as the commit would do.
func (r *rig) Done(j *Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.outcomes[j.Entry.ID]; twice {
		r.t.Errorf("job %s ended twice", j.Entry.ID)
	}
	r.outcomes[j.Entry.ID], r.reasons[j.Entry.ID] = j.Outcome, j.Reason
	if j.Outcome != journal.Parked {
		return
	}
	if err := r.park.Append(r.park.FrameJob(nil, j, []byte("context")), 1); err != nil {
		r.t.Error(err)
	}
	m, err := r.park.Sync()
	if err != nil {
		r.t.Error(err)
	}
	if err := r.park.Publish(m); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) offer(key uint64, ids ...string) {
	for _, id := range ids {
		r.d.Offer(&Job{Owner: r, Key: key, Entry: transports.Entry{ID: id, Key: fmt.Appendf(nil, "k%d", key), Data: []byte("data of " + id)}})
	}
}

func (r *rig) outcome(id string) journal.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outcomes[id]
}

func (r *rig) reason(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reasons[id]
}

func (r *rig) end(id string) journal.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended[id]
}

func fails(c transports.Class) func(*transports.Entry) transports.Result {
	return func(*transports.Entry) transports.Result { return transports.Result{Class: c, Err: errors.New("no")} }
}

func TestOrderPerKeyI7(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := map[string]int{}
		sink := &fakeSink{answer: func(e *transports.Entry) transports.Result {
			attempts[e.ID]++
			if attempts[e.ID] < 3 && e.ID[1] == '1' {
				return transports.Result{Class: transports.Retry, Err: errors.New("not yet")}
			}
			return transports.Result{}
		}}
		r := newRig(t, sink, nil)
		var want []string
		for i := range 20 {
			id := fmt.Sprintf("a%d", i)
			want = append(want, id)
			r.offer(1, id)
			r.offer(uint64(i+2), fmt.Sprintf("b%d", i))
		}
		pass(10 * time.Minute)
		if got := sink.of("k1"); !slices.Equal(got, want) {
			t.Errorf("key 1 arrived as %v", got)
		}
		if n := len(sink.ids()); n != 40 {
			t.Errorf("%d arrived, want 40", n)
		}
	})
}

func TestResultClasses(t *testing.T) {
	for _, c := range []struct {
		class   transports.Class
		change  func(*Config)
		outcome journal.Outcome
		reason  string
	}{
		{transports.OK, nil, journal.Delivered, ""},
		{transports.Poison, nil, journal.Dead, "poison: no"},
		{transports.Unknown, nil, journal.Dead, "outcome_unknown: no"},
		{transports.Unknown, func(c *Config) { c.DuplicatesOK = true }, journal.Parked, ""},
		{transports.Retry, nil, journal.Parked, ""},
		{transports.Throttled, nil, journal.Parked, ""},
		{transports.Fatal, nil, journal.Parked, ""},
		{transports.LeaseLost, nil, journal.Parked, ""},
		{transports.Retry, func(c *Config) { c.Park = nil; c.MaxAge = time.Minute }, journal.Dead, "retry_exhausted: no"},
	} {
		t.Run(c.class.String()+"-"+c.outcome.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, &fakeSink{answer: fails(c.class)}, c.change)
				r.offer(1, "x")
				pass(5 * time.Minute)
				if got := r.outcome("x"); got != c.outcome {
					t.Errorf("outcome %v, want %v", got, c.outcome)
				}
				if got := r.reason("x"); got != c.reason {
					t.Errorf("reason %q, want %q", got, c.reason)
				}
			})
		})
	}
}

// TestInsistingDispatcherBacksOff: dead letters have nowhere else to go, so they are
// tried until they arrive, and a sink that refuses them is not asked in a loop.
func TestInsistingDispatcherBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := 20
		sink := &fakeSink{answer: func(*transports.Entry) transports.Result {
			if left == 0 {
				return transports.Result{}
			}
			left--
			return transports.Result{Class: transports.Poison, Err: errors.New("no")}
		}}
		r := newRig(t, sink, func(c *Config) { c.Insist, c.Park, c.MaxAge = true, nil, time.Second })
		r.offer(1, "x")
		pass(time.Second)
		if n := sink.count(); n < 3 || n > 20 {
			t.Errorf("%d writes in the first second", n)
		}
		pass(10 * time.Minute)
		if got := r.outcome("x"); got != journal.Delivered || left != 0 {
			t.Errorf("outcome %v with %d answers left", got, left)
		}
	})
}

// TestSinkDownForAnHour: what cannot be delivered is parked, so it settles; order
// holds per key when the sink returns, also against events that came later.
func TestSinkDownForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(time.Hour)
		sink := &fakeSink{answer: func(*transports.Entry) transports.Result {
			if time.Now().Before(back) {
				return transports.Result{Class: transports.Retry, Err: errors.New("down")}
			}
			return transports.Result{}
		}}
		r := newRig(t, sink, func(c *Config) { c.MaxAge = 3 * time.Hour })
		var ids []string
		want := map[string][]string{}
		for minute := range 65 {
			for k := range 5 {
				id := fmt.Sprintf("m%d-%d", minute, k)
				ids = append(ids, id)
				want[fmt.Sprintf("k%d", k)] = append(want[fmt.Sprintf("k%d", k)], id)
				r.offer(uint64(k), id)
			}
			pass(time.Minute)
			for _, id := range ids {
				if r.outcome(id) == 0 {
					t.Fatalf("minute %d: %s is neither delivered nor parked after a minute", minute, id)
				}
			}
		}
		pass(10 * time.Minute)
		for key, list := range want {
			if got := sink.of(key); !slices.Equal(got, list) {
				t.Errorf("%s arrived as %v", key, got)
			}
		}
		if n := r.park.Waiting(); n != 0 {
			t.Errorf("%d entries still parked", n)
		}
		if sink.count() > 3600/2+100 {
			t.Errorf("%d writes in an hour: probes must be rare", sink.count())
		}
	})
}

// TestFreshEventArrivesSoonAfterAFault names I16.
func TestFreshEventArrivesSoonAfterAFaultI16(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		sink := &fakeSink{}
		sink.answer = func(*transports.Entry) transports.Result {
			if down {
				return transports.Result{Class: transports.Retry, Err: errors.New("down")}
			}
			return transports.Result{}
		}
		r := newRig(t, sink, nil)
		r.offer(1, "old")
		pass(30 * time.Minute)
		sink.mu.Lock()
		down = false
		sink.mu.Unlock()
		r.offer(2, "fresh")
		pass(10 * time.Second)
		if !slices.Contains(sink.ids(), "fresh") {
			t.Errorf("10 s after the fault only %v arrived", sink.ids())
		}
	})
}

// TestFullParkQueueHoldsJobs: at the bound jobs wait, in order, and nothing is lost.
func TestFullParkQueueHoldsJobsI15(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		sink := &fakeSink{}
		sink.answer = func(*transports.Entry) transports.Result {
			if down {
				return transports.Result{Class: transports.Retry, Err: errors.New("down")}
			}
			return transports.Result{}
		}
		r := newRig(t, sink, nil)
		r.park.max = 50 // bytes: a few entries
		var want []string
		for i := range 20 {
			id := fmt.Sprintf("e%02d", i)
			want = append(want, id)
			r.offer(1, id)
		}
		pass(time.Minute)
		if n := r.park.Waiting(); n == 0 || n == 20 {
			t.Errorf("%d of 20 parked, want some", n)
		}
		sink.mu.Lock()
		down = false
		sink.mu.Unlock()
		pass(time.Minute)
		if got := sink.ids(); !slices.Equal(got, want) {
			t.Errorf("arrived %v", got)
		}
	})
}

func TestParkedWorkOutlivesARestart(t *testing.T) {
	fs := vfs.NewMem()
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, fs, &fakeSink{answer: fails(transports.Retry)}, nil)
		r.offer(1, "a", "b")
		r.offer(2, "c")
		pass(time.Minute)
	})
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		r := openRig(t, fs, sink, nil)
		r.offer(1, "later")
		pass(time.Minute)
		if got := sink.of("k1"); !slices.Equal(got, []string{"a", "b", "later"}) {
			t.Errorf("key 1 arrived as %v", got)
		}
		if got := sink.of("k2"); !slices.Equal(got, []string{"c"}) {
			t.Errorf("key 2 arrived as %v", got)
		}
		if got := r.end("a"); got != journal.Delivered {
			t.Errorf("a ended as %v", got)
		}
	})
}

func TestParkedDeliveryDiesOfAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &fakeSink{answer: fails(transports.Retry)}, func(c *Config) { c.MaxAge = 10 * time.Minute })
		r.offer(1, "x")
		pass(11 * time.Minute)
		if got := r.end("x"); got != journal.Dead {
			t.Errorf("ended as %v", got)
		}
	})
}

func TestBlockedKeyDiesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{answer: func(e *transports.Entry) transports.Result {
			if e.ID == "a" {
				return transports.Result{Class: transports.Poison, Err: errors.New("no")}
			}
			return transports.Result{}
		}}
		r := newRig(t, sink, func(c *Config) { c.BlockKey = true })
		r.offer(1, "a", "b", "c")
		r.offer(2, "d")
		pass(time.Minute)
		for id, want := range map[string]journal.Outcome{"a": journal.Dead, "b": journal.Dead, "c": journal.Dead, "d": journal.Delivered} {
			if got := r.outcome(id); got != want {
				t.Errorf("%s: %v, want %v", id, got, want)
			}
		}
		if r.reason("b") != "blocked_by: a" {
			t.Errorf("b: reason %q", r.reason("b"))
		}
	})
}

func TestBatchesFillUpToTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{limits: transports.Limits{Entries: 10, KeyedFailure: true}}
		r := newRig(t, sink, nil)
		for i := range 95 {
			r.offer(uint64(i%3), fmt.Sprint(i))
		}
		pass(time.Minute)
		if len(sink.ids()) != 95 || sink.largestBatch() != 10 || sink.count() > 12 {
			t.Errorf("%d arrived in %d writes of at most %d", len(sink.ids()), sink.count(), sink.largestBatch())
		}
	})
}

func FuzzParseParked(f *testing.F) {
	p := &Park{}
	framed := p.FrameJob(nil, &Job{Key: 3, Entry: transports.Entry{ID: "i", Key: []byte("k"), Data: []byte("d"), Headers: []transports.Header{{Name: "a", Value: "b"}}}}, []byte("c"))
	f.Add(framed[4:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseParked(b)
		if err != nil {
			return
		}
		j := &Job{Key: e.key, first: e.first, Attempts: e.attempts, Entry: e.entry}
		again, err := parseParked(p.FrameJob(nil, j, e.context)[4:])
		if err != nil || again.key != e.key || string(again.entry.Data) != string(e.entry.Data) || again.entry.ID != e.entry.ID {
			t.Fatalf("%+v came back as %+v, %v", e, again, err)
		}
	})
}

func TestParkSnapshotIsAbsolute(t *testing.T) {
	fs := vfs.NewMem()
	p, err := OpenPark(fs, filepath.Join("park", "x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, o := range []uint64{0, 1, 4, 2, 9} {
		p.Ended(o)
		p.Ended(o)
	}
	q := &Park{log: p.log, above: map[uint64]struct{}{}}
	for range 2 {
		if err := p.Snapshot(q.Load); err != nil {
			t.Fatal(err)
		}
	}
	if q.low != 3 || len(q.above) != 2 {
		t.Errorf("low %d, above %v", q.low, q.above)
	}
}

// TestBackoffNeverOverflows: attempts at a sink that is away for long go on without end.
func TestBackoffNeverOverflows(t *testing.T) {
	for _, low := range []time.Duration{time.Millisecond, 10 * time.Second, time.Hour} {
		d := &Dispatcher{cfg: Config{BackoffMin: low, BackoffMax: 24 * time.Hour}}
		d.random = rand.New(rand.NewPCG(1, 1))
		for attempt := 1; attempt < 100; attempt++ {
			if at := d.backoff(attempt); at < 0 || at > d.cfg.BackoffMax {
				t.Fatalf("attempt %d waits %v", attempt, at)
			}
		}
	}
}
