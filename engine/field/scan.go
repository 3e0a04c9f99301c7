package field

import "encoding/binary"

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

// object scans the object at doc[i] of a node that has edges. depth counts the
// object itself.
func (v *Values) object(doc []byte, i int, n *node, elem uint32, depth int) int {
	if depth > v.depth {
		return v.fail(ReasonDepth, i)
	}
	judge := depth == 1 && v.program.judge
	v.serial++
	serial := v.serial
	i++
	if uint(i) < uint(len(doc)) && doc[i] <= ' ' {
		i = space(doc, i)
	}
	if uint(i) < uint(len(doc)) && doc[i] == '}' {
		return i + 1
	}
	for {
		if uint(i) < uint(len(doc)) && doc[i] <= ' ' {
			i = space(doc, i)
		}
		start := i + 1
		name, after, escaped := v.name(doc, i)
		if after < 0 {
			return -1
		}
		i = after
		e := n.find(doc, start, name, escaped)
		var child *node
		if e != nil {
			if v.seen[e.id] == serial {
				return v.fail(ReasonDuplicateKey, start-1)
			}
			v.seen[e.id] = serial
			child = e.child
		}
		if uint(i) >= uint(len(doc)) {
			return v.fail(ReasonSyntax, i)
		}
		if judge {
			v.judge(doc, i, name, e)
		}
		switch c := doc[i]; {
		case c == '"':
			end, flags := v.text(doc, i+1)
			if end < 0 {
				return -1
			}
			if child != nil && child.slot >= 0 {
				v.take(child.slot, Value{Off: uint32(i + 1), Len: uint32(end - i - 2), Elem: elem, Kind: String, Flags: flags})
			}
			i = end
		case child != nil:
			i = v.value(doc, i, child, elem, depth+1)
		case c == '{' || c == '[':
			i = v.skip(doc, i, depth+1)
		default:
			i, _, _ = v.scalar(doc, i)
		}
		if i < 0 {
			return -1
		}
		if uint(i) < uint(len(doc)) && doc[i] <= ' ' {
			i = space(doc, i)
		}
		if uint(i) >= uint(len(doc)) {
			return v.fail(ReasonSyntax, i)
		}
		if doc[i] == ',' {
			i++
			continue
		}
		if doc[i] == '}' {
			return i + 1
		}
		return v.fail(ReasonSyntax, i)
	}
}

// name scans a member's name and its colon with white space around it. It returns the name unescaped, where the value
// begins (-1 after a refusal), and whether the name had escapes.
func (v *Values) name(doc []byte, i int) (name []byte, after int, escaped bool) {
	if uint(i) >= uint(len(doc)) || doc[i] != '"' {
		return nil, v.fail(ReasonSyntax, min(i, len(doc))), false
	}
	i++
	end, flags := v.text(doc, i)
	if end < 0 {
		return nil, -1, false
	}
	name = doc[i : end-1]
	if flags != 0 {
		v.unescaped = AppendUnescaped(v.unescaped[:0], name)
		name = v.unescaped
	}
	if i = v.colon(doc, end); i < 0 {
		return nil, -1, false
	}
	return name, i, flags != 0
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
	x := Value{Off: uint32(i), Elem: elem, Kind: Object}
	if c == '[' {
		x.Kind = Array
	}
	at := v.take(n.slot, x) // before what is in it, so that an array comes first
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
	x := Value{Off: uint32(i), Elem: elem, Kind: String}
	var end int
	if doc[i] == '"' {
		x.Off++
		end, x.Flags = v.text(doc, i+1)
		x.Len = uint32(end-1) - x.Off
	} else {
		end, x.Kind, x.Flags = v.scalar(doc, i)
		x.Len = uint32(end) - x.Off
	}
	if end >= 0 && n.slot >= 0 {
		v.take(n.slot, x)
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
		child, before := uint32(len(v.elems)), v.through
		v.elems = append(v.elems, element{parent: elem, array: array, depth: v.elems[elem].depth + 1})
		at := i
		if c := doc[i]; c == '{' || c == '[' {
			i = v.container(doc, i, n, child, depth+1)
		} else {
			i = v.leaf(doc, i, n, child)
		}
		if i < 0 {
			return -1
		}
		if v.through > v.limit {
			return v.fail(ReasonElements, at)
		}
		if v.through == before { // nothing came of it: memory follows what is recorded
			v.elems = v.elems[:child]
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

// judge counts a member of the document and looks for what RootOdd reports.
// Its value begins at doc[i].
func (v *Values) judge(doc []byte, i int, name []byte, e *edge) {
	v.members++
	if e != nil {
		v.odd = v.odd || !e.plain
		return
	}
	if v.odd = v.odd || !plain(name); v.odd {
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
