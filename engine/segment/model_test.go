package segment

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/vfs"
)

// TestI1I2Model runs random appends, syncs, cuts, drops, kills and power cuts
// against a slice: what was synced is there (I1), and nothing else than what
// was appended (I2), in order.
func TestI1I2Model(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ok := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		mem := vfs.NewMem()
		cfg := Config{FS: mem, Dir: "a/log", SegmentBytes: int64(rapid.IntRange(60, 2000).Draw(rt, "segment"))}
		l, err := Open(cfg)
		ok(err)
		var model []string // all that was appended
		bounds := []uint64{0}
		synced, first := 0, 0
		check := func() {
			got, err := read(l, l.First())
			ok(err)
			if int(l.First()) > first {
				rt.Fatalf("entry %d is gone, dropped were those before %d", l.First()-1, first)
			}
			if n := int(l.First()) + len(got); n < synced || n > len(model) {
				rt.Fatalf("%d entries, %d were synced of %d", n, synced, len(model))
			}
			model = model[:int(l.First())+len(got)]
			for i, e := range got {
				if e != model[int(l.First())+i] {
					rt.Fatalf("entry %d is %q, want %q", i, e, model[int(l.First())+i])
				}
			}
			for bounds[len(bounds)-1] > uint64(len(model)) {
				bounds = bounds[:len(bounds)-1]
			}
			synced = len(model)
		}
		for i := range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"append", "append", "append", "sync", "sync", "power", "kill", "cut", "drop", "read"}).Draw(rt, fmt.Sprint("step ", i)) {
			case "append":
				var group []string
				for n := range rapid.IntRange(1, 4).Draw(rt, "count") {
					group = append(group, strings.Repeat(fmt.Sprint(i, "-", n, " "), rapid.IntRange(0, 300).Draw(rt, "repeat")))
				}
				ok(add(l, group...))
				model = append(model, group...)
				bounds = append(bounds, uint64(len(model)))
			case "sync":
				ok(l.Sync())
				synced = len(model)
			case "power", "kill":
				if rapid.Bool().Draw(rt, "power") {
					mem = mem.Crash(rapid.Uint64().Draw(rt, "seed"))
				}
				ok(l.Close())
				cfg.FS = mem
				l, err = Open(cfg)
				ok(err)
				check()
			case "cut":
				at := rapid.SampledFrom(bounds).Draw(rt, "mark")
				if at < l.First() || at == 0 && l.First() > 0 {
					continue
				}
				ok(l.Sync())
				ok(l.Restore(Mark{File: 1, Entries: at}))
				model = model[:at]
				synced = len(model)
				check()
			case "drop":
				first = max(first, rapid.IntRange(0, len(model)).Draw(rt, "before"))
				ok(l.DropBefore(uint64(first)))
			case "read":
				ok(l.Sync())
				synced = len(model)
				check()
			}
		}
		ok(l.Close())
	})
}

// TestCrashAtEveryOperation sweeps a workload that rotates, drops and restores,
// and crashes once more during the recovery.
func TestCrashAtEveryOperation(t *testing.T) {
	work := func(fsys vfs.FS) (synced int, err error) {
		l, err := Open(Config{FS: fsys, Dir: "log", SegmentBytes: 200})
		if err != nil {
			return 0, err
		}
		defer l.Close()
		for i := range 12 {
			if err := add(l, fmt.Sprint("entry ", i), strings.Repeat("y", 20*i)); err != nil {
				return synced, err
			}
			if i%3 == 2 {
				if err := l.Sync(); err != nil {
					return synced, err
				}
				synced = 2 * (i + 1)
			}
			if i == 8 {
				if err := l.DropBefore(6); err != nil {
					return synced, err
				}
			}
		}
		return synced, nil
	}
	check := func(k, seed uint64, mem *vfs.Mem, synced int) {
		l, err := Open(Config{FS: mem, Dir: "log"})
		if err != nil {
			t.Fatalf("operation %d, seed %d: %v", k, seed, err)
		}
		defer l.Close()
		got, err := read(l, l.First())
		if err != nil || int(l.First())+len(got) < synced || l.First() > 6 {
			t.Fatalf("operation %d, seed %d: %d entries from %d, synced %d: %v", k, seed, len(got), l.First(), synced, err)
		}
		for i, e := range got {
			n := int(l.First()) + i
			if n%2 == 0 && e != fmt.Sprint("entry ", n/2) {
				t.Fatalf("operation %d, seed %d: entry %d is %q", k, seed, n, e)
			}
		}
	}
	dry := vfs.NewFaults(vfs.NewMem(), vfs.Fault{})
	_, err := work(dry)
	must(t, err)
	for k := uint64(1); k <= dry.Ops(); k++ {
		for _, fault := range []error{nil, syscall.EIO, syscall.ENOSPC} {
			mem := vfs.NewMem()
			synced, err := work(vfs.NewFaults(mem, vfs.Fault{At: k, Err: fault}))
			if err == nil {
				t.Fatalf("operation %d: no error", k)
			}
			for seed := range uint64(4) {
				check(k, seed, mem.Crash(seed), synced)
				again := mem.Crash(seed)
				l, err := Open(Config{FS: vfs.NewFaults(again, vfs.Fault{At: 1 + (k+seed*7)%14}), Dir: "log"})
				if err == nil {
					must(t, l.Close())
				}
				check(k, seed, again.Crash(seed), synced)
			}
			// Killed, recovered, then the power goes: what recovery read is durable.
			l, err := Open(Config{FS: mem, Dir: "log"})
			must(t, err)
			end := l.End()
			must(t, l.Close())
			check(k, 99, mem.Crash(99), int(end.Entries))
		}
	}
}

func FuzzRecovery(f *testing.F) {
	mem := vfs.NewMem()
	l, err := Open(Config{FS: mem, Dir: "log", salt: 7})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		if err := errors.Join(add(l, fmt.Sprint("entry ", i)), l.Sync()); err != nil {
			f.Fatal(err)
		}
	}
	whole := get(f, mem, path("log", 1))
	f.Add(whole, []byte{})
	f.Add(whole[:100], whole[100:])
	f.Add(whole[:fileHeaderBytes], []byte{})
	f.Add([]byte{}, whole)
	f.Fuzz(func(t *testing.T, one, two []byte) {
		mem := vfs.NewMem()
		must(t, vfs.EnsureDir(mem, "log"))
		put(t, mem, path("log", 1), one)
		if len(two) > 0 {
			put(t, mem, path("log", 2), two)
		}
		l, err := Open(Config{FS: mem, Dir: "log"})
		if err != nil {
			return
		}
		got, err := read(l, l.First())
		if err != nil {
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) {
				t.Fatal(err)
			}
			return
		}
		must(t, add(l, "more"))
		must(t, l.Sync())
		must(t, l.Close())
		l, err = Open(Config{FS: mem.Crash(1), Dir: "log"})
		must(t, err)
		again, err := read(l, l.First())
		if err != nil || len(again) != len(got)+1 {
			t.Fatalf("%d entries, then %d: %v", len(got), len(again), err)
		}
		must(t, l.Close())
	})
}
