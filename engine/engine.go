package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/letters"
	"github.com/weir-project/weir/engine/program"
	"github.com/weir-project/weir/engine/trace"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
)

// Config is what an engine is made of. One of File, Tree and Plan is required.
type Config struct {
	// File is the configuration file. Tree, where set, is the configuration as a Go
	// literal and used instead; Plan one that was loaded before.
	File string
	Tree config.Tree
	Plan *config.Plan

	Transports []transports.Transport
	Plugins    []plugins.Host

	// Log takes the engine's own log; nil discards it.
	Log *slog.Logger
	// Now is the wall clock, for stamps, expiry and the journal; nil = time.Now.
	Now func() time.Time
	// FS is where everything durable goes; nil = the operating system's files.
	FS vfs.FS
	// DrainLimit is how long Run waits for in-flight events when asked to stop,
	// default 30 s.
	DrainLimit time.Duration
	// ParkBytes bounds the park queue of each sink that is not local, default 1 GiB.
	ParkBytes int64
	// DerivedBytes bounds the internal queue of derived events on disk, default 1 GiB.
	DerivedBytes int64
	// ChunkBytes is how much is asked at once of a source that gives runs of bytes,
	// default 256 KiB.
	ChunkBytes int
	// Load is how the configuration is read, now and for Reload; nil = File, with
	// Transports and Plugins. Where Plan is set it is for Reload only.
	Load func() (*config.Plan, error)
	// Commit tunes the commit log; its FS, Dir and Log are filled in.
	Commit commit.Config
	// Tracer takes what became of sampled events, such as an otlp.Exporter; nil = no
	// event is traced.
	Tracer trace.Tracer
	// Seed makes retry jitter repeatable; 0 = random.
	Seed uint64
}

// Status is what an engine has done and where it stands.
type Status = flow.Status

// Engine runs one configuration. Its methods may be called from any goroutine.
type Engine struct {
	cfg  Config
	flow *flow.Flow
	dry  bool // it only loads plug-ins, and writes nothing

	program *program.Transport // the ends that lie in this program
	started atomic.Bool        // Run or Do was called

	reloading chan struct{} // holds one element while a reload is under way; guards number
	number    uint64        // of the last generation that was tried

	mu       sync.Mutex // guards what follows
	running  version
	previous version          // what Rollback goes back to
	coming   version          // what is being loaded or put to work
	loaded   []plugins.Plugin // all that are open
}

// New reads and checks the configuration, loads the plug-ins, opens the data folder
// and recovers what an earlier run left. It changes nothing in the world outside
// the data folder and the sinks' own files; Run does.
func New(cfg Config) (*Engine, error) {
	own := program.New()
	cfg.Transports = withOwn(cfg.Transports, own)
	plan := cfg.Plan
	if plan == nil && cfg.Tree != nil {
		var err error
		if plan, err = config.Load(config.Options{Tree: cfg.Tree, Transports: cfg.Transports, Hosts: hostNames(cfg.Plugins)}); err != nil {
			return nil, err
		}
	}
	if cfg.Load == nil {
		cfg.Load = func() (*config.Plan, error) {
			return config.Load(config.Options{File: cfg.File, Transports: cfg.Transports, Hosts: hostNames(cfg.Plugins)})
		}
		if plan != nil && cfg.File == "" {
			cfg.Load = nil // there is nothing to read
		}
	}
	if plan == nil {
		var err error
		if plan, err = cfg.Load(); err != nil {
			return nil, err
		}
	}
	if cfg.FS == nil {
		cfg.FS = vfs.OS{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &Engine{cfg: cfg, reloading: make(chan struct{}, 1), number: 1, program: own}
	if err := e.build(plan); err != nil {
		return nil, errors.Join(err, e.closePlugins())
	}
	return e, nil
}

func hostNames(hosts []plugins.Host) []string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Name()
	}
	return names
}

func (e *Engine) build(plan *config.Plan) error {
	if err := vfs.EnsureDir(e.cfg.FS, plan.Node.Data); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	v, err := e.load(context.Background(), plan)
	if err != nil {
		return err
	}
	e.running = v
	e.expect(version{})
	g, err := flow.Compile(plan, e.number, v.plugins)
	if err != nil {
		return err
	}
	e.flow, err = flow.New(flow.Config{
		Make: maker{e, plan}, FS: e.cfg.FS, Log: e.cfg.Log, Now: e.cfg.Now,
		DrainLimit: e.cfg.DrainLimit, ParkBytes: e.cfg.ParkBytes, DerivedBytes: e.cfg.DerivedBytes, ChunkBytes: e.cfg.ChunkBytes, Commit: e.cfg.Commit, Tracer: e.cfg.Tracer, Seed: e.cfg.Seed,
	}, g)
	return err
}

// maker makes the ends of a plan.
type maker struct {
	engine *Engine
	plan   *config.Plan
}

func (m maker) Source(p *config.Source) (transports.Source, error) {
	t, err := m.engine.transport(p.Transport)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", p.Name, err)
	}
	s, err := t.NewSource(m.env(p.Name), p.Settings)
	if err != nil {
		return nil, mistake(m.plan, "sources."+p.Name, err)
	}
	return s, nil
}

func (m maker) Sink(p *config.Sink) (transports.Sink, error) {
	t, err := m.engine.transport(p.Transport)
	if err != nil {
		return nil, fmt.Errorf("sink %s: %w", p.Name, err)
	}
	s, err := t.NewSink(m.env(p.Name), p.Settings)
	if err != nil {
		path := "sinks." + p.Name
		if p.Name == config.DeadLettersName {
			path = config.DeadLettersName
		}
		return nil, mistake(m.plan, path, err)
	}
	return s, nil
}

func (m maker) env(name string) transports.Env {
	e := m.engine
	return transports.Env{
		Name: name, BaseDir: m.plan.Dir, DataDir: m.plan.Node.Data, FS: e.cfg.FS,
		Log: e.cfg.Log.With("end", name), Now: e.cfg.Now, MaxEvent: m.plan.Node.Limits.Event,
	}
}

func mistake(plan *config.Plan, path string, err error) error {
	return &config.Errors{Mistakes: []config.Mistake{plan.Mistake(path, err.Error(), "")}}
}

func (e *Engine) transport(name string) (transports.Transport, error) {
	for _, t := range e.cfg.Transports {
		if t.Name() == name {
			return t, nil
		}
	}
	return nil, fmt.Errorf("no transport %q in this program", name)
}

// Run works until every source has ended and all is settled (nil), until ctx is done
// and what was in flight is settled, or until something fails. An engine runs once.
func (e *Engine) Run(ctx context.Context) error {
	return e.run(func() error {
		stop := e.followRegistry(ctx)
		defer stop()
		return e.flow.Run(ctx)
	})
}

// ErrRunsOnce says that Run or Do was called on an engine that runs or ran already.
// The first call is not disturbed.
var ErrRunsOnce = errors.New("an engine runs once: make a new one for another run")

func (e *Engine) run(work func() error) error {
	if e.started.Swap(true) {
		return ErrRunsOnce
	}
	if err := e.program.Start(programSinks(e.Plan())); err != nil {
		return errors.Join(err, e.Close())
	}
	defer e.program.Close()
	return errors.Join(work(), e.closePlugins())
}

// Reenter sends events that were in the data path before into it again: read as the
// source that they name reads its own, past de-duplication and expiry. It returns
// when they are durable; they are settled later. It is for while Run works.
func (e *Engine) Reenter(ctx context.Context, records []derive.Record) error {
	return e.flow.Reenter(ctx, records)
}

// Do opens the engine as Run does, but asks no sources: work runs, and Do returns
// when all that it set going is settled. An engine runs once.
func (e *Engine) Do(ctx context.Context, work func(ctx context.Context) error) error {
	return e.run(func() error { return e.flow.Do(ctx, work) })
}

// EachLetter visits the dead letters that are chosen, oldest first, until visit fails.
// Where they are not kept in a local queue the error is a *letters.NotHere.
func (e *Engine) EachLetter(ctx context.Context, filter *letters.Filter, visit func(*letters.Letter) error) error {
	return e.flow.EachLetter(ctx, filter, visit)
}

// CarryLetters counts, redrives or drops dead letters. It returns when that is durable;
// redriven ones are delivered later. It is for while Run or Do works, one order at a time.
func (e *Engine) CarryLetters(ctx context.Context, o *letters.Order) (letters.Result, error) {
	return e.flow.Carry(ctx, o)
}

// Close gives back what an engine holds that was made and is not to run: the data
// folder, sinks and plug-ins. After Run it does nothing.
func (e *Engine) Close() error {
	e.program.Close()
	return errors.Join(e.flow.Close(), e.closePlugins())
}

// Status says what has been done so far.
func (e *Engine) Status() Status { return e.flow.Status() }

// Journal reads what became of every event, up to what is durable. It can be read
// from New until Run or Close has returned.
func (e *Engine) Journal() *journal.Journal { return e.flow.Journal() }

// Plan is the configuration that runs. It must not be changed.
func (e *Engine) Plan() *config.Plan {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running.plan
}

func (e *Engine) closePlugins() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, p := range e.loaded {
		errs = append(errs, p.Close(context.Background()))
	}
	e.loaded = nil
	return errors.Join(errs...)
}
