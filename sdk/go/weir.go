// Package weir writes Weir plug-ins in Go: a filter is a function of an event,
// and an init that hands it over. It has no dependency and allocates nothing an
// event; ../ABI.md is the contract that it speaks.
//
//	func init() {
//		weir.Filter(func(config weir.Config) (func(*weir.Event) bool, error) { ... })
//	}
//	func main() {}
//
// Build with GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared, then add the
// manifest with `weir plugin pack`; build.sh does both. On other platforms the
// package compiles too, so that a plug-in's own tests run natively: give them
// events with ReadBatch.
package weir

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// Answers of a Switch. An output of the manifest is 1 << its place in the list.
const (
	No     uint32 = 0
	Yes    uint32 = 1
	Failed uint32 = 1 << 31 // the plug-in could not decide: the event meets on_error
)

// Filter hands over a filter that answers yes or no. open runs once an
// instance; its error refuses the configuration, and operators read the text.
// Call it in an init function.
func Filter(open func(Config) (func(*Event) bool, error)) {
	opener = func(c Config) (err error) {
		yes, err = open(c)
		return err
	}
}

// Switch hands over a filter that answers with outputs, or Failed.
func Switch(open func(Config) (func(*Event) uint32, error)) {
	opener = func(c Config) (err error) {
		choose, err = open(c)
		return err
	}
}

var (
	opener func(Config) error
	yes    func(*Event) bool   // what Filter's open gave
	choose func(*Event) uint32 // what Switch's open gave
)

// answer runs the plug-in over a batch. A call costs much in a guest, so there
// is one an event here, and the accessors of Event are small enough to inline.
func (b *Batch) answer(e *Event, out []uint32) {
	if choose != nil {
		for i := range out {
			b.Event(i, e)
			out[i] = choose(e)
		}
		return
	}
	for i := range out {
		b.Event(i, e)
		out[i] = No
		if yes(e) {
			out[i] = Yes
		}
	}
}

const (
	headerBytes = 16
	slotBytes   = 8
)

// Batch is a run of events as the host wrote it.
type Batch struct {
	count, slots int
	table        []uint64
	data         []byte
	words        []uint64 // data as numbers
}

// ReadBatch reads a batch; ok is false if the bytes are none of ABI v1. Batches
// are little-endian, as guests are, and stand at an 8-aligned address.
func ReadBatch(b []byte) (batch Batch, ok bool) {
	le := binary.LittleEndian
	if len(b) < headerBytes || string(b[:4]) != "WRB1" || int64(le.Uint32(b[12:])) != int64(len(b)) {
		return Batch{}, false
	}
	count, slots := int64(le.Uint32(b[4:])), int64(le.Uint16(b[8:]))
	if count*slots*slotBytes > int64(len(b)-headerBytes) || uintptr(unsafe.Pointer(&b[0]))&7 != 0 {
		return Batch{}, false
	}
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), len(b)/8)[headerBytes/8:]
	n := int(count * slots)
	return Batch{
		count: int(count), slots: int(slots),
		table: words[:n], words: words[n:], data: b[headerBytes+n*slotBytes:],
	}, true
}

// Len is the number of events.
func (b *Batch) Len() int { return b.count }

// Event sets e to the n-th event, which must exist.
func (b *Batch) Event(n int, e *Event) {
	if n < 0 || n >= b.count {
		panic("weir: no such event")
	}
	if e.batch != b { // pointers are written once a batch: each costs a barrier
		e.batch = b
	}
	e.index, e.first = n, n*b.slots
}

// Type is the sort of value that a slot holds.
type Type uint8

// Slot types.
const (
	Absent Type = iota
	String
	Int
	Float
	Bool
	JSON // an object, an array, or a number that neither Int nor Float holds
	Null
)

// Event is one event: the values of the manifest's fields, by slot. It is
// valid while the filter looks at it.
type Event struct {
	batch *Batch
	index int
	first int // its first slot in the batch's table
}

// Index is the event's place in its batch.
func (e *Event) Index() int { return e.index }

// A slot's word: offset 32 bits, length 24, type 4, flags 4.
const (
	lengthMask = 1<<24 - 1
	typeShift  = 56
	flagShift  = 60
)

// Type is what a slot holds; slots that do not exist are Absent.
func (e *Event) Type(slot int) Type {
	if uint(slot) >= uint(e.batch.slots) {
		return Absent
	}
	return Type(e.slot(slot) >> typeShift & 15)
}

// Text is the string of a slot, ok false if it holds none.
func (e *Event) Text(slot int) (s Text, ok bool) {
	if e.Type(slot) != String {
		return
	}
	w := e.slot(slot)
	return Text{e.batch.data[uint32(w):][:w>>32&lengthMask], w>>flagShift != 0}, true
}

// Number is the number of a slot, ok false if it holds none that a float64
// does; an integer past 2^53 loses its last digits.
func (e *Event) Number(slot int) (f float64, ok bool) {
	t := e.Type(slot)
	if t != Int && t != Float {
		return
	}
	w := e.word(slot)
	if t == Float {
		return math.Float64frombits(w), true
	}
	return float64(int64(w)), true
}

func (e *Event) slot(n int) uint64 { return e.batch.table[e.first+n] }

func (e *Event) word(slot int) uint64 { return e.batch.words[uint32(e.slot(slot))/8] }

// Int is the integer of a slot, ok false if it holds none.
func (e *Event) Int(slot int) (n int64, ok bool) {
	if e.Type(slot) != Int {
		return 0, false
	}
	return int64(e.word(slot)), true
}

// Bool is the truth value of a slot, ok false if it holds none.
func (e *Event) Bool(slot int) (v, ok bool) {
	if e.Type(slot) != Bool {
		return false, false
	}
	return e.slot(slot)>>flagShift != 0, true
}

// JSON is the JSON text of a slot of type JSON.
func (e *Event) JSON(slot int) (raw []byte, ok bool) {
	if e.Type(slot) != JSON {
		return nil, false
	}
	w := e.slot(slot)
	return e.batch.data[uint32(w):][:w>>32&lengthMask], true
}
