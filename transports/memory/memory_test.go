package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/transports"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func entry(key, data string) transports.Entry {
	e := transports.Entry{Data: []byte(data)}
	if key != "" {
		e.Key = []byte(key)
	}
	return e
}

func open(t testing.TB, tr *Transport, settings transports.Settings) transports.Source {
	t.Helper()
	s, err := tr.NewSource(transports.Env{Name: "in"}, settings)
	must(t, err)
	must(t, s.Open(t.Context(), nil, nil))
	t.Cleanup(func() { must(t, s.Close(context.Background())) })
	return s
}

func receive(t testing.TB, s transports.Source, most int, wait time.Duration) []transports.Delivery {
	t.Helper()
	ds, err := s.Receive(t.Context(), most, wait)
	must(t, err)
	return ds
}

func data(ds []transports.Delivery) string {
	var all []string
	for _, d := range ds {
		all = append(all, string(d.Data))
	}
	return strings.Join(all, " ")
}

func settle(t testing.TB, s transports.Source, st transports.Settlement) {
	t.Helper()
	must(t, s.Settle(t.Context(), []transports.Settlement{st})[0])
}

func TestReceiveAckInOrder(t *testing.T) {
	tr := New()
	q := tr.Queue("q")
	must(t, q.Put(entry("", "a"), entry("k", "b"), entry("k", "c")))
	s := open(t, tr, transports.Settings{"queue": "q"})
	ds := receive(t, s, 10, 0)
	if data(ds) != "a b c" || ds[0].Attempt != 1 || ds[0].ID != "q/1" || ds[2].Ordinal != 3 {
		t.Fatalf("received %+v", ds)
	}
	for _, d := range ds {
		settle(t, s, transports.Settlement{ID: d.ID})
	}
	if left := q.Entries(); len(left) != 0 {
		t.Errorf("%d entries are left", len(left))
	}
	errs := s.Settle(t.Context(), []transports.Settlement{{ID: "q/1"}, {ID: "other/1"}, {ID: "q/x"}, {ID: ""}})
	for i, err := range errs {
		if !errors.Is(err, transports.ErrNotHeld) {
			t.Errorf("settlement %d: %v, want ErrNotHeld", i, err)
		}
	}
}

// I7: while a nacked entry of a key waits, no later one of that key passes.
func TestNackWaitsAndHoldsItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := New()
		must(t, tr.Queue("q").Put(entry("k", "a"), entry("k", "b"), entry("l", "c")))
		s := open(t, tr, transports.Settings{"queue": "q"})
		first := receive(t, s, 1, 0)
		settle(t, s, transports.Settlement{ID: first[0].ID, Nack: true, Delay: time.Minute})
		if have := data(receive(t, s, 10, 0)); have != "c" {
			t.Errorf("while waiting: %q, want c", have)
		}
		began := time.Now()
		again := receive(t, s, 10, time.Hour)
		if data(again) != "a b" || again[0].Attempt != 2 || again[1].Attempt != 1 || again[0].ID != first[0].ID {
			t.Errorf("after the delay: %+v", again)
		}
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("came after %v, want 1m", waited)
		}
	})
}

func TestLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := New()
		must(t, tr.Queue("q").Put(entry("k", "a")))
		set := transports.Settings{"queue": "q", "lease": 30 * time.Second}
		slow, quick := open(t, tr, set), open(t, tr, set)
		held := receive(t, slow, 1, 0)
		if !held[0].Lease.Equal(time.Now().Add(30 * time.Second)) {
			t.Errorf("lease until %v", held[0].Lease)
		}
		began := time.Now()
		again := receive(t, quick, 1, time.Hour)
		if len(again) != 1 || again[0].Attempt != 2 || time.Since(began) != 30*time.Second {
			t.Fatalf("after %v: %+v", time.Since(began), again)
		}
		if err := slow.Settle(t.Context(), []transports.Settlement{{ID: held[0].ID}})[0]; !errors.Is(err, transports.ErrNotHeld) {
			t.Errorf("late ack: %v, want ErrNotHeld", err)
		}
		settle(t, quick, transports.Settlement{ID: again[0].ID})
	})
}

func TestKeyIsWithOneSourceAtATime(t *testing.T) {
	tr := New()
	must(t, tr.Queue("q").Put(entry("k", "a"), entry("k", "b"), entry("", "c")))
	one, two := open(t, tr, transports.Settings{"queue": "q"}), open(t, tr, transports.Settings{"queue": "q"})
	a := receive(t, one, 1, 0)
	if have := data(receive(t, two, 10, 0)); have != "c" {
		t.Errorf("the other source got %q, want c", have)
	}
	settle(t, one, transports.Settlement{ID: a[0].ID})
	if have := data(receive(t, two, 10, 0)); have != "b" {
		t.Errorf("after the ack the other source got %q, want b", have)
	}
}

func TestCloseGivesBackAndUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := New()
		must(t, tr.Queue("q").Put(entry("", "a")))
		s := open(t, tr, transports.Settings{"queue": "q"})
		receive(t, s, 1, 0)
		blocked := make(chan error)
		go func() {
			_, err := s.Receive(t.Context(), 1, time.Hour)
			blocked <- err
		}()
		synctest.Wait()
		must(t, s.Close(t.Context()))
		if err := <-blocked; !errors.Is(err, transports.ErrClosed) {
			t.Errorf("blocked receive: %v, want ErrClosed", err)
		}
		must(t, s.Close(t.Context()))
		other := open(t, tr, transports.Settings{"queue": "q"})
		if ds := receive(t, other, 1, 0); len(ds) != 1 || ds[0].Attempt != 2 {
			t.Errorf("after close: %+v", ds)
		}
	})
}

func TestReceiveEnds(t *testing.T) {
	tr := New()
	q := tr.Queue("q")
	must(t, q.Put(entry("", "a")))
	q.End()
	s := open(t, tr, transports.Settings{"queue": "q"})
	ds := receive(t, s, 1, 0)
	if more := receive(t, s, 1, 0); len(more) != 0 {
		t.Errorf("received %+v before the ack", more)
	}
	settle(t, s, transports.Settlement{ID: ds[0].ID})
	if _, err := s.Receive(t.Context(), 1, 0); !errors.Is(err, io.EOF) {
		t.Errorf("after all was settled: %v, want io.EOF", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, tr, transports.Settings{"queue": "r"}).Receive(ctx, 1, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func write(t testing.TB, tr *Transport, settings transports.Settings, batch ...transports.Entry) []transports.Result {
	t.Helper()
	s, err := tr.NewSink(transports.Env{Name: "out"}, settings)
	must(t, err)
	must(t, s.Open(t.Context()))
	results := make([]transports.Result, len(batch))
	s.Write(t.Context(), batch, results)
	must(t, errors.Join(s.Flush(t.Context()), s.Close(t.Context())))
	return results
}

func classes(results []transports.Result) (all []transports.Class) {
	for _, r := range results {
		all = append(all, r.Class)
	}
	return all
}

func TestSinkFailsWhatTheTestSays(t *testing.T) {
	tr := New()
	q := tr.Queue("q")
	q.OnWrite(func(e transports.Entry) transports.Result {
		if string(e.Data) == "bad" {
			return transports.Result{Class: transports.Poison, Err: errors.New("no")}
		}
		return transports.Result{}
	})
	results := write(t, tr, transports.Settings{"queue": "q"}, entry("k", "a"), entry("k", "bad"), entry("k", "b"), entry("l", "c"))
	if want := []transports.Class{transports.OK, transports.Poison, transports.Retry, transports.OK}; !slices.Equal(classes(results), want) {
		t.Errorf("classes %v, want %v", classes(results), want)
	}
	taken, err := q.Take(t.Context(), 10, 0)
	must(t, err)
	if len(taken) != 2 || string(taken[0].Data) != "a" || string(taken[1].Data) != "c" {
		t.Errorf("taken %+v", taken)
	}
}

func TestFullQueueThrottles(t *testing.T) {
	tr := New()
	results := write(t, tr, transports.Settings{"queue": "q", "limit": int64(2)}, entry("", "a"), entry("", "b"), entry("", "c"))
	if want := []transports.Class{transports.OK, transports.OK, transports.Throttled}; !slices.Equal(classes(results), want) {
		t.Errorf("classes %v, want %v", classes(results), want)
	}
	if results[2].After <= 0 {
		t.Error("a throttled entry does not say when to try again")
	}
	if err := tr.Queue("q").Put(entry("", "d")); !errors.Is(err, ErrFull) {
		t.Errorf("put: %v, want ErrFull", err)
	}
	large := transports.Entry{Data: make([]byte, MaxBytes+1)}
	if err := tr.Queue("r").Put(large); !errors.Is(err, ErrFull) {
		t.Errorf("put of too many bytes: %v, want ErrFull", err)
	}
}

func TestTopicGivesEachSourceAll(t *testing.T) {
	tr := New()
	set := transports.Settings{"topic": "t"}
	write(t, tr, set, entry("", "before anybody listens"))
	one, two := open(t, tr, set), open(t, tr, set)
	write(t, tr, set, entry("", "a"))
	for _, s := range []transports.Source{one, two} {
		if have := data(receive(t, s, 10, 0)); have != "a" {
			t.Errorf("received %q, want a", have)
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for _, set := range []transports.Settings{{}, {"queue": "a", "topic": "b"}, {"queue": "a", "limit": int64(-1)}} {
		if _, err := New().NewSource(transports.Env{Name: "in"}, set); err == nil {
			t.Errorf("source of %v: no error", set)
		}
		if _, err := New().NewSink(transports.Env{Name: "out"}, set); err == nil {
			t.Errorf("sink of %v: no error", set)
		}
	}
	if _, err := New().NewSource(transports.Env{}, transports.Settings{"queue": "a", "lease": -time.Second}); err == nil {
		t.Error("negative lease: no error")
	}
}

// I1, I2, I7: whatever sources do, each entry is acked exactly once, first
// deliveries of a key come in order, and no key is with two sources.
func TestQueueAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tr := New()
		q := tr.Queue("q")
		sources := make([]transports.Source, 3)
		for i := range sources {
			sources[i] = open(t, tr, transports.Settings{"queue": "q"})
		}
		holds := map[string]int{} // id to source
		keyOf := map[string]string{}
		acked, attempts, lastFirst := map[string]bool{}, map[string]int{}, map[string]uint64{}
		count := rapid.IntRange(1, 20).Draw(rt, "entries")
		for i := range count {
			key := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "key")
			must(t, q.Put(entry(key, fmt.Sprint(i))))
		}
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			i := rapid.IntRange(0, len(sources)-1).Draw(rt, "source")
			if rapid.Bool().Draw(rt, "receive") {
				for _, d := range receive(t, sources[i], rapid.IntRange(1, 4).Draw(rt, "most"), 0) {
					attempts[d.ID]++
					key := string(d.Key)
					switch {
					case acked[d.ID]:
						rt.Fatalf("%s came again after its ack", d.ID)
					case d.Attempt != attempts[d.ID]:
						rt.Fatalf("%s: attempt %d, want %d", d.ID, d.Attempt, attempts[d.ID])
					case d.Attempt == 1 && key != "" && d.Ordinal < lastFirst[key]:
						rt.Fatalf("%s came after %d", d.ID, lastFirst[key])
					}
					for id, holder := range holds {
						if key != "" && keyOf[id] == key && holder != i {
							rt.Fatalf("key %s is with two sources", key)
						}
					}
					if d.Attempt == 1 {
						lastFirst[key] = d.Ordinal
					}
					holds[d.ID], keyOf[d.ID] = i, key
				}
				continue
			}
			for _, id := range slices.Sorted(maps.Keys(holds)) {
				if holds[id] != i {
					continue
				}
				nack := rapid.Bool().Draw(rt, "nack")
				settle(t, sources[i], transports.Settlement{ID: id, Nack: nack})
				acked[id] = !nack
				delete(holds, id)
				break
			}
		}
		done := 0
		for _, yes := range acked {
			if yes {
				done++
			}
		}
		if left := len(q.Entries()); left+done != count {
			rt.Fatalf("%d entries are left and %d acked of %d", left, done, count)
		}
		for _, s := range sources {
			must(t, s.Close(t.Context()))
		}
	})
}

// The README's tables say what Options say.
func TestReadmeListsOptions(t *testing.T) {
	text, err := os.ReadFile("README.md")
	must(t, err)
	source, sink := New().Options()
	for _, end := range [][]transports.Option{source, sink} {
		for _, o := range end {
			if row := fmt.Sprintf("| `%s` | ", o.Name); !strings.Contains(string(text), row) || !strings.Contains(string(text), o.Doc) {
				t.Errorf("README.md lacks option %s: %s", o.Name, o.Doc)
			}
		}
	}
}
