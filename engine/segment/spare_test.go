package segment

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
)

// recycled returns a log whose newest file is written over an earlier one that was
// full of groups of the same size, and how many entries it holds from first on.
func recycled(t *testing.T, mem *vfs.Mem) (l *Log, entries int) {
	t.Helper()
	l = open(t, Config{FS: mem, Dir: "log", SegmentBytes: 400})
	for l.End().File < 4 {
		must(t, add(l, fmt.Sprintf("entry %03d %s", entries, strings.Repeat("z", 40))))
		entries++
		must(t, l.Sync())
		l.Publish(l.End())
		must(t, l.DropBefore(l.End().Entries-1))
	}
	if !l.tail {
		t.Fatal("the newest file is not a recycled one")
	}
	return l, entries
}

func TestDroppedFileIsWrittenOver(t *testing.T) {
	mem := vfs.NewMem()
	var made []string
	l := open(t, Config{FS: vfs.NewFaults(mem, vfs.Fault{Seen: func(_ uint64, op, name string) {
		if op == "create" || op == "remove" {
			made = append(made, op)
		}
	}}), Dir: "log", SegmentBytes: 400})
	for i := range 60 {
		must(t, add(l, fmt.Sprint("entry ", i), strings.Repeat("z", 30)))
		l.Publish(l.End())
		must(t, l.DropBefore(l.End().Entries))
	}
	if !slices.Equal(made, []string{"create", "create"}) {
		t.Errorf("%d files in turn: %v, want two that take turns", l.End().File, made)
	}
	must(t, l.Close())
	names, err := mem.List("log")
	must(t, err)
	if len(names) != 2 {
		t.Errorf("files: %v", names)
	}
}

// TestI2BytesOfAnEarlierUseArePassedOver: whatever of the last group reached a file
// that holds whole groups of an earlier use, nothing of that use comes back.
func TestI2BytesOfAnEarlierUseArePassedOver(t *testing.T) {
	mem := vfs.NewMem()
	l, entries := recycled(t, mem)
	name, from := path("log", l.End().File), l.End().Length
	old := get(t, mem, name)
	must(t, add(l, fmt.Sprintf("entry %03d %s", entries, strings.Repeat("z", 40))))
	file, to := get(t, mem, name), l.End().Length
	for at := from; at <= to; at++ {
		torn := append(bytes.Clone(file[:at]), old[at:]...)
		again := mem.Crash(1)
		put(t, again, name, torn)
		l, err := Open(Config{FS: again, Dir: "log"})
		if err != nil {
			t.Fatalf("torn at %d: %v", at, err)
		}
		got, err := read(l, l.First())
		// The last bytes may be the same in both uses.
		same := bytes.Equal(torn, file)
		if n := int(l.First()) + len(got); err != nil || n != entries && (!same || n != entries+1) {
			t.Fatalf("torn at %d: %d entries of %d: %v", at, n, entries, err)
		}
		if rec := l.Recovery(); at == from && (rec.Begun || rec.Offset != from) || at >= from+16 && !same && !rec.Begun {
			t.Fatalf("torn at %d: %+v", at, rec)
		}
		must(t, l.Close())
	}
	must(t, l.Close())
	if size := len(get(t, mem, name)); int64(size) != to {
		t.Errorf("after Close the file has %d bytes, the log ends at %d", size, to)
	}
}

// TestI2CutGroupsDoNotComeBack: groups that a Restore cut have higher sequences than
// what is written over them, and say that they were durable.
func TestI2CutGroupsDoNotComeBack(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, Config{FS: mem, Dir: "log", SegmentBytes: 1000})
	for i := range 10 {
		must(t, add(l, fmt.Sprint("entry ", i)))
		must(t, l.Sync())
	}
	must(t, l.Restore(Mark{File: 1, Entries: 1}))
	must(t, add(l, strings.Repeat("long", 230)))
	l.Publish(l.End())
	must(t, l.DropBefore(1))
	must(t, add(l, "in file 3"))
	must(t, l.Sync())
	if l.End().File != 3 || !l.tail {
		t.Fatalf("the end is %+v, written over another file: %v", l.End(), l.tail)
	}
	again := open(t, Config{FS: mem, Dir: "log"})
	got, err := read(again, 1)
	if err != nil || len(got) != 2 || got[1] != "in file 3" {
		t.Fatalf("%.20q %v", got, err)
	}
	must(t, again.Close())
	must(t, l.Close())
}

// TestReaderOfADroppedFileMayFinishIt: a file that is read is not written over.
func TestReaderOfADroppedFileMayFinishIt(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, Config{FS: mem, Dir: "log", SegmentBytes: 400})
	for i := range 4 {
		must(t, add(l, fmt.Sprint("entry ", i), strings.Repeat("z", 60)))
	}
	l.Publish(l.End())
	r, err := l.Reader(0)
	must(t, err)
	for i := range 40 {
		must(t, add(l, fmt.Sprint("later ", i), strings.Repeat("y", 60)))
		l.Publish(l.End())
		must(t, l.DropBefore(l.End().Entries))
	}
	for n := 0; ; n++ {
		entry, _, err := r.Next()
		if errors.Is(err, ErrDropped) && n >= 4 {
			break
		}
		if err != nil {
			t.Fatalf("entry %d: %v", n, err)
		}
		if n%2 == 0 && string(entry) != fmt.Sprint("entry ", n/2) {
			t.Fatalf("entry %d is %q", n, entry)
		}
	}
	must(t, r.Close())
	must(t, r.Close())
	before := l.End().File
	for l.End().File < before+2 {
		must(t, add(l, strings.Repeat("x", 60)))
	}
	if len(l.reading) != 0 || l.spare != 0 {
		t.Errorf("with no reader left the spare is still there: %d, %v", l.spare, l.reading)
	}
	must(t, l.Close())
}

// TestReaderAtTheEndOfADroppedFileGoesOn: it has read all of a file that was the newest
// then; nothing that it still has to read was dropped.
func TestReaderAtTheEndOfADroppedFileGoesOn(t *testing.T) {
	l := open(t, Config{FS: vfs.NewMem(), Dir: "log", SegmentBytes: 200})
	must(t, add(l, "read"))
	l.Publish(l.End())
	r, err := l.Reader(0)
	must(t, err)
	if _, _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	must(t, add(l, strings.Repeat("next ", 40)))
	l.Publish(l.End())
	must(t, l.DropBefore(1))
	if l.First() != 1 {
		t.Fatalf("the oldest is %d", l.First())
	}
	entry, n, err := r.Next()
	if err != nil || n != 1 || !strings.HasPrefix(string(entry), "next") {
		t.Fatalf("entry %d, %.10q: %v", n, entry, err)
	}
	must(t, r.Close())
	must(t, l.Close())
}

func TestSpareOfAnEarlierRun(t *testing.T) {
	mem := vfs.NewMem()
	l, entries := recycled(t, mem)
	must(t, l.Close())
	put(t, mem, spareName("log", 1), make([]byte, 1000))
	put(t, mem, spareName("log", 2), []byte("damaged"))
	l = open(t, Config{FS: mem, Dir: "log", SegmentBytes: 200})
	for range 4 {
		must(t, add(l, strings.Repeat("x", 150)))
	}
	got, err := read(l, l.First())
	if err != nil || int(l.First())+len(got) != entries+4 {
		t.Fatalf("%d entries from %d: %v", len(got), l.First(), err)
	}
	names, err := mem.List("log")
	must(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, spareSuffix) {
			t.Errorf("%s was not used", name)
		}
	}
	must(t, l.Close())
}
