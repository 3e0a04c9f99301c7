package commit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/segment"
)

// Retention is how much of the log is kept for those who read it back. What recovery
// needs is always kept, and the newest file. The zero value keeps nothing more.
type Retention struct {
	Keep time.Duration // by the wall clock; 0 = records of any age
	Max  int64         // bytes of the log's files; 0 = any size
}

// retention is a Retention at work.
type retention struct {
	mu    sync.Mutex // guards both
	rule  *Retention // nil: nothing is kept beyond what recovery needs
	begun map[uint64]time.Time
}

// Retain sets what Snapshot, Trim and Upkeep keep from now on.
func (l *Log) Retain(r Retention) {
	l.retention.mu.Lock()
	defer l.retention.mu.Unlock()
	l.retention.rule = &r
}

// Upkeep removes the files that are neither needed nor retained. Where only the lack
// of a newer snapshot keeps some of them it takes one first. An engine calls it now
// and then.
func (l *Log) Upkeep(ctx context.Context) error {
	wanted, err := l.wanted()
	if err != nil {
		return err
	}
	needed, first := l.needed(), l.seg.First()
	if droppable(l.seg.Segments(), wanted) > first && needed < wanted {
		return l.Snapshot(ctx) // which trims
	}
	return l.Trim()
}

// droppable is the ordinal up to which whole files lie before an ordinal.
func droppable(files []segment.Info, before uint64) uint64 {
	to := files[0].First
	for _, s := range files[1:] {
		if s.First <= before {
			to = s.First
		}
	}
	return to
}

// Trim removes the files that no kept snapshot needs and that are not retained.
func (l *Log) Trim() error {
	wanted, err := l.wanted()
	if err != nil {
		return err
	}
	first := l.seg.First()
	if err := l.seg.DropBefore(min(wanted, l.needed())); err != nil {
		return fmt.Errorf("trim commit log: %w", err)
	}
	if now := l.seg.First(); now > first {
		l.cfg.Log.Info("the oldest records of the journal were removed", "from", first, "to", now, "records", now-first)
	}
	return nil
}

// needed is the ordinal from which recovery needs the log.
func (l *Log) needed() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.begins) < keepSnapshots {
		return 0
	}
	return l.begins[keepSnapshots-1]
}

// wanted is the ordinal from which the log is retained.
func (l *Log) wanted() (uint64, error) {
	l.retention.mu.Lock()
	defer l.retention.mu.Unlock()
	r := l.retention.rule
	if r == nil {
		return math.MaxUint64, nil
	}
	files, size := l.seg.Segments(), int64(0)
	for _, s := range files {
		size += s.Length
	}
	wanted := files[0].First
	for i := range files[:len(files)-1] {
		if r.Max <= 0 || size <= r.Max {
			// The file's newest record is about as old as the next file's first.
			began, err := l.began(files[i+1])
			if err != nil {
				return 0, err
			}
			if r.Keep <= 0 || began.IsZero() || l.cfg.Now().Sub(began) < r.Keep {
				break
			}
		}
		size -= files[i].Length
		wanted = files[i+1].First
		delete(l.retention.begun, files[i].Number)
	}
	return wanted, nil
}

// began is the wall time of a file's first group; zero where it has none yet. The
// caller holds retention.mu.
func (l *Log) began(s segment.Info) (time.Time, error) {
	if at, ok := l.retention.begun[s.Number]; ok {
		return at, nil
	}
	r, err := newRecords(l.seg, s.First)
	if err != nil {
		return time.Time{}, err
	}
	rec, err := r.next(true)
	if errors.Is(err, segment.ErrCaughtUp) || errors.Is(err, segment.ErrClosed) {
		return time.Time{}, r.Close()
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return time.Time{}, fmt.Errorf("age of the commit log's segment %d: %w", s.Number, err)
	}
	if l.retention.begun == nil {
		l.retention.begun = map[uint64]time.Time{}
	}
	l.retention.begun[s.Number] = rec.Wall
	return rec.Wall, nil
}

// turnByAge goes on in a new file where the newest has been written for longer than
// Config.SegmentAge, so that files get old enough to be removed.
func (l *Log) turnByAge(now time.Time) error {
	w := &l.writer
	if l.cfg.SegmentAge <= 0 {
		return nil
	}
	if file := l.seg.End().File; file != w.aging {
		w.aging, w.began = file, now
		return nil
	}
	if now.Sub(w.began) < l.cfg.SegmentAge {
		return nil
	}
	w.began = now
	return l.seg.Rotate()
}
