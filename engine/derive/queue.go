// Package derive is the internal queue: events that enter the data path once
// more. Events that routes derive from others come through it, and events that an
// operator sends in again.
//
// Promise: the queue takes part in the engine's commit. A record is in it exactly
// if the record of its cause is durable (I1, I5), is read after that in the order
// in which it was written, and is gone once its own events are settled.
//
// # Record
//
// The queue is a segment log in <data>/derived, one entry a record. Integers are
// unsigned varints unless sized, sized ones are little-endian; str is a varint
// length and bytes.
//
//	0x10 + kind u8 | flags u8 | source str | partition str | ordinal | sub
//	| key hash u64                                  flag 1
//	| key str                                       flag 2
//	| hop | number | root u64 u64 | cause str | correlation str | route str
//	| event source str | n | envelope str{n}        flag 4: the event descends from another
//	| attempts | route str | sink str              flag 8: it failed before
//	| data, the rest
//
//	kind  1  a route emitted the event; flag 4 is set
//	      2  the event was in the data path before and comes again
//
// source, partition, ordinal and sub say where the event, or the root that it
// descends from, came from first.
package derive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// Name is the queue's name as a source; no source of a configuration may have it.
const Name = "derived"

// Limits of descent.
const (
	MaxHops        = 16   // from a root to its last descendant
	MaxDescendants = 1024 // of one root
)

// DefaultBytes bounds the queue's files.
const DefaultBytes = 1 << 30

// segmentsHeld is how many files a full queue has: space is given back a file at a time.
const segmentsHeld = 16

// Queue is the internal queue. It is a staged sink of the commit, and a source
// whose positions the engine keeps. Receive and Open are for one goroutine at a
// time; everything else may be called beside them.
type Queue struct {
	log    *segment.Log
	max    int64
	low    atomic.Uint64   // records before it are settled
	reader *segment.Reader // Receive's
}

var (
	_ transports.Source = (*Queue)(nil)
	_ transports.Staged = (*Queue)(nil)
)

// OpenQueue opens or makes the queue; max bounds its files in bytes (0 = DefaultBytes).
func OpenQueue(fs vfs.FS, dir string, max int64) (*Queue, error) {
	if max == 0 {
		max = DefaultBytes
	}
	log, err := segment.Open(segment.Config{FS: fs, Dir: dir, SegmentBytes: max / segmentsHeld})
	if err != nil {
		return nil, fmt.Errorf("open internal queue: %w", err)
	}
	return &Queue{log: log, max: max}, nil
}

// Full says that other sources should wait: the queue has reached its bound. What
// is in flight may still add to it. An empty queue is never full, however large
// its last file is.
func (q *Queue) Full() bool { return q.log.Size() >= q.max && q.Waiting() > 0 }

// Over says that nothing more may be added: the queue is at twice its bound. Events
// that waited here for room would hold up those that make room.
func (q *Queue) Over() bool { return q.log.Size() >= 2*q.max && q.Waiting() > 0 }

// Waiting is how many records are not settled.
func (q *Queue) Waiting() uint64 {
	low, end := q.low.Load(), q.log.End().Entries
	return end - min(low, end)
}

// Bytes is the size of the queue's files.
func (q *Queue) Bytes() int64 { return q.log.Size() }

// AppendRecord appends a record to dst in the queue's framing.
func AppendRecord(dst []byte, r *Record) []byte { return segment.Frame(dst, r.Append(nil)) }

// Frame appends a record, which is the entry's data, to dst; see AppendRecord.
func (q *Queue) Frame(dst []byte, e *transports.Entry) []byte { return segment.Frame(dst, e.Data) }

// Append writes framed records; see transports.Staged.
func (q *Queue) Append(framed []byte, count int) error { return q.log.Append(framed, count) }

// Sync makes what was appended durable.
func (q *Queue) Sync() (transports.Mark, error) {
	if err := q.log.Sync(); err != nil {
		return transports.Mark{}, err
	}
	return transports.Mark(q.log.End()), nil
}

// Publish lets Receive read up to the mark.
func (q *Queue) Publish(m transports.Mark) error {
	q.log.Publish(segment.Mark(m))
	return nil
}

// Restore cuts what was not committed.
func (q *Queue) Restore(m transports.Mark) error {
	if err := q.log.Restore(segment.Mark(m)); err != nil {
		return err
	}
	q.log.Publish(segment.Mark(m))
	return nil
}

// Capabilities implements transports.Source.
func (q *Queue) Capabilities() transports.Capabilities {
	return transports.Capabilities{Order: transports.OrderPartition, Positions: transports.KeptByEngine}
}

// Open goes on at the position of the only partition, "". Records before the first
// that is still held were settled.
func (q *Queue) Open(_ context.Context, resume map[string]transports.Position, _ transports.Listener) error {
	at := q.log.First()
	if p, ok := resume[""]; ok {
		if len(p) != 8 {
			return fmt.Errorf("internal queue: a position of %d bytes", len(p))
		}
		at = max(at, binary.LittleEndian.Uint64(p))
	}
	q.low.Store(at)
	var err error
	if q.reader, err = q.log.Reader(at); err != nil {
		return fmt.Errorf("internal queue: %w", err)
	}
	return nil
}

// Each calls visit for every committed record that Receive has yet to return. It
// comes after Open and before the first Receive.
func (q *Queue) Each(visit func(ordinal uint64, r *Record)) error {
	reader, err := q.log.Reader(q.low.Load())
	if err != nil {
		return fmt.Errorf("internal queue: %w", err)
	}
	for {
		data, ordinal, err := reader.Next()
		if errors.Is(err, segment.ErrCaughtUp) {
			return reader.Close()
		}
		r, parseErr := Parse(data)
		if err = errors.Join(err, parseErr); err != nil {
			return fmt.Errorf("internal queue: record %d: %w", ordinal, errors.Join(err, reader.Close()))
		}
		visit(ordinal, &r)
	}
}

func position(ordinal uint64) transports.Position {
	return binary.LittleEndian.AppendUint64(nil, ordinal)
}

// Receive returns records that are committed, as the data of deliveries.
func (q *Queue) Receive(ctx context.Context, max int, wait time.Duration) ([]transports.Delivery, error) {
	changed := q.log.Changed()
	list, err := q.read(max)
	if err != nil || len(list) > 0 || wait <= 0 {
		return list, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return q.read(max)
}

// readBytes bounds what one Receive returns, but for a single record.
const readBytes = 1 << 20

func (q *Queue) read(max int) (list []transports.Delivery, err error) {
	for size := 0; len(list) < max && size < readBytes; {
		data, ordinal, err := q.reader.Next()
		if errors.Is(err, segment.ErrCaughtUp) {
			return list, nil
		}
		if err != nil {
			return list, fmt.Errorf("internal queue: %w", err)
		}
		size += len(data)
		list = append(list, transports.Delivery{
			Position: position(ordinal), Next: position(ordinal + 1), Ordinal: ordinal,
			Data: append([]byte(nil), data...), Attempt: 1,
		})
	}
	return list, nil
}

// Settle gives the space of settled records back, a file at a time.
func (q *Queue) Settle(_ context.Context, settlements []transports.Settlement) []error {
	errs := make([]error, len(settlements))
	for i := range settlements {
		q.low.Store(settlements[i].Ordinal)
		errs[i] = q.log.DropBefore(settlements[i].Ordinal)
	}
	return errs
}

// Close closes the files. It may be called twice.
func (q *Queue) Close(context.Context) error {
	var err error
	if q.reader != nil {
		err = q.reader.Close()
	}
	return errors.Join(err, q.log.Close())
}
