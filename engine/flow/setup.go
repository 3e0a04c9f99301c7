package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/poison"
	"github.com/weir-project/weir/engine/trace"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// Config is what a flow is made of.
type Config struct {
	Make Maker
	FS   vfs.FS
	Log  *slog.Logger
	Now  func() time.Time // wall clock: stamps, expiry, journal
	// DrainLimit is how long in-flight events may take to settle when Run is asked to
	// stop, or when something must not be changed before they have, default 30 s; what
	// is left at a stop is not settled and comes again.
	DrainLimit time.Duration
	// ChunkBytes is how much is asked of a source at once, default 256 KiB.
	ChunkBytes int
	ParkBytes  int64 // bound of each park queue, 0 = dispatch.DefaultParkBytes
	// DerivedBytes bounds the internal queue, 0 = derive.DefaultBytes.
	DerivedBytes int64
	Commit       commit.Config // FS, Dir and Log are filled in
	Tracer       trace.Tracer  // nil = no event is traced
	Seed         uint64        // of retry jitter, 0 = random
}

// DefaultDrainLimit is Config.DrainLimit where nothing is said.
const DefaultDrainLimit = 30 * time.Second

// Maker makes ends that are not open yet. Its errors name the place in the
// configuration and the setting. The flow opens and closes what it made.
type Maker interface {
	Source(p *config.Source) (transports.Source, error)
	Sink(p *config.Sink) (transports.Sink, error)
}

// Flow is the data path at work. New recovers what an earlier run left; Run does
// the work; a Flow runs once. What a reload changes is gen and ends; lanes, log,
// positions and what is in flight outlive it.
type Flow struct {
	cfg  Config
	node config.Node  // of the first plan: what only a restart changes
	hold *commit.Hold // of the data folder, from before anything in it is opened
	log  *commit.Log

	journal *journal.Journal // of log
	taps    atomic.Pointer[[]*Tap]
	tapping sync.Mutex // held while taps change
	exports exports    // of the journal

	swap sync.RWMutex               // held for writing while gen and ends change
	gen  atomic.Pointer[Generation] // what chunks are scanned under
	ends atomic.Pointer[ends]       // all sources and sinks at work, whichever generation uses them

	named atomic.Pointer[[]*Generation] // those that records may be written under
	// stilling: a reload waits until nothing is in flight. Who can put off what it does gives way.
	stilling atomic.Bool

	reloading sync.Mutex                // held by one reload at a time; guards what follows, and cfg.Make
	retired   *Retirement               // the last one
	parks     map[string]*dispatch.Park // closed, of sinks that are gone: what has ended there
	orphans   []*sink                   // park queues that were found without a sink
	retiring  sync.WaitGroup
	patience  context.Context // ends when retirements are not waited for any more
	hurry     context.CancelFunc

	lanes     []*lane
	positions *positions
	epochs    epochs
	epoch     uint64
	room      room
	free      freeChunks
	askers    crew
	derived   derivation
	asking    context.Context // sources are asked until it ends; set before running
	running   atomic.Bool
	disk      disk
	poison    *poison.Watch
	taken     taken                       // dead letters that were redriven or dropped
	redriving sync.Mutex                  // held by the order at work
	instead   func(context.Context) error // of asking sources; see Do

	life    context.Context // ends when the flow has failed or its drain limit is over
	end     context.CancelFunc
	failure atomic.Pointer[error]
	once    sync.Once
	closed  atomic.Bool
	phase   atomic.Uint32 // a Phase

	letterCounts counts        // by reason
	lettersGone  atomic.Uint64 // dropped by retention
	routeCounts  counts        // events taken, by route
	measured     measured
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

// New opens sinks and the commit log and recovers, for a generation to begin with.
func New(cfg Config, g *Generation) (*Flow, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.DrainLimit == 0 {
		cfg.DrainLimit = DefaultDrainLimit
	}
	if cfg.ChunkBytes == 0 {
		cfg.ChunkBytes = defaultChunk
	}
	limits := g.plan.Node.Limits
	f := &Flow{
		cfg: cfg, node: g.plan.Node, positions: newPositions(),
		parks:  map[string]*dispatch.Park{},
		room:   room{maxEvents: int64(limits.InFlight), maxBytes: limits.InFlightBytes, changed: make(chan struct{})},
		askers: crew{gone: make(chan struct{})}, disk: disk{limit: limits.Disk, bell: make(chan struct{}, 1)},
	}
	f.life, f.end = context.WithCancel(context.Background())
	f.patience, f.hurry = context.WithCancel(f.life)
	f.gen.Store(g)
	f.ends.Store(&ends{})
	if err := f.open(g); err != nil {
		f.end()
		return nil, errors.Join(err, f.close(context.Background()))
	}
	for i := range lanesOf(g.plan) {
		f.lanes = append(f.lanes, newLane(f, i))
	}
	ahead := len(f.lanes) * aheadALane
	f.room.maxAhead, f.derived.room.maxAhead = ahead, ahead
	return f, nil
}

func lanesOf(p *config.Plan) int {
	if n := p.Node.Lanes; n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}

func (f *Flow) open(g *Generation) (err error) {
	if f.hold, err = commit.Take(f.cfg.FS, f.node.Data); err != nil {
		return err
	}
	if f.poison, err = poison.Open(poison.Config{FS: f.cfg.FS, Dir: f.node.Data, Lanes: lanesOf(g.plan), Log: f.cfg.Log}); err != nil {
		return err
	}
	at := &ends{} // complete before anything is opened, so that close finds all
	for i := range g.plan.Sources {
		s, err := f.newSource(f.cfg.Make, &g.plan.Sources[i])
		if err != nil {
			return err
		}
		at.sources = append(at.sources, s)
	}
	for _, p := range sinksOf(g.plan) {
		s, err := f.newSink(f.cfg.Make, p)
		if err != nil {
			return err
		}
		at.sinks = append(at.sinks, s)
	}
	f.ends.Store(at)
	if err := f.openDerived(); err != nil {
		return err
	}
	for _, s := range at.sinks {
		if err := f.openSink(f.life, s); err != nil {
			return err
		}
	}
	g.ends = slices.Clone(at.sinks)
	if err := f.findParks(at); err != nil {
		return err
	}
	return f.recover(at)
}

// recover replays the log into the tables and gives every local sink its end.
func (f *Flow) recover(at *ends) error {
	c := sizes(f.cfg.Commit, f.gen.Load().plan)
	c.FS, c.Log, c.Dir, c.Hold = f.cfg.FS, f.cfg.Log, f.node.Data, f.hold
	r := newReplayer(f)
	var err error
	if f.log, err = commit.Open(c, f.tables(at), r.record); err != nil {
		return err
	}
	f.log.Retain(retention(f.gen.Load().plan))
	if err = f.openJournal(); err != nil {
		return err
	}
	f.positions.begin()
	f.epochs.last++
	f.epoch = f.epochs.last
	for _, s := range at.sources {
		s.before = f.positions.before(s.name)
	}
	if err := f.joinDerived(); err != nil {
		return err
	}
	for _, s := range at.sinks {
		if err := f.joinSink(s); err != nil {
			return err
		}
	}
	for _, s := range f.orphans {
		if err := f.joinPark(s); err != nil {
			return err
		}
	}
	return f.takeOff()
}

// tables are what snapshots hold.
func (f *Flow) tables(at *ends) []commit.Table {
	tables := []commit.Table{f.positions, table{"epoch", &f.epochs}, table{"exports", &f.exports}, table{"letters", &f.taken}}
	for _, s := range at.sources {
		if s.table != nil {
			tables = append(tables, table{"dedup/" + s.name, s.table})
		}
	}
	parks := maps.Clone(f.parks)
	for _, s := range slices.Concat(f.orphans, at.sinks) {
		if s.park != nil {
			parks[s.name] = s.park
		}
	}
	for name, park := range parks {
		tables = append(tables, table{"park/" + name, park})
	}
	return tables
}

// replayer puts records back into the tables.
type replayer struct {
	f       *Flow
	sources map[string]*source
	parks   map[string]*dispatch.Park
	at      time.Duration
	visitor journal.Visitor
}

func newReplayer(f *Flow) *replayer {
	r := &replayer{f: f, sources: map[string]*source{}, parks: map[string]*dispatch.Park{}}
	for _, s := range f.ends.Load().sources {
		r.sources[s.name] = s
	}
	for _, s := range slices.Concat(f.orphans, f.ends.Load().sinks) {
		if s.park != nil {
			r.parks[s.name] = s.park
		}
	}
	r.visitor = journal.Visitor{
		Settled: func(epoch, _ uint64, s *journal.Section, e *journal.Entry) error {
			f.epochs.last = max(f.epochs.last, epoch)
			r.f.positions.replay(epoch, s, e)
			if src := r.sources[s.Source]; src != nil && src.table != nil && e.Claimed {
				src.table.Replay(e.Hi, e.Lo, e.Data, e.Version, r.at)
			}
			return nil
		},
		Generation: func(g *journal.Generation) error {
			f.epochs.last = max(f.epochs.last, g.Epoch)
			return nil
		},
		Exported: func(x journal.Exported) error {
			f.exports.replay(x)
			return nil
		},
		Redelivered: func(_ uint64, sink string, e *journal.Redelivery) error {
			if p := r.parks[sink]; p != nil {
				p.Ended(e.Ordinal)
			}
			r.f.taken.replay(sink, e.Ordinal)
			return nil
		},
	}
	return r
}

func (r *replayer) record(record []byte, at time.Duration) error {
	r.at = at
	return journal.Read(record, &r.visitor)
}
