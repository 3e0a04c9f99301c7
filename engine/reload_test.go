package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

// variant is a configuration of the reload tests. All of them send every event to the
// sink out and to exactly one marker, so whichever configuration an event meets, it must
// stand once in out and once in one marker, in the order of its key.
type variant struct {
	more    bool   // there is a second source
	marker  int    // which marker
	moved   bool   // the marker's file is another one: the sink is closed and opened
	queue   bool   // the marker is a local queue
	key     string // of the sources
	dedup   string
	codec   string // of out
	pattern bool   // two routes instead of one
	broken  string // what makes it invalid, "" = it is valid
	all     bool   // the other markers are there too, unused: m0 and m1 files, m2 and m3 queues
}

func (v variant) yaml() string {
	if v.broken == "half" {
		v.broken = ""
		whole := v.yaml()
		return whole[:len(whole)/2]
	}
	in := fmt.Sprintf("key: %s, dedup: %s, codec: cloudevents", v.key, v.dedup)
	marker := fmt.Sprintf("m%d", v.marker)
	end := fmt.Sprintf("file: {path: %s-%v.ndjson}", marker, v.moved)
	if v.queue {
		end = fmt.Sprintf("local: {queue: %s}", marker)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nnode: {data: /w/data, lanes: 2, limits: {in_flight: 50}}\nsources:\n  in: {file: {path: in.ndjson}, %s}\n", in)
	if v.more {
		fmt.Fprintf(&b, "  more: {file: {path: more.ndjson}, %s}\n", in)
	}
	fmt.Fprintf(&b, "sinks:\n  out: {file: {path: out.ndjson}, codec: %s}\n  %s: {%s}\n", v.codec, marker, end)
	for m := range 4 {
		switch {
		case !v.all || m == v.marker:
		case m < 2:
			fmt.Fprintf(&b, "  m%d: {file: {path: m%d-false.ndjson}}\n", m, m)
		default:
			fmt.Fprintf(&b, "  m%d: {local: {queue: m%d}}\n", m, m)
		}
	}
	to := marker
	if v.broken == "name" {
		to = "nobody"
	}
	switch {
	case v.pattern:
		fmt.Fprintf(&b, "routes:\n  odd: {when: {data: {odd: [true]}}, to: [out, %s]}\n  even: {when: {data: {odd: [false]}}, to: [%s, out]}\n", to, to)
	default:
		fmt.Fprintf(&b, "routes:\n  all: {to: [out, %s]}\n", to)
	}
	if v.broken == "source" {
		return strings.Replace(b.String(), "path: in.ndjson", "path: nowhere.ndjson", 1)
	}
	return b.String()
}

var wholeVariant = variant{more: true, key: "data.k", dedup: "{}", codec: "original"}

func drawVariant(t *rapid.T) variant {
	return variant{
		more: rapid.Bool().Draw(t, "more"), marker: rapid.IntRange(0, 1).Draw(t, "marker"), moved: rapid.Bool().Draw(t, "moved"),
		queue: rapid.Bool().Draw(t, "queue"), key: rapid.SampledFrom([]string{"data.k", "data.same"}).Draw(t, "key"),
		dedup:   rapid.SampledFrom([]string{"{}", "false", "{max_ids: 5000}"}).Draw(t, "dedup"),
		codec:   rapid.SampledFrom([]string{"original", "cloudevents"}).Draw(t, "codec"),
		pattern: rapid.Bool().Draw(t, "pattern"),
		broken:  rapid.SampledFrom([]string{"", "", "", "half", "name", "source"}).Draw(t, "broken"),
	}
}

// reloadWorld is a disk with events and what has been asked of an engine on it.
type reloadWorld struct {
	mem    *vfs.Mem
	events int
	yaml   atomic.Pointer[string]
	done   int // reloads that were put to work
}

func newReloadWorld(tb interface {
	Helper()
	Fatal(...any)
}, events int,
) *reloadWorld {
	tb.Helper()
	w := &reloadWorld{mem: vfs.NewMem(), events: events}
	check := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	check(w.mem.MkdirAll("/w"))
	for _, name := range []string{"in", "more"} {
		f, err := w.mem.Create("/w/" + name + ".ndjson")
		check(err)
		for i := range events {
			_, err := fmt.Fprintf(f, `{"specversion":"1.0","id":"%s%05d","source":"/s","type":"T","data":{"k":%d,"same":%d,"odd":%v}}`+"\n", name, i, i%7, i%7, i%2 == 1)
			check(err)
		}
		check(errors.Join(f.Sync(), f.Close()))
	}
	check(errors.Join(w.mem.SyncDir("/"), w.mem.SyncDir("/w")))
	return w
}

func (w *reloadWorld) set(v variant) {
	text := v.yaml()
	w.yaml.Store(&text)
}

func (w *reloadWorld) engine(disk vfs.FS) (*engine.Engine, error) {
	all := []transports.Transport{file.New(), local.New()}
	return engine.New(engine.Config{
		Load: func() (*config.Plan, error) {
			return config.Load(config.Options{File: "/w/weir.yaml", Data: []byte(*w.yaml.Load()), Transports: all})
		},
		Transports: all, FS: disk, ChunkBytes: 1 << 10, DrainLimit: 10 * time.Second,
		Commit: commit.Config{SegmentBytes: 64 << 10, SnapshotEvery: 100 << 10},
	})
}

// run works through the input and reloads one variant after the other meanwhile, then
// works through what the last one left.
func (w *reloadWorld) run(disk vfs.FS, first variant, variants ...variant) error {
	w.set(first)
	e, err := w.engine(disk)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	for i := 0; ; i++ {
		select {
		case err := <-ended:
			if ctx.Err() != nil {
				return errors.Join(err, errHang)
			}
			return err
		default:
		}
		if len(variants) == 0 {
			runtime.Gosched()
			continue
		}
		if err := w.reload(ctx, e, variants[i%len(variants)]); err != nil {
			return errors.Join(err, <-ended)
		}
	}
}

// reload puts a variant to work, which must fail where it is broken, and only there.
func (w *reloadWorld) reload(ctx context.Context, e *engine.Engine, v variant) error {
	w.set(v)
	before := e.Status().Generation
	c, err := e.Reload(ctx)
	switch {
	case errors.Is(err, engine.ErrNotRunning):
		runtime.Gosched() // it has not begun, or is about to end
	case e.Status().Failure != nil:
	case err == nil && v.broken != "":
		return fmt.Errorf("a broken configuration was put to work (I14): %v", v)
	case err != nil && v.broken == "" && !errors.Is(err, context.Canceled):
		return fmt.Errorf("reload %v: %w", v, err)
	case err != nil && e.Status().Generation != before:
		return fmt.Errorf("a failed reload left generation %d, not %d (I14): %w", e.Status().Generation, before, err)
	case err == nil && !c.Unchanged:
		w.done++
	}
	return nil
}

// finish runs what is left with both sources, then compares: every event once in out and
// once among the markers (I1, I2, I5), in the order of its key (I7).
func (w *reloadWorld) finish(last variant) error {
	if err := w.run(w.mem, last); err != nil {
		return fmt.Errorf("the last run: %w", err)
	}
	out, err := linesOf(w.mem, "/w/out.ndjson")
	if err != nil {
		return err
	}
	var marked []string
	errs := []error{w.once("out", out), ordered("out", out)}
	for m := range 4 {
		for _, moved := range []bool{false, true} {
			name := fmt.Sprintf("/w/m%d-%v.ndjson", m, moved)
			if _, err := w.mem.Stat(name); err != nil {
				continue
			}
			ids, err := linesOf(w.mem, name)
			if err != nil {
				return err
			}
			errs = append(errs, ordered(name, ids))
			marked = append(marked, ids...)
		}
		ids, err := queueOf(w.mem, fmt.Sprintf("m%d", m))
		if err != nil {
			return err
		}
		errs = append(errs, ordered(fmt.Sprintf("queue m%d", m), ids))
		marked = append(marked, ids...)
	}
	dead, err := queueOf(w.mem, "dead")
	if len(dead) > 0 {
		errs = append(errs, fmt.Errorf("%d dead letters: %v", len(dead), dead))
	}
	return errors.Join(append(errs, err, w.once("the markers", marked))...)
}

func (w *reloadWorld) once(where string, ids []string) error {
	count := map[string]int{}
	for _, id := range ids {
		if id != "" {
			count[id]++
		}
	}
	var errs []error
	for _, name := range []string{"in", "more"} {
		for i := range w.events {
			id := fmt.Sprintf("%s%05d", name, i)
			if count[id] != 1 && len(errs) < 10 {
				errs = append(errs, fmt.Errorf("%s: %s stands there %d times", where, id, count[id]))
			}
			delete(count, id)
		}
	}
	if len(count) > 0 {
		errs = append(errs, fmt.Errorf("%s: invented %v", where, count))
	}
	return errors.Join(errs...)
}

func ordered(where string, ids []string) error {
	last := map[string]string{}
	for _, id := range ids {
		if id == "" {
			continue
		}
		var n int
		name := strings.TrimRight(id, "0123456789")
		if _, err := fmt.Sscanf(id[len(name):], "%d", &n); err != nil {
			return fmt.Errorf("%s: invented %q", where, id)
		}
		key := fmt.Sprint(name, n%7)
		if last[key] >= id {
			return fmt.Errorf("%s: %s came after %s of the same key (I7)", where, id, last[key])
		}
		last[key] = id
	}
	return nil
}

// TestReloadsUnderLoadI1I5I7I14: whatever is reloaded while events flow, each event meets
// one configuration, once.
func TestReloadsUnderLoadI1I5I7I14(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newReloadWorld(t, 600)
		variants := rapid.SliceOfN(rapid.Custom(drawVariant), 1, 8).Draw(t, "variants")
		if err := w.run(w.mem, wholeVariant, variants...); err != nil {
			t.Fatal(err)
		}
		if err := w.finish(wholeVariant); err != nil {
			t.Fatal(err)
		}
	})
}

// TestReloadSweepI1toI8 crashes, or fails, the disk in runs during which configurations
// change; whatever that left, the next start ends with every event where it belongs.
func TestReloadSweepI1toI8(t *testing.T) {
	random := rand.New(rand.NewPCG(*seedFlag, 7))
	var variants []variant
	for range 6 {
		marker := random.IntN(4)
		variants = append(variants, variant{
			more: random.IntN(2) == 0, marker: marker, queue: marker >= 2,
			key: []string{"data.k", "data.same"}[random.IntN(2)], dedup: []string{"{}", "{max_ids: 5000}"}[random.IntN(2)], codec: "original", pattern: random.IntN(2) == 0,
		})
	}
	// The last run has all markers, so that it finds what a crash left in one of them.
	last := wholeVariant
	last.all = true
	const sweepEvents = 600
	probe := newReloadWorld(t, sweepEvents)
	count := vfs.NewFaults(probe.mem, vfs.Fault{})
	must(t, probe.run(count, last, variants...))
	must(t, probe.finish(last))
	ops := count.Ops()
	runs, reloads := uint64(40), 0
	if *sweepAll {
		runs = ops
	}
	t.Logf("seed %d, %d operations, %d reloads, %v", *seedFlag, ops, probe.done, variants)
	for _, fault := range []error{nil, syscall.EIO} {
		for i := range runs {
			k := 1 + i*ops/runs
			w := newReloadWorld(t, sweepEvents)
			if err := w.run(vfs.NewFaults(w.mem, vfs.Fault{At: k, Err: fault}), last, variants...); errors.Is(err, errHang) {
				t.Fatalf("operation %d, %v: %v", k, fault, err)
			}
			reloads += w.done
			w.mem = w.mem.Crash(*seedFlag + k)
			if err := w.finish(last); err != nil {
				t.Fatalf("operation %d, %v: %v", k, fault, err)
			}
		}
	}
	if reloads == 0 {
		t.Error("nothing was reloaded before a fault")
	}
	t.Logf("%d reloads before faults", reloads)
}
