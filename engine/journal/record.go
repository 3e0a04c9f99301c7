// Package journal is what became of every event. Lanes write it as the records
// of the commit log, recovery and operators read it back: one format serves
// both, so the journal cannot disagree with what the engine did.
// A Journal answers what became of an event: it reads records from an open commit log,
// or from outside while another process writes it, never past what is durable.
//
// # Records
//
// Integers are unsigned varints unless sized; str is a varint length and bytes;
// sized integers are little-endian.
//
//	settled     0x06 | epoch | generation | section*
//	section     source str | partition str | low | low str | first | end | total | start str | next str
//	            | count | entry{count}
//	entry       ordinal zigzag (from the entry before, at first from first) | outcome u8 | flags u8
//	            | sub                   flag sub: which event of a delivery that holds several
//	            | hi u64 | lo u64       flag identity: 128-bit fingerprint of the identity
//	            | data u64 | version    flag claimed: what de-duplication remembers
//	            | key u64               flag key: hash of the key, where it is not hi
//	            | id str                the event's id as it came; with bit 7 of outcome, the
//	                                    16 bytes of one that is a UUID in lower case
//	            | n | (route << 1 | 1 if the route chooses by outputs, and then the outputs taken: bits){n}
//	                                    flag routes: the routes that took it
//	            | reason str            flag reason
//	            | n | note{n}           flag notes: deliveries that did not simply arrive
//	note        route | sink | outcome u8 | attempts | reason str
//	generation  0x05 | epoch | generation | digest str | n | route str{n} | n | sink str{n} | exit{routes} | sinks unmatched
//	exit        sinks | n | {output str | sinks}{n} | sinks else
//	sinks       n | sink{n}
//	redelivered 0x04 | epoch | sink str | n | {ordinal | outcome u8 | attempts | reason str | source str | id str | route str}{n}
//	            with the sink "dead_letters/QUEUE": dead letters of that queue, by their number, that were
//	            redriven or dropped by an operator
//	exported    0x07 | sink str | ordinal      the journal up to ordinal (of the commit log) is in a sink of journal.to
//
// Earlier versions wrote settled as 0x01, with plain route numbers, generation as
// 0x02, without exits, and redelivered as 0x03, without source, id and route. They
// are still read.
//
// first and end are the ordinals that bound the chunk that the entries came in, total
// counts the events of it that were still to settle, start and next are its
// positions, low is the partition's low mark when the record was begun: so the low
// mark can be rebuilt from records alone.
//
// # Indexes
//
// A look-up by id or key would have to read the whole log. So each finished segment
// of it gets a side file, journal/NUMBER.idx in the data folder, that says which
// blocks of the segment may hold an id or a key, and what else is in them. It can
// only spare reading: whatever it points to is read in the log and judged there. It is
// never needed: absent, damaged or of another segment, the log itself is read, and the
// engine makes it anew. Little-endian:
//
//	 0  8  "WEIRIDX" and the format's version, 1
//	 8  8  the log's identity (the salt of its segments)
//	16  8  number of the segment
//	24  8  ordinal of its first entry, of the commit log
//	32  8  ordinal after its last
//	40  4  number of blocks, at most 256
//	44  4  number of buckets: a power of two, its exponent
//	48  4  number of generation records, at most 1,024
//	52  4  number of words; 2^32 - 1: too many, any block may hold anything
//	56  4  CRC-32C of all before the words, but for these four bytes
//	60     blocks, each some groups of the segment:
//	       8 ordinal | 8 offset | 8 sequence of the first group
//	       | 8 earliest | 8 latest wall time, in nanoseconds since 1970
//	       | 8 names: bit xxh3(name) mod 64 of each source, route and rule (a reason up to its colon)
//	       | 4 outcomes: bit n for outcome n | 4 number of lines
//	       ordinals of generation records, 8 each
//	       buckets: 4 first word | 4 CRC-32C of its words
//	       words, 4 each, sorted within a bucket: 24 bits of the hash | 8 bits number of the block
//
// A hash is the xxh3 of an id, or of a key as records hold it; its first bits choose
// the bucket, the next 24 are the word's.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kind tells records apart.
type Kind uint8

// Kinds of records.
const (
	kindSettled1     Kind = 1 // without outputs
	kindGeneration1  Kind = 2 // without exits
	kindRedelivered1 Kind = 3 // without source, id and route
	KindRedelivered  Kind = 4
	KindGeneration   Kind = 5
	KindSettled      Kind = 6
	KindExported     Kind = 7
)

// Outcome is what became of an event, or of one delivery of it.
type Outcome uint8

// Outcomes. Everything but Delivered, Parked and Dead is a named rule that
// dropped the event.
const (
	Delivered  Outcome = 1  // every delivery arrived or is noted
	Unmatched  Outcome = 2  // no route's pattern matched; delivered to `unmatched`, if any
	Filtered   Outcome = 3  // matched, and the filters said no
	Duplicate  Outcome = 4  // its identity is in the window
	Stale      Outcome = 5  // its version is older than the window's
	Conflict   Outcome = 6  // same identity and version, other data: dead-lettered or dropped as configured
	Expired    Outcome = 7  // past its expiry
	Refused    Outcome = 8  // failed validation: dead-lettered
	Dead       Outcome = 9  // a later stage failed: dead-lettered
	Parked     Outcome = 10 // waits in its sink's park queue
	Discarded  Outcome = 11 // dropped by a plug-in's on_error: drop, or s3:TestEvent
	Redriven   Outcome = 12 // of a dead letter: it was sent on its way again
	lastResult Outcome = 12
)

var outcomeNames = [...]string{"", "delivered", "unmatched", "filtered", "duplicate", "stale", "conflict", "expired", "refused", "dead", "parked", "discarded", "redriven"}

// String returns the outcome's name as the journal prints it.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) && o != 0 {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

const (
	flagSub = 1 << iota
	flagIdentity
	flagClaimed
	flagVersion
	flagKey
	flagRoutes
	flagReason
	flagNotes
)

// shortID is set in an entry's outcome where the id stands as the bytes of a UUID.
const shortID = 1 << 7

// Section is where the entries that follow came from.
type Section struct {
	Source, Partition string
	// Low and LowOrdinal are the partition's low mark when the record was begun.
	Low         []byte
	LowOrdinal  uint64
	First, End  uint64 // ordinals of the chunk: [First, End); equal where the broker keeps positions
	Total       uint64 // events of the chunk that were not settled when it was read
	Start, Next []byte // positions of the chunk's first event and of the event after it
}

// Entry is one settled event.
type Entry struct {
	Ordinal    uint64
	Sub        uint32
	Outcome    Outcome
	Identified bool // Hi and Lo are set
	Claimed    bool // Data and Version entered the window
	HasVersion bool
	Hi, Lo     uint64
	Data       uint64
	Version    uint32
	Key        uint64
	ID         []byte
	Routes     []uint32 // indices in the generation's names
	// Taken holds, beside Routes, the outputs by which a route chose its sinks, as
	// bits; NoOutputs where the route has none. nil = none of the routes has.
	Taken  []uint32
	Reason string
	Notes  []Note
}

// NoOutputs stands in Entry.Taken for a route that does not choose by outputs.
// ElseOutput says that none of the outputs took the event.
const (
	NoOutputs  = 0
	ElseOutput = 1 << 30
)

// Note is one delivery that did not simply arrive.
type Note struct {
	Route, Sink uint32 // indices in the generation's names; Route is NoRoute for `unmatched`
	Outcome     Outcome
	Attempts    uint32
	Reason      string
}

// NoRoute stands for deliveries that no route made.
const NoRoute = 1<<32 - 1

// Writer builds a settled record in Bytes. It allocates only while Bytes grows.
type Writer struct {
	Bytes   []byte
	countAt int
	count   uint32
	prev    uint64
}

// Begin starts a record.
func (w *Writer) Begin(epoch, generation uint64) {
	w.Bytes = append(w.Bytes[:0], byte(KindSettled))
	w.Bytes = binary.AppendUvarint(w.Bytes, epoch)
	w.Bytes = binary.AppendUvarint(w.Bytes, generation)
	w.countAt = 0
}

// countBytes is the fixed width of a section's count, a padded varint, so that it
// can be set when the section is complete.
const countBytes = 4

// Section starts the next section.
func (w *Writer) Section(s *Section) {
	w.End()
	b := appendString(w.Bytes, s.Source)
	b = appendString(b, s.Partition)
	b = binary.AppendUvarint(b, s.LowOrdinal)
	b = appendString(b, s.Low)
	b = binary.AppendUvarint(b, s.First)
	b = binary.AppendUvarint(b, s.End)
	b = binary.AppendUvarint(b, s.Total)
	b = appendString(b, s.Start)
	b = appendString(b, s.Next)
	w.countAt, w.count, w.prev = len(b), 0, s.First
	w.Bytes = append(b, 0x80, 0x80, 0x80, 0)
}

// End closes the section; the record is whole after it.
func (w *Writer) End() {
	if w.countAt == 0 {
		return
	}
	c := w.Bytes[w.countAt : w.countAt+countBytes]
	for i := range c {
		c[i] = byte(w.count>>(7*i))&0x7f | 0x80
	}
	c[countBytes-1] &= 0x7f
	w.countAt = 0
}

// Entry adds an event to the section.
func (w *Writer) Entry(e *Entry) {
	w.count++
	b := binary.AppendVarint(w.Bytes, int64(e.Ordinal-w.prev))
	w.prev = e.Ordinal
	outcomeAt := len(b)
	b = append(b, byte(e.Outcome), e.flags())
	if e.Sub != 0 {
		b = binary.AppendUvarint(b, uint64(e.Sub))
	}
	if e.Identified {
		b = binary.LittleEndian.AppendUint64(b, e.Hi)
		b = binary.LittleEndian.AppendUint64(b, e.Lo)
	}
	if e.Claimed {
		b = binary.LittleEndian.AppendUint64(b, e.Data)
		if e.HasVersion {
			b = binary.AppendUvarint(b, uint64(e.Version))
		}
	}
	if !e.Identified || e.Key != e.Hi {
		b = binary.LittleEndian.AppendUint64(b, e.Key)
	}
	if id, ok := appendUUID(b, e.ID); ok {
		b = id
		b[outcomeAt] |= shortID
	} else {
		b = appendString(b, e.ID)
	}
	if len(e.Routes) > 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Routes)))
		b = appendRoutes(b, e)
	}
	if e.Reason != "" {
		b = appendString(b, e.Reason)
	}
	if len(e.Notes) > 0 {
		b = appendNotes(b, e.Notes)
	}
	w.Bytes = b
}

func appendRoutes(b []byte, e *Entry) []byte {
	for i, r := range e.Routes {
		if i >= len(e.Taken) || e.Taken[i] == NoOutputs {
			b = binary.AppendUvarint(b, uint64(r)<<1)
			continue
		}
		b = binary.AppendUvarint(b, uint64(r)<<1|1)
		b = binary.AppendUvarint(b, uint64(e.Taken[i]))
	}
	return b
}

func appendNotes(b []byte, notes []Note) []byte {
	b = binary.AppendUvarint(b, uint64(len(notes)))
	for i := range notes {
		n := &notes[i]
		b = binary.AppendUvarint(b, uint64(n.Route))
		b = binary.AppendUvarint(b, uint64(n.Sink))
		b = append(b, byte(n.Outcome))
		b = binary.AppendUvarint(b, uint64(n.Attempts))
		b = appendString(b, n.Reason)
	}
	return b
}

func (e *Entry) flags() byte {
	var f byte
	if e.Sub != 0 {
		f |= flagSub
	}
	if e.Identified {
		f |= flagIdentity
	}
	if e.Claimed {
		f |= flagClaimed
	}
	if e.HasVersion {
		f |= flagVersion
	}
	if !e.Identified || e.Key != e.Hi {
		f |= flagKey
	}
	if len(e.Routes) > 0 {
		f |= flagRoutes
	}
	if e.Reason != "" {
		f |= flagReason
	}
	if len(e.Notes) > 0 {
		f |= flagNotes
	}
	return f
}

// Generation names what the indices in settled records stand for.
type Generation struct {
	Epoch, Number uint64
	Digest        string
	Routes, Sinks []string
	Exits         []Exit   // by route; nil where the record is of an earlier version
	Unmatched     []uint32 // sinks
}

// Exit is where a route's events go.
type Exit struct {
	To      []uint32 // sinks
	Outputs []Output // by bit, where a plug-in's outputs choose
	Else    []uint32 // sinks for events that none of the outputs took
}

// Output is a named output and its sinks.
type Output struct {
	Name string
	To   []uint32
}

// AppendGeneration appends a generation record.
func AppendGeneration(b []byte, g *Generation) []byte {
	b = append(b, byte(KindGeneration))
	b = binary.AppendUvarint(b, g.Epoch)
	b = binary.AppendUvarint(b, g.Number)
	b = appendString(b, g.Digest)
	for _, names := range [][]string{g.Routes, g.Sinks} {
		b = binary.AppendUvarint(b, uint64(len(names)))
		for _, n := range names {
			b = appendString(b, n)
		}
	}
	for i := range g.Routes {
		var x Exit
		if i < len(g.Exits) {
			x = g.Exits[i]
		}
		b = appendIndices(b, x.To)
		b = binary.AppendUvarint(b, uint64(len(x.Outputs)))
		for _, o := range x.Outputs {
			b = appendString(b, o.Name)
			b = appendIndices(b, o.To)
		}
		b = appendIndices(b, x.Else)
	}
	return appendIndices(b, g.Unmatched)
}

func appendIndices(b []byte, list []uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, i := range list {
		b = binary.AppendUvarint(b, uint64(i))
	}
	return b
}

// Redelivery is the end of one parked delivery.
type Redelivery struct {
	Ordinal  uint64 // of the park queue's entry
	Outcome  Outcome
	Attempts uint32
	Reason   string
	// What was parked; empty in records of an earlier version.
	Source, ID, Route string
}

// AppendRedelivered appends the record of parked deliveries of a sink that ended.
func AppendRedelivered(b []byte, epoch uint64, sink string, ended []Redelivery) []byte {
	b = append(b, byte(KindRedelivered))
	b = binary.AppendUvarint(b, epoch)
	b = appendString(b, sink)
	b = binary.AppendUvarint(b, uint64(len(ended)))
	for i := range ended {
		e := &ended[i]
		b = binary.AppendUvarint(b, e.Ordinal)
		b = append(b, byte(e.Outcome))
		b = binary.AppendUvarint(b, uint64(e.Attempts))
		b = appendString(b, e.Reason)
		b = appendString(b, e.Source)
		b = appendString(b, e.ID)
		b = appendString(b, e.Route)
	}
	return b
}

// Exported says how far the journal has arrived in a sink of journal.to.
type Exported struct {
	Sink    string
	Ordinal uint64 // of the commit log: all records before it have
}

// AppendExported appends the record of an export's progress.
func AppendExported(b []byte, x Exported) []byte {
	b = append(b, byte(KindExported))
	b = appendString(b, x.Sink)
	return binary.AppendUvarint(b, x.Ordinal)
}

func appendString[S string | []byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// ErrMalformed is wrapped by every error of Read.
var ErrMalformed = errors.New("malformed record")
