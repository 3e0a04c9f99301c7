package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// Config is what a flow is made of.
type Config struct {
	Plan    *config.Plan
	Sources []transports.Source // by Plan.Sources
	Sinks   []transports.Sink   // by Plan.Sinks, then the sink of dead letters, if there is one
	FS      vfs.FS
	Log     *slog.Logger
	Now     func() time.Time // wall clock: stamps, expiry, journal
	// DrainLimit is how long in-flight events may take to settle when Run is asked to
	// stop, default 30 s; what is left then is not settled and comes again.
	DrainLimit time.Duration
	// ChunkBytes is how much is asked of a source at once, default 256 KiB.
	ChunkBytes int
	ParkBytes  int64         // bound of each park queue, 0 = dispatch.DefaultParkBytes
	Commit     commit.Config // FS, Dir and Log are filled in
	Seed       uint64        // of retry jitter, 0 = random
}

// Flow is the data path at work. New recovers what an earlier run left; Run does
// the work; a Flow runs once.
type Flow struct {
	cfg       Config
	hold      *commit.Hold // of the data folder, from before anything in it is opened
	log       *commit.Log
	gen       atomic.Pointer[Generation]
	sources   []*source
	sinks     []*sink
	lanes     []*lane
	positions *positions
	epoch     uint64
	room      room
	free      freeChunks

	life    context.Context // ends when the flow has failed or its drain limit is over
	end     context.CancelFunc
	failure atomic.Pointer[error]
	broken  chan struct{} // closed at the first failure
	once    sync.Once
	closed  atomic.Bool

	letterCounts counts // by reason
	routeCounts  counts // events taken, by route
}

// sink is an open sink and how the path reaches it. It lives outside of generations.
type sink struct {
	name     string
	end      transports.Sink
	codec    event.Codec
	original bool

	bounded transports.Bounded // nil = no bound of its own
	staged  transports.Staged  // takes part in the commit, at this stage
	stage   int

	dispatcher *dispatch.Dispatcher // stands outside of it
	park       *dispatch.Park
	parkStage  int
}

// table joins a name to a part of the state that stands on the log.
type table struct {
	name string
	part interface {
		Snapshot(yield func([]byte) error) error
		Load([]byte) error
	}
}

func (t table) Name() string                            { return t.name }
func (t table) Snapshot(yield func([]byte) error) error { return t.part.Snapshot(yield) }
func (t table) Load(slice []byte) error                 { return t.part.Load(slice) }

// epochs counts starts of the engine.
type epochs struct{ last uint64 }

func (e *epochs) Snapshot(yield func([]byte) error) error {
	return yield(binary.LittleEndian.AppendUint64(nil, e.last))
}

func (e *epochs) Load(slice []byte) error {
	if len(slice) != 8 {
		return fmt.Errorf("epoch snapshot: %w", errShortSlice)
	}
	e.last = max(e.last, binary.LittleEndian.Uint64(slice))
	return nil
}

// New opens sinks and the commit log and recovers. It takes over sources and sinks:
// they are closed when it fails.
func New(cfg Config, g *Generation) (*Flow, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.DrainLimit == 0 {
		cfg.DrainLimit = 30 * time.Second
	}
	if cfg.ChunkBytes == 0 {
		cfg.ChunkBytes = defaultChunk
	}
	limits := cfg.Plan.Node.Limits
	f := &Flow{
		cfg: cfg, positions: newPositions(), broken: make(chan struct{}),
		room: room{maxEvents: int64(limits.InFlight), maxBytes: limits.InFlightBytes, changed: make(chan struct{})},
	}
	f.life, f.end = context.WithCancel(context.Background())
	f.gen.Store(g)
	if err := f.open(); err != nil {
		f.end()
		return nil, errors.Join(err, f.close(context.Background()))
	}
	n := cfg.Plan.Node.Lanes
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	for i := range n {
		f.lanes = append(f.lanes, newLane(f, i))
	}
	return f, nil
}

func (f *Flow) open() (err error) {
	if f.hold, err = commit.Take(f.cfg.FS, f.cfg.Plan.Node.Data); err != nil {
		return err
	}
	epochs := &epochs{}
	tables := []commit.Table{f.positions, table{"epoch", epochs}}
	for i := range f.cfg.Plan.Sources {
		p := &f.cfg.Plan.Sources[i]
		end := f.cfg.Sources[i]
		s := &source{name: p.Name, index: i, end: end, bell: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
		s.chunks, _ = end.(transports.ChunkSource)
		s.brokerKeeps = end.Capabilities().Positions == transports.KeptByBroker
		s.nacks = end.Capabilities().Nack
		if p.Dedup != nil {
			c := dedup.Config{Window: p.Dedup.Window, MaxIDs: p.Dedup.MaxIDs}
			if err := c.Validate(); err != nil {
				return fmt.Errorf("source %s: %w", p.Name, err)
			}
			s.table = dedup.New[ref](c)
			tables = append(tables, table{"dedup/" + p.Name, s.table})
		}
		f.sources = append(f.sources, s)
	}
	list := append([]config.Sink(nil), f.cfg.Plan.Sinks...)
	if dead := f.cfg.Plan.DeadLetters.Sink; dead.Transport != "" {
		list = append(list, dead)
	}
	for i := range list {
		s, err := f.openSink(&list[i], f.cfg.Sinks[i])
		if err != nil {
			return about("sink", list[i].Name, err)
		}
		f.sinks = append(f.sinks, s)
		if s.park != nil {
			tables = append(tables, table{"park/" + s.name, s.park})
		}
	}
	return f.recover(tables, epochs, list)
}

func (f *Flow) openSink(p *config.Sink, end transports.Sink) (*sink, error) {
	codec, err := event.ParseCodec(p.Codec)
	if err != nil {
		return nil, err
	}
	s := &sink{name: p.Name, end: end, codec: codec, original: codec.IsOriginal()}
	if err := end.Open(f.life); err != nil {
		return nil, err
	}
	if staged, ok := end.(transports.Staged); ok {
		s.staged = staged
		s.bounded, _ = end.(transports.Bounded)
		return s, nil
	}
	if p.Name == config.DeadLettersName {
		return s, nil // dead letters are not parked: no event settles before its letter arrived
	}
	s.park, err = dispatch.OpenPark(f.cfg.FS, filepath.Join(f.cfg.Plan.Node.Data, "park", p.Name), f.cfg.ParkBytes)
	return s, err
}

// recover replays the log into the tables and gives every local sink its end.
func (f *Flow) recover(tables []commit.Table, epochs *epochs, sinks []config.Sink) error {
	c := f.cfg.Commit
	c.FS, c.Log, c.Dir, c.Hold = f.cfg.FS, f.cfg.Log, f.cfg.Plan.Node.Data, f.hold
	r := newReplayer(f, epochs)
	var err error
	if f.log, err = commit.Open(c, tables, r.record); err != nil {
		return err
	}
	f.positions.begin()
	epochs.last++
	f.epoch = epochs.last
	for _, s := range f.sources {
		s.before = f.positions.before(s.name)
	}
	for i, s := range f.sinks {
		if s.staged != nil {
			if s.stage, err = f.stageAs("sink/"+s.name, s.staged); err != nil {
				return fmt.Errorf("sink %s: %w", s.name, err)
			}
			continue
		}
		if err = f.resumePark(s); err != nil {
			return fmt.Errorf("sink %s: park queue: %w", s.name, err)
		}
		if s.dispatcher, err = f.newDispatcher(s, &sinks[i]); err != nil {
			return fmt.Errorf("sink %s: %w", s.name, err)
		}
	}
	return nil
}

func (f *Flow) resumePark(s *sink) (err error) {
	if s.park == nil {
		return nil
	}
	if s.parkStage, err = f.stageAs("park/"+s.name, s.park); err != nil {
		return err
	}
	return s.park.Resume()
}

func (f *Flow) stageAs(name string, s transports.Staged) (int, error) {
	id, err := f.log.Stage(name, s)
	return id, err
}

func (f *Flow) newDispatcher(s *sink, p *config.Sink) (*dispatch.Dispatcher, error) {
	return dispatch.New(dispatch.Config{
		Name: s.name, Sink: s.end, BatchCount: p.Batch.Count, BatchWait: p.Batch.Wait,
		ParkAfter: p.Retry.ParkAfter, MaxAge: p.Retry.MaxAge, BackoffMin: p.Retry.BackoffMin, BackoffMax: p.Retry.BackoffMax,
		BlockKey: p.Retry.BlockedKey == "park", DuplicatesOK: p.Duplicates == "ok",
		Insist: s.name == config.DeadLettersName, Park: s.park, Seed: f.cfg.Seed,
		Ended: func(ctx context.Context, ended []dispatch.Ended) error { return f.redelivered(ctx, s, ended) },
	})
}

// replayer puts records back into the tables.
type replayer struct {
	f       *Flow
	epochs  *epochs
	sources map[string]*source
	parks   map[string]*dispatch.Park
	at      time.Duration
	visitor journal.Visitor
}

func newReplayer(f *Flow, e *epochs) *replayer {
	r := &replayer{f: f, epochs: e, sources: map[string]*source{}, parks: map[string]*dispatch.Park{}}
	for _, s := range f.sources {
		r.sources[s.name] = s
	}
	for _, s := range f.sinks {
		if s.park != nil {
			r.parks[s.name] = s.park
		}
	}
	r.visitor = journal.Visitor{
		Settled: func(epoch, _ uint64, s *journal.Section, e *journal.Entry) error {
			r.epochs.last = max(r.epochs.last, epoch)
			r.f.positions.replay(epoch, s, e)
			if src := r.sources[s.Source]; src != nil && src.table != nil && e.Claimed {
				src.table.Replay(e.Hi, e.Lo, e.Data, e.Version, r.at)
			}
			return nil
		},
		Generation: func(g *journal.Generation) error {
			r.epochs.last = max(r.epochs.last, g.Epoch)
			return nil
		},
		Redelivered: func(_ uint64, sink string, e *journal.Redelivery) error {
			if p := r.parks[sink]; p != nil {
				p.Ended(e.Ordinal)
			}
			return nil
		},
	}
	return r
}

func (r *replayer) record(record []byte, at time.Duration) error {
	r.at = at
	return journal.Read(record, &r.visitor)
}
