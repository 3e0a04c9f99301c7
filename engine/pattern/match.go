package pattern

import (
	"bytes"
	"slices"
	"unsafe"

	"github.com/weir-project/weir/engine/field"
)

// View is one event as a Set (or a Pattern, for Explain) sees it: where each
// of its Fields lies.
type View struct {
	Doc    []byte        // what Values was scanned from
	Values *field.Values // nil where no slot is used
	// Slots has an entry a field: a slot of Values, -1 for a field that the
	// event does not have, or -2-i for the string Consts[i].
	Slots  []int32
	Consts []string // insides of JSON strings, without quotes, escapes untouched
}

// Absent is the entry of View.Slots for a field that the event does not have.
const Absent = -1

// Const is the entry of View.Slots for the string Consts[i].
func Const(i int) int32 { return int32(-2 - i) }

// Scratch is Match's memory. The zero value is ready; one a goroutine.
type Scratch struct {
	event
	set     *Set
	epoch   uint32   // number of the event, never 0
	results []uint32 // by predicate: epoch<<1 | 1 if it holds, for this epoch
	matched []uint32 // by rule: epoch of its last match
	hits    []uint32 // indexed predicates that the event satisfies
	join    join
}

// event is a View decoded: the scalars of each field.
type event struct {
	leaves  []leaf
	from    []uint32 // by field: its first leaf; one more at the end
	through []bool   // by field: a leaf came through an array
	text    []byte   // strings without their escapes
}

// of is a field's scalars.
func (e *event) of(f uint32) []leaf { return e.leaves[e.from[f]:e.from[f+1]] }

// load decodes the fields of a view.
func (e *event) load(v *View) {
	e.leaves, e.from, e.through, e.text = e.leaves[:0], e.from[:0], e.through[:0], e.text[:0]
	for _, slot := range v.Slots {
		e.from = append(e.from, uint32(len(e.leaves)))
		through := false
		switch {
		case slot <= -2:
			s := v.Consts[-2-slot]
			e.loadString(unsafe.Slice(unsafe.StringData(s), len(s)), 0)
		case slot >= 0:
			x := v.Values.Get(int(slot))
			for more := x.Kind != field.Absent; more; x, more = v.Values.Next(x) {
				e.loadValue(v.Doc, &x)
				through = through || x.Elem != 0
			}
		}
		e.through = append(e.through, through)
	}
	e.from = append(e.from, uint32(len(e.leaves)))
}

// loadValue decodes a value of a field; objects and arrays have no leaf.
func (e *event) loadValue(doc []byte, x *field.Value) {
	if !x.Scalar() {
		return
	}
	raw := x.Raw(doc)
	if x.Kind == field.String && x.Flags&field.Escaped != 0 {
		e.loadString(raw, x.Elem)
		return
	}
	l := e.next()
	l.kind, l.elem, l.text = x.Kind, x.Elem, raw
	if x.Kind == field.Number {
		l.num, l.whole = field.Float64(raw)
	}
}

// loadString decodes the inside of a string that may have escapes.
func (e *event) loadString(raw []byte, elem uint32) {
	if bytes.IndexByte(raw, '\\') >= 0 {
		from := len(e.text)
		e.text = field.AppendUnescaped(e.text, raw)
		raw = e.text[from:]
	}
	l := e.next()
	l.kind, l.elem, l.text = field.String, elem, raw
}

// next is a new leaf, to be filled in place: a copy of one just made would
// wait for the stores that made it. A number's fields are what was there
// before until they are set.
func (e *event) next() *leaf {
	n := len(e.leaves)
	if n < cap(e.leaves) {
		e.leaves = e.leaves[:n+1]
	} else {
		e.leaves = append(e.leaves, leaf{})
	}
	return &e.leaves[n]
}

// begin readies sc for the next event.
func (sc *Scratch) begin(s *Set) {
	const lastEpoch = 1<<31 - 1
	if sc.set != s {
		sc.set, sc.epoch = s, 0
		sc.results = make([]uint32, len(s.predicates))
		sc.matched = make([]uint32, s.rules)
	}
	if sc.epoch == lastEpoch {
		sc.epoch = 0
		clear(sc.results)
		clear(sc.matched)
	}
	sc.epoch++
	sc.hits = sc.hits[:0]
}

// Match appends to dst the indices of the rules that the event satisfies, in
// ascending order. v.Slots must have an entry for each of the set's Fields.
func (s *Set) Match(v *View, sc *Scratch, dst []uint32) []uint32 {
	if s.reject.on && s.hopeless(v) {
		return dst
	}
	sc.begin(s)
	sc.load(v)
	before := len(dst)
	for f := range uint32(len(s.fields)) {
		if s.valued[f] || s.ahead[f] != nil {
			s.hit(f, sc)
		}
	}
	for _, p := range sc.hits {
		dst = s.try(s.byValue[p], v, sc, dst)
	}
	for f, conjunctions := range s.byField {
		if len(conjunctions) > 0 && len(sc.of(uint32(f))) > 0 {
			dst = s.try(conjunctions, v, sc, dst)
		}
	}
	dst = s.try(s.always, v, sc, dst)
	slices.Sort(dst[before:])
	return dst
}

// hit notes the indexed predicates that a field of the event satisfies.
func (s *Set) hit(f uint32, sc *Scratch) {
	leaves := sc.of(f)
	for i := range leaves {
		l := &leaves[i]
		if s.valued[f] {
			s.note(f, l, sc)
		}
		if l.kind != field.String {
			continue
		}
		for _, n := range s.ahead[f] {
			if n > len(l.text) {
				break
			}
			s.note(f, &leaf{text: l.text[:n]}, sc)
		}
	}
}

// note looks up one value.
func (s *Set) note(f uint32, l *leaf, sc *Scratch) {
	p, ok := s.find(f, l)
	if yes := sc.epoch<<1 | 1; ok && sc.results[p] != yes {
		sc.results[p] = yes
		sc.hits = append(sc.hits, p)
	}
}

// try appends the rules of those conjunctions that hold.
func (s *Set) try(conjunctions []uint32, v *View, sc *Scratch, dst []uint32) []uint32 {
	for _, i := range conjunctions {
		c := s.conjunctions[i]
		if sc.matched[c.rule] != sc.epoch && s.holds(s.clauses[c.from:c.to], v, sc) {
			sc.matched[c.rule] = sc.epoch
			dst = append(dst, c.rule)
		}
	}
	return dst
}

// holds reports whether all clauses hold, together.
func (s *Set) holds(clauses []clause, v *View, sc *Scratch) bool {
	through, undecided := 0, false
	for _, c := range clauses {
		through += count(sc.through[c.field])
		if s.clause(c, sc) {
			continue
		}
		if !c.absent || !sc.through[c.field] {
			return false
		}
		undecided = true // absent perhaps where the others hold
	}
	if through < 2 {
		return !undecided
	}
	return s.joined(clauses, v, sc)
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// clause reports whether a clause holds by itself.
func (s *Set) clause(c clause, sc *Scratch) bool {
	leaves := sc.of(c.field)
	if len(leaves) == 0 {
		return c.absent
	}
	for _, i := range s.operands[c.from:c.to] {
		result := sc.results[i]
		if result>>1 != sc.epoch {
			result = sc.epoch << 1
			// An indexed predicate that holds has been noted by hit.
			if p := &s.predicates[i]; !p.indexed && p.any(leaves) {
				result |= 1
			}
			sc.results[i] = result
		}
		if result&1 != 0 {
			return true
		}
	}
	return false
}

// joined reports whether the clauses hold by values that may be used together.
func (s *Set) joined(clauses []clause, v *View, sc *Scratch) bool {
	sc.join.begin(v.Values, len(clauses))
	for i, c := range clauses {
		if c.absent {
			sc.join.mayLack(i)
		}
		leaves := sc.of(c.field)
		for j := range leaves {
			l := &leaves[j]
			holds := false
			for _, p := range s.operands[c.from:c.to] {
				if holds = s.predicates[p].holds(l); holds {
					break
				}
			}
			sc.join.add(i, l.elem, holds)
		}
	}
	return sc.join.holds()
}
