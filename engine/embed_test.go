package engine_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// shop is an embedded engine: what is published to orders goes to the sink kitchen,
// dead letters to the sink dead_letters, all in the program.
type shop struct {
	*engine.Engine
	t     *testing.T
	stop  context.CancelFunc
	ended chan error

	mu      sync.Mutex // guards all below
	dead    []event.Event
	letters chan struct{}
}

func openShop(t *testing.T, sink config.Tree, tune func(*engine.Config)) *shop {
	t.Helper()
	if sink == nil {
		sink = config.Tree{}
	}
	cfg := engine.Config{
		Tree: config.Tree{
			"version":      1,
			"node":         config.Tree{"data": filepath.Join(t.TempDir(), "data"), "lanes": 2},
			"sources":      config.Tree{"orders": config.Tree{"program": config.Tree{"limit": 50}, "key": "data.order", "dedup": config.Tree{"window": time.Minute}}},
			"routes":       config.Tree{"all": config.Tree{"when": config.Tree{"type": []string{"Order"}}, "to": []string{"kitchen"}}},
			"sinks":        config.Tree{"kitchen": config.Tree{"program": sink, "batch": config.Tree{"wait": time.Millisecond}}},
			"dead_letters": config.Tree{"program": config.Tree{}},
		},
		DrainLimit: 5 * time.Second,
	}
	if tune != nil {
		tune(&cfg)
	}
	eng, err := engine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{Engine: eng, t: t, ended: make(chan error, 1), letters: make(chan struct{}, 1000)}
	if err := s.Handle("dead_letters", func(_ context.Context, events []event.Event) []transports.Result {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dead = append(s.dead, events...)
		return make([]transports.Result, len(events))
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// open runs the engine with a handler until the test's end.
func (s *shop) open(h engine.Handler) {
	s.t.Helper()
	if err := s.Handle("kitchen", h); err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.ended <- s.Run(ctx) }()
	s.t.Cleanup(func() { s.close() })
}

func (s *shop) close() {
	s.t.Helper()
	if s.stop == nil {
		return
	}
	s.stop()
	s.stop = nil
	if err := <-s.ended; err != nil {
		s.t.Errorf("Run: %v", err)
	}
}

func (s *shop) deadReasons() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.dead {
		all = append(all, string(s.dead[i].Data))
	}
	return all
}

func order(key string, n int) event.Event {
	return event.Event{
		ID: fmt.Sprintf("%s-%d", key, n), Source: "/shop", Type: "Order",
		Data: fmt.Appendf(nil, `{"order":%q,"n":%d}`, key, n), DataKind: event.DataJSON,
	}
}

// TestPublishReachesTheHandlerInOrder is I1, I5 and I7 through the program's own ends.
func TestPublishReachesTheHandlerInOrder(t *testing.T) {
	s := openShop(t, nil, nil)
	var mu sync.Mutex
	got := map[string][]string{}
	s.open(func(_ context.Context, events []event.Event) []transports.Result {
		mu.Lock()
		defer mu.Unlock()
		seen := map[string]bool{}
		for i := range events {
			key, _, _ := strings.Cut(events[i].ID, "-")
			if seen[key] {
				t.Errorf("two events of %s in one call", key)
			}
			seen[key] = true
			got[key] = append(got[key], events[i].ID)
		}
		return make([]transports.Result, len(events))
	})
	var publishers sync.WaitGroup
	for p := range 4 {
		publishers.Go(func() {
			key := fmt.Sprint("k", p)
			for n := 0; n < 60; n += 20 {
				var list []event.Event
				for i := range 20 {
					list = append(list, order(key, n+i))
				}
				if err := s.Publish(t.Context(), "orders", list); err != nil {
					t.Error(err)
				}
				for i := range list {
					clear(list[i].Data) // the bytes are the caller's again
				}
			}
		})
	}
	publishers.Wait()
	mu.Lock()
	defer mu.Unlock()
	for p := range 4 {
		key := fmt.Sprint("k", p)
		var want []string
		for n := range 60 {
			want = append(want, fmt.Sprintf("%s-%d", key, n))
		}
		if !slices.Equal(got[key], want) {
			t.Errorf("%s came as %q", key, got[key])
		}
	}
	if err := s.Publish(t.Context(), "orders", []event.Event{order("k0", 5)}); err != nil {
		t.Errorf("a repeat: %v; it is dropped by a named rule, which is durable", err)
	}
	if n := s.Status().Sources["orders"].Outcomes["duplicate"]; n != 1 {
		t.Errorf("%d duplicates, want 1", n)
	}
}

// TestAHandlersFaultsCostOnlyTheirEvents is I11 for handlers.
func TestAHandlersFaultsCostOnlyTheirEvents(t *testing.T) {
	tests := []struct {
		name, reason string
		fault        func(ctx context.Context, n int) []transports.Result
	}{
		{"panic", "the handler panicked: boom", func(context.Context, int) []transports.Result { panic("boom") }},
		{"too few results", "returned 0 results for 1 events", func(_ context.Context, n int) []transports.Result { return make([]transports.Result, n-1) }},
		{"too many results", "returned 2 results for 1 events", func(_ context.Context, n int) []transports.Result { return make([]transports.Result, n+1) }},
		{"hang", "did not return within", func(ctx context.Context, n int) []transports.Result {
			<-ctx.Done() // and goes on after its deadline
			<-time.After(20 * time.Millisecond)
			return make([]transports.Result, n)
		}},
		{"poison", "not today", func(_ context.Context, n int) []transports.Result {
			results := make([]transports.Result, n)
			for i := range results {
				results[i] = transports.Result{Class: transports.Poison, Err: errors.New("not today")}
			}
			return results
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := openShop(t, config.Tree{"timeout": 50 * time.Millisecond}, func(cfg *engine.Config) {
				sinks := cfg.Tree["sinks"].(config.Tree)["kitchen"].(config.Tree)
				sinks["retry"] = config.Tree{"park_after": time.Minute, "max_age": time.Minute, "backoff": config.Tree{"max": 10 * time.Millisecond}}
				if tt.name == "hang" {
					sinks["retry"].(config.Tree)["park_after"] = 100 * time.Millisecond
					sinks["retry"].(config.Tree)["max_age"] = 2 * time.Second
				}
			})
			var mu sync.Mutex
			good := map[string]int{}
			s.open(func(ctx context.Context, events []event.Event) []transports.Result {
				for i := range events {
					if events[i].ID == "bad-0" && (len(events) == 1 || tt.name != "poison") {
						return tt.fault(ctx, len(events))
					}
				}
				mu.Lock()
				defer mu.Unlock()
				results := make([]transports.Result, len(events))
				for i := range events {
					if events[i].ID == "bad-0" {
						results[i] = transports.Result{Class: transports.Poison, Err: errors.New("not today")}
						continue
					}
					good[events[i].ID]++
				}
				return results
			})
			list := []event.Event{order("a", 0), order("bad", 0), order("b", 0), order("c", 0)}
			if err := s.Publish(t.Context(), "orders", list); err != nil {
				t.Fatal(err)
			}
			handled := func() bool { // a parked one comes later
				mu.Lock()
				defer mu.Unlock()
				return good["a-0"] > 0 && good["b-0"] > 0 && good["c-0"] > 0
			}
			for deadline := time.Now().Add(2 * time.Minute); (len(s.deadReasons()) == 0 || !handled()) && time.Now().Before(deadline); {
				<-time.After(5 * time.Millisecond)
			}
			if !handled() {
				t.Errorf("other events were not handled: %v", good)
			}
			letters := s.deadReasons()
			if len(letters) != 1 || !strings.Contains(letters[0], tt.reason) || !strings.Contains(letters[0], `bad-0`) {
				t.Errorf("dead letters %.600q, want one of bad-0 that says %q", letters, tt.reason)
			}
			if err := s.Publish(t.Context(), "orders", []event.Event{order("later", 1)}); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestPublishErrorNamesEvents(t *testing.T) {
	s := openShop(t, nil, nil)
	s.open(func(_ context.Context, events []event.Event) []transports.Result {
		return make([]transports.Result, len(events))
	})
	list := []event.Event{order("a", 0), {ID: "x", Source: "/shop", Type: "Order", Extensions: []event.Attribute{{Name: "Bad Name", Value: "v"}}}, order("a", 1)}
	err := s.Publish(t.Context(), "orders", list)
	var failed *engine.PublishError
	if !errors.As(err, &failed) || len(failed.Errs) != 3 || failed.Errs[0] != nil || failed.Errs[1] == nil || failed.Errs[2] != nil {
		t.Fatalf("%v, want a PublishError of the second event", err)
	}
	if !strings.Contains(err.Error(), "1 of 3 events failed, the first is number 1") {
		t.Errorf("error %q", err)
	}
	untold := order("a", 2)
	untold.DataKind = event.DataAbsent
	if err := s.Publish(t.Context(), "orders", []event.Event{untold}); err == nil || !strings.Contains(err.Error(), "DataKind") {
		t.Errorf("data of no kind: %v", err)
	}
	if err := s.Publish(t.Context(), "nowhere", list); err == nil || !strings.Contains(err.Error(), "no such source") {
		t.Errorf("publish to a source that is not there: %v", err)
	}
	s.close()
	if err := s.Publish(t.Context(), "orders", list[:1]); !errors.Is(err, transports.ErrClosed) {
		t.Errorf("publish after Run: %v, want ErrClosed", err)
	}
}

// TestAnEngineRunsOnce: a second call does nothing, to the first one neither.
func TestAnEngineRunsOnce(t *testing.T) {
	s := openShop(t, nil, nil)
	s.open(func(_ context.Context, events []event.Event) []transports.Result {
		return make([]transports.Result, len(events))
	})
	publish := func(n int) {
		t.Helper()
		if err := s.Publish(t.Context(), "orders", []event.Event{order("a", n)}); err != nil {
			t.Fatal(err)
		}
	}
	publish(0)
	if err := s.Run(t.Context()); !errors.Is(err, engine.ErrRunsOnce) {
		t.Errorf("a second Run: %v", err)
	}
	if err := s.Do(t.Context(), func(context.Context) error { return nil }); !errors.Is(err, engine.ErrRunsOnce) {
		t.Errorf("Do beside Run: %v", err)
	}
	publish(1)
	s.close()
	if err := s.Run(t.Context()); !errors.Is(err, engine.ErrRunsOnce) {
		t.Errorf("Run after Run: %v", err)
	}
}

// TestPublishWaitsForRoom is back-pressure: what is not taken ends with the caller's
// context, and says so (I15).
func TestPublishWaitsForRoom(t *testing.T) {
	s := openShop(t, nil, func(cfg *engine.Config) {
		cfg.Tree["node"].(config.Tree)["limits"] = config.Tree{"in_flight": 100}
	})
	open, entered := make(chan struct{}), make(chan struct{}, 1)
	s.open(func(ctx context.Context, events []event.Event) []transports.Result {
		select {
		case entered <- struct{}{}:
		default:
		}
		select {
		case <-open:
		case <-ctx.Done():
		}
		return make([]transports.Result, len(events))
	})
	var list []event.Event
	for n := range 2000 {
		list = append(list, order("k", n))
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.Publish(ctx, "orders", list) }()
	<-entered
	cancel()
	var failed *engine.PublishError
	if err := <-result; !errors.As(err, &failed) {
		t.Fatalf("%v, want a PublishError", err)
	}
	unknown, notTaken := 0, 0
	for _, err := range failed.Errs {
		switch {
		case err == nil: // parked, while the handler was waited for
		case errors.Is(err, engine.ErrOutcomeUnknown):
			unknown++
		case errors.Is(err, context.Canceled):
			notTaken++
		default:
			t.Errorf("an event ended with %v", err)
		}
	}
	if unknown == 0 || notTaken < 1000 {
		t.Errorf("%d outcomes are unknown and %d events were not taken; most of 2000 should wait", unknown, notTaken)
	}
	close(open)
	if err := s.Publish(t.Context(), "orders", list[:1]); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestHandleIsChecked(t *testing.T) {
	nothing := func(_ context.Context, events []event.Event) []transports.Result {
		return make([]transports.Result, len(events))
	}
	s := openShop(t, nil, nil)
	if err := s.Handle("kichen", nothing); err == nil || !strings.Contains(err.Error(), "kitchen") {
		t.Errorf("a sink that is not there: %v", err)
	}
	if err := s.Handle("kitchen", nil); err == nil {
		t.Error("a nil handler was taken")
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "sink kitchen has no handler") {
		t.Errorf("Run without a handler: %v", err)
	}
	s = openShop(t, nil, nil)
	s.open(nothing)
	if err := s.Handle("kitchen", nothing); err == nil {
		t.Error("a second handler was taken")
	}
}

// TestATreeIsCheckedAsAFileIs: all mistakes at once, by key, without a line.
func TestATreeIsCheckedAsAFileIs(t *testing.T) {
	_, err := engine.New(engine.Config{
		Tree: config.Tree{
			"version": 1,
			"sources": config.Tree{"orders": config.Tree{"program": config.Tree{"limits": 1}, "codec": "auto"}},
			"routes":  config.Tree{"all": config.Tree{"to": []string{"kichen"}}},
			"sinks":   config.Tree{"kitchen": config.Tree{"memory": config.Tree{"queue": "$HOME"}}},
		},
		Transports: []transports.Transport{memory.New(), local.New()},
	})
	var bad *config.Errors
	if !errors.As(err, &bad) {
		t.Fatal(err)
	}
	want := []string{"sources.orders.program.limits", "sources.orders.codec", "routes.all.to"}
	for _, path := range want {
		if !slices.ContainsFunc(bad.Mistakes, func(m config.Mistake) bool { return m.Path == path && m.File == "" && m.Line == 0 }) {
			t.Errorf("no mistake at %s in\n%v", path, err)
		}
	}
	if len(bad.Mistakes) != len(want) {
		t.Errorf("%d mistakes, want %d:\n%v", len(bad.Mistakes), len(want), err)
	}
}

func TestAnEmbeddedEngineLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s := openShop(t, nil, nil)
	s.open(func(_ context.Context, events []event.Event) []transports.Result {
		return make([]transports.Result, len(events))
	})
	if err := s.Publish(t.Context(), "orders", []event.Event{order("a", 0)}); err != nil {
		t.Error(err)
	}
	s.close()
	goleak.VerifyNone(t, before)
}
