// Package transports is the contract between Weir and the systems that events
// come from and go to. A transport is a package that makes sources and sinks
// of one kind; it knows nothing of routes, patterns, de-duplication or the
// commit log, and the engine knows nothing of brokers.
//
// The engine keeps these promises to every transport: it asks a source for
// more only while it has room; it settles each delivery exactly once, and acks
// only after everything that follows from it is durable; it never has two
// entries of one key under way at a sink at once unless they stand in order in
// one batch; it calls Close last and once.
package transports

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/weir-project/weir/engine/vfs"
)

// Transport makes sources and sinks of one kind. Implementations hold what
// their sources and sinks share; they are safe for concurrent use.
type Transport interface {
	// Name is the key under which configuration names the transport, such as "file".
	Name() string
	// Options lists what configuration may say for a source and for a sink. A
	// nil list means that the transport has no such end.
	Options() (source, sink []Option)
	// NewSource returns a source that is not open yet. Settings have passed
	// Options; errors are about their combination and name the setting.
	NewSource(env Env, settings Settings) (Source, error)
	NewSink(env Env, settings Settings) (Sink, error)
}

// Env is what the engine lends to a source or sink for its life.
type Env struct {
	// Name is the source's or sink's own name in the configuration.
	Name string
	// BaseDir is where relative paths of the configuration start.
	BaseDir string
	// DataDir is the node's data folder.
	DataDir string
	// FS is the door for everything that must be durable.
	FS vfs.FS
	// Log is for diagnostics; never write to the process's own output.
	Log *slog.Logger
	// Now is the wall clock.
	Now func() time.Time
	// MaxEvent is the largest event in bytes that the engine takes; see Chunk.Oversize.
	MaxEvent int
}

// Position is a source's opaque resume point in one partition. Only the
// transport that made it can read it; the engine stores and returns it.
type Position []byte

// Capabilities says what a source's other side can do.
type Capabilities struct {
	Order     Order
	Positions Keeper
	Nack      bool // takes back single deliveries; otherwise the engine retries by itself
	Finite    bool // Receive ends with io.EOF by itself
	Lossy     bool // what was received and not acked is gone after a crash (memory, stdin)
}

// Order says within what a source keeps the order of its events.
type Order uint8

// The orders a source can keep.
const (
	OrderNone Order = iota
	OrderPartition
	OrderKey
)

// Keeper says who remembers positions.
type Keeper uint8

// Positions are kept by the engine's commit log, or by the broker through acks.
const (
	KeptByEngine Keeper = iota
	KeptByBroker
)

// Source is the inbound end of a transport. The engine calls Open first, then
// Receive from one goroutine at a time, Settle beside it, and Close last; Close
// unblocks Receive.
type Source interface {
	Capabilities() Capabilities
	// Open starts intake. resume holds, by partition, the position of the first
	// event that is not settled (KeptByEngine only; nil elsewhere and at the
	// first start). Changes of partitions are told to the listener.
	Open(ctx context.Context, resume map[string]Position, l Listener) error
	// Receive returns up to max deliveries, waiting up to wait for the first. An
	// empty result is not an error. io.EOF says that the source has ended; any
	// other error that the source will not get over by itself wraps ErrFatal.
	Receive(ctx context.Context, max int, wait time.Duration) ([]Delivery, error)
	// Settle acks or nacks. It returns when the other side has it: nil, or one
	// error a settlement. A settlement that came late, twice or after revocation
	// gets ErrNotHeld.
	Settle(ctx context.Context, settlements []Settlement) []error
	// Close stops intake and flushes acks within ctx. It may be called twice.
	Close(ctx context.Context) error
}

// ChunkSource is an optional power of a source: whole runs of bytes that the
// engine splits and scans on all cores. Where a source has it, the engine
// calls ReceiveChunk and never Receive.
type ChunkSource interface {
	// ReceiveChunk fills c, whose Data has length 0 and room for the chunk size
	// the engine wants (the source may reallocate for one larger event), and
	// waits up to wait for the first byte. A chunk holds whole events of one
	// partition. With nothing to give, c.Data stays empty and err is nil.
	ReceiveChunk(ctx context.Context, c *Chunk, wait time.Duration) error
}

// Extender is an optional power of sources with leases. The engine extends what it
// still works on when half of the lease is over, beside the other calls.
type Extender interface {
	// Extend makes the leases of deliveries begin anew. It returns nil, or one error
	// a delivery; ErrNotHeld where the lease is lost.
	Extend(ctx context.Context, ids []string) []error
}

// Chunk is a run of events of one partition, in order.
type Chunk struct {
	Partition string
	// Data holds the events. With Ends nil they are lines: each ends with \n (the
	// last one may lack it), a \r before it and blank lines are no part of events.
	Data []byte
	// Ends, where not nil, holds the end offset in Data of each event.
	Ends []uint32
	// Ordinal numbers the first event. Ordinals grow within a partition and are
	// the same whenever the same event is read again. With Ends nil the ordinal
	// of an event is Ordinal + its offset in Data, else Ordinal + its index.
	Ordinal uint64
	// Start is the position of the first event, End of the event after the last.
	Start, End Position
	// Oversize, where not 0, is the true size of the chunk's only event, of which
	// Data holds the beginning (Env.MaxEvent bytes); the engine refuses it.
	Oversize int64
}

// Delivery is one or several events as they came, with their ack handle. It is
// acked after the last of its events.
type Delivery struct {
	ID        string // stable across redelivery; names the delivery in Settlement
	Partition string
	Position  Position
	Next      Position // of the event after it (KeptByEngine)
	Ordinal   uint64   // see Chunk.Ordinal
	Key       []byte   // nil where the transport has none
	Data      []byte   // owned by the engine until the settlement
	Ends      []uint32 // of several events that stand end to end in Data: where each ends; their ordinals begin at Ordinal
	Headers   []Header
	Published time.Time // zero where unknown
	Attempt   int       // 1 for the first
	Lease     time.Time // when the other side gives it to somebody else; zero = never
}

// Header is a name and value beside the data, in the transport's own spelling.
type Header struct{ Name, Value string }

// Settlement ends a delivery, or, for sources whose positions the engine
// keeps, everything of a partition before Through.
type Settlement struct {
	ID        string   // the delivery; empty with Through
	Partition string   //
	Through   Position // the new low mark: all before it is settled and durable
	Ordinal   uint64   // the ordinal at Through
	Nack      bool
	Delay     time.Duration // nack: do not give it again before
	Reason    string        // nack
	Refused   []Refusal     // ack: events of the delivery that were refused and are dead letters now
}

// Refusal says why the engine refused an event, so that a source can tell its other side.
type Refusal struct {
	Event  int    // its place in the delivery, from 0
	Reason string // a stable name, such as invalid_field
	Detail string // in words, with the place
}

// Listener is told which partitions this instance has. Revoked returns when
// what was under way there is settled, or at the deadline.
type Listener interface {
	Assigned(partition string)
	Revoked(partition string, deadline time.Time)
}

// Sink is the outbound end of a transport. Write is called from one goroutine
// at a time.
type Sink interface {
	Limits() Limits
	// Open connects. It is called once, before anything else.
	Open(ctx context.Context) error
	// Write sends a batch and sets results, which has the batch's length and
	// order. It returns when every entry's outcome is known or given up.
	// Entries are the engine's; keep nothing of them after the return.
	Write(ctx context.Context, batch []Entry, results []Result)
	Flush(ctx context.Context) error
	Close(ctx context.Context) error
}

// Limits bound what one Write may hold; 0 = no limit.
type Limits struct {
	Entries    int
	Bytes      int
	EntryBytes int
	// KeyedFailure declares that when an entry fails, the later entries of its
	// key in the same batch fail too; only then does one batch hold several.
	KeyedFailure bool
	// Idempotent declares that the other side drops a repeated Entry.ID.
	Idempotent bool
}

// Entry is one rendered event on its way out.
type Entry struct {
	ID      string // event identity at this route and sink: the idempotency key
	Key     []byte
	Data    []byte
	Headers []Header
	Route   string
	Attempt int // 1 for the first
	// Rendered are the texts of the sink's settings that are templates, for this event;
	// see Option.Template. nil = it has none, or the entry is a dead letter: then the
	// settings are meant as they stand.
	Rendered []string
}

// Result is what became of an entry.
type Result struct {
	Class Class
	After time.Duration // Throttled: not before
	Err   error         // set for every class but OK
}

// Class says what the engine must do next.
type Class uint8

// Classes of results.
const (
	OK        Class = iota // durable at the other side
	Retry                  // failed for now; try again with back-off
	Throttled              // as Retry, not before After
	Unknown                // may or may not have arrived
	Poison                 // this entry never works: dead letter
	Fatal                  // nothing works until a person acts (rights, configuration)
	LeaseLost              // this instance no longer owns what it wrote to
)

// Staged is an optional power of local sinks: they take part in the engine's
// commit, so that each entry stands in them exactly once across crashes. The
// engine then calls these methods and never Write.
type Staged interface {
	// Frame appends an entry in the sink's own framing to dst. It is pure and may
	// be called from any goroutine.
	Frame(dst []byte, e *Entry) []byte
	// Append writes count framed entries at the end, in commit order.
	Append(framed []byte, count int) error
	// Sync makes all that was appended durable and says where the end is.
	Sync() (Mark, error)
	// Publish tells that a mark's commit is durable: readers may go on to it,
	// rotated files may take their final names.
	Publish(Mark) error
	// Restore is called once after Open with the last committed mark: what lies
	// beyond it is cut, and an end before it is an error. A zero mark at first start.
	Restore(Mark) error
}

// Encoded is an optional power of a sink: the codec that its entries must have, in
// the words of the configuration; nil where any will do. The engine uses it where
// the sink's own codec is not set, and refuses another one.
type Encoded interface{ Codec() []string }

// Placed is an optional power of staged sinks: a name for where their entries stand, to
// which marks then belong, whatever sink of the configuration writes there. Without it
// they belong to the name of the sink, which then has to know how it moved.
type Placed interface{ Place() string }

// Bounded is an optional power of staged sinks: how many framed bytes Append still
// takes. The engine asks sources for no more than what will fit.
type Bounded interface{ Room() int64 }

// Mark is the end of a staged sink: a file number and a length in bytes, and
// how many entries were ever appended.
type Mark struct {
	File    uint64
	Length  int64
	Entries uint64
}

// Errors that a caller acts on.
var (
	// ErrFatal: do not try again before a person acts.
	ErrFatal = errors.New("fatal")
	// ErrNotHeld: the settlement is for a delivery that this instance does not hold.
	ErrNotHeld = errors.New("delivery not held")
	// ErrClosed: used after Close.
	ErrClosed = errors.New("closed")
)

var classNames = [...]string{"ok", "retry", "throttled", "unknown", "poison", "fatal", "lease_lost"}

// String returns the class as metrics and the journal name it.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "class?"
}
