package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
)

// TestLookShowsOnlyWhatIsDurable: what a reader from outside has been shown is there
// after any crash, also what the writer has not synced yet (I3).
func TestLookShowsOnlyWhatIsDurable(t *testing.T) {
	for seed := range uint64(50) {
		mem := vfs.NewMem()
		l := open(t, Config{FS: mem, Dir: "log", SegmentBytes: 300})
		for i := range 9 {
			must(t, add(l, fmt.Sprintf("entry %d", i)))
			if i%4 == 0 {
				must(t, l.Sync())
			}
		}
		seen, err := Look(Config{FS: mem, Dir: "log"})
		must(t, err)
		shown, err := read(seen, 0)
		must(t, err)
		must(t, seen.Close())
		if len(shown) != 9 {
			t.Fatalf("%d entries are shown, want 9", len(shown))
		}
		crashed := open(t, Config{FS: mem.Crash(seed), Dir: "log"})
		left, err := read(crashed, 0)
		must(t, err)
		if len(left) < len(shown) {
			t.Fatalf("seed %d: %d entries were shown, %d are left", seed, len(shown), len(left))
		}
	}
}

// TestLookChangesNothingAndFollows: it takes no lock, removes nothing, sees what comes,
// and cannot write.
func TestLookChangesNothingAndFollows(t *testing.T) {
	mem := vfs.NewMem()
	if _, err := Look(Config{FS: mem, Dir: "log"}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no folder: %v", err)
	}
	l := open(t, Config{FS: mem, Dir: "log", SegmentBytes: 200})
	put(t, mem, "log/00000000000000000099.seg.tmp", []byte("half"))
	seen, err := Look(Config{FS: mem, Dir: "log"})
	must(t, err)
	defer func() { must(t, seen.Close()) }()
	for i := range 20 {
		must(t, add(l, fmt.Sprintf("entry %d", i)))
		must(t, seen.Refresh())
		list, err := read(seen, 0)
		must(t, err)
		if len(list) != i+1 {
			t.Fatalf("%d entries after %d", len(list), i+1)
		}
	}
	l.Publish(l.End())
	must(t, l.Sync())
	must(t, l.DropBefore(15))
	must(t, seen.Refresh())
	if seen.First() != l.First() || seen.First() == 0 {
		t.Errorf("the oldest entry is %d, want %d", seen.First(), l.First())
	}
	if _, err := seen.Reader(0); !errors.Is(err, ErrDropped) {
		t.Errorf("dropped entries: %v", err)
	}
	if err := add(seen, "x"); !errors.Is(err, ErrReadOnly) {
		t.Errorf("append: %v", err)
	}
	if _, err := mem.Stat("log/00000000000000000099.seg.tmp"); err != nil {
		t.Errorf("an unfinished file was removed: %v", err)
	}
}

// TestLookAtAFileThatIsUsedAgain: a reader from outside is in a file while it is dropped
// and written over: that is no damage.
func TestLookAtAFileThatIsUsedAgain(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, Config{FS: mem, Dir: "log", SegmentBytes: 400})
	fill := func(n int) {
		for range n {
			must(t, add(l, "an entry that takes some room"))
			must(t, l.Sync())
		}
		l.Publish(l.End())
	}
	fill(20)
	for from := range uint64(4) {
		seen, err := Look(Config{FS: mem, Dir: "log"})
		must(t, err)
		r, err := seen.Reader(seen.First() + from)
		must(t, err)
		_, _, err = r.Next()
		must(t, err)
		must(t, l.DropBefore(l.End().Entries))
		fill(20)
		for err == nil {
			_, _, err = r.Next()
		}
		if !errors.Is(err, ErrDropped) && !errors.Is(err, ErrCaughtUp) {
			t.Errorf("from entry %d: %v", from, err)
		}
		must(t, r.Close())
		must(t, seen.Close())
	}
}

// TestReaderAt opens at each group that a reader has met, and nowhere else.
func TestReaderAt(t *testing.T) {
	l := open(t, Config{FS: vfs.NewMem(), Dir: "log", SegmentBytes: 300})
	for i := range 12 {
		must(t, add(l, fmt.Sprintf("entry %d", i), "second"))
	}
	l.Publish(l.End())
	r, err := l.Reader(0)
	must(t, err)
	var groups []Group
	for {
		if _, _, err := r.Next(); errors.Is(err, ErrCaughtUp) {
			break
		}
		if g := r.Group(); len(groups) == 0 || groups[len(groups)-1] != g {
			groups = append(groups, g)
		}
	}
	must(t, r.Close())
	for i, g := range groups {
		at, err := l.ReaderAt(g)
		must(t, err)
		e, ordinal, err := at.Next()
		must(t, err)
		if want := fmt.Sprintf("entry %d", i); string(e) != want || ordinal != g.First {
			t.Errorf("group %d: %q at %d, want %q at %d", i, e, ordinal, want, g.First)
		}
		must(t, at.Close())
		for _, wrong := range []Group{
			{g.Sequence, g.Segment, g.Offset + 1, g.First, g.Count},
			{g.Sequence + 1, g.Segment, g.Offset, g.First, g.Count},
			{g.Sequence, g.Segment + 1, g.Offset, g.First, g.Count},
			{g.Sequence, g.Segment, g.Offset, g.First + 1, g.Count},
			{g.Sequence, g.Segment, 1 << 40, g.First, g.Count},
		} {
			if _, err := l.ReaderAt(wrong); !errors.Is(err, ErrMoved) {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
	}
}
