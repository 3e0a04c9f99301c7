package engine_test

import (
	"context"
	"os"
	"runtime"
	"testing"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// flatVariants change every kind of end, back and forth.
var flatVariants = []string{`
version: 1
node: {data: data, lanes: 2}
sources: {in: {memory: {queue: in}, codec: cloudevents, key: data.k}}
routes: {all: {to: [out, queue, far]}}
sinks: {out: {file: {path: out.ndjson}}, queue: {local: {queue: q}}, far: {memory: {queue: far}}}
`, `
version: 1
node: {data: data, lanes: 2}
sources: {in: {memory: {queue: in}, codec: cloudevents, key: data.k}, more: {memory: {queue: more}, codec: cloudevents}}
routes: {odd: {when: {data: {k: [1]}}, to: [out, new]}, rest: {to: [out]}}
sinks: {out: {file: {path: out.ndjson}}, new: {local: {queue: new}}, far: {memory: {queue: far2}}}
unmatched: [far]
`, `
version: 1
node: {data: data, lanes: 2}
sources: {in: {memory: {queue: in, limit: 5000}, codec: cloudevents, key: data.j, dedup: {max_ids: 1000}}}
routes: {all: {to: [out, far]}}
sinks: {out: {file: {path: moved.ndjson}, codec: cloudevents}, far: {memory: {queue: far}, batch: {count: 7}}}
`}

// TestThousandReloadsAreFlatI15: goroutines, open files and memory do not grow with the
// number of reloads.
func TestThousandReloadsAreFlatI15(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Chdir(t.TempDir())
	mem := memory.New()
	all := []transports.Transport{file.New(), local.New(), mem}
	at := 0
	load := func() (*config.Plan, error) {
		return config.Load(config.Options{File: "weir.yaml", Data: []byte(flatVariants[at%len(flatVariants)]), Transports: all})
	}
	e, err := engine.New(engine.Config{Load: load, Transports: all})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	put := func(id string) {
		t.Helper()
		must(t, mem.Queue("in").Put(transports.Entry{Data: []byte(`{"specversion":"1.0","id":"` + id + `","source":"/s","type":"T","data":{"k":1,"j":1}}`)}))
	}
	put("first")
	for e.Status().Sources["in"].Outcomes["delivered"] == 0 {
		runtime.Gosched()
	}
	reload := func(n int) {
		t.Helper()
		for range n {
			at++
			c, err := e.Reload(ctx)
			must(t, err)
			if c.Unchanged || c.Draining != 0 {
				t.Fatalf("reload %d: %+v", at, c)
			}
		}
	}
	reload(3 * 10)
	goroutines, files, heap := runtime.NumGoroutine(), openFiles(t), liveHeap()
	many := 990
	if testing.Short() {
		many = 90
	}
	reload(many)
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines after a thousand reloads, %d before", n, goroutines)
	}
	if n := openFiles(t); n > files+2 {
		t.Errorf("%d open files after a thousand reloads, %d before", n, files)
	}
	if n := liveHeap(); n > heap+4<<20 {
		t.Errorf("%d bytes of memory after a thousand reloads, %d before", n, heap)
	}
	put("last")
	for e.Status().Sources["in"].Outcomes["delivered"] < 2 {
		runtime.Gosched()
	}
	cancel()
	must(t, <-ended)
}

// openFiles counts what the process has open, 0 where the system does not tell.
func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Log("SKIPPED: the count of open files: ", err)
	}
	return len(list)
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
