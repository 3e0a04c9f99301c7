package field

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

// MaxSize is the longest document that Scan takes, in bytes: offsets have 32 bits.
const MaxSize = 1<<32 - 1

// Bounds of a program.
const (
	DefaultDepth    = 64
	DefaultElements = 4096
	MaxDepth        = 10_000 // as deep as encoding/json goes
	MaxSegments     = 64     // names in a path
)

// Limits bound what a document may ask of its reader. Zero values mean the
// defaults.
type Limits struct {
	Depth    int // nesting of objects and arrays, default 64, at most 10,000
	Elements int // values recorded through arrays a document, default 4,096
}

// Options of a program.
type Options struct {
	Limits Limits
	Root   bool // count and judge the document's members: RootMembers, RootOdd
}

// Program is the compiled form of the wanted paths. It is immutable and safe
// for concurrent use.
type Program struct {
	root    node
	slots   int
	edges   int
	aliases []alias
	limits  Limits
	judge   bool // Options.Root
}

// alias is a slot whose path another slot has already.
type alias struct{ slot, of int32 }

// node is one place in a document on the way to wanted values.
type node struct {
	slot  int32 // -1 = not wanted itself
	shift uint8
	seed  uint64
	table []edge // hash of a name -> its edge; its length is a power of two
	more  []edge // edges whose place in the table was taken
	edges []edge // all of them
}

// edge leads from an object to one of its members. A name is compared by its
// length and its first and last eight bytes, which is the whole name up to
// wholeName bytes.
type edge struct {
	first, last uint64
	length      int
	child       *node // nil = a free place of the table
	name        string
	id          int32 // index into Values.seen
	next        int32 // another edge of the same hash: index + 1 into node.more, 0 = none
	plain       bool  // the name has [a-z0-9] only and is not empty
}

// wholeName is the length up to which nameWords hold a whole name.
const wholeName = 16

// Compile makes the program that records paths[i] in slot i. One path may be
// the beginning of another; equal paths get equal answers.
func Compile(paths []Path, o Options) (*Program, error) {
	limits, err := o.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Program{slots: len(paths), limits: limits, judge: o.Root}
	p.root.slot = -1
	nodes := map[string]*node{}
	for i, path := range paths {
		path = path.canonical()
		if len(path) > MaxSegments {
			return nil, fmt.Errorf("compile field %q: %d segments, at most %d are allowed", path.String(), len(path), MaxSegments)
		}
		n := p.insert(nodes, path)
		if n.slot >= 0 {
			p.aliases = append(p.aliases, alias{slot: int32(i), of: n.slot})
			continue
		}
		n.slot = int32(i)
	}
	p.root.index()
	for _, n := range nodes {
		n.index()
	}
	return p, nil
}

// withDefaults fills in defaults and checks the bounds.
func (l Limits) withDefaults() (Limits, error) {
	if l.Depth == 0 {
		l.Depth = DefaultDepth
	}
	if l.Elements == 0 {
		l.Elements = DefaultElements
	}
	if l.Depth < 0 || l.Depth > MaxDepth {
		return l, fmt.Errorf("compile fields: depth limit %d, want 1 to %d", l.Depth, MaxDepth)
	}
	if l.Elements < 0 {
		return l, fmt.Errorf("compile fields: element limit %d, want 1 or more", l.Elements)
	}
	return l, nil
}

// insert makes the nodes of a path and returns the last. Every node gets an
// edge from each of its ancestors, since a member's name may hold several
// segments of the path, dots and all.
func (p *Program) insert(nodes map[string]*node, path Path) *node {
	chain := []*node{&p.root}
	for depth := 1; depth <= len(path); depth++ {
		key := path[:depth].String()
		n := nodes[key]
		if n == nil {
			n = &node{slot: -1}
			nodes[key] = n
			for from, ancestor := range chain {
				ancestor.edges = append(ancestor.edges, newEdge(path[from:depth].String(), n, int32(p.edges)))
				p.edges++
			}
		}
		chain = append(chain, n)
	}
	return chain[len(chain)-1]
}

func newEdge(name string, child *node, id int32) edge {
	first, last := nameWords([]byte(name))
	plain := name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	return edge{first: first, last: last, length: len(name), name: name, child: child, id: id, plain: plain}
}

// index builds the node's hash table. It tries seeds until no two edges share
// a place, so that a look-up is one multiplication and one comparison.
func (n *node) index() {
	const (
		fewEdges   = 64 // more would need a table of the square of their number
		triesASize = 64
	)
	size := 2 << bits.Len(uint(len(n.edges)))
	seed := uint64(0x9E3779B97F4A7C15)
	for try := 1; ; try++ {
		if n.fill(size, seed) || len(n.edges) > fewEdges || size >= 32*len(n.edges) {
			return
		}
		seed = seed*6364136223846793005 + 1442695040888963407 | 1
		if try%triesASize == 0 {
			size *= 2
		}
	}
}

// fill builds the table of one size and seed and reports whether every edge
// got a place of its own. Edges that did not are chained.
func (n *node) fill(size int, seed uint64) bool {
	n.seed, n.shift = seed, uint8(64-bits.TrailingZeros(uint(size)))
	n.table, n.more = make([]edge, size), nil
	for _, e := range n.edges {
		place := &n.table[n.hash(e.first, e.last, e.length)]
		if place.child == nil {
			*place = e
			continue
		}
		e.next = place.next
		n.more = append(n.more, e)
		place.next = int32(len(n.more))
	}
	return n.more == nil
}

func (n *node) hash(first, last uint64, length int) uint64 {
	return (first ^ bits.RotateLeft64(last, 29) ^ uint64(length)) * n.seed >> (n.shift & 63)
}

// find is the edge of a name, nil if the name is not wanted.
func (n *node) find(first, last uint64, name []byte) *edge {
	e := &n.table[n.hash(first, last, len(name))]
	for {
		if e.is(first, last, len(name)) && (len(name) <= wholeName || e.name == string(name)) {
			return e
		}
		if e.next == 0 {
			return nil
		}
		e = &n.more[e.next-1]
	}
}

// is reports whether the edge has these words and this length.
func (e *edge) is(first, last uint64, length int) bool {
	return e.first == first && e.last == last && e.length == length && e.child != nil
}

// nameWords are the words by which names are compared: the first eight bytes,
// padded with zeros, and the last eight of a name that is longer.
func nameWords(name []byte) (first, last uint64) {
	if len(name) > 8 {
		return binary.LittleEndian.Uint64(name), binary.LittleEndian.Uint64(name[len(name)-8:])
	}
	var word [8]byte
	copy(word[:], name)
	return binary.LittleEndian.Uint64(word[:]), 0
}
