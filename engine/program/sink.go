package program

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/transports"
)

const (
	// maxHung is how many calls of a sink's handler may go on past their deadline.
	// Above it nothing is given to the handler.
	maxHung   = 16
	hungPause = time.Second
	maxStack  = 2 << 10 // bytes of a panic's stack that a reason holds
)

// sink gives events to a handler.
type sink struct {
	name    string
	owner   *Transport
	timeout time.Duration
	hung    chan struct{} // one for each call under way
	calls   sync.WaitGroup

	mu     sync.Mutex // guards closed
	closed bool
}

// Limits implements transports.Sink. Events of a key come one at a time, since a
// handler may take a later one of them and not the earlier.
func (*sink) Limits() transports.Limits { return transports.Limits{} }

// Open implements transports.Sink.
func (*sink) Open(context.Context) error { return nil }

// Write implements transports.Sink. Events that come for the first time share a
// call; those that come again have one each, so that what one of them does to the
// handler costs no other.
func (s *sink) Write(ctx context.Context, batch []transports.Entry, results []transports.Result) {
	h := s.owner.handler(s.name)
	if h == nil {
		s.all(results, transports.Result{Class: transports.Retry, Err: noHandler(s.name)})
		return
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		s.all(results, transports.Result{Class: transports.Fatal, Err: fmt.Errorf("program sink %s: %w", s.name, transports.ErrClosed)})
		return
	}
	events := make([]event.Event, 0, len(batch))
	var first []int
	for i := range batch {
		e, err := decode(&batch[i])
		if err != nil {
			results[i] = transports.Result{Class: transports.Poison, Err: fmt.Errorf("program sink %s: %w", s.name, err)}
			continue
		}
		if batch[i].Attempt > 1 {
			results[i] = s.call(ctx, h, []event.Event{e})[0]
			continue
		}
		events, first = append(events, e), append(first, i)
	}
	if len(events) == 0 {
		return
	}
	for k, r := range s.call(ctx, h, events) {
		results[first[k]] = r
	}
}

func (*sink) all(results []transports.Result, r transports.Result) {
	for i := range results {
		results[i] = r
	}
}

// decode reads an event from a copy: a handler that hangs goes on reading when the
// entry's bytes are others' long since.
func decode(e *transports.Entry) (event.Event, error) {
	return event.Decode(slices.Clone(e.Data), event.CodecOf(event.CloudEvents), event.Missing{}, event.Limits{Event: len(e.Data)})
}

// answer is how a call ended.
type answer struct {
	results  []transports.Result
	panicked error
}

// call runs the handler and returns a result for each event.
func (s *sink) call(ctx context.Context, h Handler, events []event.Event) []transports.Result {
	results := make([]transports.Result, len(events))
	if ctx.Err() != nil {
		s.all(results, transports.Result{Class: transports.Retry, Err: fmt.Errorf("program sink %s: not tried: %w", s.name, context.Cause(ctx))})
		return results
	}
	select {
	case s.hung <- struct{}{}:
	default:
		s.all(results, transports.Result{
			Class: transports.Throttled, After: hungPause,
			Err: fmt.Errorf("program sink %s: %d calls of the handler hang", s.name, maxHung),
		})
		return results
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	done := make(chan answer, 1)
	s.calls.Go(func() {
		defer func() { <-s.hung }()
		done <- run(ctx, h, events)
	})
	select {
	case a := <-done:
		return s.judge(results, a)
	case <-ctx.Done():
	}
	select {
	case a := <-done:
		return s.judge(results, a)
	default:
	}
	s.all(results, transports.Result{Class: transports.Unknown, Err: fmt.Errorf("program sink %s: the handler did not return within %v: %w", s.name, s.timeout, context.Cause(ctx))})
	return results
}

// run calls the handler and catches its panic.
func run(ctx context.Context, h Handler, events []event.Event) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			stack := debug.Stack()
			a.panicked = fmt.Errorf("the handler panicked: %v\n%s", p, stack[:min(len(stack), maxStack)])
		}
	}()
	a.results = h(ctx, events)
	return a
}

// judge checks what a handler answered. A fault in a call of several events makes
// each come again alone; in a call of one it is that event's.
func (s *sink) judge(results []transports.Result, a answer) []transports.Result {
	err := a.panicked
	if err == nil && len(a.results) != len(results) {
		err = fmt.Errorf("the handler returned %d results for %d events", len(a.results), len(results))
	}
	if err == nil {
		copy(results, a.results)
		for i := range results {
			if r := &results[i]; r.Class != transports.OK && r.Err == nil {
				r.Err = errors.New("the handler gave no reason")
			}
		}
		return results
	}
	class := transports.Poison
	if len(results) > 1 {
		class = transports.Retry
	}
	s.all(results, transports.Result{Class: class, Err: fmt.Errorf("program sink %s: %w", s.name, err)})
	return results
}

// Flush implements transports.Sink; Write leaves nothing behind.
func (*sink) Flush(context.Context) error { return nil }

// Close implements transports.Sink. It waits for calls that hang, as long as ctx lets it.
func (s *sink) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("program sink %s: close: %d calls of the handler hang: %w", s.name, len(s.hung), context.Cause(ctx))
	}
}
