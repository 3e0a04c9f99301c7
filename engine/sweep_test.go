package engine_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

var (
	seedFlag = flag.Uint64("seed", 1, "first seed of randomised tests")
	sweepAll = flag.Bool("sweep-all", false, "sweep every operation instead of every third")
)

// world is a workload in a file system in memory and what must come of it.
type world struct {
	mem   *vfs.Mem
	yaml  string
	lanes int

	out, kitchen, other []string // ids, as the sinks must hold them: each once
	dead                int
}

const worldYAML = `
version: 1
node: {data: /w/data}
sources:
  orders: {file: {path: in.ndjson}, key: data.customer}
routes:
  eu: {when: {type: [OrderCreated], data: {region: [eu]}}, to: [out, kitchen]}
  us: {when: {data: {region: [us]}}, to: [kitchen]}
unmatched: [other]
sinks:
  out: {file: {path: out.ndjson}}
  other: {file: {path: other.ndjson}}
  kitchen: {local: {queue: kitchen}}
`

// newWorld writes the input: events of several customers, with duplicates, events
// that no route takes, and malformed ones.
func newWorld(t *testing.T, events int) *world {
	t.Helper()
	w := &world{mem: vfs.NewMem(), yaml: worldYAML, lanes: 2}
	var in bytes.Buffer
	for i := range events {
		id := fmt.Sprintf("e%03d", i)
		region := []string{"eu", "us", "mars"}[i%3]
		line := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/shop","type":"OrderCreated","data":{"customer":"c%d","region":%q}}`, id, i%7, region)
		fmt.Fprintln(&in, line)
		if i%5 == 0 {
			fmt.Fprintln(&in, line)
		}
		if i%11 == 0 {
			fmt.Fprintf(&in, "{\"broken\": %d\n", i)
			w.dead++
		}
		switch region {
		case "eu":
			w.out, w.kitchen = append(w.out, id), append(w.kitchen, id)
		case "us":
			w.kitchen = append(w.kitchen, id)
		default:
			w.other = append(w.other, id)
		}
	}
	w.input(t, in.Bytes())
	return w
}

// input writes what the source reads.
func (w *world) input(t *testing.T, lines []byte) {
	t.Helper()
	must(t, w.mem.MkdirAll("/w"))
	f, err := w.mem.Create("/w/in.ndjson")
	must(t, err)
	_, err = f.Write(lines)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	must(t, w.mem.SyncDir("/"))
	must(t, w.mem.SyncDir("/w"))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run works through the input on a file system, or fails in the attempt.
func (w *world) run(fs vfs.FS) error {
	all := []transports.Transport{file.New(), local.New()}
	plan, err := config.Load(config.Options{File: "/w/weir.yaml", Data: []byte(w.yaml), Transports: all})
	if err != nil {
		return err
	}
	plan.Node.Lanes = w.lanes
	e, err := engine.New(engine.Config{
		Plan: plan, Transports: all, FS: fs, ChunkBytes: 1 << 10, DrainLimit: time.Second,
		Commit: commit.Config{SegmentBytes: 4 << 10, SnapshotEvery: 6 << 10},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err = e.Run(ctx)
	if ctx.Err() != nil {
		return errors.Join(err, errHang)
	}
	return err
}

var errHang = errors.New("the engine did not come to an end")

// check compares what the sinks hold with what they must hold (I1, I2, I5, I7).
func (w *world) check(mem *vfs.Mem) error {
	var errs []error
	for _, c := range []struct {
		name string
		want []string
	}{{"/w/out.ndjson", w.out}, {"/w/other.ndjson", w.other}} {
		got, err := linesOf(mem, c.name)
		errs = append(errs, err, compare(c.name, got, c.want))
	}
	got, err := queueOf(mem, "kitchen")
	errs = append(errs, err, compare("queue kitchen", got, w.kitchen))
	dead, err := queueOf(mem, "dead")
	errs = append(errs, err)
	if len(dead) != w.dead {
		errs = append(errs, fmt.Errorf("%d dead letters, want %d", len(dead), w.dead))
	}
	return errors.Join(errs...)
}

// compare wants each id once, and the ids of a customer in order.
func compare(where string, got, want []string) error {
	last := map[int]string{}
	for _, id := range got {
		var n int
		if _, err := fmt.Sscanf(id, "e%d", &n); err != nil {
			return fmt.Errorf("%s: invented %q (I2)", where, id)
		}
		if last[n%7] > id {
			return fmt.Errorf("%s: %s came after %s of the same key (I7)", where, id, last[n%7])
		}
		last[n%7] = id
	}
	sorted := slices.Sorted(slices.Values(got))
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return fmt.Errorf("%s: %s twice (I5)", where, sorted[i])
		}
	}
	wanted := slices.Sorted(slices.Values(want))
	if !slices.Equal(sorted, wanted) {
		return fmt.Errorf("%s: %d ids, want %d (I1, I2): %v", where, len(sorted), len(wanted), sorted)
	}
	return nil
}

func idOf(line []byte) string {
	return cutOut(string(line), `"id":"`, `"`)
}

func cutOut(s, from, to string) string {
	_, rest, _ := strings.Cut(s, from)
	found, _, _ := strings.Cut(rest, to)
	return found
}

func linesOf(mem *vfs.Mem, name string) ([]string, error) {
	lines, err := linesIn(mem, name)
	var ids []string
	for _, line := range lines {
		ids = append(ids, idOf([]byte(line)))
	}
	return ids, err
}

func linesIn(mem *vfs.Mem, name string) ([]string, error) {
	f, err := mem.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), err
}

func queueOf(mem *vfs.Mem, name string) ([]string, error) {
	q, err := local.OpenQueue(mem, "/w/data", name)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	c, err := q.Consumer("", true)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var ids []string
	for {
		list, err := c.Receive(context.Background(), 1000, 10*time.Millisecond)
		if err != nil || len(list) == 0 {
			return ids, err
		}
		for _, d := range list {
			ids = append(ids, idOf(d.Data))
		}
		if err := c.Ack(list...); err != nil {
			return ids, err
		}
	}
}

func TestWorldWithoutFaults(t *testing.T) {
	w := newWorld(t, 200)
	must(t, w.run(w.mem))
	must(t, w.check(w.mem.Crash(1)))
	must(t, w.run(w.mem)) // nothing is done twice
	must(t, w.check(w.mem.Crash(2)))
}

// TestSweepI1toI8 crashes, or fails, the engine at every operation on its disk;
// whatever that left, the next start ends with every event where it belongs, once.
func TestSweepI1toI8(t *testing.T) {
	probe := newWorld(t, 60)
	count := vfs.NewFaults(probe.mem, vfs.Fault{})
	must(t, probe.run(count))
	step := uint64(3)
	if *sweepAll {
		step = 1
	}
	t.Logf("seed %d, %d operations", *seedFlag, count.Ops())
	for _, f := range []struct {
		name string
		err  error
	}{{"crash", nil}, {"EIO", syscall.EIO}, {"ENOSPC", syscall.ENOSPC}} {
		t.Run(f.name, func(t *testing.T) {
			for k := uint64(1); k <= count.Ops(); k += step {
				w := newWorld(t, 60)
				faults := vfs.NewFaults(w.mem, vfs.Fault{At: k, Err: f.err})
				if err := w.run(faults); errors.Is(err, errHang) {
					t.Fatalf("operation %d: %v", k, err)
				}
				after := w.mem.Crash(*seedFlag + k)
				w.lanes = int(1 + k%3) // another number of lanes at the next start
				if err := w.run(after); err != nil {
					t.Fatalf("operation %d: the next start failed: %v", k, err)
				}
				if err := w.check(after); err != nil {
					t.Fatalf("operation %d: %v", k, err)
				}
			}
		})
	}
}
