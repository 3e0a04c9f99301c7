package rehearsal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/transports"
)

// transportName is what the replaced ends of a plan have as their transport.
const transportName = "rehearsal"

// ends is the transport that plays all sources and sinks of a test.
type ends struct {
	play    *play
	sources map[string]*source
	sinks   map[string]*recorder
}

func newEnds(p *play) *ends {
	return &ends{play: p, sources: map[string]*source{}, sinks: map[string]*recorder{}}
}

func (*ends) Name() string { return transportName }

func (*ends) Options() (source, sink []transports.Option) {
	return []transports.Option{}, []transports.Option{}
}

func (e *ends) NewSource(env transports.Env, _ transports.Settings) (transports.Source, error) {
	s := &source{abilities: e.play.stage.abilities(env), bell: make(chan struct{}, 1), closed: make(chan struct{})}
	e.sources[env.Name] = s
	return s, nil
}

func (e *ends) NewSink(env transports.Env, _ transports.Settings) (transports.Sink, error) {
	r := &recorder{codec: e.play.stage.codec(env), began: e.play.began, answers: slices.Clone(e.play.test.Answers[env.Name])}
	e.sinks[env.Name] = r
	return r, nil
}

// abilities are those of the source that is played.
func (s *Stage) abilities(env transports.Env) transports.Capabilities {
	can := transports.Capabilities{Order: transports.OrderPartition}
	real := s.cfg.Plan.Source(env.Name)
	for _, t := range s.cfg.Transports {
		if t.Name() != real.Transport {
			continue
		}
		env.DataDir = s.cfg.Plan.Node.Data
		if made, err := t.NewSource(env, real.Settings); err == nil {
			can = made.Capabilities()
		}
	}
	can.Finite, can.Lossy = true, false
	return can
}

// codec is what the sink that is played needs its entries to be in.
func (s *Stage) codec(env transports.Env) []string {
	real := s.cfg.Plan.Sink(env.Name)
	for _, t := range s.cfg.Transports {
		if real == nil || t.Name() != real.Transport {
			continue
		}
		env.DataDir = s.cfg.Plan.Node.Data
		made, err := t.NewSink(env, real.Settings)
		if err != nil {
			return nil // whoever opens it is told
		}
		if encoded, ok := made.(transports.Encoded); ok {
			return encoded.Codec()
		}
	}
	return nil
}

// put gives an event to a source.
func (e *ends) put(name string, event *config.CaseEvent) { e.sources[name].put(event) }

// finish ends all sources.
func (e *ends) finish() {
	for _, s := range e.sources {
		s.finish()
	}
}

// waiting says that some source has events that were not settled.
func (e *ends) waiting() bool {
	for _, s := range e.sources {
		if s.left() {
			return true
		}
	}
	return false
}

// source gives what the test puts in. It takes deliveries back where the source that
// it plays does.
type source struct {
	abilities transports.Capabilities
	bell      chan struct{}
	closed    chan struct{}
	once      sync.Once

	mu       sync.Mutex // guards what follows
	queue    []given
	held     map[string]given // given and not settled, by delivery
	count    uint64
	finished bool
}

// given is an event on its way.
type given struct {
	delivery transports.Delivery
	from     time.Time // not before
}

const partition = "test"

func (s *source) put(e *config.CaseEvent) {
	s.mu.Lock()
	ordinal := s.count
	s.count++
	d := transports.Delivery{
		ID: strconv.FormatUint(ordinal, 10), Partition: partition, Ordinal: ordinal,
		Position: binary.LittleEndian.AppendUint64(nil, ordinal), Next: binary.LittleEndian.AppendUint64(nil, ordinal+1),
		Data: e.Data,
	}
	if e.Key != "" {
		d.Key = []byte(e.Key)
	}
	s.queue = append(s.queue, given{delivery: d})
	s.mu.Unlock()
	s.ring()
}

func (s *source) finish() {
	s.mu.Lock()
	s.finished = true
	s.mu.Unlock()
	s.ring()
}

func (s *source) left() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)+len(s.held) > 0
}

func (s *source) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

func (s *source) Capabilities() transports.Capabilities { return s.abilities }

func (s *source) Open(_ context.Context, _ map[string]transports.Position, l transports.Listener) error {
	s.held = map[string]given{}
	l.Assigned(partition)
	return nil
}

func (s *source) Receive(ctx context.Context, most int, wait time.Duration) ([]transports.Delivery, error) {
	deadline := time.Now().Add(wait)
	for {
		list, next, ended := s.take(most)
		if len(list) > 0 {
			return list, nil
		}
		if ended {
			return nil, io.EOF
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, nil
		}
		if !next.IsZero() {
			left = min(left, time.Until(next))
		}
		select {
		case <-s.bell:
		case <-time.After(left):
		case <-s.closed:
			return nil, transports.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take gives what may be given now, else when the next may.
func (s *source) take(most int) (list []transports.Delivery, next time.Time, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.queue) > 0 && len(list) < most {
		g := s.queue[0]
		if g.from.After(now) {
			return list, g.from, false
		}
		s.queue = s.queue[1:]
		g.delivery.Attempt++
		s.held[g.delivery.ID] = g
		list = append(list, g.delivery)
	}
	return list, time.Time{}, s.finished && len(s.queue) == 0
}

func (s *source) Settle(_ context.Context, settlements []transports.Settlement) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(settlements))
	for i := range settlements {
		errs[i] = s.settle(&settlements[i])
	}
	s.ring()
	return errs
}

func (s *source) settle(x *transports.Settlement) error {
	if x.Through != nil {
		for id, g := range s.held {
			if g.delivery.Ordinal < x.Ordinal {
				delete(s.held, id)
			}
		}
		return nil
	}
	g, ok := s.held[x.ID]
	if !ok {
		return transports.ErrNotHeld
	}
	delete(s.held, x.ID)
	if x.Nack {
		g.from = time.Now().Add(x.Delay)
		at := slices.IndexFunc(s.queue, func(q given) bool { return q.from.After(g.from) })
		if at < 0 {
			at = len(s.queue)
		}
		s.queue = slices.Insert(s.queue, at, g)
	}
	return nil
}

func (s *source) Close(context.Context) error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// recorder remembers what arrives at a sink, and answers as the test says.
type recorder struct {
	began time.Time
	codec []string // that the real sink needs

	mu      sync.Mutex // guards what follows
	answers []string
	arrived []arrival
}

// Codec implements transports.Encoded.
func (r *recorder) Codec() []string { return r.codec }

// arrival is one entry that arrived.
type arrival struct {
	id, key, route string
	headers        []transports.Header
	data           []byte
	at             time.Duration
	attempt        int
}

func (*recorder) Limits() transports.Limits {
	return transports.Limits{KeyedFailure: true}
}
func (*recorder) Open(context.Context) error  { return nil }
func (*recorder) Flush(context.Context) error { return nil }
func (*recorder) Close(context.Context) error { return nil }

var classes = map[string]transports.Class{
	"ok": transports.OK, "retry": transports.Retry, "throttled": transports.Throttled,
	"unknown": transports.Unknown, "poison": transports.Poison, "fatal": transports.Fatal,
}

func (r *recorder) Write(_ context.Context, batch []transports.Entry, results []transports.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	failed := map[string]bool{}
	for i := range batch {
		e := &batch[i]
		if e.Key != nil && failed[string(e.Key)] {
			results[i] = transports.Result{Class: transports.Retry, Err: errors.New("an earlier entry of the key failed")}
			continue
		}
		word := "ok"
		if len(r.answers) > 0 {
			word, r.answers = r.answers[0], r.answers[1:]
		}
		if word == "ok" {
			results[i] = transports.Result{}
			r.arrived = append(r.arrived, arrival{
				id: e.ID, key: string(e.Key), route: e.Route, headers: slices.Clone(e.Headers),
				data: bytes.Clone(e.Data), at: time.Since(r.began), attempt: e.Attempt,
			})
			continue
		}
		failed[string(e.Key)] = true
		results[i] = transports.Result{Class: classes[word], Err: fmt.Errorf("the test says %s", word)}
	}
}
