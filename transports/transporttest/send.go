package transporttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/transports"
)

// sender writes entries as the engine's dispatcher does: one entry of a key a
// batch unless the sink keeps their order, and again what failed for now, before
// any later one of its key.
type sender struct {
	sink       transports.Sink
	limits     transports.Limits
	patience   time.Duration // for one entry
	writeLimit time.Duration // of one Write, 0 = none
	unknown    atomic.Int64  // outcomes that were not known, whose entries were sent again
}

// errUnset is in every result before Write; one that is still there was not set.
var errUnset = errors.New("the sink left the result unset")

// send returns when every entry was taken, or one never will be.
func (s *sender) send(ctx context.Context, entries []transports.Entry) error {
	deadline := time.Now().Add(s.patience)
	for attempt := 1; len(entries) > 0; attempt++ {
		batch, rest := s.batch(entries)
		results := s.write(ctx, batch)
		var again []transports.Entry
		pause := time.Duration(0)
		progress := false
		for i := range results {
			r := &results[i]
			switch r.Class {
			case transports.OK:
				progress = true
				continue
			case transports.Unknown:
				s.unknown.Add(1)
			case transports.Retry, transports.Throttled:
			default:
				return fmt.Errorf("write: %v: %w", r.Class, r.Err)
			}
			if errors.Is(r.Err, errUnset) {
				return r.Err
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("write: still %v after %v: %w", r.Class, s.patience, r.Err)
			}
			pause = max(pause, r.After)
			again = append(again, batch[i])
		}
		if progress {
			attempt, deadline = 1, time.Now().Add(s.patience)
		}
		entries = append(again, rest...)
		if len(again) == 0 {
			continue
		}
		if pause == 0 {
			pause = min(time.Duration(attempt)*5*time.Millisecond, 100*time.Millisecond)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// batch takes what may be written at once, in order.
func (s *sender) batch(entries []transports.Entry) (batch, rest []transports.Entry) {
	taken := map[string]bool{} // keys of the batch and of what waits
	size := 0
	for i := range entries {
		e := &entries[i]
		if s.limits.Entries > 0 && len(batch) >= s.limits.Entries ||
			s.limits.Bytes > 0 && len(batch) > 0 && size+len(e.Data) > s.limits.Bytes {
			return batch, append(rest, entries[i:]...)
		}
		if e.Key != nil && !s.limits.KeyedFailure {
			if taken[string(e.Key)] {
				rest = append(rest, *e)
				continue
			}
			taken[string(e.Key)] = true
		}
		batch = append(batch, *e)
		size += len(e.Data)
	}
	return batch, rest
}

func (s *sender) write(ctx context.Context, batch []transports.Entry) []transports.Result {
	results := make([]transports.Result, len(batch))
	for i := range results {
		results[i] = transports.Result{Class: transports.Unknown, Err: errUnset}
	}
	if s.writeLimit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.writeLimit)
		defer cancel()
	}
	s.sink.Write(ctx, batch, results)
	return results
}

// background sends for sinks whose Write waits for the source: the case has to
// receive meanwhile.
type background struct {
	*sender
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex // guards all below
	queue   []transports.Entry
	busy    bool
	err     error
	changed chan struct{}
}

func newBackground(s *sender) *background {
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{sender: s, cancel: cancel, changed: make(chan struct{}, 1)}
	b.wait.Go(func() { b.run(ctx) })
	return b
}

func (b *background) run(ctx context.Context) {
	for {
		b.mu.Lock()
		entries := b.queue
		b.queue, b.busy = nil, len(entries) > 0
		b.mu.Unlock()
		if len(entries) == 0 {
			select {
			case <-b.changed:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := b.sender.send(ctx, entries)
		b.mu.Lock()
		if err != nil && ctx.Err() == nil {
			b.err = errors.Join(b.err, err)
		}
		b.busy = false
		b.mu.Unlock()
	}
}

// offer hands entries over, and returns what went wrong with earlier ones.
func (b *background) offer(entries []transports.Entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, entries...)
	select {
	case b.changed <- struct{}{}:
	default:
	}
	return b.err
}

// idle says whether all that was offered has been sent.
func (b *background) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) == 0 && !b.busy
}

// stop ends the sending; what is under way is given up.
func (b *background) stop() {
	b.cancel()
	b.wait.Wait()
}

func (b *background) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
