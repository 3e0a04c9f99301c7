package commit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
)

// wallClock is a wall clock that tests move.
type wallClock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (c *wallClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *wallClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// TestRetentionByAge: records stay for as long as they are to be kept, and their file
// goes soon after, without any traffic that would make a snapshot due.
func TestRetentionByAge(t *testing.T) {
	clock := &wallClock{at: time.Unix(1_700_000_000, 0)}
	cfg := Config{FS: vfs.NewMem(), Dir: "data", SegmentAge: time.Hour, Now: clock.now}
	l := openLog(t, cfg, newTable())
	l.Retain(Retention{Keep: 8 * time.Hour})
	l.Start()
	for hour := range 30 {
		for i := range 3 {
			commitOne(t, l, fmt.Sprintf("hour %d, %d", hour, i))
		}
		for range 3 {
			must(t, l.Upkeep(context.Background()))
		}
		oldest := oldestWall(t, l)
		if age := clock.now().Sub(oldest); age > 11*time.Hour || hour >= 8 && age < 8*time.Hour {
			t.Fatalf("hour %d: the oldest record is %v old", hour, age)
		}
		clock.pass(time.Hour)
	}
	must(t, l.Close(context.Background()))
	// A lowered bound works on what an earlier run left.
	l = openLog(t, cfg, newTable())
	l.Retain(Retention{Keep: 2 * time.Hour})
	l.Start()
	for range 3 {
		commitOne(t, l, "again")
		must(t, l.Upkeep(context.Background()))
	}
	if age := clock.now().Sub(oldestWall(t, l)); age > 4*time.Hour {
		t.Errorf("with a lowered bound the oldest record is %v old", age)
	}
	must(t, l.Close(context.Background()))
}

func oldestWall(t *testing.T, l *Log) time.Time {
	t.Helper()
	first, _ := l.Held()
	r, err := l.Records(first)
	must(t, err)
	rec, err := r.Next()
	must(t, err)
	must(t, r.Close())
	return rec.Wall
}

// TestRetentionBySizeI1: the log stays within its bound, and a crash at any operation
// while files go loses nothing that was committed and is to be kept.
func TestRetentionBySizeI1(t *testing.T) {
	const bound = 4000
	work := func(fsys vfs.FS) (last int, err error) {
		l, err := Open(Config{FS: fsys, Dir: "data", SegmentBytes: 500, SnapshotEvery: 1000}, nil, ignore)
		if err != nil {
			return 0, err
		}
		defer l.Close(context.Background())
		l.Retain(Retention{Max: bound})
		l.Start()
		for i := range 40 {
			done := make(chan error, 1)
			record := fmt.Sprintf("%03d %s", i, strings.Repeat("r", 150))
			if err := l.Submit(context.Background(), &Ticket{Record: []byte(record), Committed: func(err error) { done <- err }}); err != nil {
				return last, err
			}
			if err := <-done; err != nil {
				return last, err
			}
			last = i
			if i%5 == 4 {
				if err := l.Upkeep(context.Background()); err != nil {
					return last, err
				}
			}
		}
		if size := l.Size(); size > bound+2*500 || size < bound/2 {
			t.Errorf("the log has %d bytes, its bound is %d", size, bound)
		}
		return last, nil
	}
	dry := vfs.NewFaults(vfs.NewMem(), vfs.Fault{})
	if _, err := work(dry); err != nil {
		t.Fatal(err)
	}
	for k := uint64(1); k <= dry.Ops(); k += 3 {
		for _, fault := range []error{nil, syscall.EIO} {
			mem := vfs.NewMem()
			last, _ := work(vfs.NewFaults(mem, vfs.Fault{At: k, Err: fault}))
			var held []string
			l, err := Open(Config{FS: mem.Crash(k), Dir: "data"}, nil, ignore)
			if err != nil {
				t.Fatalf("operation %d: %v", k, err)
			}
			first, _ := l.Held()
			r, err := l.Records(first)
			must(t, err)
			for {
				rec, err := r.Next()
				if err != nil {
					break
				}
				held = append(held, string(rec.Data[:3]))
			}
			must(t, r.Close())
			if len(held) == 0 && last > 0 || len(held) > 0 && (held[len(held)-1] < fmt.Sprintf("%03d", last) || first > 0 && len(held) < bound/2/220) {
				t.Fatalf("operation %d: committed up to %d, held are %v", k, last, held)
			}
			must(t, l.Close(context.Background()))
		}
	}
}
