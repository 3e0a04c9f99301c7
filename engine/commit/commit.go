// Package commit is the commit log, the engine's only truth: what lanes settle
// is a record here, and the tables (dedup window, fence states, plug-in state,
// positions) stand on it.
//
// Promise: a ticket whose Committed was called with nil is there after any
// crash: its record is replayed and its staged bytes stand in their sinks
// exactly once, both in the order of Submit (I1, I5, I7). Nothing else is there
// than what was submitted (I2). Committed is never called with nil before the
// fsync (I3). After the first failed write or sync the log has failed for good:
// every ticket that waits and every later one gets an error (I4).
//
// One group is in flight. The writer takes whatever is queued, appends the
// staged bytes to their sinks, syncs the sinks, appends one group to the
// segment log and syncs that; meanwhile submitters go on, and the tickets of the
// group before are told. A lone ticket does not wait for others to come; while
// the log is busy the writer waits a little for the next ones, at most GroupWait.
//
// # Folder
//
//	FORMAT     "weir-commit 1": the version of everything in here
//	LOCK       held while the log is open
//	log/       segments (package segment), one group for each commit
//	snapshots/ BEGIN.snap, 20 decimal digits; the two newest are kept
//
// The first entry of a segment group is its head, the others are the records:
//
//	 0  8  engine time in nanoseconds
//	 8  8  wall time in nanoseconds since 1970
//	16  2  number of marks, then for each staged sink that the group changed:
//	    2  length of the name
//	    n  name
//	    8  file number
//	    8  length in bytes
//	    8  entries
//
// All integers are little-endian. A snapshot is "WEIRSNP" and the version, 1,
// and frames, each of them
//
//	0  4  length of the body
//	4  4  CRC-32C of the frame's number (8 bytes, from 0) and the body
//	8     body: a byte for the kind, then
//	      0 head:  8 ordinal where replay begins, 8 engine time; the first frame
//	      1 mark:  as in a group's head
//	      2 slice: 2 length of the table's name, name, slice
//	      3 end:   the last frame
//
// A snapshot is fuzzy: it is written while the log runs on. It holds committed
// values only, all of them from before its begin and some from after, which the
// replay from its begin sets again.
package commit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// FormatVersion is what this program writes to FORMAT.
const FormatVersion = 1

// Limits.
const (
	MaxRecordBytes = 64 << 20 // of one ticket's record
	MaxStages      = 4096     // names of staged sinks that a log remembers
	maxNameBytes   = 1 << 10  // of a staged sink's or table's name
	maxSliceBytes  = 16 << 20 // of a table's snapshot
	keepSnapshots  = 2
)

// Errors that a caller acts on.
var (
	// ErrFailed: a write or sync failed; nothing more is taken until a restart.
	ErrFailed = errors.New("the commit log has failed")
	// ErrClosed: used after Close.
	ErrClosed = errors.New("the commit log is closed")
	// ErrNewerFormat: the folder was written by a newer program.
	ErrNewerFormat = errors.New("newer data format")
	// ErrNoState: no snapshot is whole that the log still reaches.
	ErrNoState = errors.New("no usable snapshot")
)

// Config says where the log is and how it groups. FS and Dir must be set; other
// zero values take the defaults.
type Config struct {
	FS  vfs.FS
	Dir string // made where missing; see the package comment for what is in it
	// SegmentBytes is when the log goes on in a new file; 16 MiB, so that an index of
	// one file's events takes little memory to build.
	SegmentBytes int64
	// SegmentAge is when it goes on in a new file however small the newest is, so that
	// files get old enough to be removed; 0 = never.
	SegmentAge time.Duration
	// GroupBytes ends a group once its records and staged bytes reach it; 1 MiB.
	GroupBytes int64
	// GroupWait ends a group that tickets keep joining; 2 ms. The writer never
	// waits for a ticket that is not queued yet.
	GroupWait time.Duration
	// Queue is how many tickets may wait before Submit blocks; 1,024.
	Queue int
	// SnapshotEvery is how many bytes of log are written between snapshots, or as many
	// as the last snapshot had, if that is more; 256 MiB.
	SnapshotEvery int64
	// Hold is the folder as Take returned it; the caller closes it after the log.
	// nil: Open takes the folder and Close gives it back.
	Hold *Hold
	Log  *slog.Logger     // nil: none
	Now  func() time.Time // the wall clock; time.Now
}

// Validate says what is missing or out of range.
func (c Config) Validate() error {
	switch {
	case c.FS == nil:
		return errors.New("commit: Config.FS is not set")
	case c.Dir == "":
		return errors.New("commit: Config.Dir is not set")
	case c.SegmentBytes < 0, c.SegmentAge < 0, c.GroupBytes < 0, c.GroupWait < 0, c.Queue < 0, c.SnapshotEvery < 0:
		return errors.New("commit: a limit in Config is negative")
	case c.GroupBytes > segment.MaxGroupBytes/4:
		return fmt.Errorf("commit: Config.GroupBytes is %d, at most %d", c.GroupBytes, segment.MaxGroupBytes/4)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 16 << 20
	}
	if c.GroupBytes == 0 {
		c.GroupBytes = 1 << 20
	}
	if c.GroupWait == 0 {
		c.GroupWait = 2 * time.Millisecond
	}
	if c.Queue == 0 {
		c.Queue = 1024
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = 256 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Table is state that stands on the log. It must hold a ticket's effects when
// the ticket's Committed returns.
type Table interface {
	// Name tells the table's slices from those of others; it never changes.
	Name() string
	// Snapshot yields the committed values in slices of at most 1 MiB while the
	// log runs on; slices are the log's until yield returns. It stops at yield's
	// error and returns it. It must not hold what Committed needs for long.
	Snapshot(yield func(slice []byte) error) error
	// Load sets the absolute values of a slice.
	Load(slice []byte) error
}

// Ticket is what is committed as one. It and what it points to belong to the
// log from Submit until Committed returned.
type Ticket struct {
	Record []byte // replayed after a restart; empty: only the stages
	Stages []StagedRun
	// Committed is called once, in the order of Submit, from one goroutine: with
	// nil after the fsync, or with the error that made the log fail. It must not
	// block and must not call Submit.
	Committed func(err error)
}

// StagedRun is count entries for a staged sink, framed by its Frame.
type StagedRun struct {
	Stage  int // from Log.Stage
	Framed []byte
	Count  int
}

// Log is an open commit log. All methods may be called from any goroutine.
type Log struct {
	cfg    Config
	tables atomic.Pointer[[]Table]
	seg    *segment.Log
	own    *Hold // nil where Config.Hold is set

	queue   chan *Ticket
	submit  sync.RWMutex  // held for reading by Submit, so that Close can wait for all
	closing chan struct{} // closed when Close begins
	drain   chan struct{} // closed when no Submit runs any more
	abort   atomic.Bool   // Close ran out of time
	failed  chan struct{}
	started atomic.Pointer[time.Time] // when engine time went on

	stages    atomic.Pointer[[]*stage]
	counts    counts
	retention retention

	preamble atomic.Pointer[func() [][]byte]

	mu       sync.Mutex
	err      error                      // why the log failed
	marks    map[string]transports.Mark // last committed, of all names ever seen
	joining  map[string]bool            // names that Stage is restoring
	applied  uint64                     // ordinal up to which Committed has returned
	at       time.Duration              // engine time of the last group
	closed   bool
	begins   []uint64 // of the snapshots that are kept, newest first
	snapErr  error    // of the last snapshot
	snapSize int64    // of the newest snapshot, in bytes
	snapshot sync.Mutex

	done    sync.WaitGroup
	stop    context.CancelFunc // ends a snapshot that runs
	stopCtx context.Context
	writer  writer
}

// stage is a sink that takes part.
type stage struct {
	name  string
	sink  transports.Staged
	dirty bool   // the writer's
	base  uint64 // entries when it was added
	mark  transports.Mark
	err   error
}

// SetTables says which tables the snapshots hold from the next one on. A table that
// comes while the log runs must hold nothing that records before it do not set again.
func (l *Log) SetTables(tables []Table) error {
	if err := checkTables(tables); err != nil {
		return err
	}
	l.tables.Store(&tables)
	return nil
}

// Stage adds a staged sink under a name that it keeps for ever, and restores
// it to the last mark committed under that name, or to the zero mark. It may be
// called before Start or while the log runs, which goes on meanwhile.
func (l *Log) Stage(name string, s transports.Staged) (id int, err error) {
	mark, err := l.reserve(name)
	if err != nil {
		return 0, fmt.Errorf("stage %q: %w", name, err)
	}
	err = s.Restore(mark)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.joining, name)
	if err != nil {
		return 0, fmt.Errorf("stage %q: %w", name, err)
	}
	l.marks[name] = mark
	stages := slices.Clone(*l.stages.Load())
	id = slices.Index(stages, nil) // places are used again, so that their number is bounded
	if id < 0 {
		id, stages = len(stages), append(stages, nil)
	}
	stages[id] = &stage{name: name, sink: s, base: mark.Entries}
	l.stages.Store(&stages)
	return id, nil
}

// reserve keeps a name from being staged twice and returns its mark.
func (l *Log) reserve(name string) (mark transports.Mark, err error) {
	if name == "" || len(name) > maxNameBytes {
		return mark, fmt.Errorf("the name must have 1 to %d bytes", maxNameBytes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := func(st *stage) bool { return st != nil && st.name == name }
	if l.joining[name] || slices.ContainsFunc(*l.stages.Load(), taken) {
		return mark, errors.New("the name is taken")
	}
	mark, known := l.marks[name]
	if !known && len(l.marks) >= MaxStages {
		return mark, fmt.Errorf("the log remembers %d names already", MaxStages)
	}
	l.joining[name] = true
	return mark, nil
}

// Unstage takes a sink out. No ticket that names it may be under way. Its mark
// is kept for when the name comes back.
func (l *Log) Unstage(id int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := *l.stages.Load()
	if id < 0 || id >= len(old) || old[id] == nil {
		return fmt.Errorf("unstage %d: there is no such stage", id)
	}
	stages := append([]*stage(nil), old...)
	stages[id] = nil
	l.stages.Store(&stages)
	return nil
}

// Start lets tickets flow and engine time go on.
func (l *Log) Start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.closed || !l.started.CompareAndSwap(nil, &now) {
		return
	}
	l.done.Go(l.run)
}

// Submit queues a ticket, waiting while the queue is full. With an error the
// ticket was not taken, and Committed is not called: ErrFailed, ErrClosed, the
// context's, or a ticket that is out of limits.
func (l *Log) Submit(ctx context.Context, t *Ticket) error {
	if err := l.check(t); err != nil {
		return err
	}
	l.submit.RLock()
	defer l.submit.RUnlock()
	select {
	case <-l.failed:
		return l.Err()
	case <-l.closing:
		return ErrClosed
	default:
	}
	select {
	case l.queue <- t:
		return nil
	default:
	}
	select {
	case l.queue <- t:
		return nil
	case <-l.failed:
		return l.Err()
	case <-l.closing:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Log) check(t *Ticket) error {
	if len(t.Record) > MaxRecordBytes {
		return fmt.Errorf("submit: record of %d bytes is larger than %d", len(t.Record), MaxRecordBytes)
	}
	stages := *l.stages.Load()
	for _, run := range t.Stages {
		if run.Stage < 0 || run.Stage >= len(stages) || stages[run.Stage] == nil {
			return fmt.Errorf("submit: there is no stage %d", run.Stage)
		}
	}
	return nil
}

// Now is engine time: it never runs backwards, goes on after the last recorded
// one at a restart, and stands still while the engine is down and until Start.
func (l *Log) Now() time.Duration {
	since := l.started.Load()
	if since == nil {
		return l.writer.base
	}
	return l.writer.base + time.Since(*since)
}

// Failed is closed when the log has failed.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Err says why the log failed, in the chain of ErrFailed; nil while it works.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// fail makes the log fail for good; the first reason stays.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf("%w: %w", ErrFailed, err)
		close(l.failed)
		l.cfg.Log.Error("the commit log has failed; nothing is acknowledged any more", "error", err)
	}
	return l.err
}

// Size is how many bytes the log's segments hold.
func (l *Log) Size() int64 { return l.seg.Size() }

// Close commits what was submitted, as far as ctx allows, and frees the folder.
// Where ctx ends first, what still waits gets ErrClosed. It may be called twice.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.closing)
	l.mu.Unlock()
	l.submit.Lock() // every Submit has queued its ticket or given up
	close(l.drain)
	l.submit.Unlock()
	l.stop()
	if l.started.Load() == nil {
		// Nobody else would tell them.
		l.refuse(ErrClosed)
	}
	release := context.AfterFunc(ctx, func() { l.abort.Store(true) })
	l.done.Wait()
	var late error
	if !release() && l.abort.Load() {
		late = context.Cause(ctx)
	}
	l.snapshot.Lock() // a snapshot that was asked for has ended, and none begins
	defer l.snapshot.Unlock()
	return errors.Join(late, l.seg.Close(), l.own.Close())
}

// Held says which ordinals the log holds: from first up to but not including end.
// A group's head takes an ordinal as its records do.
func (l *Log) Held() (first, end uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seg.First(), l.applied
}

// Segments lists the files of the log, oldest first.
func (l *Log) Segments() []segment.Info { return l.seg.Segments() }

// Preamble sets a hook for records that each file of the log is to hold near its
// beginning, such as the names that its other records count on, so that they stay
// when older files go. Where they are large they are written less often: preambles are
// at most a sixteenth of the log. The hook is called by the goroutine that writes.
func (l *Log) Preamble(records func() [][]byte) { l.preamble.Store(&records) }

func (l *Log) path(parts ...string) string {
	return filepath.Join(append([]string{l.cfg.Dir}, parts...)...)
}
