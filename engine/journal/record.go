// Package journal is what became of every event. Lanes write it as the records
// of the commit log, recovery and operators read it back: one format serves
// both, so the journal cannot disagree with what the engine did.
//
// A record is one of three kinds. Integers are unsigned varints unless sized;
// str is a varint length and bytes; sized integers are little-endian.
//
//	settled     0x01 | epoch | generation | section*
//	section     source str | partition str | low | low str | first | end | total | start str | next str
//	            | count | entry{count}
//	entry       ordinal zigzag (from the entry before, at first from first) | outcome u8 | flags u8
//	            | sub                   flag sub: which event of a delivery that holds several
//	            | hi u64 | lo u64       flag identity: 128-bit fingerprint of the identity
//	            | data u64 | version    flag claimed: what de-duplication remembers
//	            | key u64               flag key: hash of the key, where it is not hi
//	            | id str                the event's id as it came
//	            | n | route{n}          flag routes: the routes that took it
//	            | reason str            flag reason
//	            | n | note{n}           flag notes: deliveries that did not simply arrive
//	note        route | sink | outcome u8 | attempts | reason str
//	generation  0x02 | epoch | generation | digest str | n | route str{n} | n | sink str{n}
//	redelivered 0x03 | epoch | sink str | n | {ordinal | outcome u8 | attempts | reason str}{n}
//
// first and end are the ordinals that bound the chunk that the entries came in, total
// counts the events of it that were still to settle, start and next are its
// positions, low is the partition's low mark when the record was begun: so the low
// mark can be rebuilt from records alone.
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
	KindSettled     Kind = 1
	KindGeneration  Kind = 2
	KindRedelivered Kind = 3
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
	lastResult Outcome = 11
)

var outcomeNames = [...]string{"", "delivered", "unmatched", "filtered", "duplicate", "stale", "conflict", "expired", "refused", "dead", "parked", "discarded"}

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
	Reason     string
	Notes      []Note
}

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
	b = appendString(b, e.ID)
	if len(e.Routes) > 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Routes)))
		for _, r := range e.Routes {
			b = binary.AppendUvarint(b, uint64(r))
		}
	}
	if e.Reason != "" {
		b = appendString(b, e.Reason)
	}
	if len(e.Notes) > 0 {
		b = appendNotes(b, e.Notes)
	}
	w.Bytes = b
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
	return b
}

// Redelivery is the end of one parked delivery.
type Redelivery struct {
	Ordinal  uint64 // of the park queue's entry
	Outcome  Outcome
	Attempts uint32
	Reason   string
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
	}
	return b
}

func appendString[S string | []byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// ErrMalformed is wrapped by every error of Read.
var ErrMalformed = errors.New("malformed record")
