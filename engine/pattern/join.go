package pattern

import "github.com/weir-project/weir/engine/field"

// join decides whether the conditions of a conjunction hold by values that may
// be used together: of each array of the event, one element at most.
//
// A value may be used together with all that lies in the same element or
// deeper in it. So a condition that holds by a value of some element holds for
// whatever is chosen inside that element, and the other conditions that lead
// into an array must be satisfied together by one element of that array, each
// array on its own, from the inside out. That takes a step a value and an
// array element.
//
// One thing is given up for that. Where one array mixes scalars with arrays, as
// a in {"a":["x",["x"]]}, a field that holds by the outer value is not tried
// by the inner one as well. That could only matter to another field inside the
// same array (a.b) that asks for absence.
type join struct {
	values *field.Values
	words  int // of a set of conditions
	count  int // of conditions

	// Sets of conditions, words a row.
	direct  []uint64 // by element: a value stands in it; then also: or in one around it
	held    []uint64 // the same of values that hold
	below   []uint64 // by element: a value stands in an element inside it
	present []uint64 // by element: direct or below
	group   []uint64 // by first element of an array: a value stands in the array
	lacking []uint64 // one row: holds where its field is absent

	bad  []bool // by element: a condition fails in it whatever is chosen inside
	good []bool // by first element of an array: an element satisfies the group
}

// begin readies j for a number of conditions.
func (j *join) begin(v *field.Values, conditions int) {
	const wordBits = 64
	j.values, j.count = v, conditions
	j.words = (conditions + wordBits - 1) / wordBits
	n := v.Elements()
	for _, rows := range []*[]uint64{&j.direct, &j.held, &j.below, &j.present, &j.group} {
		*rows = zeroed(*rows, n*j.words)
	}
	j.lacking = zeroed(j.lacking, j.words)
	j.bad = zeroed(j.bad, n)
	j.good = zeroed(j.good, n)
}

// zeroed is s with n zero elements.
func zeroed[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// mayLack says that a condition holds where its field is absent.
func (j *join) mayLack(condition int) { j.lacking[condition/64] |= 1 << (condition % 64) }

// add says that a condition's field has a value, and whether it holds.
func (j *join) add(condition int, elem uint32, holds bool) {
	at, bit := int(elem)*j.words+condition/64, uint64(1)<<(condition%64)
	j.direct[at] |= bit
	if holds {
		j.held[at] |= bit
	}
}

// holds decides.
func (j *join) holds() bool {
	j.rise()
	j.sink()
	for e := j.values.Elements() - 1; e > 0; e-- { // children stand after their parents
		j.choose(e)
	}
	if j.bad[0] {
		return false
	}
	for i := range j.count {
		if (j.present[i/64]|j.lacking[i/64])>>(i%64)&1 == 0 {
			return false
		}
	}
	return true
}

// rise tells each element and array which conditions have values inside.
func (j *join) rise() {
	w := j.words
	for e := j.values.Elements() - 1; e >= 0; e-- {
		for k := e * w; k < e*w+w; k++ {
			j.present[k] = j.direct[k] | j.below[k]
		}
		if e == 0 {
			return
		}
		parent, array := j.values.Parent(uint32(e))
		for k := range w {
			j.below[int(parent)*w+k] |= j.present[e*w+k]
			j.group[int(array)*w+k] |= j.present[e*w+k]
		}
	}
}

// sink tells each element what holds, and what has values, around it.
func (j *join) sink() {
	w := j.words
	for e := range j.values.Elements() {
		var parent uint32
		if e > 0 {
			parent, _ = j.values.Parent(uint32(e))
		}
		for k := range w {
			at, above := e*w+k, int(parent)*w+k
			j.held[at] |= j.held[above]
			if j.direct[at]&^j.held[at]&^j.below[at] != 0 {
				j.bad[e] = true
			}
			j.direct[at] |= j.direct[above]
		}
	}
}

// choose judges whether an element satisfies the conditions that lead into its
// array, and after the last element whether one did.
func (j *join) choose(e int) {
	w := j.words
	parent, array := j.values.Parent(uint32(e))
	concerned, any, lacks := false, false, false
	for k := range w {
		above := int(parent)*w + k
		open := j.group[int(array)*w+k] &^ j.held[above]
		mayLack := j.lacking[k] &^ j.direct[above]
		concerned = concerned || open != 0
		any = any || open&j.present[e*w+k] != 0
		lacks = lacks || open&^j.present[e*w+k]&^mayLack != 0
	}
	if any && !lacks && !j.bad[e] {
		j.good[array] = true
	}
	if uint32(e) == array && concerned && !j.good[array] {
		j.bad[parent] = true
	}
}
