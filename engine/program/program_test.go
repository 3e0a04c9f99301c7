package program_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/program"
	"github.com/weir-project/weir/transports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func order(n int) event.Event {
	return event.Event{ID: fmt.Sprint("e-", n), Source: "/shop", Type: "Order", Data: fmt.Appendf(nil, `{"n":%d}`, n), DataKind: event.DataJSON}
}

func openSource(t testing.TB, p *program.Transport, limit int) transports.Source {
	t.Helper()
	s, err := p.NewSource(transports.Env{Name: "orders"}, transports.Settings{"limit": int64(limit), "limit_bytes": program.DefaultBytes})
	must(t, err)
	must(t, s.Open(context.Background(), nil, nil))
	return s
}

func openSink(t testing.TB, p *program.Transport, h program.Handler) transports.Sink {
	t.Helper()
	must(t, p.Handle("kitchen", h))
	s, err := p.NewSink(transports.Env{Name: "kitchen"}, transports.Settings{"timeout": time.Second})
	must(t, err)
	return s
}

// entries are events as a dispatcher writes them.
func entries(t testing.TB, attempt int, numbers ...int) (batch []transports.Entry) {
	t.Helper()
	for _, n := range numbers {
		e := order(n)
		data, err := e.AppendCloudEvent(nil, event.Stamps{})
		must(t, err)
		batch = append(batch, transports.Entry{ID: e.ID, Data: data, Attempt: attempt})
	}
	return batch
}

// TestEveryPublishEndsOnce lets chance publish, take, settle and close: each event ends
// once, and as what became of it says (I1).
func TestEveryPublishEndsOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := program.New()
		s := openSource(t, p, 1000)
		type publisher struct {
			n      int
			cancel context.CancelFunc
			err    chan error
		}
		var waiting []*publisher
		held := map[string]int{} // by delivery: the event's number
		acked, given := map[int]bool{}, map[int]bool{}
		numbers := 0
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 1:
				ctx, cancel := context.WithCancel(context.Background())
				w := &publisher{n: numbers, cancel: cancel, err: make(chan error, 1)}
				numbers++
				go func() { w.err <- p.Publish(ctx, "orders", []event.Event{order(w.n)}) }()
				waiting = append(waiting, w)
			case 2:
				got, err := s.Receive(context.Background(), rapid.IntRange(1, 5).Draw(rt, "max"), time.Millisecond)
				must(t, err)
				for _, d := range got {
					var n int
					if _, err := fmt.Sscanf(string(d.Data[strings.Index(string(d.Data), `"n":`):]), `"n":%d`, &n); err != nil {
						rt.Fatal(err)
					}
					if acked[n] {
						rt.Fatalf("event %d came after its ack", n)
					}
					held[d.ID], given[n] = n, true
				}
			case 3:
				for id, n := range held {
					nack := rapid.Bool().Draw(rt, "nack")
					if errs := s.Settle(context.Background(), []transports.Settlement{{ID: id, Nack: nack}}); errs[0] != nil {
						rt.Fatal(errs[0])
					}
					if delete(held, id); !nack {
						acked[n] = true
					}
					break
				}
			case 4:
				if len(waiting) > 0 {
					waiting[rapid.IntRange(0, len(waiting)-1).Draw(rt, "who")].cancel()
				}
			}
		}
		must(t, s.Close(context.Background()))
		p.Close()
		for _, w := range waiting {
			err := <-w.err
			w.cancel()
			switch unknown := errors.Is(err, program.ErrOutcomeUnknown); {
			case err == nil && !acked[w.n]:
				rt.Errorf("event %d is said to be durable, and was not acked", w.n)
			case err != nil && !unknown && given[w.n]:
				rt.Errorf("event %d was given to the engine, and is said not to be taken: %v", w.n, err)
			case unknown && !given[w.n]:
				rt.Errorf("event %d was never given to the engine, and its outcome is said to be unknown", w.n)
			}
		}
	})
}

func TestPublishWaitsForAReplacedSource(t *testing.T) {
	p := program.New()
	first := openSource(t, p, 10)
	must(t, first.Close(context.Background()))
	ended := make(chan error, 1)
	go func() { ended <- p.Publish(context.Background(), "orders", []event.Event{order(1)}) }()
	second := openSource(t, p, 10)
	got, err := second.Receive(context.Background(), 1, time.Minute)
	must(t, err)
	must(t, errors.Join(second.Settle(context.Background(), []transports.Settlement{{ID: got[0].ID}})...))
	must(t, <-ended)
	must(t, second.Close(context.Background()))
}

func TestANackedEventComesAgainAndHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := program.New()
		s := openSource(t, p, 10)
		ended := make(chan error, 1)
		go func() { ended <- p.Publish(context.Background(), "orders", []event.Event{order(1), order(2)}) }()
		synctest.Wait()
		got, err := s.Receive(context.Background(), 1, 0)
		must(t, err)
		s.Settle(context.Background(), []transports.Settlement{{ID: got[0].ID, Nack: true, Delay: time.Minute}})
		second, err := s.Receive(context.Background(), 5, 0)
		must(t, err)
		if len(second) != 1 || second[0].ID == got[0].ID {
			t.Fatalf("while one waits: %+v, want the other", second)
		}
		began := time.Now()
		again, err := s.Receive(context.Background(), 5, time.Hour)
		must(t, err)
		if len(again) != 1 || again[0].ID != got[0].ID || again[0].Attempt != 2 || time.Since(began) != time.Minute {
			t.Errorf("after %v: %+v, want the nacked one after a minute", time.Since(began), again)
		}
		s.Settle(context.Background(), []transports.Settlement{{ID: second[0].ID}, {ID: again[0].ID}})
		must(t, <-ended)
		must(t, s.Close(context.Background()))
	})
}

// TestCallsOfAHandler: first attempts share a call, later ones have one each, and what
// goes wrong is that call's (I11).
func TestCallsOfAHandler(t *testing.T) {
	var calls [][]string
	fault := ""
	p := program.New()
	s := openSink(t, p, func(_ context.Context, events []event.Event) []transports.Result {
		var ids []string
		for i := range events {
			ids = append(ids, events[i].ID)
		}
		calls = append(calls, ids)
		if slices.Contains(ids, "e-2") {
			switch fault {
			case "panic":
				panic("boom")
			case "count":
				return nil
			}
		}
		return make([]transports.Result, len(events))
	})
	tests := []struct {
		fault   string
		attempt int
		calls   string
		want    []transports.Class
	}{
		{"", 1, "[[e-1 e-2 e-3]]", []transports.Class{transports.OK, transports.OK, transports.OK}},
		{"panic", 1, "[[e-1 e-2 e-3]]", []transports.Class{transports.Retry, transports.Retry, transports.Retry}},
		{"panic", 2, "[[e-1] [e-2] [e-3]]", []transports.Class{transports.OK, transports.Poison, transports.OK}},
		{"count", 1, "[[e-1 e-2 e-3]]", []transports.Class{transports.Retry, transports.Retry, transports.Retry}},
		{"count", 2, "[[e-1] [e-2] [e-3]]", []transports.Class{transports.OK, transports.Poison, transports.OK}},
	}
	for _, tt := range tests {
		fault, calls = tt.fault, nil
		results := make([]transports.Result, 3)
		s.Write(context.Background(), entries(t, tt.attempt, 1, 2, 3), results)
		var have []transports.Class
		for _, r := range results {
			have = append(have, r.Class)
		}
		if fmt.Sprint(calls) != tt.calls || !slices.Equal(have, tt.want) {
			t.Errorf("%s at attempt %d: calls %v with %v, want %s with %v", tt.fault, tt.attempt, calls, have, tt.calls, tt.want)
		}
	}
	must(t, s.Close(context.Background()))
}

// TestHangingCallsAreBounded: past their deadline calls are unknown, and at the bound
// nothing is given to the handler until one returns (I15).
func TestHangingCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		var calls atomic.Int64
		p := program.New()
		s := openSink(t, p, func(_ context.Context, events []event.Event) []transports.Result {
			calls.Add(1)
			<-open // and not ctx
			return make([]transports.Result, len(events))
		})
		results := make([]transports.Result, 1)
		for range 16 {
			began := time.Now()
			s.Write(context.Background(), entries(t, 2, 1), results)
			if results[0].Class != transports.Unknown || time.Since(began) != time.Second {
				t.Fatalf("after %v: %v (%v), want unknown after a second", time.Since(began), results[0].Class, results[0].Err)
			}
		}
		s.Write(context.Background(), entries(t, 2, 1), results)
		if results[0].Class != transports.Throttled || calls.Load() != 16 {
			t.Errorf("with 16 that hang: %v and %d calls, want throttled", results[0].Class, calls.Load())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Close(ctx); err == nil || !strings.Contains(err.Error(), "16 calls of the handler hang") {
			t.Errorf("close: %v", err)
		}
		close(open)
		synctest.Wait()
		must(t, s.Close(context.Background()))
	})
}

func TestSettingsAreChecked(t *testing.T) {
	p := program.New()
	if _, err := p.NewSource(transports.Env{Name: "s"}, transports.Settings{"limit": int64(0), "limit_bytes": int64(1)}); err == nil {
		t.Error("a limit of 0 was taken")
	}
	if _, err := p.NewSink(transports.Env{Name: "s"}, transports.Settings{}); err == nil {
		t.Error("no timeout was taken")
	}
	if err := p.Start([]string{"kitchen"}); err == nil || !strings.Contains(err.Error(), "kitchen") {
		t.Errorf("start without a handler: %v", err)
	}
	must(t, p.Start(nil))
	if _, err := p.NewSink(transports.Env{Name: "late"}, transports.Settings{"timeout": time.Second}); err == nil {
		t.Error("a sink without a handler was made while the engine runs")
	}
}
