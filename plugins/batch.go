// # The batch of ABI v1
//
// A host hands events to a plug-in as one run of bytes, little-endian:
//
//	header   16 B   magic "WRB1" u32 | count u32 | slots u16 | flags u16 (0) | total u32
//	slots    count x slots x 8 B, event by event:
//	                offset u32 | meta u32 = length (bits 0..23) type (24..27) flags (28..31)
//	data     the rest: what the slots point to
//
//	total    length of the whole batch, header included
//	offset   from the start of data, which stands at 16 + count*slots*8
//
//	type     data                                            flag 1
//	0 absent  none; offset and length 0
//	1 string  the JSON text between the quotes               it holds escapes
//	2 i64     8 bytes, 8-aligned: an integer in range
//	3 f64     8 bytes, 8-aligned: a number that round-trips
//	4 bool    none                                           true
//	5 json    JSON text: object, array, or a number that neither holds
//	6 null    none
//
// The batch stands at an 8-aligned address, so an 8-aligned offset is an
// aligned load. Unused flags and gaps are 0. sdk/testdata/batches.txt pins the
// bytes for the host and for every SDK.
package plugins

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// BatchMagic is the first word of a batch: "WRB1" in memory.
const BatchMagic = 'W' | 'R'<<8 | 'B'<<16 | '1'<<24

// SlotType is the sort of value that a slot holds.
type SlotType uint8

// Slot types of ABI v1.
const (
	SlotAbsent SlotType = iota
	SlotString
	SlotInt
	SlotFloat
	SlotBool
	SlotJSON
	SlotNull
)

// Limits of a batch. What exceeds one makes Err say so.
const (
	MaxBatchEvents = 1 << 16
	MaxBatchBytes  = 1 << 28
	MaxValueBytes  = 1<<24 - 1
	MaxSlots       = 1<<10 - 1

	headerBytes = 16
	slotBytes   = 8
	keptBytes   = 4 << 20 // what a batch keeps for the next, so that one huge event does not stay
)

// Errors of a batch that cannot be handed to a plug-in.
var (
	ErrValueTooLarge = errors.New("a value exceeds 16 MiB")
	ErrBatchTooLarge = errors.New("the batch exceeds its limits")
	ErrTooManyValues = errors.New("an event has more values than the batch has slots")
)

// Source answers what a plug-in asks about an event beyond its slots. It is
// called on the goroutine that runs the batch; event is the index in it.
type Source interface {
	// Field gives the JSON text of a field (strings with their quotes), valid
	// until the next call; ok is false where the event does not have it.
	Field(event int, path string) (raw []byte, ok bool)
	// Time is the event's time in nanoseconds since 1970.
	Time(event int) int64
}

// Batch builds the bytes of a batch. The zero value is ready for Reset. It
// belongs to one goroutine and allocates only while it grows.
//
//	b.Reset(2)
//	for each event {
//		b.Event()
//		b.String(raw, false)
//		b.Number(text)
//	}
type Batch struct {
	head   []byte // header and slots
	data   []byte
	joined []byte // what Bytes gave out
	source Source
	err    error
	events int
	slots  int
	at     int // where the next slot of the event stands in head
}

// Reset empties the batch for events of so many slots each; more than
// MaxSlots is an error that Err gives. The source stays.
func (b *Batch) Reset(slots int) {
	if cap(b.data) > keptBytes {
		b.data, b.joined = nil, nil
	}
	if cap(b.head) > keptBytes {
		b.head = nil
	}
	if cap(b.head) == 0 {
		b.head = make([]byte, 0, 1024)
	}
	b.head = b.head[:headerBytes]
	b.data = b.data[:0]
	b.err = nil
	b.events, b.slots, b.at = 0, slots, headerBytes
	if slots < 0 || slots > MaxSlots {
		b.slots = 0
		b.err = fmt.Errorf("batch of %d slots, at most %d: %w", slots, MaxSlots, ErrBatchTooLarge)
	}
}

// SetSource names who answers what plug-ins ask beyond the slots. A batch
// without one makes the import "field" fail the call, and "now" stand still.
func (b *Batch) SetSource(s Source) { b.source = s }

// Source is what SetSource named, nil if nothing.
func (b *Batch) Source() Source { return b.source }

// Event begins the next event. Slots that the one before left open are absent.
func (b *Batch) Event() {
	if b.events == MaxBatchEvents {
		b.fail(ErrBatchTooLarge)
		return
	}
	b.events++
	b.at = len(b.head)
	b.head = append(b.head, openSlots[:b.slots*slotBytes]...)
}

// openSlots is an event of absent fields.
var openSlots [MaxSlots * slotBytes]byte

func (b *Batch) fail(err error) {
	if b.err == nil {
		b.err = fmt.Errorf("event %d of the batch: %w", b.events-1, err)
	}
}

//go:noinline // so that put is inlined
func (b *Batch) overfull() { b.fail(ErrTooManyValues) }

// slotWord is a slot as the layout has it.
func slotWord(offset, length int, t SlotType, flag bool) uint64 {
	w := uint64(uint32(offset)) | uint64(length)<<32 | uint64(t)<<56
	if flag {
		w |= 1 << 60
	}
	return w
}

// put writes the next slot of the event. Offsets fit u32 because a batch that
// passes MaxBatchBytes is never handed on.
func (b *Batch) put(word uint64) {
	if b.at >= len(b.head) {
		b.overfull()
		return
	}
	binary.LittleEndian.PutUint64(b.head[b.at:], word)
	b.at += slotBytes
}

// text writes a slot that points to bytes of data.
func (b *Batch) text(raw []byte, t SlotType, flag bool) {
	offset := len(b.data)
	if len(raw) > MaxValueBytes || offset+len(raw) > MaxBatchBytes {
		b.tooLarge(len(raw))
		return
	}
	b.data = append(b.data, raw...)
	b.put(slotWord(offset, len(raw), t, flag))
}

func (b *Batch) tooLarge(n int) {
	if n > MaxValueBytes {
		b.fail(ErrValueTooLarge)
	} else {
		b.fail(ErrBatchTooLarge)
	}
	b.put(0)
}

func (b *Batch) word(bits uint64, t SlotType) {
	if pad := -len(b.data) & 7; pad != 0 {
		var zero [8]byte
		b.data = append(b.data, zero[:pad]...)
	}
	offset := len(b.data)
	b.data = binary.LittleEndian.AppendUint64(b.data, bits)
	b.put(slotWord(offset, 8, t, false))
}

// Absent says that the event does not have the field.
func (b *Batch) Absent() { b.put(0) }

// String adds a string: the JSON text between its quotes, and whether it holds
// escapes.
func (b *Batch) String(raw []byte, escaped bool) {
	b.text(raw, SlotString, escaped)
}

// Number adds a JSON number: i64 where the text is an integer in range, f64
// where the value survives the way to a float and back, else its text.
func (b *Batch) Number(text []byte) {
	if bits, t := shortNumber(text); t != SlotAbsent {
		b.word(bits, t)
		return
	}
	if n, ok := parseInt(text); ok {
		b.word(uint64(n), SlotInt)
		return
	}
	if f, ok := parseFloat(text); ok {
		b.word(math.Float64bits(f), SlotFloat)
		return
	}
	b.text(text, SlotJSON, false)
}

// Bool adds true or false.
func (b *Batch) Bool(v bool) { b.put(slotWord(0, 0, SlotBool, v)) }

// Null adds a null, which differs from an absent field.
func (b *Batch) Null() { b.put(slotWord(0, 0, SlotNull, false)) }

// JSON adds any other value as its JSON text.
func (b *Batch) JSON(raw []byte) { b.text(raw, SlotJSON, false) }

// Len is the number of events.
func (b *Batch) Len() int { return b.events }

// Slots is the number of values an event has.
func (b *Batch) Slots() int { return b.slots }

// Size is the number of bytes that CopyTo writes.
func (b *Batch) Size() int { return headerBytes + b.events*b.slots*slotBytes + len(b.data) }

// Err is the first reason why the batch cannot be handed to a plug-in.
func (b *Batch) Err() error {
	if b.err == nil && b.Size() > MaxBatchBytes {
		return ErrBatchTooLarge
	}
	return b.err
}

// CopyTo writes the batch to dst, which has at least Size bytes, and returns
// Size: the one copy on the way into a guest.
func (b *Batch) CopyTo(dst []byte) int {
	b.finish()
	n := copy(dst, b.head)
	return n + copy(dst[n:], b.data)
}

// Bytes gives the batch in one piece, valid until the next Reset.
func (b *Batch) Bytes() []byte {
	b.finish()
	b.joined = append(append(b.joined[:0], b.head...), b.data...)
	return b.joined
}

func (b *Batch) finish() {
	if len(b.head) < headerBytes {
		b.Reset(0)
	}
	binary.LittleEndian.PutUint32(b.head[0:], BatchMagic)
	binary.LittleEndian.PutUint32(b.head[4:], uint32(b.events))
	binary.LittleEndian.PutUint16(b.head[8:], uint16(b.slots))
	binary.LittleEndian.PutUint16(b.head[10:], 0)
	binary.LittleEndian.PutUint32(b.head[12:], uint32(b.Size()))
}
