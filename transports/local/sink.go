package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/transports"
)

// fullRetry is when a full queue is worth another try.
const fullRetry = time.Second

// Sink is the end of a queue or topic that entries go into. It is staged: an
// engine calls Frame, Append, Sync, Publish and Restore, and each entry stands
// in the queue exactly once across crashes. Without an engine Write is durable
// when it returns.
type Sink struct {
	end
	keep    time.Duration
	max     int64
	writing bool
	closed  bool
	framed  []byte
}

var (
	_ transports.Sink   = (*Sink)(nil)
	_ transports.Staged = (*Sink)(nil)
)

// Limits implements transports.Sink. A batch is written whole or not at all.
func (k *Sink) Limits() transports.Limits {
	return transports.Limits{Bytes: maxBatch / 2, EntryBytes: maxFrame / 2, KeyedFailure: true}
}

// Open implements transports.Sink.
func (k *Sink) Open(context.Context) error {
	if k.closed {
		return transports.ErrClosed
	}
	if err := k.open(); err != nil {
		return err
	}
	k.place.configure(k.max, k.keep)
	return nil
}

// Write implements transports.Sink: entries that were given OK are durable and
// with their readers.
func (k *Sink) Write(ctx context.Context, batch []transports.Entry, results []transports.Result) {
	fail := func(class transports.Class, after time.Duration, err error) {
		for i := range results {
			if results[i].Class != transports.Poison {
				results[i] = transports.Result{Class: class, After: after, Err: err}
			}
		}
	}
	clear(results)
	switch {
	case k.place == nil:
		fail(transports.Retry, 0, k.notOpen())
		return
	case k.writing:
		fail(transports.Fatal, 0, errors.New("Write of a sink whose end an engine's commit decides"))
		return
	}
	if err := ctx.Err(); err != nil {
		fail(transports.Retry, 0, err)
		return
	}
	framed, count, now := k.framed[:0], 0, k.cfg.now()
	for i := range batch {
		if err := checkEntry(&batch[i]); err != nil {
			results[i] = transports.Result{Class: transports.Poison, Err: err}
			continue
		}
		framed = frame(framed, &batch[i], now)
		count++
	}
	k.framed = framed
	if count == 0 {
		return
	}
	err := k.place.append(framed, count)
	switch {
	case err == nil:
	case errors.Is(err, ErrFull):
		fail(transports.Throttled, fullRetry, err)
	case errors.Is(err, ErrUncommitted):
		fail(transports.Fatal, 0, err)
	default:
		// What reached the disk before the failure is not known.
		fail(transports.Unknown, 0, err)
	}
	if cap(k.framed) > maxGroup {
		k.framed = nil
	}
}

func (k *Sink) notOpen() error {
	if k.closed {
		return transports.ErrClosed
	}
	return errNotOpen
}

// Place implements transports.Placed.
func (k *Sink) Place() string { return k.cfg.kind.folder() + "/" + k.cfg.name }

// Frame implements transports.Staged. The entry is stamped with the wall clock.
func (k *Sink) Frame(dst []byte, e *transports.Entry) []byte { return frame(dst, e, k.cfg.now()) }

// Room is how many framed bytes Append still takes. An engine asks before it
// accepts work for the sink; entries of other frames under way count against it.
func (k *Sink) Room() int64 {
	if k.place == nil {
		return 0
	}
	return k.place.room()
}

// Append implements transports.Staged. Where the entries do not fit into what
// is left of max the error wraps ErrFull and nothing was written: the same call
// may be made again later.
func (k *Sink) Append(framed []byte, count int) error {
	if k.place == nil {
		return k.notOpen()
	}
	if !k.writing {
		return fmt.Errorf("append to %s %q before Restore", k.cfg.kind, k.cfg.name)
	}
	if room := k.place.room(); int64(len(framed)) > room {
		return k.place.full(len(framed), room)
	}
	return k.place.log.Append(framed, count)
}

// Sync implements transports.Staged.
func (k *Sink) Sync() (transports.Mark, error) {
	if k.place == nil {
		return transports.Mark{}, k.notOpen()
	}
	if err := k.place.log.Sync(); err != nil {
		return transports.Mark{}, err
	}
	return transports.Mark(k.place.log.End()), nil
}

// Publish implements transports.Staged.
func (k *Sink) Publish(m transports.Mark) error {
	if k.place == nil {
		return k.notOpen()
	}
	return k.place.publish(segment.Mark(m), true, false)
}

// Restore implements transports.Staged. What was written into the queue by
// hand while no engine ran stays.
func (k *Sink) Restore(m transports.Mark) error {
	if k.place == nil {
		return k.notOpen()
	}
	if !k.writing {
		if err := k.place.takeWriter(k.name); err != nil {
			return err
		}
		k.writing = true
	}
	return k.place.restore(segment.Mark(m))
}

// Flush implements transports.Sink: a Write is durable when it returns.
func (k *Sink) Flush(context.Context) error { return nil }

// Close implements transports.Sink. It may be called twice.
func (k *Sink) Close(context.Context) error {
	k.closed = true
	if k.place == nil {
		return nil
	}
	if k.writing {
		k.writing = false
		k.place.leaveWriter()
	}
	return k.close()
}
