package commit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// twoSnapshots returns a closed folder with snapshots of 3 and of 6 tickets of 9.
func twoSnapshots(t *testing.T) (mem *vfs.Mem, begins []uint64) {
	mem = vfs.NewMem()
	tab := newTable()
	l := openLog(t, Config{FS: mem, Dir: "data", SegmentBytes: 100}, tab)
	l.Start()
	for i := range 9 {
		commitOne(t, l, fmt.Sprint(i))
		tab.set(i)
		if i%3 == 2 && i < 8 {
			must(t, l.Snapshot(context.Background()))
		}
	}
	begins = l.begins
	must(t, l.Close(context.Background()))
	return mem, begins
}

// TestDamagedSnapshot flips every byte of the newest snapshot and cuts it
// anywhere: the older one takes its place, and without that it is an alarm.
func TestDamagedSnapshot(t *testing.T) {
	mem, begins := twoSnapshots(t)
	newest, older := "data/snapshots/"+snapName(begins[0]), "data/snapshots/"+snapName(begins[1])
	file, whole := get(t, mem, newest), get(t, mem, older)
	open := func() (numbers, replayed int, err error) {
		tab := newTable()
		l, err := Open(Config{FS: mem, Dir: "data"}, []Table{tab}, func(record []byte, _ time.Duration) error {
			replayed++
			return tab.Load(record)
		})
		if err != nil {
			return 0, 0, err
		}
		return len(tab.has), replayed, l.Close(context.Background())
	}
	if numbers, replayed, err := open(); err != nil || numbers != 9 || replayed != 3 {
		t.Fatalf("whole: %d numbers, %d replayed, %v", numbers, replayed, err)
	}
	for i := range file {
		for _, bad := range [][]byte{file[:i], append(bytes.Clone(file[:i]), file[i]^0x40)} {
			if bad = bytes.Clone(bad); len(bad) > i {
				bad = append(bad, file[i+1:]...)
			}
			put(t, mem, newest, bad)
			if numbers, replayed, err := open(); err != nil || numbers != 9 || replayed != 6 {
				t.Fatalf("damage at byte %d: %d numbers, %d replayed, %v", i, numbers, replayed, err)
			}
		}
	}
	put(t, mem, older, whole[:9])
	if _, _, err := open(); !errors.Is(err, ErrNoState) {
		t.Fatalf("both are damaged and segments were dropped: %v", err)
	}
	put(t, mem, older, whole)
	put(t, mem, "data/snapshots/"+snapName(1000), file)
	if _, _, err := open(); !errors.Is(err, ErrNoState) {
		t.Fatalf("the log ends before the snapshot: %v", err)
	}
}

func FuzzSnapshot(f *testing.F) {
	w := &snapWriter{buf: []byte(snapMagic)}
	w.frame(kindHead, make([]byte, 16))
	w.frame(kindMark, encodeMark(nil, "out", transports.Mark{File: 1}))
	w.frame(kindSlice, []byte{1, 0, 't'}, []byte("slice"))
	w.frame(kindEnd)
	f.Add(w.buf)
	f.Add(w.buf[:40])
	f.Fuzz(func(t *testing.T, data []byte) {
		mem := vfs.NewMem()
		must(t, vfs.EnsureDir(mem, "data/snapshots"))
		put(t, mem, "data/snapshots/"+snapName(0), data)
		l, err := Open(Config{FS: mem, Dir: "data"}, nil, ignore)
		must(t, err) // the log reaches back to the beginning, so damage does no harm
		must(t, l.Close(context.Background()))
	})
}
