package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

// reloadDerivedYAML has every other configuration send derived events to the other sink,
// and read one source more.
func reloadDerivedYAML(second bool) string {
	sink, more := "a", ""
	if second {
		sink, more = "b", "  more: {file: {path: more.ndjson}}\n"
	}
	return "version: 1\nnode: {data: /w/data, lanes: 2, limits: {in_flight: 40}}\nsources:\n  in: {file: {path: in.ndjson}, key: data.k}\n" + more +
		"routes:\n  emit: {from: [in], when: {type: [T]}, react: [{template: {type: D}}, {template: {type: E}}]}\n  again: {when: {type: [D]}, react: {template: {type: F}}}\n" +
		"  last: {from: [derived], to: [" + sink + "]}\nsinks:\n  a: {file: {path: a.ndjson}}\n  b: {file: {path: b.ndjson}}\n"
}

// TestReloadsBetweenCauseAndDerivedEvent: whichever configuration a derived event meets,
// it is delivered once, and nothing that was emitted under the one before is lost (I1, I5).
func TestReloadsBetweenCauseAndDerivedEvent(t *testing.T) {
	const events = 600
	w := &world{mem: vfs.NewMem()}
	var in bytes.Buffer
	for i := range events {
		fmt.Fprintf(&in, `{"specversion":"1.0","id":"e%03d","source":"/s","type":"T","data":{"k":%d,"n":%d}}`+"\n", i, i%7, i)
	}
	w.input(t, in.Bytes())
	f, err := w.mem.Create("/w/more.ndjson")
	must(t, err)
	must(t, f.Close())
	all := []transports.Transport{file.New(), local.New()}
	var second atomic.Bool
	load := func() (*config.Plan, error) {
		return config.Load(config.Options{File: "/w/weir.yaml", Data: []byte(reloadDerivedYAML(second.Load())), Transports: all})
	}
	plan, err := load()
	must(t, err)
	e, err := engine.New(engine.Config{Plan: plan, Load: load, Transports: all, FS: w.mem, ChunkBytes: 2 << 10, DrainLimit: 5 * time.Second})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	reloads := 0
	for running := true; running; {
		select {
		case err := <-done:
			must(t, err)
			running = false
		default:
			second.Store(!second.Load())
			if _, err := e.Reload(ctx); err == nil {
				reloads++
			} else {
				runtime.Gosched() // it has not begun, or is about to end
			}
		}
	}
	a, err := linesOf(w.mem, "/w/a.ndjson")
	must(t, err)
	b, err := linesOf(w.mem, "/w/b.ndjson")
	must(t, err)
	ids := slices.DeleteFunc(append(slices.Clone(a), b...), func(id string) bool { return id == "" })
	total := len(ids)
	slices.Sort(ids)
	if total != 3*events || len(slices.Compact(ids)) != total {
		t.Errorf("%d derived events, %d different ones, want %d", total, len(slices.Compact(ids)), 3*events)
	}
	if reloads == 0 {
		t.Error("there was no reload: the test says nothing")
	}
	t.Logf("%d reloads, %d and %d events", reloads, len(a), len(b))
}
