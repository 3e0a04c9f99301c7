package flow

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/transports"
)

// This file makes, opens and closes sources and sinks, which live outside of
// generations.

// ends are the sources and sinks at work. A value is never changed, only replaced.
type ends struct {
	sources []*source
	sinks   []*sink
}

func (e *ends) source(name string) *source {
	for _, s := range e.sources {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (e *ends) sink(name string) *sink {
	for _, s := range e.sinks {
		if s.name == name {
			return s
		}
	}
	return nil
}

// sink is an open sink and how the path reaches it.
type sink struct {
	name     string
	plan     *config.Sink
	end      transports.Sink
	codec    event.Codec
	original bool

	bounded *bound            // nil = no bound of its own
	full    atomic.Int64      // since when sources wait for room in it, in nanoseconds since 1970; 0 = they do not
	staged  transports.Staged // takes part in the commit, at this stage
	stage   int

	dispatcher *dispatch.Dispatcher // stands outside of it
	watched    chan struct{}        // closed when its end was seen; nil = it does not run
	park       *dispatch.Park
	parkStage  int

	joined, parkJoined bool // stage and parkStage are the log's

	tending sync.Mutex // held while retention is at work in it; guards shut
	shut    bool       // it is closed
}

// changed is the list with one sink in another's place.
func (e *ends) changed(was, now *sink) *ends {
	c := &ends{sources: e.sources, sinks: slices.Clone(e.sinks)}
	c.sinks[slices.Index(c.sinks, was)] = now
	return c
}

// without leaves some out.
func (e *ends) without(gone *ends) *ends {
	c := &ends{sources: slices.Clone(e.sources), sinks: slices.Clone(e.sinks)}
	c.sources = slices.DeleteFunc(c.sources, func(s *source) bool { return slices.Contains(gone.sources, s) })
	c.sinks = slices.DeleteFunc(c.sinks, func(s *sink) bool { return slices.Contains(gone.sinks, s) })
	return c
}

// newSource makes a source that has no end yet, whose events are in flight in a room.
func newSource(p *config.Source, in *room) (*source, error) {
	s := &source{name: p.Name, measures: newSourceMeasures(), plan: p, room: in, bell: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	if p.Dedup == nil {
		return s, nil
	}
	c := dedup.Config{Window: p.Dedup.Window, MaxIDs: p.Dedup.MaxIDs}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("source %s: %w", p.Name, err)
	}
	s.table = dedup.New[ref](c)
	return s, nil
}

// newSource makes a source with an end that is not open.
func (f *Flow) newSource(m Maker, p *config.Source) (*source, error) {
	s, err := newSource(p, &f.room)
	if err != nil {
		return nil, err
	}
	end, err := m.Source(p)
	if err != nil {
		return nil, err
	}
	s.take(end)
	return s, nil
}

// inherit takes over what another source of the name has counted. Nobody asks either.
func (s *source) inherit(was *source) {
	s.measures, s.before = was.measures, was.before
	s.usual = was.usual
	s.received.Store(was.received.Load())
	for o := range s.outcomes {
		s.outcomes[o].Store(was.outcomes[o].Load())
	}
	s.ended.Store(was.ended.Load())
}

// take joins a source to its end.
func (s *source) take(end transports.Source) {
	s.end = end
	s.chunks, _ = end.(transports.ChunkSource)
	s.brokerKeeps = end.Capabilities().Positions == transports.KeptByBroker
	s.nacks = end.Capabilities().Nack
	if e, ok := end.(transports.Extender); ok {
		s.leases = newLeases(e)
	}
}

// openSource opens a source where its partitions stand.
func (f *Flow) openSource(ctx context.Context, s *source) error {
	var resume map[string]transports.Position
	if !s.brokerKeeps {
		resume = f.positions.resume(s.name)
	}
	if err := s.end.Open(ctx, resume, listener{}); err != nil {
		return about("source", s.name, err)
	}
	return nil
}

// startSource asks a source that is open until it has ended or Run is to stop. The
// caller belongs to the askers.
func (f *Flow) startSource(s *source) {
	ctx := f.asking
	s.last, s.told = make(chan struct{}), make(chan struct{})
	go f.settler(f.life, s) // stopSettling waits for it
	f.askers.join()
	go func() { // Run waits for the askers
		err := f.intake(ctx, s)
		s.mute()
		if err != nil {
			f.cfg.Log.Error("source stopped", "source", s.name, "error", err)
		}
		f.askers.leave(err)
	}()
}

// stopSettling tells a source a last time what is settled.
func (s *source) stopSettling() {
	if s.last == nil {
		return // it was never started
	}
	close(s.last)
	<-s.told
	s.last = nil
}

// crew counts those who ask sources, and a reload at work. When all are gone nobody
// joins any more.
type crew struct {
	mu   sync.Mutex // guards what follows
	n    int
	over bool
	gone chan struct{} // closed with over
	errs []error
}

func (c *crew) join() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	c.n++
	return true
}

func (c *crew) leave(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.errs = append(c.errs, err)
	}
	if c.n--; c.n == 0 {
		c.over = true
		close(c.gone)
	}
}

// wait returns why members failed, once all are gone.
func (c *crew) wait() error {
	<-c.gone
	return errors.Join(c.errs...)
}

// newSink makes a sink that is not open.
func (f *Flow) newSink(m Maker, p *config.Sink) (*sink, error) {
	end, err := m.Sink(p)
	if err != nil {
		return nil, err
	}
	open := &sink{}
	open.take(end)
	s, err := open.tuned(p)
	if err != nil {
		return nil, errors.Join(err, end.Close(context.Background()))
	}
	return s, nil
}

// tuned is the same sink, used as p says.
func (s *sink) tuned(p *config.Sink) (*sink, error) {
	codec, err := p.CodecAt(s.end)
	if err != nil {
		return nil, about("sink", p.Name, err)
	}
	return &sink{
		name: p.Name, plan: p, end: s.end, codec: codec, original: codec.IsOriginal(),
		bounded: s.bounded, staged: s.staged, stage: s.stage, joined: s.joined,
		dispatcher: s.dispatcher, watched: s.watched, park: s.park, parkStage: s.parkStage, parkJoined: s.parkJoined,
	}, nil
}

// take joins a sink to its end.
func (s *sink) take(end transports.Sink) {
	s.end = end
	s.staged, _ = end.(transports.Staged)
	if b, ok := end.(transports.Bounded); ok && s.staged != nil {
		s.bounded = &bound{end: b}
	}
}

// bound asks a sink for its room as long as it is open: who looks may have found it in
// a list that has been replaced since.
type bound struct {
	mu     sync.RWMutex // guards closed
	closed bool
	end    transports.Bounded
}

// Room is how many bytes the sink takes; one that is closed keeps nobody waiting.
func (b *bound) Room() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return math.MaxInt64
	}
	return b.end.Room()
}

func (b *bound) close() {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
}

// openSink opens a sink and, where deliveries to it may wait, its park queue.
func (f *Flow) openSink(ctx context.Context, s *sink) error {
	if err := s.end.Open(ctx); err != nil {
		return about("sink", s.name, err)
	}
	if s.staged != nil || s.name == config.DeadLettersName {
		return nil // dead letters are not parked: no event settles before its letter arrived
	}
	var err error
	if s.park, err = dispatch.OpenPark(f.cfg.FS, f.parkFolder(s.name), f.cfg.ParkBytes); err != nil {
		return fmt.Errorf("sink %s: %w", s.name, err)
	}
	if was := f.parks[s.name]; was != nil {
		delete(f.parks, s.name)
		return was.Snapshot(s.park.Load)
	}
	return nil
}

func (f *Flow) parkFolder(sink string) string { return filepath.Join(f.node.Data, "park", sink) }

// joinSink makes an open sink part of the commit, or gives it a dispatcher, which is
// not running yet.
func (f *Flow) joinSink(s *sink) (err error) {
	if s.staged != nil {
		s.stage, err = f.log.Stage(s.stageName(), s.staged)
		s.joined = err == nil
		return sinkError(s, "", err)
	}
	if err := f.joinPark(s); err != nil {
		return err
	}
	s.dispatcher, err = dispatch.New(f.dispatchConfig(s))
	return sinkError(s, "", err)
}

// stageName is what the sink's marks belong to.
func (s *sink) stageName() string {
	if p, ok := s.staged.(transports.Placed); ok {
		return s.plan.Transport + "/" + p.Place()
	}
	return "sink/" + s.name
}

func (f *Flow) joinPark(s *sink) (err error) {
	if s.park == nil {
		return nil
	}
	if s.parkStage, err = f.log.Stage("park/"+s.name, s.park); err == nil {
		s.parkJoined = true
		err = s.park.Resume()
	}
	return sinkError(s, "park queue: ", err)
}

// present is the sink's end; with a dispatcher, which may have been given another one,
// only once that has stopped.
func (s *sink) present() transports.Sink {
	if s.dispatcher != nil {
		return s.dispatcher.Sink()
	}
	return s.end
}

// closeEnd writes out and closes.
func closeEnd(ctx context.Context, end transports.Sink) error {
	return errors.Join(end.Flush(ctx), end.Close(ctx))
}

func sinkError(s *sink, what string, err error) error {
	if err == nil {
		return nil
	}
	return about("sink", s.name, fmt.Errorf("%s%w", what, err))
}

// EndError is a failure of one source or sink.
type EndError struct {
	Kind string // source or sink
	Name string
	Err  error
}

// Error names the end, unless its transport has done so.
func (e *EndError) Error() string {
	if text := e.Err.Error(); strings.Contains(text, e.Kind+" "+e.Name+":") {
		return text
	}
	return e.Kind + " " + e.Name + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *EndError) Unwrap() error { return e.Err }

func about(kind, name string, err error) error { return &EndError{kind, name, err} }

func (f *Flow) dispatchConfig(s *sink) dispatch.Config {
	p := s.plan
	return dispatch.Config{
		Name: s.name, Sink: s.end, BatchCount: p.Batch.Count, BatchWait: p.Batch.Wait,
		ParkAfter: p.Retry.ParkAfter, MaxAge: p.Retry.MaxAge, BackoffMin: p.Retry.BackoffMin, BackoffMax: p.Retry.BackoffMax,
		BlockKey: p.Retry.BlockedKey == "park", DuplicatesOK: p.Duplicates == "ok",
		Insist: s.name == config.DeadLettersName, Park: s.park, Seed: f.cfg.Seed,
		Ended: func(ctx context.Context, ended []dispatch.Ended) error { return f.redelivered(ctx, s, ended) },
	}
}

// startSink lets a sink's dispatcher run. Its failure is the flow's.
func (f *Flow) startSink(s *sink) {
	if s.dispatcher == nil {
		return
	}
	s.dispatcher.Start()
	s.watched = make(chan struct{})
	go func(d *dispatch.Dispatcher, watched chan struct{}) { // stop waits for it
		defer close(watched)
		<-d.Stopped()
		if err := d.Stop(); err != nil {
			f.fail(err)
		}
	}(s.dispatcher, s.watched)
}

// stop ends a sink's dispatcher.
func (s *sink) stop() error {
	if s.watched == nil {
		return nil
	}
	err := s.dispatcher.Stop()
	<-s.watched
	s.watched = nil
	return err
}

// close writes out and closes what a sink holds.
func (s *sink) close(ctx context.Context) error {
	s.tending.Lock()
	defer s.tending.Unlock()
	s.shut = true
	var errs []error
	if s.park != nil {
		errs = append(errs, s.park.Close())
	}
	s.bounded.close()
	if end := s.present(); end != nil {
		errs = append(errs, closeEnd(ctx, end))
	}
	return sinkError(s, "close: ", errors.Join(errs...))
}
