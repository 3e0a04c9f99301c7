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
	"errors"
	"math"
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
	Switch(func(c Config) (func(*Event) uint32, error) {
		yes, err := open(c)
		if err != nil {
			return nil, err
		}
		if yes == nil {
			return nil, errors.New("the plug-in gave no filter")
		}
		return func(e *Event) uint32 {
			if yes(e) {
				return Yes
			}
			return No
		}, nil
	})
}

// Switch hands over a filter that answers with outputs, or Failed.
func Switch(open func(Config) (func(*Event) uint32, error)) { opener = open }

var (
	opener func(Config) (func(*Event) uint32, error)
	run    func(*Event) uint32
)

const (
	headerBytes = 16
	slotBytes   = 8
)

// Batch is a run of events as the host wrote it.
type Batch struct {
	count, slots int
	table, data  []byte
}

// ReadBatch reads a batch; ok is false if the bytes are none of ABI v1.
func ReadBatch(b []byte) (batch Batch, ok bool) {
	le := binary.LittleEndian
	if len(b) < headerBytes || string(b[:4]) != "WRB1" || int64(le.Uint32(b[12:])) != int64(len(b)) {
		return Batch{}, false
	}
	count, slots := int64(le.Uint32(b[4:])), int64(le.Uint16(b[8:]))
	table := count * slots * slotBytes
	if table > int64(len(b)-headerBytes) {
		return Batch{}, false
	}
	rest := b[headerBytes:]
	return Batch{count: int(count), slots: int(slots), table: rest[:table], data: rest[table:]}, true
}

// Len is the number of events.
func (b Batch) Len() int { return b.count }

// Event sets e to the n-th event, which must exist.
func (b Batch) Event(n int, e *Event) {
	width := b.slots * slotBytes
	e.index, e.slots, e.data = n, b.table[n*width:(n+1)*width], b.data
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
	slots, data []byte
	index       int
}

// Index is the event's place in its batch.
func (e *Event) Index() int { return e.index }

func (e *Event) slot(n int) (t Type, flags uint32, part []byte) {
	at := n * slotBytes
	if n < 0 || at+slotBytes > len(e.slots) {
		return Absent, 0, nil
	}
	word := binary.LittleEndian.Uint64(e.slots[at:])
	from, meta := uint64(uint32(word)), uint32(word>>32)
	to := from + uint64(meta&0xffffff)
	if to > uint64(len(e.data)) {
		return Absent, 0, nil
	}
	return Type(meta >> 24 & 15), meta >> 28, e.data[from:to]
}

// Type is what a slot holds; slots that do not exist are Absent.
func (e *Event) Type(slot int) Type {
	t, _, _ := e.slot(slot)
	return t
}

// Text is the string of a slot, ok false if it holds none.
func (e *Event) Text(slot int) (s Text, ok bool) {
	t, flags, part := e.slot(slot)
	if t != String {
		return Text{}, false
	}
	return Text{Raw: part, Escaped: flags&1 != 0}, true
}

// Number is the number of a slot, ok false if it holds none that a float64
// does; an integer past 2^53 loses its last digits.
func (e *Event) Number(slot int) (f float64, ok bool) {
	t, _, part := e.slot(slot)
	if len(part) != 8 {
		return 0, false
	}
	switch bits := binary.LittleEndian.Uint64(part); t {
	case Int:
		return float64(int64(bits)), true
	case Float:
		return math.Float64frombits(bits), true
	}
	return 0, false
}

// Int is the integer of a slot, ok false if it holds none.
func (e *Event) Int(slot int) (n int64, ok bool) {
	t, _, part := e.slot(slot)
	if t != Int || len(part) != 8 {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(part)), true
}

// Bool is the truth value of a slot, ok false if it holds none.
func (e *Event) Bool(slot int) (v, ok bool) {
	t, flags, _ := e.slot(slot)
	return flags&1 != 0, t == Bool
}

// JSON is the JSON text of a slot of type JSON.
func (e *Event) JSON(slot int) (raw []byte, ok bool) {
	t, _, part := e.slot(slot)
	return part, t == JSON
}
