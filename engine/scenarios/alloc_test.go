package scenarios_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

// TestHotPathDoesNotAllocate runs file -> dedup and pattern -> file on real files and
// counts what is allocated from the time on when a quarter is done: with window and
// buffers warm there is nothing to allocate for one event.
func TestHotPathDoesNotAllocate(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 400,000 events")
	}
	const events = 400_000
	dir := t.TempDir()
	var in bytes.Buffer
	for i := range events {
		fmt.Fprintf(&in, `{"specversion":"1.0","id":"e-%d","source":"/shop","type":"OrderCreated","time":"2026-01-02T03:04:05Z","data":{"n":%d,"region":%q}}`+"\n", i, i, []string{"eu", "us"}[i%2])
	}
	must(t, os.WriteFile(filepath.Join(dir, "in.ndjson"), in.Bytes(), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "weir.yaml"), []byte(`
version: 1
node: {data: ./data, lanes: 2}
sources: {in: {file: {path: in.ndjson}, dedup: {max_ids: 200_000}}}
routes: {eu: {when: {type: [OrderCreated], data: {region: [eu]}}, to: [out]}}
sinks: {out: {file: {path: out.ndjson}}}
`), 0o600))
	e, err := engine.New(engine.Config{File: filepath.Join(dir, "weir.yaml"), Transports: []transports.Transport{file.New(), local.New()}})
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- e.Run(context.Background()) }()
	var from, to runtime.MemStats
	warm := uint64(0)
	for warm < events/4 {
		select {
		case err := <-done:
			t.Fatalf("ended before it was warm: %v", err)
		case <-time.After(100 * time.Microsecond):
			warm = e.Status().Sources["in"].Received
		}
	}
	runtime.ReadMemStats(&from)
	must(t, <-done)
	runtime.ReadMemStats(&to)
	measured := float64(events - warm)
	each := float64(to.Mallocs-from.Mallocs) / measured
	t.Logf("%.4f allocations an event over %.0f events", each, measured)
	if measured < events/4 {
		t.Fatalf("only %.0f events were measured", measured)
	}
	if each > 0.01 {
		t.Errorf("%.4f allocations an event, at most 0.01", each)
	}
}
