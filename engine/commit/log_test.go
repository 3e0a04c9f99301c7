package commit

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

var update = flag.Bool("update", false, "write golden files")

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

// commitOne submits a record and waits until it is committed.
func commitOne(t testing.TB, l *Log, record string, runs ...StagedRun) {
	t.Helper()
	done, published := make(chan error, 1), l.Changed()
	must(t, l.Submit(context.Background(), &Ticket{Record: []byte(record), Stages: runs, Committed: func(err error) { done <- err }}))
	must(t, <-done)
	<-published // a snapshot that is taken now begins after it
}

func ignore([]byte, time.Duration) error { return nil }

func openLog(t testing.TB, cfg Config, tables ...Table) *Log {
	t.Helper()
	l, err := Open(cfg, tables, ignore)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close(context.Background())) })
	return l
}

func TestFormatFileAndLock(t *testing.T) {
	mem := vfs.NewMem()
	cfg := Config{FS: mem, Dir: "data"}
	l := openLog(t, cfg)
	if _, err := Open(cfg, nil, ignore); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("second process: %v", err)
	}
	must(t, l.Close(context.Background()))
	if got := string(get(t, mem, "data/FORMAT")); got != "weir-commit 1\n" {
		t.Fatalf("FORMAT is %q", got)
	}
	for content, want := range map[string]string{
		"weir-commit 7\n": "version 7, this program knows up to 1",
		"":                "FORMAT is",
		"other 1\n":       "FORMAT is",
		"weir-commit 0\n": "FORMAT is",
	} {
		put(t, mem, "data/FORMAT", []byte(content))
		_, err := Open(cfg, nil, ignore)
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrNewerFormat) != strings.Contains(content, "7") {
			t.Errorf("%q: %v", content, err)
		}
	}
	must(t, mem.Remove("data/FORMAT"))
	if _, err := Open(cfg, nil, ignore); err == nil {
		t.Error("a log without FORMAT is taken")
	}
	for name, bad := range map[string]Config{
		"no FS": {Dir: "x"}, "no Dir": {FS: mem}, "negative": {FS: mem, Dir: "x", Queue: -1},
		"huge group": {FS: mem, Dir: "x", GroupBytes: 1 << 30},
	} {
		if _, err := Open(bad, nil, ignore); err == nil {
			t.Error(name, "is taken")
		}
	}
}

// TestDiskFormat pins the bytes of group heads and snapshots.
func TestDiskFormat(t *testing.T) {
	var got bytes.Buffer
	head := encodeHead(nil, 90*time.Second, time.Unix(1700000000, 5), []*stage{
		{name: "out", mark: transports.Mark{File: 3, Length: 4096, Entries: 77}},
		{name: "log", mark: transports.Mark{File: 1, Length: 48}},
	})
	fmt.Fprintf(&got, "group head\n%s", hex.Dump(head))

	mem := vfs.NewMem()
	l := openLog(t, Config{FS: mem, Dir: "data"}, newTable())
	(*l.tables.Load())[0].(*table).set(7)
	l.marks["out"] = transports.Mark{File: 3, Length: 4096, Entries: 77}
	l.at, l.applied = 90*time.Second, 12
	must(t, l.Snapshot(context.Background()))
	fmt.Fprintf(&got, "snapshot\n%s", hex.Dump(get(t, mem, "data/snapshots/"+snapName(12))))
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

func TestRecordsAndRetain(t *testing.T) {
	mem := vfs.NewMem()
	wall := time.Unix(1700000000, 0)
	cfg := Config{FS: mem, Dir: "data", SegmentBytes: 100, Now: func() time.Time { return wall }}
	l := openLog(t, cfg, newTable())
	l.Retain(Retention{Max: 1 << 20})
	// Queued before Start, so that they make one group.
	done, published := make(chan error, 3), l.Changed()
	for i := range 3 {
		must(t, l.Submit(context.Background(), &Ticket{Record: fmt.Append(nil, "record ", i), Committed: func(err error) { done <- err }}))
	}
	l.Start()
	for range 3 {
		must(t, <-done)
	}
	<-published
	for i := 3; i < 9; i++ {
		commitOne(t, l, fmt.Sprint("record ", i))
	}
	read := func(from uint64) (out []Record) {
		r, err := l.Records(from)
		must(t, err)
		for {
			rec, err := r.Next()
			if errors.Is(err, segment.ErrCaughtUp) {
				must(t, r.Close())
				return out
			}
			must(t, err)
			rec.Data = bytes.Clone(rec.Data)
			out = append(out, rec)
		}
	}
	all := read(0)
	if len(all) != 9 {
		t.Fatalf("%d records", len(all))
	}
	for i, rec := range all {
		if string(rec.Data) != fmt.Sprint("record ", i) || !rec.Wall.Equal(wall) || rec.Sequence != uint64(max(0, i-2)) ||
			rec.Segment == 0 || rec.Offset == 0 || i > 0 && rec.At < all[i-1].At {
			t.Fatalf("record %d is %+v", i, rec)
		}
		// From the middle of a group too.
		if rest := read(rec.Ordinal); len(rest) != 9-i || rest[0].At != rec.At || !rest[0].Wall.Equal(wall) {
			t.Fatalf("from %d: %d records", rec.Ordinal, len(rest))
		}
	}
	for range 2 {
		must(t, l.Snapshot(context.Background()))
		commitOne(t, l, "more")
	}
	if first, _ := l.Held(); first != 0 {
		t.Fatalf("Retain does not hold: oldest is %d", first)
	}
	l.Retain(Retention{Max: l.Size() / 2})
	size := l.Size()
	must(t, l.Trim())
	if first, _ := l.Held(); first == 0 || l.Size() > size/2 || l.Size() < size/4 {
		t.Fatalf("Trim leaves %d bytes of %d, from %d", l.Size(), size, first)
	}
	if _, err := l.Records(0); !errors.Is(err, segment.ErrDropped) {
		t.Fatalf("dropped records: %v", err)
	}
}

// TestStageComesBack: a sink that was away goes on at its own mark, although
// the snapshot and all groups since know nothing of it.
func TestStageComesBack(t *testing.T) {
	mem := vfs.NewMem()
	cfg := Config{FS: mem, Dir: "data", SegmentBytes: 100}
	run := func(id int, s string) StagedRun {
		return StagedRun{Stage: id, Framed: segment.Frame(nil, []byte(s)), Count: 1}
	}
	a, err := openSink(mem, "a")
	must(t, err)
	l := openLog(t, cfg)
	l.Start()
	id, err := l.Stage("a", a)
	must(t, err)
	if _, err := l.Stage("a", a); err == nil {
		t.Fatal("two sinks have one name")
	}
	commitOne(t, l, "1", run(id, "one"))
	commitOne(t, l, "", run(id, "two"))
	must(t, l.Unstage(id))
	must(t, a.Append(segment.Frame(nil, []byte("never committed")), 1))
	must(t, a.log.Close())
	if err := l.Submit(context.Background(), &Ticket{Stages: []StagedRun{run(id, "x")}}); err == nil {
		t.Fatal("a ticket for a stage that is gone is taken")
	}
	for range 3 {
		commitOne(t, l, "2")
		must(t, l.Snapshot(context.Background()))
	}
	must(t, l.Close(context.Background()))

	a, err = openSink(mem, "a")
	must(t, err)
	l = openLog(t, cfg)
	l.Start()
	id, err = l.Stage("a", a)
	must(t, err)
	commitOne(t, l, "3", run(id, "three"))
	got, err := a.entries()
	if err != nil || strings.Join(got, " ") != "one two three" {
		t.Fatalf("%q %v", got, err)
	}
	must(t, l.Close(context.Background()))
	must(t, a.log.Close())
}

// gate is a file system whose syncs wait.
type gate struct {
	vfs.FS
	open chan struct{}
}

func (g gate) Overwrite(name string, at int64) (vfs.File, error) {
	f, err := g.FS.Overwrite(name, at)
	return gateFile{f, g.open}, err
}

type gateFile struct {
	vfs.File
	open chan struct{}
}

func (f gateFile) Sync() error {
	<-f.open
	return f.File.Sync()
}

// TestI3NotBeforeTheSync: while a sync runs nothing is committed, submitters go
// on, a full queue blocks them, and Close waits for all or says that it could not.
func TestI3NotBeforeTheSync(t *testing.T) {
	for _, inTime := range []bool{true, false} {
		t.Run(fmt.Sprint("in time ", inTime), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := gate{vfs.NewMem(), make(chan struct{})}
				l, err := Open(Config{FS: g, Dir: "data", Queue: 3}, nil, ignore)
				must(t, err)
				l.Start()
				var told []error
				submit := func(ctx context.Context) error {
					return l.Submit(ctx, &Ticket{Record: []byte("r"), Committed: func(err error) { told = append(told, err) }})
				}
				must(t, submit(t.Context()))
				synctest.Wait() // the writer is in the sync
				for range 3 {
					must(t, submit(t.Context()))
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := submit(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("a full queue: %v", err)
				}
				if len(told) != 0 {
					t.Fatal("committed before the sync")
				}
				closed := make(chan error, 1)
				limit, stop := context.WithTimeout(t.Context(), time.Second)
				defer stop()
				go func() { closed <- l.Close(limit) }()
				synctest.Wait()
				if err := submit(t.Context()); !errors.Is(err, ErrClosed) {
					t.Fatalf("Submit while closing: %v", err)
				}
				if !inTime {
					time.Sleep(2 * time.Second)
				}
				close(g.open)
				err = <-closed
				if inTime != (err == nil) || len(told) != 4 || told[0] != nil {
					t.Fatalf("Close: %v, told %v", err, told)
				}
				for _, err := range told[1:] {
					if inTime != (err == nil) || !inTime && !errors.Is(err, ErrClosed) {
						t.Fatalf("told %v", told)
					}
				}
				must(t, l.Close(t.Context()))
			})
		})
	}
}

// TestEngineTime stands still while the engine is down, whatever the wall clock
// does meanwhile.
func TestEngineTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		skew := time.Duration(0)
		cfg := Config{FS: mem, Dir: "data", Now: func() time.Time { return time.Now().Add(skew) }}
		var at []time.Duration
		replay := func(_ []byte, when time.Duration) error { at = append(at, when); return nil }
		for life := range 3 {
			l, err := Open(cfg, nil, replay)
			must(t, err)
			time.Sleep(time.Minute)
			base := time.Duration(life) * 10 * time.Second
			if got := l.Now(); got != base {
				t.Fatalf("before Start it is %v, want %v", got, base)
			}
			l.Start()
			time.Sleep(10 * time.Second)
			skew -= 24 * time.Hour
			commitOne(t, l, "x")
			if got := l.Now(); got != base+10*time.Second {
				t.Fatalf("it is %v in life %d", got, life)
			}
			if life == 1 {
				must(t, l.Snapshot(t.Context()))
			}
			must(t, l.Close(t.Context()))
		}
		if fmt.Sprint(at) != "[10s]" {
			t.Fatalf("replayed at %v", at)
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add(encodeHead(nil, 1, time.Unix(1, 2), []*stage{{name: "a"}, {name: "b", mark: transports.Mark{File: 9}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var stages []*stage
		at, wall, err := decodeHead(data, func(name string, m transports.Mark) { stages = append(stages, &stage{name: name, mark: m}) })
		if err != nil {
			return
		}
		if again := encodeHead(nil, at, wall, stages); !bytes.Equal(again, data) {
			t.Fatalf("%x reads as %x", data, again)
		}
	})
}

// TestRealFiles runs the workload on the operating system's files.
func TestRealFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	out := work(vfs.OS{}, 26)
	must(t, out.err)
	for range 3 {
		count, err := check(vfs.OS{}, out)
		must(t, err)
		out = outcome{submitted: count, committed: count}
	}
}

// TestDamagedLogIsAnAlarm flips every byte of the segments that are replayed,
// but for the last group: Open names segment and offset.
func TestDamagedLogIsAnAlarm(t *testing.T) {
	mem := vfs.NewMem()
	cfg := Config{FS: mem, Dir: "data", SegmentBytes: 200}
	l := openLog(t, cfg)
	l.Start()
	for i := range 6 {
		commitOne(t, l, fmt.Sprint("record ", i))
	}
	segments := l.Segments()
	must(t, l.Close(context.Background()))
	for _, s := range segments[:len(segments)-1] {
		name := fmt.Sprintf("data/log/%020d.seg", s.Number)
		file := get(t, mem, name)
		for i := range file {
			bad := bytes.Clone(file)
			bad[i] ^= 0x08
			put(t, mem, name, bad)
			_, err := Open(Config{FS: mem.Crash(1), Dir: "data"}, nil, ignore)
			var corrupt *segment.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Segment != s.Number {
				t.Fatalf("segment %d, byte %d: %v", s.Number, i, err)
			}
		}
		put(t, mem, name, file)
	}
}

// brokenTable fails in the middle of its snapshot.
type brokenTable struct{ *table }

func (b brokenTable) Snapshot(yield func([]byte) error) error {
	return errors.Join(yield([]byte("1")), errors.New("out of luck"))
}

// TestFailedSnapshotHarmsNothing: the log goes on, and the segments stay.
func TestFailedSnapshotHarmsNothing(t *testing.T) {
	mem := vfs.NewMem()
	l := openLog(t, Config{FS: mem, Dir: "data", SegmentBytes: 100, SnapshotEvery: 50}, brokenTable{newTable()})
	l.Start()
	for i := range 20 {
		commitOne(t, l, fmt.Sprint(i))
	}
	if err := l.Snapshot(context.Background()); err == nil || !strings.Contains(err.Error(), "out of luck") {
		t.Fatal(err)
	}
	if err := l.SnapshotErr(); err == nil {
		t.Fatal("the failure is not told")
	}
	commitOne(t, l, "20")
	must(t, l.Close(context.Background()))
	count := 0
	l, err := Open(Config{FS: mem, Dir: "data"}, []Table{newTable()}, func([]byte, time.Duration) error { count++; return nil })
	must(t, err)
	if count != 21 {
		t.Fatalf("%d records are there", count)
	}
	if err := l.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := l.Snapshot(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatalf("Snapshot after Close: %v", err)
	}
}

// deafSink cannot publish.
type deafSink struct{ *sink }

func (deafSink) Publish(transports.Mark) error { return errors.New("deaf") }

// TestPublishFailsAfterTheCommit: what was durable is told so, and then the log
// has failed (I4).
func TestPublishFailsAfterTheCommit(t *testing.T) {
	mem := vfs.NewMem()
	s, err := openSink(mem, "a")
	must(t, err)
	l := openLog(t, Config{FS: mem, Dir: "data"})
	id, err := l.Stage("a", deafSink{s})
	must(t, err)
	l.Start()
	commitOne(t, l, "1", StagedRun{Stage: id, Framed: segment.Frame(nil, []byte("one")), Count: 1})
	<-l.Failed()
	if err := l.Err(); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "deaf") {
		t.Fatal(err)
	}
	must(t, s.log.Close())
}
