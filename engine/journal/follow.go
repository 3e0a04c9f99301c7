package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/segment"
)

// Follow gives the lines that a query chooses among those committed from now on,
// until ctx ends or yield returns an error.
func (j *Journal) Follow(ctx context.Context, q Query, yield func(*Line) error) error {
	_, from := j.cfg.Store.Held()
	return j.FollowFrom(ctx, q, from, yield)
}

// FollowFrom is Follow from an ordinal of the commit log on. Where retention removes
// records before a slow reader gets to them it ends with segment.ErrDropped.
func (j *Journal) FollowFrom(ctx context.Context, q Query, from uint64, yield func(*Line) error) error {
	q.Oldest = true
	if err := q.Validate(); err != nil {
		return err
	}
	s := &search{j: j, m: newMatcher(&q), names: newNames(), parts: j.parts()}
	s.names.find = func(epoch, number uint64) error { return s.findNames(ctx, epoch, number) }
	left := q.Limit
	for {
		if err := j.cfg.Store.Wait(ctx, from); err != nil {
			return err
		}
		s.parts = j.parts()
		_, end := j.cfg.Store.Held()
		err := s.readAll(ctx, run{from: from, to: end}, func(l *Line) error {
			if err := yield(l); err != nil {
				return err
			}
			if left--; left == 0 {
				return errLimit
			}
			return nil
		})
		if errors.Is(err, errLimit) {
			return nil
		}
		if gone(err) {
			return fmt.Errorf("follow the journal: what comes after record %d was removed before it was read: %w", from, err)
		}
		if err != nil {
			return err
		}
		from = end
	}
}

// Since is the wall time of the oldest record that is held; zero where there is none.
func (j *Journal) Since() (time.Time, error) {
	first, end := j.cfg.Store.Held()
	if first == end {
		return time.Time{}, nil
	}
	records, err := j.cfg.Store.Records(first)
	if err != nil {
		return time.Time{}, err
	}
	rec, err := records.Next()
	if errors.Is(err, segment.ErrCaughtUp) {
		err = nil
	}
	return rec.Wall, errors.Join(err, records.Close())
}

// EngineTime is that of the newest record, 0 where there is none.
func (j *Journal) EngineTime(ctx context.Context) (time.Duration, error) {
	for _, p := range slices.Backward(j.parts()) {
		list, err := (&search{j: j}).last(ctx, &p)
		if err != nil || list > 0 {
			return list, err
		}
	}
	return 0, nil
}

// last is the engine time of a file's last record.
func (s *search) last(ctx context.Context, p *part) (at time.Duration, err error) {
	records, err := s.j.cfg.Store.Records(p.First)
	if gone(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for n := 0; err == nil; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
		var rec commit.Record
		if rec, err = records.Next(); err == nil && rec.Ordinal >= p.end {
			break
		}
		if err == nil {
			at = rec.At
		}
	}
	if errors.Is(err, segment.ErrCaughtUp) || gone(err) {
		err = nil
	}
	return at, errors.Join(err, records.Close())
}

// End is the ordinal of the commit log up to which the journal can be read now.
func (j *Journal) End() uint64 {
	_, end := j.cfg.Store.Held()
	return end
}

// Reader gives all lines in order, some at a time, for those who keep a position.
type Reader struct {
	s    *search
	next uint64
}

// Reader returns a reader from an ordinal of the commit log on.
func (j *Journal) Reader(from uint64) *Reader {
	s := &search{j: j, m: newMatcher(&Query{}), names: newNames()}
	return &Reader{s: s, next: from}
}

// Position is the ordinal from which the next Read reads.
func (r *Reader) Position() uint64 { return r.next }

// Read gives the lines of whole records until there are max of them, at least those of
// one record, or none where no more is committed. segment.ErrDropped: what it wants to
// read next is no longer held; First says from where on it is.
func (r *Reader) Read(ctx context.Context, max int) (lines []*Line, err error) {
	r.s.parts = r.s.j.parts()
	r.s.names.find = func(epoch, number uint64) error { return r.s.findNames(ctx, epoch, number) }
	records, err := r.s.j.cfg.Store.Records(r.next)
	if err != nil {
		return nil, err
	}
	_, end := r.s.j.cfg.Store.Held()
	for n := 0; len(lines) < max; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return nil, errors.Join(context.Cause(ctx), records.Close())
		}
		rec, err := records.Next()
		if errors.Is(err, segment.ErrCaughtUp) || err == nil && rec.Ordinal >= end {
			r.next = end
			break
		}
		if err == nil {
			err = r.s.record(&rec, func(l *Line) error {
				lines = append(lines, l)
				return nil
			})
		}
		if err != nil {
			return nil, errors.Join(err, records.Close())
		}
		r.next = rec.Ordinal + 1
	}
	return lines, records.Close()
}

// SkipDropped moves a reader to the oldest record that is held and says how many
// records it has missed.
func (r *Reader) SkipDropped() (missed uint64) {
	first, _ := r.s.j.cfg.Store.Held()
	if first <= r.next {
		return 0
	}
	missed = first - r.next
	r.next = first
	return missed
}

// Wait returns once there is more to read.
func (r *Reader) Wait(ctx context.Context) error { return r.s.j.cfg.Store.Wait(ctx, r.next) }

// Identity is a number that tells this journal from all others.
func (j *Journal) Identity() uint64 { return j.cfg.Store.Identity() }
