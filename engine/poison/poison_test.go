package poison

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
)

var update = flag.Bool("update", false, "write golden files")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, fsys vfs.FS, lanes int) *Watch {
	t.Helper()
	w, err := Open(Config{FS: fsys, Dir: "/d", Lanes: lanes})
	must(t, err)
	return w
}

// work is what a lane does with a batch, up to where the process dies of an event.
func work(w *Watch, lane int, batch []ID, deadly func(ID) bool) (died bool) {
	s := w.Slot(lane)
	run := func(list []ID) bool {
		for i, id := range list {
			s.Note(i, id.Hi, id.Lo)
		}
		s.Begin(len(list))
		for _, id := range list {
			if deadly(id) {
				return true
			}
		}
		s.End()
		return false
	}
	if !w.Hunting() {
		return run(batch)
	}
	for _, id := range batch {
		switch w.Standing(id) {
		case Quarantined:
			w.Forget(id)
		case Suspect:
			w.Alone(func() { died = run([]ID{id}) })
			if died {
				return true
			}
			w.Forget(id)
		case Clear:
			w.Beside(func() { died = run([]ID{id}) })
			if died {
				return true
			}
		}
	}
	return false
}

// TestI17OnlyTheDeadlyEventIsQuarantined: whatever stands beside it, in its batch or in
// other lanes, and however many deadly ones there are.
func TestI17OnlyTheDeadlyEventIsQuarantined(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		mem := vfs.NewMem()
		deadly := map[ID]bool{}
		var batches [][]ID
		n := 0
		for range 1 + rng.IntN(6) {
			var batch []ID
			for range 1 + rng.IntN(SlotEvents) {
				n++
				id := ID{uint64(n), rng.Uint64()}
				deadly[id] = rng.IntN(40) == 0
				batch = append(batch, id)
			}
			batches = append(batches, batch)
		}
		lanes := 1 + rng.IntN(4)
		ran := map[ID]int{}
		quarantined := map[ID]bool{}
		for starts := 0; ; starts++ {
			if starts > 3*n+3 {
				t.Fatalf("seed %d: it never gets through", seed)
			}
			w := open(t, mem, lanes)
			died := false
			for i, batch := range batches {
				for _, id := range batch {
					if w.Standing(id) == Quarantined {
						quarantined[id] = true
					}
				}
				if died = work(w, i%lanes, batch, func(id ID) bool {
					if quarantined[id] {
						return false
					}
					ran[id]++
					return deadly[id]
				}); died {
					break
				}
			}
			if !died {
				must(t, w.Close())
				break
			}
			mem.Kill() // nothing is closed
		}
		for id, d := range deadly {
			if d != quarantined[id] || d && (ran[id] > Strikes || ran[id] < Strikes-1) {
				t.Fatalf("seed %d: event %v is deadly: %v; quarantined: %v after %d runs", seed, id, d, quarantined[id], ran[id])
			}
		}
		w := open(t, mem, lanes)
		if w.Hunting() {
			t.Fatalf("seed %d: there are suspects after a clean end: %v", seed, w.suspects)
		}
		must(t, w.Close())
	}
}

// TestSuspectsThatDoNotComeBackAreForgotten, and a clean end leaves none at work.
func TestSuspectsThatDoNotComeBackAreForgotten(t *testing.T) {
	mem := vfs.NewMem()
	w := open(t, mem, 2)
	w.Slot(1).Note(0, 7, 8)
	w.Slot(1).Begin(1)
	for start := range maxStarts + 1 {
		w = open(t, mem, 1+start%3)
		if got := w.Standing(ID{7, 8}); got != Suspect || !w.Hunting() {
			t.Fatalf("start %d: %v", start, got)
		}
		must(t, w.Close())
	}
	w = open(t, mem, 1)
	if w.Hunting() {
		t.Fatal("it is a suspect for ever")
	}
	must(t, w.Close())
}

func TestTallyIsPinned(t *testing.T) {
	b := appendTally(nil, map[ID]*suspect{{2, 1}: {strikes: 3}, {1, 9}: {strikes: 1, starts: 4}})
	const golden = "testdata/tally.golden"
	text := fmt.Sprintf("%x\n", b)
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(golden, []byte(text), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if text != string(want) {
		t.Fatalf("the format has changed:\n%s", text)
	}
}

// TestCrashAtEveryOperation: the files never keep an engine from starting.
func TestCrashAtEveryOperation(t *testing.T) {
	life := func(fsys vfs.FS) error {
		for range 3 {
			w, err := Open(Config{FS: fsys, Dir: "/d", Lanes: 2})
			if err != nil {
				return err
			}
			w.Slot(0).Note(0, 1, 2)
			w.Slot(0).Begin(1)
			w.Forget(ID{1, 2})
			if err := w.Save(); err != nil {
				return err
			}
		}
		return nil
	}
	dry := vfs.NewFaults(vfs.NewMem(), vfs.Fault{})
	must(t, life(dry))
	for k := uint64(1); k <= dry.Ops(); k++ {
		mem := vfs.NewMem()
		if err := life(vfs.NewFaults(mem, vfs.Fault{At: k})); err == nil {
			t.Fatalf("operation %d: no crash", k)
		}
		for seed := range uint64(4) {
			must(t, open(t, mem.Crash(seed), 3).Close())
		}
	}
}

func FuzzFiles(f *testing.F) {
	f.Add(appendTally(nil, map[ID]*suspect{{2, 1}: {strikes: 3}}))
	f.Add(append([]byte(runMagic), make([]byte, 2000)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, ok := parseTally(b); ok && len(list) > maxSuspects {
			t.Fatal("too many suspects")
		}
		if len(readSlots(b)) > SlotEvents*(len(b)/slotBytes) {
			t.Fatal("more events than slots hold")
		}
	})
}

func BenchmarkNote(b *testing.B) {
	w := open(b, vfs.NewMem(), 1)
	s := w.Slot(0)
	b.ReportAllocs()
	for b.Loop() {
		for i := range SlotEvents {
			s.Note(i, uint64(i), 7)
		}
		s.Begin(SlotEvents)
		s.End()
	}
	must(b, w.Close())
}
