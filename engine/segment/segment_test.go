package segment

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/vfs"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

func add(l *Log, entries ...string) error {
	var framed []byte
	for _, e := range entries {
		framed = Frame(framed, []byte(e))
	}
	return l.Append(framed, len(entries))
}

// read returns all entries from ordinal on, after publishing them.
func read(l *Log, ordinal uint64) (out []string, err error) {
	l.Publish(l.End())
	r, err := l.Reader(ordinal)
	if err != nil {
		return nil, err
	}
	for want := ordinal; ; want++ {
		e, got, err := r.Next()
		if errors.Is(err, ErrCaughtUp) {
			return out, r.Close()
		}
		if err != nil {
			return out, errors.Join(err, r.Close())
		}
		if got != want {
			return out, fmt.Errorf("ordinal %d, want %d", got, want)
		}
		out = append(out, string(e))
	}
}

func put(t testing.TB, fsys vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.Write(data)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	must(t, fsys.SyncDir(filepath.Dir(name)))
}

func get(t testing.TB, fsys vfs.FS, name string) []byte {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		t.Fatal(err)
	}
	return b
}

// TestFormat pins the bytes of the format.
func TestFormat(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, Config{FS: mem, Dir: "log", SegmentBytes: 200, salt: 0x0123456789abcdef})
	for i := range 4 {
		must(t, add(l, fmt.Sprintf("entry %d", i), strings.Repeat("x", 10*i)))
		must(t, l.Sync())
	}
	var got bytes.Buffer
	for _, s := range l.Segments() {
		fmt.Fprintf(&got, "%s\n%s", path("", s.Number), hex.Dump(get(t, mem, path("log", s.Number))))
	}
	golden := "testdata/format.golden"
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(golden, got.Bytes(), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if got.String() != string(want) {
		t.Fatalf("the format has changed:\n%s", got.String())
	}
}

// three returns a synced log of three groups in one file, with their offsets.
func three(t *testing.T) (file []byte, at []int64) {
	mem := vfs.NewMem()
	l := open(t, Config{FS: mem, Dir: "log", salt: 7})
	for i := range 3 {
		at = append(at, l.End().Length)
		must(t, add(l, fmt.Sprint("first of ", i), fmt.Sprint("second of ", i)))
		must(t, l.Sync())
	}
	return get(t, mem, path("log", 1)), append(at, l.End().Length)
}

func reopen(t *testing.T, file []byte) (*Log, error) {
	mem := vfs.NewMem()
	must(t, vfs.EnsureDir(mem, "log"))
	put(t, mem, path("log", 1), file)
	l, err := Open(Config{FS: mem, Dir: "log"})
	if err == nil {
		t.Cleanup(func() { must(t, l.Close()) })
	}
	return l, err
}

func TestLastGroupTruncatedOrFlippedIsCut(t *testing.T) {
	file, at := three(t)
	check := func(t *testing.T, name string, file []byte, reason bool) {
		t.Helper()
		l, err := reopen(t, file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := read(l, 0)
		if err != nil || len(got) != 4 || got[3] != "second of 1" {
			t.Fatalf("%s: %q %v", name, got, err)
		}
		rec := l.Recovery()
		if reason && (rec.Segment != 1 || rec.Offset != at[2] || rec.Bytes != int64(len(file))-at[2] || rec.Reason == "") {
			t.Fatalf("%s: %+v", name, rec)
		}
		if rec.Rewritten != 1 {
			t.Fatalf("%s: the last group was not rewritten: %+v", name, rec)
		}
		must(t, add(l, "later"))
		must(t, l.Sync())
		if got, err := read(l, 4); err != nil || len(got) != 1 || got[0] != "later" {
			t.Fatalf("%s: after recovery %q %v", name, got, err)
		}
	}
	for size := at[2]; size < at[3]; size++ {
		check(t, fmt.Sprint("cut to ", size), file[:size], size > at[2])
		zeros := append(bytes.Clone(file[:size]), make([]byte, at[3]-size)...)
		check(t, fmt.Sprint("zeros from ", size), zeros, true)
	}
	for i := at[2]; i < at[3]; i++ {
		for _, mask := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(file)
			bad[i] ^= mask
			check(t, fmt.Sprintf("byte %d ^ %x", i, mask), bad, true)
		}
	}
}

func TestEarlierGroupFlippedIsAnAlarm(t *testing.T) {
	file, at := three(t)
	for i := int64(0); i < at[2]; i++ {
		bad := bytes.Clone(file)
		bad[i] ^= 0x10
		_, err := reopen(t, bad)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) {
			t.Fatalf("byte %d: %v", i, err)
		}
		want := int64(0)
		for _, a := range at {
			if a <= i {
				want = a
			}
		}
		if corrupt.Segment != 1 || corrupt.Offset != want {
			t.Fatalf("byte %d: alarm for segment %d, byte %d: %v", i, corrupt.Segment, corrupt.Offset, err)
		}
	}
}

func TestEarlierSegmentDamagedIsAnAlarm(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, Config{FS: mem, Dir: "log", SegmentBytes: 150})
	for i := range 6 {
		must(t, add(l, fmt.Sprint("entry ", i)))
	}
	must(t, l.Sync())
	segments := l.Segments()
	if len(segments) < 4 {
		t.Fatalf("%d segments", len(segments))
	}
	second := path("log", segments[1].Number)
	file := get(t, mem, second)
	for i := range file {
		for name, bad := range map[string][]byte{"flip": bytes.Clone(file), "cut": bytes.Clone(file[:i])} {
			if name == "flip" {
				bad[i] ^= 4
			}
			put(t, mem, second, bad)
			for _, lazy := range []bool{false, true} {
				l, err := Open(Config{FS: mem.Crash(1), Dir: "log", Lazy: lazy})
				if lazy && err == nil {
					_, err = read(l, 0)
					must(t, l.Close())
				}
				var corrupt *CorruptError
				if !errors.As(err, &corrupt) || corrupt.Segment != segments[1].Number {
					t.Fatalf("%s %d, lazy %v: %v", name, i, lazy, err)
				}
			}
		}
	}
	put(t, mem, second, file)
	must(t, mem.Remove(second))
	if _, err := Open(Config{FS: mem, Dir: "log"}); err == nil {
		t.Fatal("a missing segment is not seen")
	}
}

func TestRestore(t *testing.T) {
	mem := vfs.NewMem()
	cfg := Config{FS: mem, Dir: "log", SegmentBytes: 150}
	l := open(t, cfg)
	marks := []Mark{l.End()}
	for i := range 6 {
		must(t, add(l, fmt.Sprint("entry ", i), "more"))
		must(t, l.Sync())
		marks = append(marks, l.End())
	}
	for i := len(marks) - 1; i >= 0; i-- {
		must(t, l.Close())
		l = open(t, cfg) // marks stay good although recovery moves the end
		must(t, l.Restore(marks[i]))
		if got, err := read(l, 0); err != nil || len(got) != 2*i {
			t.Fatalf("to mark %d: %q %v", i, got, err)
		}
	}
	err := l.Restore(marks[3])
	if !errors.Is(err, ErrShort) || !strings.Contains(err.Error(), fmt.Sprint("segment ", l.End().File)) {
		t.Fatalf("beyond the end: %v", err)
	}
	must(t, add(l, "a", "b"))
	if err := l.Restore(Mark{Entries: 1}); err == nil {
		t.Fatal("a mark within a group passes")
	}
	must(t, l.Close())
	l = open(t, cfg)
	must(t, l.Restore(Mark{}))
	if end := l.End(); end.Entries != 0 || l.First() != 0 {
		t.Fatalf("the zero mark leaves %+v", end)
	}
	must(t, add(l, "new"))
	must(t, l.Sync())
	must(t, l.DropBefore(9))
	must(t, l.Close())
	l = open(t, cfg)
	if got, err := read(l, 0); err != nil || len(got) != 1 {
		t.Fatalf("after the zero mark %q %v", got, err)
	}
}

func TestDropBefore(t *testing.T) {
	mem := vfs.NewMem()
	cfg := Config{FS: mem, Dir: "log", SegmentBytes: 150}
	l := open(t, cfg)
	for i := range 9 {
		must(t, add(l, fmt.Sprint("entry ", i)))
	}
	l.Publish(l.End())
	r, err := l.Reader(0)
	must(t, err)
	before := l.Size()
	must(t, l.DropBefore(5))
	first := l.First()
	if first == 0 || first > 5 || l.Size() >= before {
		t.Fatalf("oldest is %d, %d bytes of %d", first, l.Size(), before)
	}
	if _, err := l.Reader(first - 1); !errors.Is(err, ErrDropped) {
		t.Fatalf("reader of a dropped entry: %v", err)
	}
	for {
		if _, _, err = r.Next(); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrDropped) {
		t.Fatalf("slow reader: %v", err)
	}
	must(t, r.Close())
	must(t, l.Close())
	l = open(t, cfg)
	if got, err := read(l, first); err != nil || len(got) != int(9-first) || l.First() != first {
		t.Fatalf("after opening again: %q %v", got, err)
	}
	must(t, l.DropBefore(100))
	if n := len(l.Segments()); n != 1 {
		t.Fatalf("%d segments left", n)
	}
}

// TestI4FailedForGood: after a failed write or sync nothing is taken any more.
func TestI4FailedForGood(t *testing.T) {
	work := func(fsys vfs.FS) error {
		l, err := Open(Config{FS: fsys, Dir: "log", SegmentBytes: 150})
		if err != nil {
			return err
		}
		defer l.Close()
		for i := range 6 {
			err := add(l, fmt.Sprint("entry ", i))
			if err == nil {
				err = l.Sync()
			}
			if err == nil {
				continue
			}
			if again := add(l, "x"); !errors.Is(again, syscall.EIO) {
				return fmt.Errorf("Append after a failure: %v", again)
			}
			if again := l.Sync(); !errors.Is(again, syscall.EIO) {
				return fmt.Errorf("Sync after a failure: %v", again)
			}
			return err
		}
		return nil
	}
	dry := vfs.NewFaults(vfs.NewMem(), vfs.Fault{})
	must(t, work(dry))
	for k := uint64(1); k <= dry.Ops(); k++ {
		if err := work(vfs.NewFaults(vfs.NewMem(), vfs.Fault{At: k, Err: syscall.EIO})); !errors.Is(err, syscall.EIO) || strings.Contains(err.Error(), "after a failure") {
			t.Fatalf("fault at operation %d: %v", k, err)
		}
	}
}

func TestReadersWhileAppending(t *testing.T) {
	l := open(t, Config{FS: vfs.NewMem(), Dir: "log", SegmentBytes: 4 << 10})
	const entries = 3000
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			r, err := l.Reader(0)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			var dst []byte
			for at := uint64(0); at < entries; {
				changed := l.Changed()
				framed, first, count, err := r.ReadGroups(dst[:0], 1<<(4*n))
				if errors.Is(err, ErrCaughtUp) {
					<-changed
					continue
				}
				if err != nil || first != at || checkFrames(framed, count) != nil {
					t.Errorf("at %d: first %d, count %d, %v", at, first, count, err)
					return
				}
				for ; len(framed) > 0; at++ {
					e, rest, _ := Unframe(framed)
					if string(e) != fmt.Sprint("entry ", at) {
						t.Errorf("entry %d is %q", at, e)
						return
					}
					framed = rest
				}
			}
		})
	}
	for i := 0; i < entries; {
		var group []string
		for range 1 + i%7 {
			if i < entries {
				group = append(group, fmt.Sprint("entry ", i))
				i++
			}
		}
		must(t, add(l, group...))
		if i%3 == 0 || i == entries {
			must(t, l.Sync())
			l.Publish(l.End())
		}
	}
	wg.Wait()
	changed := l.Changed()
	must(t, l.Close())
	<-changed
}

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

func BenchmarkAppendSync(b *testing.B) {
	for _, size := range []int{0, 4 << 10, 256 << 10} {
		b.Run(fmt.Sprint("group=", size), func(b *testing.B) {
			l := open(b, Config{FS: vfs.OS{}, Dir: filepath.Join(b.TempDir(), "log")})
			framed := Frame(nil, make([]byte, size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				must(b, l.Append(framed, 1))
				must(b, l.Sync())
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, Config{FS: vfs.OS{}, Dir: filepath.Join(b.TempDir(), "log")})
	var framed []byte
	for range 64 {
		framed = Frame(framed, make([]byte, 352))
	}
	b.SetBytes(int64(len(framed)))
	b.ReportAllocs()
	for b.Loop() {
		must(b, l.Append(framed, 64))
	}
}

// TestUnsyncedGroupsMayBeTornInAnyOrder: a disk may keep a later write and lose
// an earlier one; before a sync that is no damage.
func TestUnsyncedGroupsMayBeTornInAnyOrder(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, Config{FS: mem, Dir: "log"})
	must(t, add(l, "durable"))
	must(t, l.Sync())
	at := l.End().Length
	for i := range 3 {
		must(t, add(l, fmt.Sprint("unsynced ", i)))
	}
	file := get(t, mem, path("log", 1))
	clear(file[at : at+groupHeaderBytes])
	l, err := reopen(t, file)
	must(t, err)
	if got, err := read(l, 0); err != nil || len(got) != 1 {
		t.Fatalf("%q %v", got, err)
	}
	if rec := l.Recovery(); rec.Offset != at || rec.Reason != errZeros.Error() {
		t.Fatalf("%+v", rec)
	}
}

func BenchmarkReadGroups(b *testing.B) {
	l := open(b, Config{FS: vfs.OS{}, Dir: filepath.Join(b.TempDir(), "log")})
	var framed []byte
	for range 64 {
		framed = Frame(framed, make([]byte, 352))
	}
	for range 2000 {
		must(b, l.Append(framed, 64))
	}
	l.Publish(l.End())
	var dst []byte
	r, err := l.Reader(0)
	must(b, err)
	b.SetBytes(int64(len(framed)))
	b.ReportAllocs()
	for b.Loop() {
		dst, _, _, err = r.ReadGroups(dst[:0], 1)
		if errors.Is(err, ErrCaughtUp) {
			must(b, r.Close())
			r, err = l.Reader(0)
		}
		must(b, err)
	}
	must(b, r.Close())
}
