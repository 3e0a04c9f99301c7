package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// live is an engine that runs in a bubble, with memory queues at its ends.
type live struct {
	t      *testing.T
	engine *engine.Engine
	memory *memory.Transport
	mem    *vfs.Mem
	stop   func()
}

func runLive(t *testing.T, mem *vfs.Mem, queues *memory.Transport, yaml string) *live {
	t.Helper()
	return runLiveWith(t, mem, queues, yaml, commit.Config{})
}

func runLiveWith(t *testing.T, mem *vfs.Mem, queues *memory.Transport, yaml string, log commit.Config) *live {
	t.Helper()
	l := &live{t: t, memory: queues, mem: mem}
	all := []transports.Transport{file.New(), local.New(), l.memory}
	plan, err := config.Load(config.Options{File: "/w/weir.yaml", Data: []byte("version: 1\nnode: {data: /w/data}\n" + yaml), Transports: all})
	if err != nil {
		t.Fatal(err)
	}
	if l.engine, err = engine.New(engine.Config{Plan: plan, Transports: all, FS: l.mem, DrainLimit: 2 * time.Second, Seed: 1, Commit: log}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.engine.Run(ctx) }()
	l.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	return l
}

func (l *live) put(queue string, from, to int) {
	l.t.Helper()
	for i := from; i < to; i++ {
		e := fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"/s","type":"T","data":{"n":%d}}`, i, i)
		if err := l.memory.Queue(queue).Put(transports.Entry{Data: []byte(e)}); err != nil {
			l.t.Fatal(err)
		}
	}
}

const liveYAML = `
sources: {in: {memory: {queue: in}}, other: {memory: {queue: other}}}
routes:
  big: {from: [in], when: {data: {n: [{numeric: [">=", 5]}]}}, to: [out]}
  all: {from: [other], to: [else]}
unmatched: [else]
sinks: {out: {memory: {queue: out}}, else: {memory: {queue: else}}}
`

// TestExplainOfARunningEngine tells what happened, and what the window knows.
func TestExplainOfARunningEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLive(t, vfs.NewMem(), memory.New(), liveYAML)
		defer l.stop()
		l.put("in", 4, 6)
		synctest.Wait()
		time.Sleep(time.Second)
		event := []byte(`{"specversion":"1.0","id":"e5","source":"/s","type":"T","data":{"n":5}}`)
		x, err := l.engine.Explain(t.Context(), engine.Query{Event: event, Source: "in"})
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Recorded) != 1 || x.Recorded[0].Outcome != "delivered" || x.Recorded[0].Deliveries[0].Sink != "out" {
			t.Errorf("recorded: %+v", x.Recorded)
		}
		if len(x.Events) != 1 || x.Events[0].Outcome != "duplicate" || x.Events[0].Anew != "delivered" || !x.Live {
			t.Errorf("examined: %+v", x.Events)
		}
		if why := stepOf(x.Events[0].Steps, flow.StageClaim); !strings.HasPrefix(why, "identity: source and id; the window knows it since 1s and for 9m59s more") {
			t.Errorf("claim: %q", why)
		}
		// The event that was examined is still taken as what it is: nothing was claimed.
		fresh := []byte(`{"specversion":"1.0","id":"e9","source":"/s","type":"T","data":{"n":9}}`)
		for range 2 {
			if x, err = l.engine.Explain(t.Context(), engine.Query{Event: fresh, Source: "in"}); err != nil || x.Events[0].Outcome != "delivered" {
				t.Errorf("fresh: %+v, %v", x.Events, err)
			}
		}
		l.put("in", 9, 10)
		time.Sleep(time.Second)
		if n := len(l.memory.Queue("out").Entries()); n != 2 {
			t.Errorf("%d events in out, want 2", n)
		}
		if _, err := l.engine.Explain(t.Context(), engine.Query{ID: "gone"}); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("unknown id: %v", err)
		}
		var source *engine.SourceError
		if _, err := l.engine.Explain(t.Context(), engine.Query{Event: event}); !errors.As(err, &source) || len(source.Sources) != 2 {
			t.Errorf("no source: %v", err)
		}
	})
}

func stepOf(steps []flow.Step, stage string) string {
	for _, s := range steps {
		if s.Stage == stage {
			return s.Why
		}
	}
	return ""
}

// TestTap shows what its query chooses, and holds nothing up while nobody looks (I15).
func TestTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLive(t, vfs.NewMem(), memory.New(), liveYAML)
		defer l.stop()
		synctest.Wait()
		for _, q := range []engine.TapQuery{{Route: "gone"}, {Source: "gone"}, {Sink: "gone"}, {Sample: -1}} {
			if _, err := l.engine.Tap(q); err == nil {
				t.Errorf("%+v is taken", q)
			}
		}
		taps := map[string]*flow.Tap{}
		for name, q := range map[string]engine.TapQuery{"route": {Route: "big"}, "source": {Source: "other"}, "sink": {Sink: "else"}, "sample": {Sample: 4}} {
			tap, err := l.engine.Tap(q)
			if err != nil {
				t.Fatal(err)
			}
			defer tap.Close()
			taps[name] = tap
		}
		l.put("in", 0, 8)
		l.put("other", 20, 22)
		synctest.Wait()
		for name, want := range map[string][]string{
			"route": {"e5", "e6", "e7"}, "source": {"e20", "e21"}, "sink": {"e0", "e1", "e2", "e20", "e21", "e3", "e4"},
		} {
			got := drainTap(t, taps[name])
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if got := drainTap(t, taps["sample"]); len(got) != 3 {
			t.Errorf("one of four of ten events: %q", got)
		}
	})
}

// drainTap takes what a tap has.
func drainTap(t *testing.T, tap *flow.Tap) (ids []string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for {
		e, err := tap.Next(ctx)
		if err != nil {
			return ids
		}
		if !strings.Contains(string(e.Event), `"id":"`+e.ID+`"`) || e.Dropped > 0 {
			t.Errorf("%+v", e)
		}
		ids = append(ids, e.ID)
	}
}

// TestAViewerThatDoesNotLook costs the events it would have been shown, which are
// counted, and nobody else anything.
func TestAViewerThatDoesNotLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLive(t, vfs.NewMem(), memory.New(), liveYAML)
		defer l.stop()
		tap, err := l.engine.Tap(engine.TapQuery{})
		if err != nil {
			t.Fatal(err)
		}
		defer tap.Close()
		l.put("other", 0, 1000)
		synctest.Wait()
		if n := len(l.memory.Queue("else").Entries()); n != 1000 {
			t.Fatalf("%d events arrived, want 1000", n)
		}
		shown, dropped := 0, uint64(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for {
			e, err := tap.Next(ctx)
			if err != nil {
				break
			}
			shown, dropped = shown+1, dropped+e.Dropped
		}
		if shown == 0 || shown > 256 || uint64(shown)+dropped != 1000 {
			t.Errorf("%d shown and %d dropped, want 1000 in all", shown, dropped)
		}
		for range 15 {
			other, err := l.engine.Tap(engine.TapQuery{})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
		}
		if _, err := l.engine.Tap(engine.TapQuery{}); !errors.Is(err, flow.ErrTaps) {
			t.Errorf("the seventeenth tap: %v", err)
		}
	})
}
