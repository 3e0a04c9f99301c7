package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/vfs"
)

// each runs a test on every implementation with a folder of its own.
func each(t *testing.T, run func(t *testing.T, fsys vfs.FS, dir string)) {
	t.Run("os", func(t *testing.T) { run(t, vfs.OS{}, t.TempDir()) })
	mem := func(t *testing.T) *vfs.Mem {
		m := vfs.NewMem()
		must(t, m.MkdirAll("/top"))
		return m
	}
	t.Run("mem", func(t *testing.T) { run(t, mem(t), "/top") })
	t.Run("faults", func(t *testing.T) { run(t, vfs.NewFaults(mem(t), vfs.Fault{}), "/top") })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, f vfs.File) string {
	t.Helper()
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		t.Fatalf("read %d of %d: %v", n, len(b), err)
	}
	return string(b)
}

func put(t testing.TB, fsys vfs.FS, name, data string) {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.Write([]byte(data))
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func TestFilesAndNames(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		at := func(name string) string { return filepath.Join(dir, name) }
		put(t, fsys, at("a"), "hello")
		f, err := fsys.Append(at("a"))
		must(t, err)
		_, err = f.Write([]byte(" world"))
		must(t, err)
		if got := content(t, f); got != "hello world" {
			t.Fatalf("after Append: %q", got)
		}
		must(t, f.Truncate(3))
		_, err = f.Write([]byte("p!"))
		must(t, err)
		if got := content(t, f); got != "help!" {
			t.Fatalf("write after a cut: %q", got)
		}
		must(t, f.Truncate(8))
		if got := content(t, f); got != "help!\x00\x00\x00" {
			t.Fatalf("extended: %q", got)
		}
		_, err = f.Write([]byte("x"))
		must(t, err)
		if got := content(t, f); got != "help!x\x00\x00" {
			t.Fatalf("extending moves no write position: %q", got)
		}
		if _, err := f.ReadAt(make([]byte, 4), 6); !errors.Is(err, io.EOF) {
			t.Fatalf("short read: %v", err)
		}
		before, err := fsys.Stat(at("a"))
		must(t, err)
		must(t, fsys.Rename(at("a"), at("b")))
		after, err := fsys.Stat(at("b"))
		must(t, err)
		if before.ID != after.ID || before.ID == [2]uint64{} || after.Size != 8 {
			t.Fatalf("a rename keeps the ID: %+v, %+v", before, after)
		}
		put(t, fsys, at("c"), "new")
		must(t, fsys.Rename(at("c"), at("b")))
		if got := content(t, f); got != "help!x\x00\x00" {
			t.Fatalf("an open file outlives its name: %q", got)
		}
		must(t, f.Close())
		names, err := fsys.List(dir)
		must(t, err)
		if !slices.Equal(names, []string{"b"}) {
			t.Fatalf("List: %v", names)
		}
		must(t, fsys.MkdirAll(at("x/y")))
		must(t, vfs.EnsureDir(fsys, at("x/y/z/zz")))
		must(t, fsys.SyncDir(at("x/y/z/zz")))
		if st, err := fsys.Stat(at("x/y")); err != nil || !st.Dir {
			t.Fatalf("folder: %+v %v", st, err)
		}
		for name, err := range map[string]error{
			"open":   second(fsys.Open(at("none"))),
			"create": second(fsys.Create(at("no/folder"))),
			"stat":   second(fsys.Stat(at("none"))),
			"list":   second(fsys.List(at("none"))),
			"remove": fsys.Remove(at("none")),
			"rename": fsys.Rename(at("none"), at("d")),
		} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s of nothing: %v", name, err)
			}
		}
		r, err := fsys.Open(at("b"))
		must(t, err)
		if _, err := r.Write([]byte("x")); err == nil {
			t.Error("wrote to a file that is open for reading")
		}
		must(t, r.Close())
		must(t, fsys.Remove(at("b")))
		if n, err := fsys.Free(dir); err != nil || n <= 0 {
			t.Errorf("Free: %d %v", n, err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestLockHasOneHolder(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "LOCK")
		lock, err := fsys.Lock(name)
		must(t, err)
		_, err = fsys.Lock(name)
		if !errors.Is(err, vfs.ErrLocked) {
			t.Fatalf("second holder: %v", err)
		}
		if _, real := fsys.(vfs.OS); real && !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
			t.Fatalf("the error names no holder: %v", err)
		}
		must(t, lock.Close())
		lock, err = fsys.Lock(name)
		must(t, err)
		must(t, lock.Close())
	})
}

func TestMemForgetsWhatWasNotSynced(t *testing.T) {
	lost, kept := 0, 0
	for seed := range uint64(200) {
		m := vfs.NewMem()
		must(t, vfs.EnsureDir(m, "/d"))
		put(t, m, "/d/synced", "yes")
		must(t, m.SyncDir("/d"))
		put(t, m, "/d/unnamed", "who")
		f, err := m.Append("/d/synced")
		must(t, err)
		_, err = f.Write([]byte("+tail"))
		must(t, err)
		must(t, m.Remove("/d/synced"))
		must(t, m.MkdirAll("/e"))

		c := m.Crash(seed)
		r, err := c.Open("/d/synced")
		if err != nil {
			continue // the removal, not synced, may have come through
		}
		got := content(t, r)
		if !strings.HasPrefix(got, "yes") {
			t.Fatalf("seed %d: synced bytes are %q", seed, got)
		}
		if got == "yes" {
			lost++
		}
		if got == "yes+tail" {
			kept++
		}
		if u, err := c.Open("/d/unnamed"); err == nil && content(t, u) != "who" {
			t.Fatalf("seed %d: synced contents under an unsynced name are torn", seed)
		}
	}
	if lost == 0 || kept == 0 {
		t.Fatalf("chance is none: lost %d, kept %d", lost, kept)
	}
}

func TestFailedSyncLosesForGood(t *testing.T) {
	for seed := range uint64(50) {
		m := vfs.NewMem()
		f := vfs.NewFaults(m, vfs.Fault{At: 3, Err: syscall.EIO})
		file, err := f.Create("x")
		must(t, err)
		_, err = file.Write([]byte("lost"))
		must(t, err)
		if err := file.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("sync: %v", err)
		}
		must(t, file.Sync()) // Linux says yes, and nothing was written
		must(t, f.SyncDir("."))
		r, err := m.Open("x")
		must(t, err)
		if got := content(t, r); got != "lost" {
			t.Fatalf("the cache still has it: %q", got)
		}
		r, err = m.Crash(seed).Open("x")
		must(t, err)
		if got := content(t, r); got != "" {
			t.Fatalf("seed %d: a power cut keeps %q", seed, got)
		}
	}
}

func TestFaultsStopEverything(t *testing.T) {
	m := vfs.NewMem()
	f := vfs.NewFaults(m, vfs.Fault{At: 2})
	file, err := f.Create("x")
	must(t, err)
	for i, err := range []error{second(file.Write([]byte("a"))), file.Sync(), second(f.List(".")), f.Rename("x", "y")} {
		if !errors.Is(err, vfs.ErrCrashed) {
			t.Fatalf("operation %d after the crash: %v", i, err)
		}
	}
	if f.Ops() != 5 || !f.Crashed() {
		t.Fatalf("%d operations, crashed %v", f.Ops(), f.Crashed())
	}
}

func TestFullDisk(t *testing.T) {
	f := vfs.NewFaults(vfs.NewMem(), vfs.Fault{Limited: true, Room: 5, Full: syscall.ENOSPC})
	file, err := f.Create("x")
	must(t, err)
	n, err := file.Write([]byte("1234567"))
	if n != 5 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if free, err := f.Free("."); err != nil || free != 0 {
		t.Fatalf("free %d %v", free, err)
	}
}

// A file of Mem reads as a plain byte slice does, and after a crash it has at
// least the bytes that were synced where nothing was written over them.
func TestMemAgainstSlice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := vfs.NewMem()
		f, err := m.Create("x")
		if err != nil {
			rt.Fatal(err)
		}
		if err := m.SyncDir("."); err != nil {
			rt.Fatal(err)
		}
		var model, synced []byte
		at := 0
		for i := range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, fmt.Sprint("step ", i)) {
			case 0, 1:
				p := rapid.SliceOfN(rapid.Byte(), 0, 1500).Draw(rt, "bytes")
				if _, err := f.Write(p); err != nil {
					rt.Fatal(err)
				}
				if end := at + len(p); end > len(model) {
					model = append(model, make([]byte, end-len(model))...)
				}
				at += copy(model[at:], p)
			case 2:
				size := rapid.IntRange(0, len(model)+100).Draw(rt, "size")
				if err := f.Truncate(int64(size)); err != nil {
					rt.Fatal(err)
				}
				model = append(model[:min(size, len(model))], make([]byte, max(0, size-len(model)))...)
				at = min(at, size)
			case 3:
				if err := f.Sync(); err != nil {
					rt.Fatal(err)
				}
				synced = slices.Clone(model)
			}
		}
		if got := content(t, f); got != string(model) {
			rt.Fatalf("reads %q, want %q", got, model)
		}
		if err := f.Sync(); err != nil {
			rt.Fatal(err)
		}
		r, err := m.Crash(rapid.Uint64().Draw(rt, "seed")).Open("x")
		if err != nil {
			rt.Fatal(err)
		}
		if got := content(t, r); !bytes.Equal([]byte(got), model) {
			rt.Fatalf("after sync and crash %q, want %q (synced before: %q)", got, model, synced)
		}
	})
}
