package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// remote is a transport of sinks that stand outside the commit and answer as the
// script says. It outlives engines, as another machine does.
type remote struct {
	mu    sync.Mutex // guards sinks
	sinks map[string]*remoteSink
}

func newRemote() *remote { return &remote{sinks: map[string]*remoteSink{}} }

func (*remote) Name() string { return "remote" }

func (*remote) Options() (source, sink []transports.Option) {
	return nil, []transports.Option{
		{Name: "keyed_failure", Type: transports.Bool, Doc: "A failure fails the later entries of its key."},
		{Name: "closed", Type: transports.Bool, Doc: "Opening fails."},
		{Name: "idempotent", Type: transports.Bool, Doc: "Repeated ids are dropped."},
		{Name: "topic", Type: transports.String, Template: true, Doc: "Where to."},
		{Name: "headers", Type: transports.Strings, Template: true, Doc: "What else to say."},
	}
}

func (*remote) NewSource(transports.Env, transports.Settings) (transports.Source, error) {
	return nil, errors.New("there are no such sources")
}

func (r *remote) NewSink(env transports.Env, s transports.Settings) (transports.Sink, error) {
	at := r.sink(env.Name)
	at.limits = transports.Limits{KeyedFailure: s.Bool("keyed_failure"), Idempotent: s.Bool("idempotent")}
	if s.Bool("closed") {
		return refusing{at}, nil
	}
	return at, nil
}

func (r *remote) sink(name string) *remoteSink {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sinks[name]
	if s == nil {
		s = &remoteSink{began: time.Now(), answers: map[string][]string{}}
		r.sinks[name] = s
	}
	return s
}

// refusing is a sink that does not open.
type refusing struct{ *remoteSink }

func (refusing) Open(context.Context) error { return errors.New("connection refused") }

// remoteSink remembers what arrived and every entry that was written.
type remoteSink struct {
	limits transports.Limits
	began  time.Time

	mu      sync.Mutex // guards what follows
	answers map[string][]string
	writes  int
	arrived []string
	log     []string
}

func (s *remoteSink) answer(event string, classes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[event] = classes
}

func (s *remoteSink) Limits() transports.Limits   { return s.limits }
func (s *remoteSink) Open(context.Context) error  { return nil }
func (s *remoteSink) Flush(context.Context) error { return nil }
func (s *remoteSink) Close(context.Context) error { return nil }

// next takes the answer to the next attempt at an event.
func (s *remoteSink) next(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, event := range []string{id, "*"} {
		if list := s.answers[event]; len(list) > 0 {
			if len(list) > 1 {
				s.answers[event] = list[1:]
			}
			return list[0]
		}
	}
	return "ok"
}

var classes = map[string]transports.Class{
	"ok": transports.OK, "retry": transports.Retry, "throttled": transports.Throttled, "unknown": transports.Unknown,
	"poison": transports.Poison, "fatal": transports.Fatal, "lease_lost": transports.LeaseLost,
}

func (s *remoteSink) Write(ctx context.Context, batch []transports.Entry, results []transports.Result) {
	s.mu.Lock()
	s.writes++
	number := s.writes
	s.mu.Unlock()
	failed := map[string]bool{}
	for i := range batch {
		e := &batch[i]
		id, _, _ := strings.Cut(e.ID, "/")
		class, late := s.next(id), time.Duration(0)
		if text, ok := strings.CutPrefix(class, "slow:"); ok {
			late, _ = time.ParseDuration(text)
			class = "ok"
		}
		if late > 0 {
			select {
			case <-time.After(late):
			case <-ctx.Done():
				class = "unknown"
			}
		}
		if e.Key != nil && failed[string(e.Key)] && s.limits.KeyedFailure {
			class = "retry"
		}
		results[i] = transports.Result{Class: classes[class]}
		if class == "throttled" {
			results[i].After = 300 * time.Millisecond
		}
		if class != "ok" {
			results[i].Err = errors.New("the sink says " + class)
			failed[string(e.Key)] = true
		}
		s.mu.Lock()
		at := time.Since(s.began).Round(time.Millisecond)
		line := fmt.Sprintf("+%v write %d: %s key=%s route=%s attempt %d: %s", at, number, e.ID, e.Key, e.Route, e.Attempt, class)
		if e.Rendered != nil {
			line += fmt.Sprintf(" %q", e.Rendered)
		}
		s.log = append(s.log, line)
		if class == "ok" {
			s.arrived = append(s.arrived, string(e.Data))
		}
		s.mu.Unlock()
	}
}
