package field

// Kind is what a Value is.
type Kind uint8

// Kinds of values.
const (
	Absent Kind = iota // the document does not have the field
	String
	Number
	True
	False
	Null
	Object
	Array
)

var kinds = [...]string{"absent", "string", "number", "true", "false", "null", "object", "array"}

// String is the kind's name.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return "unknown"
}

// Flags of a Value.
const (
	Escaped uint8 = 1 << iota // a string with escapes: unescape before comparing
	Integer                   // a number without fraction and exponent
	Empty                     // an object or array without members
)

// Value is where one value of a field lies in the document. The zero Value is
// an absent field.
type Value struct {
	Off, Len uint32 // bytes in the document; of a string what is inside its quotes
	Next     uint32 // the slot's next value: index + 1 into Values.More, 0 = none
	Elem     uint32 // the array elements it came through, 0 = none; see Values.Consistent
	Kind     Kind
	Flags    uint8
}

// Raw is the value's bytes in its document, of a string what is inside the
// quotes (escapes untouched).
func (v Value) Raw(doc []byte) []byte { return doc[v.Off : v.Off+v.Len] }

// JSON is the value's bytes in its document with a string's quotes, nil for an
// absent field.
func (v Value) JSON(doc []byte) []byte {
	switch v.Kind {
	case Absent:
		return nil
	case String:
		return doc[v.Off-1 : v.Off+v.Len+1]
	}
	return doc[v.Off : v.Off+v.Len]
}

// Scalar reports whether the value is a string, number, true, false or null.
func (v Value) Scalar() bool { return v.Kind >= String && v.Kind <= Null }

// element is one element of an array, an object or array itself, that wanted
// values came through. Children
// stand after their parents.
type element struct {
	parent uint32 // element around the array, 0 = none
	array  uint32 // first recorded element of the same array
	depth  uint32 // elements around this one, itself included
}

// Values holds what one Scan found. It is scratch memory: reuse one a
// goroutine; every Scan resets it. The zero Values is ready for use. Offsets
// refer to the document that was scanned, which must stay unchanged as long as
// they are used.
type Values struct {
	// More holds the further values of slots whose path went through arrays,
	// linked by Value.Next.
	More []Value

	first []Value   // by slot
	last  []uint32  // by slot with more than one value: index + 1 into More of its last
	elems []element // elems[0] stands for "no array"

	program   *Program
	seen      []uint32 // by edge: the object that named it last
	serial    uint32   // of the last object that was begun
	through   int      // values recorded through arrays
	limit     int      // of through
	depth     int      // limit of nesting
	unescaped []byte   // a name that had escapes

	members    int
	odd        bool
	kind       Kind // of the document
	start, end int  // of the document without the white space around it
	err        Error
}

// Get is the slot's first value; its further values follow by Value.Next. For
// a field that is an array the first value is the whole array. A slot that the
// program does not have panics.
func (v *Values) Get(slot int) Value { return v.first[slot] }

// First is Get for all slots: the first value of each, valid until the next Scan.
func (v *Values) First() []Value { return v.first }

// Next is the value after x in its slot, and false where x is the last.
func (v *Values) Next(x Value) (Value, bool) {
	if x.Next == 0 {
		return Value{}, false
	}
	return v.More[x.Next-1], true
}

// Slots is the number of slots of the scanned program.
func (v *Values) Slots() int { return len(v.first) }

// Elements is the number of distinct Elem values, 0 included: all are below it.
func (v *Values) Elements() int { return len(v.elems) }

// Parent is the array element around the array that elem is an element of, 0
// if none; it is always less than elem. Siblings, the elements of one array,
// share the second result, which is the least Elem among them.
func (v *Values) Parent(elem uint32) (parent, array uint32) {
	e := v.elems[elem]
	return e.parent, e.array
}

// Consistent reports whether values with these two Elem may be used together:
// wherever both came through the same array, they came through the same
// element of it. It costs a step for each level of array nesting.
func (v *Values) Consistent(a, b uint32) bool {
	if a == 0 || b == 0 || a == b {
		return true
	}
	for v.elems[a].depth > v.elems[b].depth {
		a = v.elems[a].parent
	}
	for v.elems[b].depth > v.elems[a].depth {
		b = v.elems[b].parent
	}
	if a == b {
		return true
	}
	for v.elems[a].parent != v.elems[b].parent {
		a, b = v.elems[a].parent, v.elems[b].parent
	}
	return v.elems[a].array != v.elems[b].array
}

// Object reports whether the document is an object.
func (v *Values) Object() bool { return v.kind == Object }

// Span is where the document lies without the white space around it: of an
// object, doc[start] is its opening and doc[end-1] its closing brace.
func (v *Values) Span() (start, end int) { return v.start, v.end }

// RootMembers is the number of members of a document that is an object,
// wanted or not. It is counted with Options.Root only.
func (v *Values) RootMembers() int { return v.members }

// RootOdd reports what CloudEvents rules out or makes rare: a member of the
// document with a character outside [a-z0-9] in its name (or an empty name),
// or an unwanted member that is not a string, a boolean or an integer of 32
// bits. It is judged with Options.Root only.
func (v *Values) RootOdd() bool { return v.odd }

// reset readies v for a scan of p.
func (v *Values) reset(p *Program) {
	if v.program != p {
		v.adopt(p)
	}
	clear(v.first)
	if v.serial >= 1<<31 { // a document has fewer objects than 1<<31
		clear(v.seen)
		v.serial = 0
	}
	v.More = v.More[:0]
	v.elems = v.elems[:1]
	v.through, v.members, v.odd, v.kind = 0, 0, false, Absent
	v.start, v.end = 0, 0
}

// adopt sizes v for another program.
func (v *Values) adopt(p *Program) {
	v.program = p
	v.first = make([]Value, p.slots)
	v.last = make([]uint32, p.slots)
	v.seen = make([]uint32, p.edges)
	v.serial = 0
	v.limit, v.depth = p.limits.Elements, p.limits.Depth
	if v.elems == nil {
		v.elems = make([]element, 1, 16)
	}
}

// set fills in a zero Value, field by field: a copy of one just made would wait
// for the stores that made it.
func (x *Value) set(off, length int, elem uint32, kind Kind, flags uint8) {
	x.Off, x.Len, x.Elem = uint32(off), uint32(length), elem
	x.Kind, x.Flags = kind, flags
}

// take records a value of a slot and says where it stands: 0 = first, else
// index + 1 into More.
func (v *Values) take(slot int32, off, length int, elem uint32, kind Kind, flags uint8) uint32 {
	if elem != 0 {
		v.through++
	}
	first := &v.first[slot]
	if first.Kind == Absent {
		first.set(off, length, elem, kind, flags)
		return 0
	}
	v.More = append(v.More, Value{})
	at := uint32(len(v.More))
	v.More[at-1].set(off, length, elem, kind, flags)
	if first.Next == 0 {
		first.Next = at
	} else {
		v.More[v.last[slot]-1].Next = at
	}
	v.last[slot] = at
	return at
}

// fail notes why and where the document is refused; the answer is for the
// caller to return.
func (v *Values) fail(reason Reason, at int) int {
	v.err = Error{Offset: at, Reason: reason}
	return -1
}
