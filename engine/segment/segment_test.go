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

// TestReaderLeavesADroppedFile: a reader that has read a file to its end goes on in the
// next one, also where the file was dropped meanwhile, since all of it was settled.
func TestReaderLeavesADroppedFile(t *testing.T) {
	l := open(t, Config{FS: vfs.NewMem(), Dir: "/l", SegmentBytes: 200})
	must(t, add(l, "first"))
	l.Publish(l.End())
	r, err := l.Reader(0)
	must(t, err)
	defer r.Close()
	if e, _, err := r.Next(); err != nil || string(e) != "first" {
		t.Fatalf("%q, %v", e, err)
	}
	if _, _, err := r.Next(); !errors.Is(err, ErrCaughtUp) {
		t.Fatal(err)
	}
	for i := range 3 {
		must(t, add(l, fmt.Sprintf("%0150d", i)))
		must(t, l.Sync())
	}
	l.Publish(l.End())
	must(t, l.DropBefore(1))
	if l.First() != 1 {
		t.Fatalf("the log begins at %d, want 1", l.First())
	}
	for i := range 3 {
		e, ordinal, err := r.Next()
		if err != nil || string(e) != fmt.Sprintf("%0150d", i) || ordinal != uint64(i+1) {
			t.Fatalf("entry %d: %q, %d, %v", i+1, e, ordinal, err)
		}
	}
	must(t, l.DropBefore(3))
	late, err := l.Reader(3)
	must(t, err)
	must(t, late.Close())
	if _, err := l.Reader(1); !errors.Is(err, ErrDropped) {
		t.Fatalf("an entry that is gone: %v", err)
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
