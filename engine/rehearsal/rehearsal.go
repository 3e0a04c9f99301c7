// Package rehearsal runs a configuration on made-up events and says whether what
// became of them is what a test expects.
//
// Promise: a test has no effect outside of itself. Sources are played by the test,
// sinks by recorders that answer as it says, files by memory; of the configuration's
// own, only the plug-ins' code is read from disk. Time is virtual: it stands still
// while anything is at work and jumps when all wait, so that a dedup window of a day
// or an hour of retries take no time, and a test that passes once passes always.
//
// The virtual clock is the bubble of testing/synctest, the one clock in Go that no
// code under test can get around; bubble.go has its terms. Plug-ins are loaded
// outside of it, once for all tests of a configuration.
//
// Events come one after the other: one is put in when nothing is at work on the one
// before. At its time (at:) the clock is moved. After the last one the clock goes on
// as long as deliveries are parked, at most for limit:.
package rehearsal

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
)

// Config is what tests run on.
type Config struct {
	Plan       *config.Plan
	Transports []transports.Transport // asked for what the plan's sources are able to, never opened
	Hosts      []plugins.Host
	Log        *slog.Logger // nil discards it
}

// Outcome is how one test went.
type Outcome struct {
	Name     string
	Line     int
	Failures []string      // what is not as expected, each one or several lines; empty = passed
	Virtual  time.Duration // time that went by for the configuration
	Real     time.Duration
}

// Passed says that everything was as expected.
func (o *Outcome) Passed() bool { return len(o.Failures) == 0 }

// Stage is a configuration with its plug-ins loaded, ready for tests. Close it after.
type Stage struct {
	cfg    Config
	loaded *loaded
}

// New loads the plan's plug-ins.
func New(ctx context.Context, cfg Config) (*Stage, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := load(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Stage{cfg: cfg, loaded: l}, nil
}

// Close frees the plug-ins.
func (s *Stage) Close(ctx context.Context) error { return s.loaded.close(ctx) }

// Run plays one test. The error says that it could not be played; that it failed
// stands in the outcome.
func (s *Stage) Run(c *config.Case) (*Outcome, error) {
	out := &Outcome{Name: c.Name, Line: c.Line}
	if out.Failures = s.unknownNames(c); len(out.Failures) > 0 {
		return out, nil
	}
	begun := time.Now()
	p := newPlay(s, c)
	err := inBubble(func() { p.run() })
	out.Real = time.Since(begun)
	if err == nil {
		err = p.err
	}
	if err != nil {
		return nil, fmt.Errorf("test %q: %w", c.Name, err)
	}
	out.Virtual = p.passed
	out.Failures = p.compare()
	return out, nil
}

// unknownNames says which names of a test the configuration does not have.
func (s *Stage) unknownNames(c *config.Case) (failures []string) {
	plan := s.cfg.Plan
	for _, e := range c.Events {
		switch {
		case e.Source == "" && len(plan.Sources) != 1:
			failures = append(failures, fmt.Sprintf("line %d: in: is missing, and there is more than one source", e.Line))
		case e.Source != "" && plan.Source(e.Source) == nil:
			failures = append(failures, fmt.Sprintf("line %d: in: no source %q", e.Line, e.Source))
		default:
			continue
		}
		break // the others are most likely alike
	}
	known := func(name string) bool {
		return plan.Sink(name) != nil || name == config.DeadLettersName && plan.DeadLetters.Sink.Transport != ""
	}
	for name, x := range c.Expect {
		if !known(name) {
			failures = append(failures, fmt.Sprintf("line %d: expect: no sink %q", x.Line, name))
		}
	}
	for name := range c.Answers {
		if !known(name) {
			failures = append(failures, fmt.Sprintf("line %d: answers: no sink %q", c.Line, name))
		}
	}
	return failures
}

// dataFolder is where the configuration under test believes its data to be, in memory.
const dataFolder = "/rehearsal/data"

// plan is the configuration with its ends replaced.
func (s *Stage) plan() *config.Plan {
	p := *s.cfg.Plan
	p.Node.Data, p.Node.Admin, p.Node.Trace, p.Registry = dataFolder, config.Admin{}, config.Trace{}, config.Registry{}
	if p.Node.Lanes == 0 {
		p.Node.Lanes = lanes // the same on every machine
	}
	p.Sources = append([]config.Source(nil), p.Sources...)
	for i := range p.Sources {
		p.Sources[i].Transport, p.Sources[i].Settings = transportName, transports.Settings{}
	}
	p.Sinks = append([]config.Sink(nil), p.Sinks...)
	for i := range p.Sinks {
		p.Sinks[i].Transport, p.Sinks[i].Settings = transportName, transports.Settings{}
		p.Sinks[i].Batch.Wait = batchWait
	}
	if d := &p.DeadLetters.Sink; d.Transport != "" {
		d.Transport, d.Settings, d.Batch.Wait = transportName, transports.Settings{}, batchWait
	}
	return &p
}

const lanes = 2

// An event has a millisecond to get through before the next one comes; what takes
// longer is being tried again, and is passed by events of other keys as ever.
const (
	smallStep  = 100 * time.Microsecond
	smallSteps = 10
	batchWait  = time.Nanosecond
)

// play is one test at work. All of it but err and passed belongs to the bubble.
type play struct {
	stage  *Stage
	test   *config.Case
	ends   *ends
	engine *engine.Engine

	began  time.Time
	passed time.Duration
	status engine.Status
	err    error
}

func newPlay(s *Stage, c *config.Case) *play { return &play{stage: s, test: c} }

// run plays the test from beginning to end.
func (p *play) run() {
	p.began = time.Now()
	p.ends = newEnds(p)
	fsys := vfs.NewMem()
	if p.err = vfs.EnsureDir(fsys, dataFolder); p.err != nil {
		return
	}
	p.engine, p.err = engine.New(engine.Config{
		Plan: p.stage.plan(), Transports: []transports.Transport{p.ends}, Plugins: p.stage.loaded.hosts(),
		Log: p.stage.cfg.Log, FS: fsys, Seed: 1, ChunkBytes: 64 << 10, DrainLimit: time.Second,
		Now: func() time.Time { return p.test.Start.Add(time.Since(p.began)) },
	})
	if p.err != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- p.engine.Run(ctx) }()
	p.feed(done)
	p.ends.finish()
	p.err = <-done
	p.status = p.engine.Status()
}

// feed puts the events in, each at its time, then waits for what is parked.
func (p *play) feed(done <-chan error) {
	settle()
	for i := range p.test.Events {
		e := &p.test.Events[i]
		if wait := e.At - time.Since(p.began); wait > 0 {
			time.Sleep(wait)
		}
		p.ends.put(p.stage.sourceOf(e), e)
		settle()
		for range smallSteps {
			if !p.ends.waiting() {
				break
			}
			time.Sleep(smallStep) // what collects work for a moment gets it
			settle()
		}
	}
	last := time.Now()
	for pause := time.Second; time.Since(last) < p.test.Limit && p.busy(); pause = min(2*pause, time.Minute) {
		time.Sleep(min(pause, p.test.Limit-time.Since(last)))
		settle()
		if len(done) > 0 {
			break // it has failed
		}
	}
	p.passed = time.Since(p.began)
}

func (s *Stage) sourceOf(e *config.CaseEvent) string {
	if e.Source != "" {
		return e.Source
	}
	return s.cfg.Plan.Sources[0].Name
}

// busy says that something is still to come: events that are not settled, or parked
// deliveries.
func (p *play) busy() bool {
	if p.ends.waiting() {
		return true
	}
	for _, s := range p.engine.Status().Sinks {
		if s.Parked > 0 {
			return true
		}
	}
	return false
}
