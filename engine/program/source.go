package program

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/transports"
)

// call is one event on its way in.
type call struct {
	data  []byte
	done  chan error  // takes its end, once
	taken atomic.Bool // by the engine, or back by its publisher

	id        string
	ordinal   uint64
	attempt   int
	notBefore time.Time
}

// wait returns when the event is durable. A publisher that stops waiting before the
// engine took the event takes it back.
func (c *call) wait(ctx context.Context) error {
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-c.done:
		return err
	default:
	}
	if c.taken.CompareAndSwap(false, true) {
		return fmt.Errorf("not taken: %w", context.Cause(ctx))
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, context.Cause(ctx))
}

// errReplaced says that a source is closed, and another may have come.
var errReplaced = errors.New("the source was replaced")

// source gives what was published to it.
type source struct {
	owner    *Transport
	name     string
	limit    int
	maxBytes int64
	once     sync.Once
	closing  chan struct{}

	mu      sync.Mutex // guards all below
	waiting []*call    // in order
	bytes   int64      // of waiting
	held    map[string]*call
	next    uint64
	changed chan struct{} // closed and renewed when waiting changed
}

func newSource(owner *Transport, env transports.Env, limit int, bytes int64) *source {
	now := time.Now
	if env.Now != nil {
		now = env.Now
	}
	return &source{
		owner: owner, name: env.Name, limit: limit, maxBytes: bytes, closing: make(chan struct{}),
		held: map[string]*call{}, changed: make(chan struct{}),
		// Ordinals of another start must differ: ids are made of them where events have none.
		next: uint64(max(now().UnixNano(), 1)),
	}
}

// Capabilities implements transports.Source.
func (*source) Capabilities() transports.Capabilities {
	return transports.Capabilities{Order: transports.OrderNone, Positions: transports.KeptByBroker, Nack: true}
}

// Open implements transports.Source.
func (s *source) Open(_ context.Context, _ map[string]transports.Position, l transports.Listener) error {
	if s.isClosed() {
		return fmt.Errorf("program source %s: open: %w", s.name, transports.ErrClosed)
	}
	if l != nil {
		l.Assigned(s.name)
	}
	s.owner.opened(s)
	return nil
}

func (s *source) isClosed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// wake lets all who wait look again. The caller holds mu.
func (s *source) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// put adds a call, waiting while the source is full. One event is taken whatever its size.
func (s *source) put(ctx context.Context, c *call) error {
	for {
		s.mu.Lock()
		if s.isClosed() {
			s.mu.Unlock()
			return errReplaced
		}
		if n := len(s.waiting); n == 0 || n < s.limit && s.bytes+int64(len(c.data)) <= s.maxBytes {
			s.next++
			c.ordinal, c.id = s.next, strconv.FormatUint(s.next, 10)
			s.waiting = append(s.waiting, c)
			s.bytes += int64(len(c.data))
			s.wake()
			s.mu.Unlock()
			return nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-s.closing:
			return errReplaced
		case <-ctx.Done():
			return fmt.Errorf("source %s is full, not taken: %w", s.name, context.Cause(ctx))
		}
	}
}

// Receive implements transports.Source.
func (s *source) Receive(ctx context.Context, most int, wait time.Duration) ([]transports.Delivery, error) {
	deadline := time.Now().Add(wait)
	for {
		s.mu.Lock()
		if s.isClosed() {
			s.mu.Unlock()
			return nil, fmt.Errorf("program source %s: receive: %w", s.name, transports.ErrClosed)
		}
		got, due := s.take(most)
		changed := s.changed
		s.mu.Unlock()
		now := time.Now()
		if len(got) > 0 || !now.Before(deadline) || most <= 0 {
			return got, nil
		}
		pause := deadline.Sub(now)
		if !due.IsZero() {
			pause = min(pause, max(0, due.Sub(now)))
		}
		timer := time.NewTimer(pause)
		select {
		case <-changed:
		case <-s.closing:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

// take holds what is due, in order, and returns when the next call is that waits for
// its next attempt. The caller holds mu.
func (s *source) take(most int) (got []transports.Delivery, due time.Time) {
	now := time.Now()
	left := s.waiting[:0]
	for i, c := range s.waiting {
		if len(got) == most {
			left = append(left, s.waiting[i:]...)
			break
		}
		if c.notBefore.After(now) {
			if due.IsZero() || c.notBefore.Before(due) {
				due = c.notBefore
			}
			left = append(left, c)
			continue
		}
		s.bytes -= int64(len(c.data))
		if c.attempt == 0 && !c.taken.CompareAndSwap(false, true) {
			continue // its publisher has taken it back
		}
		c.attempt++
		s.held[c.id] = c
		got = append(got, transports.Delivery{
			ID: c.id, Partition: s.name, Ordinal: c.ordinal, Data: c.data, Attempt: c.attempt,
		})
	}
	if len(left) < len(s.waiting) {
		clear(s.waiting[len(left):])
		s.waiting = left
		s.wake()
	}
	return got, due
}

// Settle implements transports.Source.
func (s *source) Settle(_ context.Context, list []transports.Settlement) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(list))
	for i := range list {
		c := s.held[list[i].ID]
		if c == nil {
			errs[i] = fmt.Errorf("program source %s: settle %q: %w", s.name, list[i].ID, transports.ErrNotHeld)
			continue
		}
		delete(s.held, c.id)
		if !list[i].Nack {
			c.done <- nil
			continue
		}
		c.notBefore = time.Now().Add(list[i].Delay)
		s.waiting = append([]*call{c}, s.waiting...)
		s.bytes += int64(len(c.data))
		s.wake()
	}
	return errs
}

// Close implements transports.Source. Who waits for an event that was not settled
// is told that its outcome is not known, or that it was not taken.
func (s *source) Close(context.Context) error {
	s.once.Do(func() {
		s.owner.gone(s)
		close(s.closing)
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.waiting {
			if c.attempt > 0 {
				c.done <- fmt.Errorf("source %s: %w: %w", s.name, ErrOutcomeUnknown, transports.ErrClosed)
				continue
			}
			c.done <- fmt.Errorf("source %s: not taken: %w", s.name, transports.ErrClosed)
		}
		for _, c := range s.held {
			c.done <- fmt.Errorf("source %s: %w: %w", s.name, ErrOutcomeUnknown, transports.ErrClosed)
		}
		s.waiting, s.held, s.bytes = nil, map[string]*call{}, 0
	})
	return nil
}
