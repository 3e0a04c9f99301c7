package file

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

func TestLinesComeWholeAtAnyCapacity(t *testing.T) {
	text := "\xEF\xBB\xBF{\"a\":1}\r\n\n{\"b\":\"" + strings.Repeat("x", 300) + "\"}\n{\"c\":3}\n\n{\"last\":true}"
	want := splitLines(text[3:], "", 3)
	for _, capacity := range []int{1, 2, 7, 8, 9, 64, 310, 1000, 1 << 16} {
		fsys := vfs.NewMem()
		put(t, fsys, "/d/in.ndjson", text)
		s := openSource(t, testEnv(t, fsys), transports.Settings{"path": "in.ndjson"}, nil)
		have, _, err := drain(t, s, capacity)
		must(t, err)
		for i := range have {
			have[i].partition = ""
		}
		if !slices.Equal(have, want) {
			t.Errorf("capacity %d: have %v, want %v", capacity, have, want)
		}
	}
}

func TestOversizeLineComesCutAndCounted(t *testing.T) {
	const most = 1 << 10 // testEnv's MaxEvent
	for _, ending := range []string{"\n", "\r\n"} {
		for _, size := range []int{most - 1, most, most + 1, most + 2, most + 3, 200_000} {
			fsys := vfs.NewMem()
			line := strings.Repeat("y", size)
			put(t, fsys, "/d/in", "a"+ending+line+ending+"b"+ending)
			s := openSource(t, testEnv(t, fsys), transports.Settings{"path": "in"}, nil)
			have, _, err := drain(t, s, 16)
			must(t, err)
			if len(have) != 3 || have[0].data != "a" || have[2].data != "b" {
				t.Fatalf("size %d: have %d events", size, len(have))
			}
			mid := have[1]
			if size == most+1 && mid.data == line {
				continue // it fitted into the chunk: the engine measures
			}
			if size <= most && (mid.data != line || mid.oversize != 0) {
				t.Errorf("size %d: have %d bytes, oversize %d", size, len(mid.data), mid.oversize)
			}
			if size > most && (mid.data != line[:most] || mid.oversize != int64(size)) {
				t.Errorf("size %d: have %d bytes, oversize %d", size, len(mid.data), mid.oversize)
			}
			if want := uint64(1 + len(ending)); mid.ordinal != want {
				t.Errorf("size %d: ordinal %d, want %d", size, mid.ordinal, want)
			}
		}
	}
}

// I8: whatever position is resumed at, exactly the events after it come, with
// the same partition and ordinals.
func TestResumeAtEveryPosition(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "/d/in", "one\ntwo\n\nthree\nfour")
	env, set := testEnv(t, fsys), transports.Settings{"path": "in"}
	all, _, err := drain(t, openSource(t, env, set, nil), 4)
	must(t, err)
	s := openSource(t, env, set, nil)
	given := 0
	for {
		c := transports.Chunk{Data: make([]byte, 0, 4)}
		if err := s.ReceiveChunk(t.Context(), &c, 0); err != nil {
			break
		}
		for _, edge := range []struct {
			pos  transports.Position
			rest []got
		}{{c.Start, all[given:]}, {c.End, all[given+len(split(&c)):]}} {
			again := openSource(t, env, set, map[string]transports.Position{c.Partition: edge.pos})
			have, _, err := drain(t, again, 1<<16)
			must(t, err)
			if !slices.Equal(have, edge.rest) {
				t.Errorf("resumed: have %v, want %v", have, edge.rest)
			}
		}
		given += len(split(&c))
	}
	if given != len(all) {
		t.Errorf("walked over %d events, want %d", given, len(all))
	}
}

func TestSeveralFilesInSortedOrder(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "/d/in/b.ndjson", "3\n4")
	put(t, fsys, "/d/in/a.ndjson", "1\n2\n")
	put(t, fsys, "/d/in/c.ndjson", "")
	put(t, fsys, "/d/in/d.txt", "no\n")
	put(t, fsys, "/d/in/.hidden.ndjson", "no\n")
	s := openSource(t, testEnv(t, fsys), transports.Settings{"path": "in/*.ndjson"}, nil)
	have, resume, err := drain(t, s, 100)
	must(t, err)
	if want := []string{"1", "2", "3", "4"}; !slices.Equal(texts(have), want) {
		t.Errorf("have %v, want %v", texts(have), want)
	}
	if len(resume) != 2 {
		t.Errorf("%d partitions, want 2", len(resume))
	}
}

func TestSettleKnowsItsPartitions(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "/d/in", "one\n")
	s := openSource(t, testEnv(t, fsys), transports.Settings{"path": "in"}, nil)
	c := transports.Chunk{Data: make([]byte, 0, 64)}
	must(t, s.ReceiveChunk(t.Context(), &c, time.Second))
	errs := s.Settle(t.Context(), []transports.Settlement{
		{Partition: c.Partition, Through: c.End},
		{Partition: "other", Through: c.End},
	})
	if errs[0] != nil || !errors.Is(errs[1], transports.ErrNotHeld) {
		t.Errorf("settle: %v", errs)
	}
}
