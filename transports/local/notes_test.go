package local

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
)

// TestNotesOutliveCrashes crashes at every operation of a pair of note files
// that turn often and are synced now and then: what was synced, or something
// later, is there.
func TestNotesOutliveCrashes(t *testing.T) {
	whole := vfs.NewFaults(vfs.NewMem(), vfs.Fault{})
	if _, _, err := writeNotes(whole); err != nil {
		t.Fatal(err)
	}
	for at := uint64(1); at <= whole.Ops(); at++ {
		for seed := range uint64(8) {
			mem := vfs.NewMem()
			written, synced, err := writeNotes(vfs.NewFaults(mem, vfs.Fault{At: at}))
			if err == nil {
				t.Fatalf("no crash at operation %d", at)
			}
			got, err := lastOf(mem.Crash(seed))
			if err != nil || got < synced || got > written {
				t.Fatalf("crash at operation %d, seed %d: %d (%v), want %d to %d", at, seed, got, err, synced, written)
			}
		}
	}
}

// writeNotes counts up; syncs come where the files turn, and at the end.
func writeNotes(fsys vfs.FS) (written, synced uint64, err error) {
	if err := vfs.EnsureDir(fsys, "/n"); err != nil {
		return 0, 0, err
	}
	body := func(dst []byte) []byte { return binary.LittleEndian.AppendUint64(dst, written) }
	n, err := openNotes(fsys, "/n/x", 200, func([]byte) error { return nil }, body)
	if err != nil {
		return 0, 0, err
	}
	n.limit = 100
	for written < 40 {
		written++
		before := n.current
		if err := n.add(body(nil)); err != nil {
			return written, synced, err
		}
		if n.current != before {
			synced = written
		}
	}
	if err := n.sync(); err != nil {
		return written, synced, err
	}
	return written, written, n.close()
}

func lastOf(fsys vfs.FS) (last uint64, err error) {
	_, err = readNotes(fsys, "/n/x", func(body []byte) error {
		if len(body) != 8 {
			return fmt.Errorf("%d bytes", len(body))
		}
		got := binary.LittleEndian.Uint64(body)
		if got < last {
			return fmt.Errorf("%d after %d", got, last)
		}
		last = got
		return nil
	})
	return last, err
}

func FuzzCutNote(f *testing.F) {
	f.Add(appendNote(appendNote(nil, 1, []byte("first")), 2, nil))
	f.Add(appendNote(nil, 7, appendMark(nil, mark{staged: true})))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for rest := raw; ; {
			body, sequence, after, ok := cutNote(rest)
			if !ok {
				return
			}
			again := appendNote(nil, sequence, body)
			if string(again) != string(rest[:len(again)]) || len(after) != len(rest)-len(again) {
				t.Fatalf("%x was read as note %d of %d bytes", rest, sequence, len(body))
			}
			if m, err := parseMark(body); err == nil && string(appendMark(nil, m)) != string(body) {
				t.Fatalf("mark %x does not survive", body)
			}
			rest = after
		}
	})
}

// TestNotesOutliveAKillThenACrash: after a kill a file can be read that never
// became durable; opening the pair must not empty the other one before it is.
func TestNotesOutliveAKillThenACrash(t *testing.T) {
	whole := vfs.NewFaults(vfs.NewMem(), vfs.Fault{})
	if _, _, err := writeNotes(whole); err != nil {
		t.Fatal(err)
	}
	for killed := uint64(1); killed <= whole.Ops(); killed++ {
		for crashed := uint64(1); crashed <= 16; crashed++ {
			mem := vfs.NewMem()
			written, synced, _ := writeNotes(vfs.NewFaults(mem, vfs.Fault{At: killed}))
			last := uint64(0)
			n, err := openNotes(vfs.NewFaults(mem, vfs.Fault{At: crashed}), "/n/x", 200,
				func(body []byte) error { last = binary.LittleEndian.Uint64(body); return nil },
				func(dst []byte) []byte { return binary.LittleEndian.AppendUint64(dst, last) })
			if err == nil {
				must(t, n.close())
			}
			for seed := range uint64(4) {
				got, err := lastOf(mem.Crash(seed))
				if err != nil || got < synced || got > written {
					t.Fatalf("killed at operation %d, crashed at %d, seed %d: %d (%v), want %d to %d", killed, crashed, seed, got, err, synced, written)
				}
			}
		}
	}
}
