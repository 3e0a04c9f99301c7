package field

import (
	"encoding/binary"
	"math/bits"
)

// Scan validates doc and records the program's fields in v. It returns nil or
// an *Error that belongs to v. After a refusal v holds nothing to rely on.
func (p *Program) Scan(doc []byte, v *Values) error {
	v.reset(p)
	if uint64(len(doc)) > MaxSize {
		v.fail(ReasonSize, MaxSize)
		return &v.err
	}
	start := space(doc, 0)
	end := v.document(doc, start)
	if end < 0 {
		return &v.err
	}
	v.start, v.end = start, end
	if end != len(doc) {
		if end = space(doc, end); end != len(doc) {
			v.fail(ReasonSyntax, end)
			return &v.err
		}
	}
	for _, a := range p.aliases {
		v.first[a.slot] = v.first[a.of]
	}
	return nil
}

// The functions below each take the place of what they scan and return the
// place after it, or -1 after having noted why the document is refused.

// document scans the outermost value.
func (v *Values) document(doc []byte, i int) int {
	root := &v.program.root
	if i < len(doc) && doc[i] == '{' && root.slot < 0 {
		v.kind = Object
		return v.object(doc, i, root, 0, 1)
	}
	if i < len(doc) && doc[i] == '{' {
		v.kind = Object
	}
	return v.value(doc, i, root, 0, 1)
}

// object scans the object at doc[i] of a node. depth counts the object itself.
//
// It is the hot loop: a name of up to seven bytes and a plain string are read
// in place, eight bytes at a time; everything else is a call.
func (v *Values) object(doc []byte, i int, n *node, elem uint32, depth int) int {
	if depth > v.depth {
		return v.fail(ReasonDepth, i)
	}
	judge := depth == 1 && v.program.judge
	v.serial++
	serial := v.serial
	i++
	if i = space(doc, i); i < len(doc) && doc[i] == '}' {
		return i + 1
	}
	lastWord := len(doc) - 8 // where the last word begins
	for {
		start := i + 1
		var e *edge
		var length int
		if i < lastWord && doc[i] == '"' {
			x := word(doc, start)
			low := stops(x)
			low &= -low // the mark of the first byte that is not plain
			length = bits.TrailingZeros64(low) >> 3
			if after := start + length; low != 0 && doc[after] == '"' && after+1 < len(doc) && doc[after+1] == ':' {
				i = after + 2
				first := x & (low>>7 - 1)
				e = &n.table[n.hash(first, 0, length)]
				if !e.is(first, 0, length) {
					if e = nil; n.more != nil {
						e = n.find(first, 0, doc[start:after])
					}
				}
				goto named
			}
		}
		if e, length, i = v.name(doc, i, n); i < 0 {
			return -1
		}
	named:
		var child *node
		if e != nil {
			if v.seen[e.id] == serial {
				return v.fail(ReasonDuplicateKey, start-1)
			}
			v.seen[e.id] = serial
			child = e.child
		}
		if uint(i) >= uint(len(doc)) || doc[i] <= ' ' {
			if i = space(doc, i); i >= len(doc) {
				return v.fail(ReasonSyntax, i)
			}
		}
		if judge {
			v.members++
			if e == nil || !e.plain {
				v.judge(doc, i, start, length, e)
			}
		}
		if c := doc[i]; c == '"' {
			from := i + 1
			flags := uint8(0)
			for i = from; ; i += 8 {
				if i > lastWord {
					i, flags = v.richText(doc, i)
					break
				}
				if m := stops(word(doc, i)); m != 0 {
					i += bits.TrailingZeros64(m) >> 3
					if doc[i] == '"' {
						i++
					} else {
						i, flags = v.richText(doc, i)
					}
					break
				}
			}
			if child != nil && uint(child.slot) < uint(len(v.first)) {
				if first := &v.first[child.slot]; elem == 0 && first.Kind == Absent {
					first.set(from, i-from-1, 0, String, flags)
				} else {
					v.take(child.slot, from, i-from-1, elem, String, flags)
				}
			}
		} else if child != nil {
			i = v.value(doc, i, child, elem, depth+1)
		} else if c == '{' || c == '[' {
			i = v.skip(doc, i, depth+1)
		} else if i, _, _ = scalar(doc, i); i < 0 {
			return v.fail(ReasonSyntax, ^i)
		}
		if i < 0 {
			return -1
		}
		if uint(i) >= uint(len(doc)) || doc[i] <= ' ' {
			if i = space(doc, i); i >= len(doc) {
				return v.fail(ReasonSyntax, i)
			}
		}
		if c := doc[i]; c != ',' {
			if c == '}' {
				return i + 1
			}
			return v.fail(ReasonSyntax, i)
		}
		i++
		if uint(i) < uint(len(doc)) && doc[i] <= ' ' {
			i = space(doc, i)
		}
	}
}

// name scans a member's name and its colon and looks the name up. The length
// is the unescaped name's.
func (v *Values) name(doc []byte, i int, n *node) (e *edge, length, after int) {
	if i >= len(doc) || doc[i] != '"' {
		return nil, 0, v.fail(ReasonSyntax, i)
	}
	i++
	if i <= len(doc)-2*8 {
		x := word(doc, i)
		y := word(doc, i+8)
		low := stops(y)
		low &= -low
		tail := bits.TrailingZeros64(low) >> 3
		after := i + 8 + tail
		if stops(x) == 0 && low != 0 && doc[after] == '"' && after+1 < len(doc) && doc[after+1] == ':' {
			if length = 8 + tail; length > 8 {
				y = word(doc, after-8)
			} else {
				y = 0
			}
			return n.find(x, y, doc[i:after]), length, after + 2
		}
	}
	end, flags := v.text(doc, i)
	if end < 0 {
		return nil, 0, -1
	}
	name := doc[i : end-1]
	if flags != 0 {
		v.unescaped = AppendUnescaped(v.unescaped[:0], name)
		name = v.unescaped
	}
	first, last := nameWords(name)
	return n.find(first, last, name), len(name), v.colon(doc, end)
}

// colon scans a colon with white space around it.
func (v *Values) colon(doc []byte, i int) int {
	if uint(i) < uint(len(doc)) && doc[i] <= ' ' {
		i = space(doc, i)
	}
	if uint(i) >= uint(len(doc)) || doc[i] != ':' {
		return v.fail(ReasonSyntax, i)
	}
	i++
	if uint(i) < uint(len(doc)) && doc[i] <= ' ' {
		i = space(doc, i)
	}
	return i
}

// value scans the value at doc[i] of a node and records it if it is wanted.
// depth counts the value itself if it is an object or array.
func (v *Values) value(doc []byte, i int, n *node, elem uint32, depth int) int {
	if i >= len(doc) {
		return v.fail(ReasonSyntax, i)
	}
	c := doc[i]
	if c != '{' && c != '[' {
		return v.leaf(doc, i, n, elem)
	}
	if n.slot < 0 {
		return v.container(doc, i, n, elem, depth)
	}
	kind := Object
	if c == '[' {
		kind = Array
	}
	at := v.take(n.slot, i, 0, elem, kind, 0) // before what is in it, so that an array comes first
	end := v.container(doc, i, n, elem, depth)
	if end < 0 {
		return -1
	}
	recorded := &v.first[n.slot]
	if at != 0 {
		recorded = &v.More[at-1]
	}
	recorded.Len = uint32(end - i)
	if space(doc, i+1) == end-1 {
		recorded.Flags = Empty
	}
	return end
}

// leaf scans the scalar at doc[i] of a node and records it if it is wanted.
func (v *Values) leaf(doc []byte, i int, n *node, elem uint32) int {
	if doc[i] == '"' {
		end, flags := v.text(doc, i+1)
		if end >= 0 && n.slot >= 0 {
			v.take(n.slot, i+1, end-i-2, elem, String, flags)
		}
		return end
	}
	end, kind, flags := scalar(doc, i)
	if end < 0 {
		return v.fail(ReasonSyntax, ^end)
	}
	if n.slot >= 0 {
		v.take(n.slot, i, end-i, elem, kind, flags)
	}
	return end
}

// container scans the object or array at doc[i] of a node.
func (v *Values) container(doc []byte, i int, n *node, elem uint32, depth int) int {
	switch {
	case doc[i] == '[':
		return v.array(doc, i, n, elem, depth)
	case len(n.edges) == 0:
		return v.skip(doc, i, depth)
	}
	return v.object(doc, i, n, elem, depth)
}

// array scans the array at doc[i] of a node: each element stands for the node
// itself. Scalars are recorded; objects and arrays are gone into but not
// recorded, for the outermost array has been.
func (v *Values) array(doc []byte, i int, n *node, elem uint32, depth int) int {
	if depth > v.depth {
		return v.fail(ReasonDepth, i)
	}
	array := uint32(len(v.elems)) // number of its first element
	i = space(doc, i+1)
	if i < len(doc) && doc[i] == ']' {
		return i + 1
	}
	for {
		if i >= len(doc) {
			return v.fail(ReasonSyntax, i)
		}
		at := i
		if c := doc[i]; c == '{' || c == '[' {
			i = v.element(doc, i, n, element{parent: elem, array: array, depth: v.elems[elem].depth + 1}, depth+1)
		} else {
			i = v.leaf(doc, i, n, elem)
			if elem == 0 && n.slot >= 0 {
				v.through++
			}
		}
		if i < 0 {
			return -1
		}
		if v.through > v.limit {
			return v.fail(ReasonElements, at)
		}
		if i = space(doc, i); i >= len(doc) {
			return v.fail(ReasonSyntax, i)
		}
		if doc[i] == ']' {
			return i + 1
		}
		if doc[i] != ',' {
			return v.fail(ReasonSyntax, i)
		}
		i = space(doc, i+1)
	}
}

// element scans an element of an array that is an object or array itself.
func (v *Values) element(doc []byte, i int, n *node, e element, depth int) int {
	child, before := uint32(len(v.elems)), v.through
	v.elems = append(v.elems, e)
	i = v.container(doc, i, n, child, depth)
	if v.through == before { // nothing came of it: memory follows what is recorded
		v.elems = v.elems[:child]
	}
	return i
}

// judge looks for what RootOdd reports in a member of the document whose name
// begins at doc[start] and whose value begins at doc[i].
func (v *Values) judge(doc []byte, i, start, length int, e *edge) {
	if e != nil {
		v.odd = v.odd || !e.plain
		return
	}
	// An escape in the name makes its first length bytes not plain either,
	// unless it comes later: then the closing quote does not follow them.
	if v.odd = v.odd || doc[start+length] != '"' || !plain(doc[start:start+length]); v.odd {
		return
	}
	switch c := doc[i]; {
	case c == '"' || c == 't' || c == 'f':
	case c == '-' || c-'0' <= 9:
		end, flags := number(doc, i)
		if end < 0 {
			return // the scan of the value will refuse it
		}
		n, ok := Int64(doc[i:end])
		v.odd = flags&Integer == 0 || !ok || n != int64(int32(n))
	default:
		v.odd = true
	}
}

// plain reports whether a name can be a CloudEvents attribute's.
func plain[T string | []byte](name T) bool {
	for i := range len(name) {
		if c := name[i]; c-'a' > 'z'-'a' && c-'0' > 9 {
			return false
		}
	}
	return len(name) > 0
}

// word loads the eight bytes at doc[i:].
func word(doc []byte, i int) uint64 { return binary.LittleEndian.Uint64(doc[i:]) }
