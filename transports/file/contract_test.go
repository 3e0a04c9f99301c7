package file

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// The README's tables say what Options say.
func TestReadmeListsOptions(t *testing.T) {
	text, err := os.ReadFile("README.md")
	must(t, err)
	source, sink := New().Options()
	for _, end := range [][]transports.Option{source, sink} {
		for _, o := range end {
			if row := fmt.Sprintf("| `%s` | ", o.Name); !strings.Contains(string(text), row) || !strings.Contains(string(text), o.Doc) {
				t.Errorf("README.md lacks option %s: %s", o.Name, o.Doc)
			}
		}
	}
}

// The disk format of positions.
func TestPositionGolden(t *testing.T) {
	at := place{
		id:   identity{node: [2]uint64{0xfd01, 0x2a3b4c}, headLen: 256, headHash: 0x0123456789abcdef, restart: 2},
		form: formArray, offset: 1 << 33, index: 77,
	}
	golden, err := os.ReadFile(filepath.Join("testdata", "position.hex"))
	must(t, err)
	want, err := hex.DecodeString(strings.TrimSpace(string(golden)))
	must(t, err)
	if have := at.append(nil); !bytes.Equal(have, want) {
		t.Errorf("have %x, want %x", have, want)
	}
	back, err := parsePosition(want)
	must(t, err)
	if back != at {
		t.Errorf("parsed %+v, want %+v", back, at)
	}
	at.id.line = 0xfedcba9876543210
	if have := at.id.partition(); have != "fd01-2a3b4c-fedcba9876543210+2" {
		t.Errorf("partition %s", have)
	}
}

func FuzzPosition(f *testing.F) {
	f.Add(place{form: formLines, offset: 5}.append(nil))
	f.Add([]byte{1, 'l'})
	f.Fuzz(func(t *testing.T, pos []byte) {
		at, err := parsePosition(pos)
		if err == nil && !bytes.Equal(at.append(nil), pos) {
			t.Errorf("%x becomes %x", pos, at.append(nil))
		}
	})
}

func TestSettingsAreChecked(t *testing.T) {
	env := testEnv(t, vfs.NewMem())
	for _, c := range []struct {
		set  transports.Settings
		want string
	}{
		{transports.Settings{}, "path"},
		{transports.Settings{"path": "a", "follow": true, "format": "array"}, "follow"},
		{transports.Settings{"path": "a", "follow": true, "compression": "gzip"}, "follow"},
		{transports.Settings{"path": "-", "follow": true}, "follow"},
		{transports.Settings{"path": "a[", "follow": true}, "pattern"},
	} {
		if _, err := New().NewSource(env, c.set); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("source %v: error %v, want %q", c.set, err, c.want)
		}
	}
	for _, c := range []struct {
		set  transports.Settings
		want string
	}{
		{transports.Settings{}, "path"},
		{transports.Settings{"path": "a", "name": "{stem}"}, "{number}"},
		{transports.Settings{"path": "a", "name": "../{number}"}, "folder"},
		{transports.Settings{"path": "a", "rotate_size": int64(-1)}, "negative"},
		{transports.Settings{"path": "-", "rotate_size": int64(1)}, "regular"},
	} {
		if _, err := New().NewSink(env, c.set); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("sink %v: error %v, want %q", c.set, err, c.want)
		}
	}
	if _, err := New().NewSource(transports.Env{}, transports.Settings{"path": "a"}); err == nil {
		t.Error("without a file system: no error")
	}
}

func TestOpenFailures(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "/d/folder/x", "1\n")
	put(t, fsys, "/d/lines", "1\n")
	for _, c := range []struct {
		path   string
		resume map[string]transports.Position
		want   string
	}{
		{"missing", nil, "/d/missing: no such file"},
		{"none/*.x", nil, "no such file"},
		{"folder", nil, "/d/folder is a folder"},
		{"lines", map[string]transports.Position{"p": []byte("junk")}, "position has 4 bytes"},
	} {
		src, err := New().NewSource(testEnv(t, fsys), transports.Settings{"path": c.path})
		must(t, err)
		err = src.Open(t.Context(), c.resume, nil)
		if !errors.Is(err, transports.ErrFatal) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.path, err, c.want)
		}
	}
}

// I8: a partition keeps its name while its file grows, also where the engine
// has no position yet, since the ordinals that are settled are kept by its name.
func TestPartitionIsStableUnderGrowth(t *testing.T) {
	for name, set := range map[string]transports.Settings{
		"once": {"path": "in"}, "follow": {"path": "in", "follow": true},
	} {
		fsys := vfs.NewMem()
		put(t, fsys, "/d/in", "one\n")
		first := ""
		for range 300 {
			s := openSource(t, testEnv(t, fsys), set, nil)
			c := transports.Chunk{Data: make([]byte, 0, 64)}
			must(t, s.ReceiveChunk(t.Context(), &c, time.Second))
			if first == "" {
				first = c.Partition
			}
			if c.Partition != first || c.Ordinal != 0 {
				t.Fatalf("%s: partition %s, ordinal %d, want %s and 0", name, c.Partition, c.Ordinal, first)
			}
			add(t, fsys, "/d/in", "x\n")
		}
	}
}

// A copy, and another file that was given the same inode, are read anew.
func TestOtherFileIsReadAnew(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "/d/in", "one\ntwo\n")
	env, set := testEnv(t, fsys), transports.Settings{"path": "in"}
	_, resume, err := drain(t, openSource(t, env, set, nil), 100)
	must(t, err)

	put(t, fsys, "/d/copy", "one\ntwo\n")
	must(t, fsys.Rename("/d/copy", "/d/in"))
	copied, _, err := drain(t, openSource(t, env, set, resume), 100)
	must(t, err)
	if !slices.Equal(texts(copied), []string{"one", "two"}) {
		t.Errorf("a copy gave %v", texts(copied))
	}

	put(t, fsys, "/d/in2", "one\ntwo\n")
	set = transports.Settings{"path": "in2"}
	_, resume, err = drain(t, openSource(t, env, set, nil), 100)
	must(t, err)
	put(t, fsys, "/d/in2", "other\nlines\n") // the same inode
	other, _, err := drain(t, openSource(t, env, set, resume), 100)
	must(t, err)
	if !slices.Equal(texts(other), []string{"other", "lines"}) {
		t.Errorf("the same inode with other contents gave %v", texts(other))
	}
}

func TestRenamedFileGoesOn(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "/d/a.x", "one\ntwo\n")
	env, set := testEnv(t, fsys), transports.Settings{"path": "*.x"}
	_, resume, err := drain(t, openSource(t, env, set, nil), 100)
	must(t, err)
	must(t, fsys.Rename("/d/a.x", "/d/b.x"))
	add(t, fsys, "/d/b.x", "three\n")
	have, _, err := drain(t, openSource(t, env, set, resume), 100)
	must(t, err)
	if !slices.Equal(texts(have), []string{"three"}) {
		t.Errorf("have %v, want three", texts(have))
	}
}

// A read error is fatal, names path and offset, and loses nothing: what came
// before is given, and the next start goes on there.
func TestReadErrorNamesPathAndOffset(t *testing.T) {
	text, lines := manyLines(500)
	for _, kind := range []string{"none", "gzip"} {
		failed := 0
		for k := uint64(1); ; k++ {
			mem := vfs.NewMem()
			put(t, mem, "/d/in", pack(t, kind, text))
			faults := vfs.NewFaults(mem, vfs.Fault{At: k, Err: syscall.EIO})
			src, err := New().NewSource(testEnv(t, faults), transports.Settings{"path": "in"})
			must(t, err)
			s := src.(*source)
			if err := s.Open(t.Context(), nil, nil); err != nil {
				if !errors.Is(err, transports.ErrFatal) || !strings.Contains(err.Error(), "/d/in") {
					t.Errorf("k %d: open: %v", k, err)
				}
				continue
			}
			have, resume, err := drain(t, s, 4096)
			must(t, s.Close(t.Context()))
			if err == nil {
				if !slices.Equal(texts(have), lines) {
					t.Errorf("k %d: no error and %d events", k, len(have))
				}
				if faults.Ops() < k {
					break
				}
				continue
			}
			failed++
			if !errors.Is(err, transports.ErrFatal) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "/d/in") {
				t.Fatalf("k %d: %v", k, err)
			}
			if len(have) > 0 && !strings.Contains(err.Error(), "at byte") {
				t.Errorf("k %d: %v does not say where", k, err)
			}
			rest, _, err := drain(t, openSource(t, testEnv(t, mem), transports.Settings{"path": "in"}, resume), 4096)
			must(t, err)
			if all := append(texts(have), texts(rest)...); !slices.Equal(all, lines) {
				t.Errorf("k %d: %d events before and %d after the error, want %d", k, len(have), len(rest), len(lines))
			}
		}
		if failed < 3 {
			t.Errorf("%s: only %d runs met the error", kind, failed)
		}
	}
}

func TestSinkPathChanges(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "/d/b", "was here\n")
	env := testEnv(t, fsys)
	s := openSink(t, env, transports.Settings{"path": "a"}, transports.Mark{})
	m := stage(t, s, "one")
	must(t, s.Publish(m))
	stage(t, s, "uncommitted")
	must(t, s.Close(t.Context()))
	for range 2 { // a crash before the first commit at the new path
		s = openSink(t, env, transports.Settings{"path": "b"}, m)
		stage(t, s, "uncommitted")
		must(t, s.Close(t.Context()))
	}
	s = openSink(t, env, transports.Settings{"path": "b"}, m)
	m = stage(t, s, "two")
	must(t, s.Publish(m))
	must(t, s.Close(t.Context()))
	s = openSink(t, env, transports.Settings{"path": "b"}, m)
	must(t, s.Close(t.Context()))
	if a, b := get(t, fsys, "/d/a"), get(t, fsys, "/d/b"); a != "one\n" || b != "was here\ntwo\n" || m.Entries != 2 {
		t.Errorf("a holds %q, b holds %q, mark %+v", a, b, m)
	}
}

// A rotated file may be taken away as soon as it has its name.
func TestRotatedFileMayBeTakenAway(t *testing.T) {
	fsys := vfs.NewMem()
	env, set := testEnv(t, fsys), transports.Settings{"path": "out/a", "rotate_size": int64(4), "name": "a{number}"}
	s := openSink(t, env, set, transports.Mark{})
	m := stage(t, s, "one")
	must(t, s.Publish(m))
	stage(t, s, "uncommitted")
	must(t, s.Close(t.Context()))
	must(t, fsys.Remove("/d/out/a000001"))
	s = openSink(t, env, set, m)
	m = stage(t, s, "two")
	must(t, s.Close(t.Context()))
	if have := get(t, fsys, "/d/out/a"); have != "two\n" || m.File != 2 || m.Entries != 2 {
		t.Errorf("file holds %q, mark %+v", have, m)
	}
}

// Before the first commit the file may be replaced: nothing of the new one is ours to cut.
func TestReplacedFileIsNotCut(t *testing.T) {
	fsys := vfs.NewMem()
	env, set := testEnv(t, fsys), transports.Settings{"path": "a"}
	s := openSink(t, env, set, transports.Mark{})
	stage(t, s, "uncommitted")
	must(t, s.Close(t.Context()))
	put(t, fsys, "/d/new", "somebody's work, longer than ours\n")
	must(t, fsys.Rename("/d/new", "/d/a"))
	s = openSink(t, env, set, transports.Mark{})
	must(t, s.Publish(stage(t, s, "one")))
	must(t, s.Close(t.Context()))
	if have := get(t, fsys, "/d/a"); have != "somebody's work, longer than ours\none\n" {
		t.Errorf("file holds %q", have)
	}
}

// I3: a rotated file holds committed entries only, whatever was appended meanwhile.
func TestRotationWaitsForTheNewestMark(t *testing.T) {
	fsys := vfs.NewMem()
	env, set := testEnv(t, fsys), transports.Settings{"path": "out/a", "rotate_size": int64(4), "name": "a{number}"}
	s := openSink(t, env, set, transports.Mark{})
	m := stage(t, s, "one")
	must(t, s.Append([]byte("two\n"), 1))
	must(t, s.Publish(m))
	if _, err := fsys.Stat("/d/out/a000001"); err == nil {
		t.Error("rotated while uncommitted entries were in the file")
	}
	m, err := s.Sync()
	must(t, err)
	must(t, s.Publish(m))
	must(t, s.Close(t.Context()))
	if have := get(t, fsys, "/d/out/a000001"); have != "one\ntwo\n" {
		t.Errorf("rotated file holds %q", have)
	}
}

func TestSinkNoticesAnotherWriter(t *testing.T) {
	fsys := vfs.NewMem()
	s := openSink(t, testEnv(t, fsys), transports.Settings{"path": "a"}, transports.Mark{})
	must(t, s.Append([]byte("one\n"), 1))
	add(t, fsys, "/d/a", "intruder, longer than what comes\n")
	if _, err := s.Sync(); !errors.Is(err, transports.ErrFatal) || !strings.Contains(err.Error(), "somebody else writes") {
		t.Errorf("sync: %v", err)
	}
	must(t, s.Close(t.Context()))
}

func TestNamedPipe(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip("SKIPPED: named pipes: ", err)
	}
	env := transports.Env{Name: "test", FS: vfs.OS{}, DataDir: dir}
	made, err := New().NewSink(env, transports.Settings{"path": path})
	must(t, err)
	must(t, made.Open(t.Context()))
	batch, results := []transports.Entry{{Data: []byte("one")}, {Data: []byte("two")}}, make([]transports.Result, 2)
	made.Write(t.Context(), batch, results)
	if results[0].Class != transports.Retry {
		t.Errorf("without a reader: %+v, want Retry", results[0])
	}
	src, err := New().NewSource(env, transports.Settings{"path": path, "format": "ndjson"})
	must(t, err)
	if !src.Capabilities().Lossy {
		t.Error("a pipe does not say that it is lossy")
	}
	must(t, src.Open(t.Context(), nil, nil))
	s := src.(*source)
	c := transports.Chunk{Data: make([]byte, 0, 100)}
	must(t, s.ReceiveChunk(t.Context(), &c, 0)) // no writer yet
	made.Write(t.Context(), batch, results)
	if results[0].Class != transports.OK || results[1].Class != transports.OK {
		t.Fatalf("with a reader: %+v", results)
	}
	must(t, s.ReceiveChunk(t.Context(), &c, time.Second))
	if string(c.Data) != "one\ntwo\n" {
		t.Errorf("read %q", c.Data)
	}
	must(t, src.Close(t.Context()))
	made.Write(t.Context(), batch, results)
	if results[0].Class == transports.OK {
		t.Error("after the reader went: OK")
	}
	must(t, made.Close(t.Context()))
}
