package pattern

import (
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strconv"

	"github.com/weir-project/weir/engine/field"
)

// Set matches many rules against one event at a time. It is immutable and safe
// for concurrent use.
//
// Every predicate is stored once however many rules have it. Each conjunction
// of a rule is filed in one place: under the values of a condition that only
// has plain values and prefixes if it has one, else under a field that must be
// present. An event then costs a look-up for each of its values (and for each
// length of prefix), and a check of the conjunctions that were found by them.
type Set struct {
	fields []field.Path
	rules  int

	predicates   []placed
	conjunctions []filed
	clauses      []clause
	operands     []uint32 // predicates, by clause

	seed   maphash.Seed
	table  []entry // indexed predicates; length a power of two
	valued []bool  // by field: it has plain values
	ahead  [][]int // by field: lengths of its indexed prefixes, ascending

	byValue [][]uint32 // by predicate: conjunctions filed under the value
	byField [][]uint32 // by field: conjunctions filed under its presence
	always  []uint32   // conjunctions that only ask for absence
	reject  reject
}

// maxPrefixLengths is how many lengths of prefix are looked up for a field.
// Prefixes of further lengths are compared one by one.
const maxPrefixLengths = 16

// placed is a predicate on a field.
type placed struct {
	*predicate
	field   uint32
	indexed bool // found by a look-up of the event's value
}

// filed is one conjunction of a rule.
type filed struct {
	rule     uint32
	from, to uint32 // its clauses
}

// clause is a condition of a conjunction.
type clause struct {
	field    uint32
	from, to uint32 // its predicates, in Set.operands
	absent   bool   // satisfied where the field is absent
}

// entry is a place of the table of plain values.
type entry struct {
	hash      uint64
	predicate uint32 // index + 1, 0 = free
}

// NewSet makes a set of rules. Match gives their indices.
func NewSet(rules []*Pattern) *Set {
	b := builder{
		Set:    &Set{rules: len(rules), seed: maphash.MakeSeed()},
		fields: map[string]uint32{}, predicates: map[string]uint32{},
	}
	for i, rule := range rules {
		b.add(uint32(i), rule)
	}
	b.buildTable()
	b.Set.reject = b.newReject()
	return b.Set
}

// Fields is the projection that the set wants, each field once: View.Slots
// tells where each lies.
func (s *Set) Fields() []field.Path { return slices.Clone(s.fields) }

// Len is the number of rules.
func (s *Set) Len() int { return s.rules }

// builder makes a Set.
type builder struct {
	*Set
	fields     map[string]uint32
	predicates map[string]uint32
}

func (b *builder) add(rule uint32, p *Pattern) {
	fields := make([]uint32, len(p.fields))
	for i, path := range p.fields {
		fields[i] = b.field(path)
	}
	for _, conj := range p.alternatives {
		from := uint32(len(b.clauses))
		for _, cond := range conj {
			b.addClause(fields[cond.field], cond.predicates)
		}
		to := uint32(len(b.clauses))
		slices.SortStableFunc(b.clauses[from:to], func(x, y clause) int { return b.cost(x) - b.cost(y) })
		b.conjunctions = append(b.conjunctions, filed{rule: rule, from: from, to: to})
		b.file(uint32(len(b.conjunctions) - 1))
	}
}

func (b *builder) field(path field.Path) uint32 {
	key := path.String()
	i, known := b.fields[key]
	if !known {
		i = uint32(len(b.Set.fields))
		b.fields[key] = i
		b.Set.fields = append(b.Set.fields, path)
		b.byField = append(b.byField, nil)
		b.valued = append(b.valued, false)
		b.ahead = append(b.ahead, nil)
	}
	return i
}

func (b *builder) addClause(f uint32, predicates []*predicate) {
	c := clause{field: f, from: uint32(len(b.operands))}
	for _, p := range predicates {
		c.absent = c.absent || p.absent()
		key := string(strconv.AppendUint(nil, uint64(f), 10)) + " " + p.key()
		i, known := b.predicates[key]
		if !known {
			i = uint32(len(b.Set.predicates))
			b.predicates[key] = i
			b.Set.predicates = append(b.Set.predicates, placed{p, f, b.index(f, p)})
			b.byValue = append(b.byValue, nil)
		}
		b.operands = append(b.operands, i)
	}
	c.to = uint32(len(b.operands))
	b.clauses = append(b.clauses, c)
}

// index readies a field for the look-up of a predicate and reports whether it
// will be looked up.
func (b *builder) index(f uint32, p *predicate) bool {
	if p.plain() {
		b.valued[f] = true
		return true
	}
	if p.not || p.tests[0].op != prefix {
		return false
	}
	length := len(p.tests[0].text)
	at, known := slices.BinarySearch(b.ahead[f], length)
	if !known && len(b.ahead[f]) < maxPrefixLengths {
		b.ahead[f], known = slices.Insert(b.ahead[f], at, length), true
	}
	return known
}

// key tells predicates apart: equal ones that are spelled alike, and plain
// values that are equal, have the same.
func (p *predicate) key() string {
	if !p.plain() {
		return p.operator + ":" + p.operand
	}
	t := &p.tests[0]
	if t.kind == field.Number && t.whole {
		return "number:" + strconv.FormatUint(math.Float64bits(t.num+0), 16)
	}
	return t.kind.String() + "=" + t.text
}

// cost orders clauses so that what is cheap and fails most comes first.
func (b *builder) cost(c clause) int {
	switch {
	case c.absent:
		return 3
	case b.indexedOnly(c):
		return 0
	}
	for _, p := range b.operands[c.from:c.to] {
		if q := b.Set.predicates[p]; q.not || q.tests[0].op == present {
			return 2
		}
	}
	return 1
}

func (b *builder) indexedOnly(c clause) bool {
	for _, p := range b.operands[c.from:c.to] {
		if !b.Set.predicates[p].indexed {
			return false
		}
	}
	return true
}

// file puts a conjunction where the fewest others are: under the values of a
// clause of indexed predicates, else under a field that must be present.
func (b *builder) file(conj uint32) {
	f := b.conjunctions[conj]
	best, load := -1, math.MaxInt
	for i, c := range b.clauses[f.from:f.to] {
		if !b.indexedOnly(c) {
			continue
		}
		busiest := 0
		for _, p := range b.operands[c.from:c.to] {
			busiest = max(busiest, len(b.byValue[p]))
		}
		if busiest < load {
			best, load = i, busiest
		}
	}
	if best >= 0 {
		c := b.clauses[int(f.from)+best]
		for _, p := range b.operands[c.from:c.to] {
			if !slices.Contains(b.byValue[p], conj) {
				b.byValue[p] = append(b.byValue[p], conj)
			}
		}
		return
	}
	for i, c := range b.clauses[f.from:f.to] {
		if n := len(b.byField[c.field]); !c.absent && n < load {
			best, load = i, n
		}
	}
	if best < 0 {
		b.always = append(b.always, conj)
		return
	}
	at := b.clauses[int(f.from)+best].field
	b.byField[at] = append(b.byField[at], conj)
}

// buildTable makes the hash table of indexed predicates, at most half full. A
// prefix stands in it as a value of the kind field.Absent.
func (b *builder) buildTable() {
	indexed := 0
	for _, p := range b.Set.predicates {
		if p.indexed {
			indexed++
		}
	}
	b.table = make([]entry, 2<<bits.Len(uint(indexed)))
	for i, p := range b.Set.predicates {
		if !p.indexed {
			continue
		}
		t := &p.tests[0]
		l := leaf{kind: t.kind, whole: t.whole, text: []byte(t.text), num: t.num}
		h := b.hash(p.field, &l)
		at := h & uint64(len(b.table)-1)
		for b.table[at].predicate != 0 {
			at = (at + 1) & uint64(len(b.table)-1)
		}
		b.table[at] = entry{hash: h, predicate: uint32(i + 1)}
	}
}

// hash is the hash of a field's value; equal values have equal hashes.
func (s *Set) hash(f uint32, l *leaf) uint64 {
	const odd1, odd2 = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
	h := (uint64(f)<<8 | uint64(l.kind)) * odd1
	switch {
	case l.kind == field.String || l.kind == field.Absent || l.kind == field.Number && !l.whole:
		return h ^ maphash.Bytes(s.seed, l.text)
	case l.kind == field.Number:
		h ^= math.Float64bits(l.num+0) * odd2 // +0 makes -0 one with 0
	}
	h *= odd2
	return h ^ h>>32
}

// find is the indexed predicate of a field's value.
func (s *Set) find(f uint32, l *leaf) (uint32, bool) {
	h := s.hash(f, l)
	for at := h & uint64(len(s.table)-1); s.table[at].predicate != 0; at = (at + 1) & uint64(len(s.table)-1) {
		if s.table[at].hash != h {
			continue
		}
		i := s.table[at].predicate - 1
		if p := &s.predicates[i]; p.field == f && p.tests[0].equals(l) {
			return i, true
		}
	}
	return 0, false
}
