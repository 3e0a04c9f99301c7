package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/trace"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// notes is a tracer that samples what has a traceparent.
type notes struct {
	mu     sync.Mutex // guards events
	events []*trace.Event
}

func (n *notes) Sample(parent []byte, _ uint64) bool { return len(parent) > 0 }

func (n *notes) Done(e *trace.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
}

// TestTracesSayWhatBecameOfEvents: of delivered, repeated, unmatched and refused ones,
// at sinks within the commit and outside of it.
func TestTracesSayWhatBecameOfEvents(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	dir := t.TempDir()
	event := func(id, kind, more string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":%q%s,"data":{}}`+"\n", id, kind, more)
	}
	traced := fmt.Sprintf(`,"traceparent":%q`, parent)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("in.ndjson", event("1", "A", traced)+event("2", "A", "")+event("1", "A", traced)+event("3", "B", traced)+event("", "A", traced))
	write("weir.yaml", `
version: 1
node: {data: data, lanes: 2, trace: {endpoint: "http://localhost:4318/v1/traces"}}
sources: {in: {file: {path: in.ndjson}}}
routes: {all: {when: {type: [A]}, to: [near, far]}}
sinks: {near: {file: {path: out.ndjson}}, far: {memory: {queue: far}}}
`)
	tracer := &notes{}
	e, err := engine.New(engine.Config{
		File: filepath.Join(dir, "weir.yaml"), Tracer: tracer,
		Transports: []transports.Transport{file.New(), local.New(), memory.New()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ev := range tracer.events {
		if ev.Parent != parent || ev.Source != "in" || ev.Received.IsZero() || ev.Ended.Before(ev.Received) {
			t.Errorf("%+v", ev)
		}
		if len(ev.ID) > 1 {
			ev.ID = "stamped"
		}
		line := ev.ID + " " + ev.Outcome + " " + strings.Join(ev.Routes, ",")
		var steps []string
		for _, s := range ev.Steps {
			if s.Began.Before(ev.Received) || s.Ended.Before(s.Began) || s.Ended.After(ev.Ended) {
				t.Errorf("%s: step %+v is not within it", ev.ID, s)
			}
			steps = append(steps, fmt.Sprintf("%s %s %s %d", s.Kind, s.Name, s.Outcome, s.Attempts))
		}
		slices.Sort(steps)
		got = append(got, line+": "+strings.Join(steps, "; "))
	}
	slices.Sort(got)
	want := []string{
		"1 delivered all: commit   0; deliver far delivered 1; deliver near delivered 1; receive   0",
		"1 duplicate : commit   0; receive   0",
		"3 unmatched : commit   0; receive   0",
		"stamped refused : commit   0; receive   0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
