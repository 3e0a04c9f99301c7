package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// source gives the entries of a queue.
type source struct {
	name    string
	owner   *Transport
	at      place
	lease   time.Duration
	closing chan struct{}
	once    sync.Once

	mu sync.Mutex
	q  *Queue // nil before Open
}

// Capabilities implements transports.Source.
func (*source) Capabilities() transports.Capabilities {
	return transports.Capabilities{
		Order: transports.OrderKey, Positions: transports.KeptByBroker, Nack: true, Lossy: true,
	}
}

// Open implements transports.Source.
func (s *source) Open(_ context.Context, _ map[string]transports.Position, l transports.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if closed(s.closing) {
		return fmt.Errorf("memory source %s: open: %w", s.name, transports.ErrClosed)
	}
	if s.at.queue != "" {
		s.q = s.owner.Queue(s.at.queue)
	} else {
		own, err := s.owner.subscribe(s.at)
		if err != nil {
			return fmt.Errorf("memory source %s: open: %w", s.name, err)
		}
		s.q = own
	}
	s.q.setLimit(s.at.limit)
	if l != nil {
		l.Assigned(s.q.name)
	}
	return nil
}

// queue returns nil where the source is not open.
func (s *source) queue() *Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	if closed(s.closing) {
		return nil
	}
	return s.q
}

// Receive implements transports.Source.
func (s *source) Receive(ctx context.Context, most int, wait time.Duration) ([]transports.Delivery, error) {
	q := s.queue()
	if q == nil {
		return nil, fmt.Errorf("memory source %s: receive: %w", s.name, transports.ErrClosed)
	}
	items, err := q.receive(ctx, s, most, wait, s.lease, s.closing)
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("memory source %s: receive: %w", s.name, err)
	}
	q.mu.Lock() // a lease may run out while its delivery is made
	defer q.mu.Unlock()
	deliveries := make([]transports.Delivery, len(items))
	for i, it := range items {
		deliveries[i] = transports.Delivery{
			ID:        makeID(q.name, it.seq),
			Partition: q.name,
			Ordinal:   it.seq,
			Key:       bytes.Clone(it.entry.Key),
			Data:      bytes.Clone(it.entry.Data),
			Headers:   slices.Clone(it.entry.Headers),
			Published: it.published,
			Attempt:   it.attempt,
			Lease:     it.lease,
		}
	}
	return deliveries, nil
}

// Settle implements transports.Source.
func (s *source) Settle(_ context.Context, settlements []transports.Settlement) []error {
	q := s.queue()
	errs := make([]error, len(settlements))
	for i := range settlements {
		if q == nil {
			errs[i] = fmt.Errorf("memory source %s: settle: %w", s.name, transports.ErrNotHeld)
			continue
		}
		if err := q.settle(s, &settlements[i]); err != nil {
			errs[i] = fmt.Errorf("memory source %s: %w", s.name, err)
		}
	}
	return errs
}

// Extend implements transports.Extender.
func (s *source) Extend(_ context.Context, ids []string) []error {
	q := s.queue()
	errs := make([]error, len(ids))
	for i, id := range ids {
		if q == nil {
			errs[i] = fmt.Errorf("memory source %s: extend: %w", s.name, transports.ErrNotHeld)
			continue
		}
		if err := q.extend(s, id, s.lease); err != nil {
			errs[i] = fmt.Errorf("memory source %s: %w", s.name, err)
		}
	}
	return errs
}

// Close implements transports.Source. What the source still holds waits again.
func (s *source) Close(context.Context) error {
	s.once.Do(func() {
		close(s.closing)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.q == nil {
			return
		}
		s.q.abandon(s)
		if s.at.topic != "" {
			s.owner.unsubscribe(s.at.topic, s.q)
		}
	})
	return nil
}

// sink puts entries into a queue or topic.
type sink struct {
	name  string
	log   *slog.Logger
	owner *Transport
	at    place

	mu     sync.Mutex
	closed bool
}

// Limits implements transports.Sink.
func (*sink) Limits() transports.Limits { return transports.Limits{KeyedFailure: true} }

// Open implements transports.Sink.
func (s *sink) Open(context.Context) error {
	s.log.Info("memory sink: entries are lost with the process", "sink", s.name)
	if s.at.queue != "" {
		s.owner.Queue(s.at.queue).setLimit(s.at.limit)
	}
	return nil
}

// Write implements transports.Sink. A full queue throttles; of a topic, the
// fullest queue decides.
func (s *sink) Write(_ context.Context, batch []transports.Entry, results []transports.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	targets := s.owner.targets(s.at)
	failed := map[string]bool{}
	for i := range batch {
		e := &batch[i]
		if e.Key != nil && failed[string(e.Key)] {
			results[i] = transports.Result{Class: transports.Retry, Err: fmt.Errorf("memory sink %s: an earlier entry of the key failed", s.name)}
			continue
		}
		results[i] = s.write(targets, e)
		if results[i].Class != transports.OK && e.Key != nil {
			failed[string(e.Key)] = true
		}
	}
}

// write puts one entry into all targets or none.
func (s *sink) write(targets []*Queue, e *transports.Entry) transports.Result {
	if s.closed {
		return transports.Result{Class: transports.Fatal, Err: fmt.Errorf("memory sink %s: %w", s.name, transports.ErrClosed)}
	}
	// The sink's lock keeps its own order; other writers may fill a queue of a
	// topic in between, whose limit then is passed by one entry a writer.
	for _, q := range targets {
		if r := q.admit(e); r.Class != transports.OK {
			return r
		}
	}
	for _, q := range targets {
		q.mu.Lock()
		q.put(e)
		q.wake()
		q.mu.Unlock()
	}
	return transports.Result{}
}

// admit asks the test's hook and the limits.
func (q *Queue) admit(e *transports.Entry) transports.Result {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.hook != nil {
		if r := q.hook(clone(e)); r.Class != transports.OK {
			return r
		}
	}
	if q.full(1, len(e.Data)) {
		return transports.Result{
			Class: transports.Throttled, After: fullDelay,
			Err: fmt.Errorf("put into %s: %w", q.name, ErrFull),
		}
	}
	return transports.Result{}
}

// Flush implements transports.Sink; Write leaves nothing behind.
func (*sink) Flush(context.Context) error { return nil }

// Close implements transports.Sink.
func (s *sink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
