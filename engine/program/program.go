// Package program has the two ends that lie in the program itself: a source
// that the program publishes to, and a sink that is a function of it.
//
// Promise: Publish returns when what it took is durable, and says of each event
// that it did not take why; the events' bytes are the caller's again. A handler
// gets events and says of each what became of it; when it panics, hangs past
// its deadline or answers with a wrong number of results, only the events that
// it was given suffer: they are tried again one by one, and the one at fault
// alone becomes a dead letter.
package program

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/transports"
)

// Name is the key under which configuration names the program's own ends.
const Name = "program"

// Defaults of the options.
const (
	DefaultLimit   = 10_000
	DefaultBytes   = int64(64 << 20)
	DefaultTimeout = 5 * time.Second
)

// Handler takes events and returns what became of each, in their order. ctx ends
// at the sink's timeout. No two events of one key come in one call, and no event
// comes while an earlier one of its key has not ended. An event may come again:
// after a result that is not OK, after a panic, and after a crash.
type Handler func(ctx context.Context, events []event.Event) []transports.Result

// Transport holds the program's ends by name. Its methods may be called from any goroutine.
type Transport struct {
	mu       sync.Mutex // guards all below
	handlers map[string]Handler
	sources  map[string]*source // those that are open
	running  bool
	closed   bool
	made     chan struct{} // closed and renewed when a source was opened, or none will be
}

// New returns a transport without handlers.
func New() *Transport {
	return &Transport{handlers: map[string]Handler{}, sources: map[string]*source{}, made: make(chan struct{})}
}

// Name implements transports.Transport.
func (*Transport) Name() string { return Name }

// Options implements transports.Transport.
func (*Transport) Options() (source, sink []transports.Option) {
	source = []transports.Option{
		{Name: "limit", Type: transports.Int, Default: int64(DefaultLimit), Doc: "Events that wait to be taken in; above it Publish waits."},
		{Name: "limit_bytes", Type: transports.Size, Default: DefaultBytes, Doc: "Their bytes."},
	}
	sink = []transports.Option{
		{Name: "timeout", Type: transports.Duration, Default: DefaultTimeout, Doc: "How long the handler may take for a call."},
	}
	return source, sink
}

// NewSource implements transports.Transport.
func (t *Transport) NewSource(env transports.Env, settings transports.Settings) (transports.Source, error) {
	limit, bytes := settings.Int("limit"), settings.Int("limit_bytes")
	if limit < 1 || bytes < 1 {
		return nil, fmt.Errorf("limit and limit_bytes must be above 0, not %d and %d", limit, bytes)
	}
	return newSource(t, env, int(limit), bytes), nil
}

// opened makes a source the one that takes what is published to its name.
func (t *Transport) opened(s *source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sources[s.name] = s
	t.tell()
}

// gone takes a source away, unless another has its name already.
func (t *Transport) gone(s *source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sources[s.name] == s {
		delete(t.sources, s.name)
	}
}

// NewSink implements transports.Transport.
func (t *Transport) NewSink(env transports.Env, settings transports.Settings) (transports.Sink, error) {
	timeout := settings.Duration("timeout")
	if timeout <= 0 {
		return nil, fmt.Errorf("timeout must be above 0, not %v", timeout)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running && t.handlers[env.Name] == nil {
		return nil, noHandler(env.Name)
	}
	return &sink{name: env.Name, owner: t, timeout: timeout, hung: make(chan struct{}, maxHung)}, nil
}

func noHandler(sink string) error {
	return fmt.Errorf("sink %s has no handler: the program gives it one with Handle before Run", sink)
}

// tell wakes those who wait for a source. The caller holds mu.
func (t *Transport) tell() {
	close(t.made)
	t.made = make(chan struct{})
}

// Handle gives a sink its handler. It fails once Start was called, and for a sink
// that has one.
func (t *Transport) Handle(sink string, h Handler) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case h == nil:
		return fmt.Errorf("handle %s: the handler is nil", sink)
	case t.running || t.closed:
		return fmt.Errorf("handle %s: handlers come before Run", sink)
	case t.handlers[sink] != nil:
		return fmt.Errorf("handle %s: it has a handler", sink)
	}
	t.handlers[sink] = h
	return nil
}

func (t *Transport) handler(sink string) Handler {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.handlers[sink]
}

// Start says that no more handlers come, and names all sinks among those given
// that have none.
func (t *Transport) Start(sinks []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, s := range sinks {
		if t.handlers[s] == nil {
			errs = append(errs, noHandler(s))
		}
	}
	t.running = len(errs) == 0
	return errors.Join(errs...)
}

// Close refuses what is published from now on.
func (t *Transport) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.tell()
}

// ErrOutcomeUnknown says that an event was handed over, and that its publisher
// stopped waiting, or the engine ended, before it was known to be durable: it may
// come through or not. Publishing it again with the same id does no harm where
// the source de-duplicates.
var ErrOutcomeUnknown = errors.New("outcome unknown")

// PublishError says which events of a call were not taken, and why.
type PublishError struct {
	// Errs is as long as the events were; nil = durable. An event that never
	// reached the engine has the reason; see ErrOutcomeUnknown for the others.
	Errs []error
}

// Error names the first event at fault and counts the others.
func (e *PublishError) Error() string {
	failed, first := 0, -1
	for i, err := range e.Errs {
		if err == nil {
			continue
		}
		if failed++; first < 0 {
			first = i
		}
	}
	if first < 0 {
		return "publish: no event failed"
	}
	return fmt.Sprintf("publish: %d of %d events failed, the first is number %d: %v", failed, len(e.Errs), first, e.Errs[first])
}

// Unwrap returns the reasons.
func (e *PublishError) Unwrap() []error {
	var errs []error
	for _, err := range e.Errs {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// errDataKind: with the zero kind the event would go without its data, which nobody means.
var errDataKind = errors.New("event: it has data and no DataKind (event.DataJSON for JSON, event.DataBinary for bytes)")

// Publish gives events to a source, in order, and waits until each is durable:
// delivered, parked, a dead letter, or dropped by a named rule. It waits while the
// source is full. The error is a *PublishError, or says that there is no such source.
func (t *Transport) Publish(ctx context.Context, name string, events []event.Event) error {
	errs := make([]error, len(events))
	calls := make([]*call, len(events))
	for i := range events {
		data, err := events[i].AppendCloudEvent(nil, event.Stamps{})
		if events[i].DataKind == event.DataAbsent && len(events[i].Data) > 0 {
			err = errDataKind
		}
		if err != nil {
			errs[i] = err
			continue
		}
		calls[i] = &call{data: data, done: make(chan error, 1)}
	}
	t.offer(ctx, name, calls, errs)
	for i, c := range calls {
		if c != nil && errs[i] == nil {
			errs[i] = c.wait(ctx)
		}
	}
	for _, err := range errs {
		if err != nil {
			return &PublishError{Errs: errs}
		}
	}
	return nil
}

// offer hands calls over until one is not taken; that one and those after it get the reason.
func (t *Transport) offer(ctx context.Context, name string, calls []*call, errs []error) {
	for i, c := range calls {
		if c == nil {
			continue
		}
		if err := t.put(ctx, name, c); err != nil {
			for j := i; j < len(calls); j++ {
				if errs[j] == nil {
					errs[j] = err
				}
			}
			return
		}
	}
}

// put hands one call to whichever source has the name now: a reload may replace it.
func (t *Transport) put(ctx context.Context, name string, c *call) error {
	for {
		t.mu.Lock()
		s, made, closed := t.sources[name], t.made, t.closed
		t.mu.Unlock()
		if closed {
			return fmt.Errorf("source %s: %w", name, transports.ErrClosed)
		}
		if s != nil {
			if err := s.put(ctx, c); !errors.Is(err, errReplaced) {
				return err
			}
		}
		select {
		case <-made:
		case <-ctx.Done():
			return fmt.Errorf("source %s: not taken: %w", name, context.Cause(ctx))
		}
	}
}
