// Package memory has sources and sinks that live in the process: queues and
// topics by name, for tests and for programs that embed the engine.
//
// It promises what a good broker promises, so that tests of the engine mean
// something: an entry is given to one source at a time and comes again, with a
// higher attempt and the same id, after a nack, a lease that ran out or the
// source's end; while an entry of a key waits to come again, no later one of
// that key passes it, and a key is with one source at a time. It is lossy: all
// is gone with the process, and its Capabilities say so.
//
// Time is the time package's, so that it works in testing/synctest.
package memory

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// Limits of a queue until configuration says otherwise.
const (
	DefaultLimit = 10_000   // entries that wait or are held
	MaxBytes     = 64 << 20 // of their data
	maxTopics    = 1_000    // queues and topics of one transport
	maxSources   = 1_000    // sources of one topic
	fullDelay    = 10 * time.Millisecond
)

// Transport holds queues and topics by name. All methods are safe for
// concurrent use.
type Transport struct {
	mu     sync.Mutex
	queues map[string]*Queue
	topics map[string]*topic
}

// topic copies each entry to the queues of its sources.
type topic struct {
	queues map[*Queue]bool
}

// New returns a transport without queues.
func New() *Transport {
	return &Transport{queues: map[string]*Queue{}, topics: map[string]*topic{}}
}

// Name implements transports.Transport.
func (*Transport) Name() string { return "memory" }

// Options implements transports.Transport.
func (*Transport) Options() (source, sink []transports.Option) {
	source = []transports.Option{
		{Name: "queue", Type: transports.String, Doc: "Queue to take from; its sources share the entries."},
		{Name: "topic", Type: transports.String, Doc: "Topic to take from; each of its sources gets every entry from its opening on."},
		{Name: "lease", Type: transports.Duration, Default: time.Duration(0), Doc: "An entry that is not settled for so long is given again; 0 = never."},
		{Name: "limit", Type: transports.Int, Default: int64(DefaultLimit), Doc: "Entries that wait or are held at most."},
	}
	sink = []transports.Option{
		{Name: "queue", Type: transports.String, Doc: "Queue to put into."},
		{Name: "topic", Type: transports.String, Doc: "Topic to put into; without sources it keeps nothing."},
		{Name: "limit", Type: transports.Int, Default: int64(DefaultLimit), Doc: "Entries that wait or are held at most; above it writes are throttled."},
	}
	return source, sink
}

// Queue returns the queue of a name and makes it where it is missing. Tests
// put and take with it what the engine takes and puts.
func (t *Transport) Queue(name string) *Queue {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queues[name]
	if q == nil {
		q = newQueue(name)
		t.queues[name] = q
	}
	return q
}

// NewSource implements transports.Transport.
func (t *Transport) NewSource(env transports.Env, settings transports.Settings) (transports.Source, error) {
	at, err := t.place(settings)
	if err != nil {
		return nil, fmt.Errorf("memory source %s: %w", env.Name, err)
	}
	lease := settings.Duration("lease")
	if lease < 0 {
		return nil, fmt.Errorf("memory source %s: lease must not be negative", env.Name)
	}
	return &source{name: env.Name, owner: t, at: at, lease: lease, closing: make(chan struct{})}, nil
}

// NewSink implements transports.Transport.
func (t *Transport) NewSink(env transports.Env, settings transports.Settings) (transports.Sink, error) {
	at, err := t.place(settings)
	if err != nil {
		return nil, fmt.Errorf("memory sink %s: %w", env.Name, err)
	}
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	return &sink{name: env.Name, log: env.Log, owner: t, at: at}, nil
}

// place is where an end of the transport stands.
type place struct {
	queue string
	topic string
	limit int
}

func (t *Transport) place(settings transports.Settings) (place, error) {
	at := place{queue: settings.String("queue"), topic: settings.String("topic"), limit: int(settings.Int("limit"))}
	switch {
	case (at.queue == "") == (at.topic == ""):
		return at, errors.New("want exactly one of queue and topic")
	case at.limit < 0:
		return at, errors.New("limit must not be negative")
	case at.limit == 0:
		at.limit = DefaultLimit
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.queues[at.queue]
	if !known && t.topics[at.topic] == nil && len(t.queues)+len(t.topics) >= maxTopics {
		return at, fmt.Errorf("there are %d queues and topics already", maxTopics)
	}
	return at, nil
}

// subscribe makes a source's own queue of a topic.
func (t *Transport) subscribe(at place) (*Queue, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tp := t.topics[at.topic]
	if tp == nil {
		tp = &topic{queues: map[*Queue]bool{}}
		t.topics[at.topic] = tp
	}
	if len(tp.queues) >= maxSources {
		return nil, fmt.Errorf("topic %s has %d sources already: %w", at.topic, maxSources, transports.ErrFatal)
	}
	q := newQueue(at.topic)
	tp.queues[q] = true
	return q, nil
}

func (t *Transport) unsubscribe(name string, q *Queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tp := t.topics[name]; tp != nil {
		delete(tp.queues, q)
	}
}

// targets are the queues that an entry for the place goes to.
func (t *Transport) targets(at place) []*Queue {
	if at.queue != "" {
		return []*Queue{t.Queue(at.queue)}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	tp := t.topics[at.topic]
	if tp == nil {
		return nil
	}
	all := make([]*Queue, 0, len(tp.queues))
	for q := range tp.queues {
		all = append(all, q)
	}
	return all
}
