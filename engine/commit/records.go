package commit

import (
	"fmt"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/transports"
)

// Record is a committed record read back.
type Record struct {
	Data     []byte // valid until the next call
	Ordinal  uint64 // give it to Log.Records to read from here
	Sequence uint64 // of its group
	Segment  uint64 // number of the file that holds the group
	Offset   int64  // of the group in the file
	At       time.Duration
	Wall     time.Time

	head bool
}

// Records reads committed records in order. It is for one goroutine at a time.
type Records struct {
	seg  *segment.Log
	r    *segment.Reader
	from uint64 // records before are skipped
	mark func(name string, m transports.Mark)

	known bool // the head of the current group was read
	at    time.Duration
	wall  time.Time
}

// Records returns an iterator that begins with the record at ordinal from, or
// the next after it; see Held. segment.ErrDropped says that from is no longer held.
func (l *Log) Records(from uint64) (*Records, error) { return newRecords(l.seg, from) }

func newRecords(seg *segment.Log, from uint64) (*Records, error) {
	r, err := seg.Reader(from)
	if err != nil {
		return nil, fmt.Errorf("read commit log: %w", err)
	}
	return &Records{seg: seg, r: r, from: from}, nil
}

// Changed returns a channel that is closed when more is committed or the log is
// closed. Take it before Next, and wait on it after segment.ErrCaughtUp.
func (l *Log) Changed() <-chan struct{} { return l.seg.Changed() }

// Next returns the next record, or segment.ErrCaughtUp where there is none yet.
func (r *Records) Next() (Record, error) { return r.next(false) }

// next also returns the heads of groups where heads is true.
func (r *Records) next(heads bool) (Record, error) {
	for {
		entry, ordinal, err := r.r.Next()
		if err != nil {
			return Record{}, err
		}
		g := r.r.Group()
		if !r.known && ordinal > g.First {
			// Reading began within a group: its head must be read first.
			if err := r.reopen(g.First); err != nil {
				return Record{}, err
			}
			continue
		}
		rec := Record{
			Data: entry, Ordinal: ordinal, Sequence: g.Sequence, Segment: g.Segment, Offset: g.Offset,
			head: ordinal == g.First,
		}
		if rec.head {
			r.at, r.wall, err = decodeHead(entry, r.mark)
			if err != nil {
				return Record{}, fmt.Errorf("commit log, segment %d, byte %d: %w", g.Segment, g.Offset, err)
			}
			r.known = true
		}
		rec.At, rec.Wall = r.at, r.wall
		if ordinal < r.from || rec.head && !heads {
			continue
		}
		return rec, nil
	}
}

// Group says where the group of the record that Next returned last is.
func (r *Records) Group() segment.Group { return r.r.Group() }

func (r *Records) reopen(ordinal uint64) error {
	if err := r.r.Close(); err != nil {
		return err
	}
	reader, err := r.seg.Reader(ordinal)
	if err != nil {
		return fmt.Errorf("read commit log: %w", err)
	}
	r.r = reader
	return nil
}

// Close frees the iterator's file. It may be called twice.
func (r *Records) Close() error { return r.r.Close() }
