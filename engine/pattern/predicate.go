package pattern

import (
	"net/netip"
	"strings"

	"github.com/weir-project/weir/engine/field"
)

// operator is what a test compares with.
type operator uint8

const (
	exact operator = iota
	prefix
	suffix
	ignoreCase
	prefixIgnoreCase
	suffixIgnoreCase
	wild
	numeric
	cidr
	present // exists: true
	absent  // exists: false
)

// leaf is one scalar of an event's field, decoded.
type leaf struct {
	kind  field.Kind
	whole bool    // of a number: it survives a float64
	elem  uint32  // field.Value.Elem
	text  []byte  // of a string its characters, of a number its spelling
	num   float64 // of a number
}

// test is one comparison with one operand.
type test struct {
	op    operator
	text  string // exact, prefix, suffix; of a number its spelling
	kind  field.Kind
	whole bool
	num   float64
	folds folded
	runs  wildcard
	block netip.Prefix
	span  span
}

// span is the operand of numeric: the numbers between two bounds.
type span struct {
	low, high         float64
	openLow, openHigh bool // the bound itself is outside
}

func (s span) has(x float64) bool {
	return (x > s.low || x == s.low && !s.openLow) && (x < s.high || x == s.high && !s.openHigh)
}

// holds reports whether a leaf satisfies the test.
func (t *test) holds(l *leaf) bool {
	switch t.op {
	case exact:
		return t.equals(l)
	case numeric:
		return l.kind == field.Number && l.whole && t.span.has(l.num)
	case present:
		return true
	case absent:
		return false
	}
	if l.kind != field.String {
		return false
	}
	switch t.op {
	case prefix:
		return strings.HasPrefix(view(l.text), t.text)
	case suffix:
		return strings.HasSuffix(view(l.text), t.text)
	case ignoreCase:
		return t.folds.prefix(l.text) == len(l.text)
	case prefixIgnoreCase:
		return t.folds.prefix(l.text) >= 0
	case suffixIgnoreCase:
		return t.folds.suffix(l.text)
	case wild:
		return t.runs.match(l.text)
	case cidr:
		address, ok := parseAddress(l.text)
		return ok && t.block.Contains(address)
	}
	return false
}

// equals compares by type and value.
func (t *test) equals(l *leaf) bool {
	if t.kind != l.kind {
		return false
	}
	switch t.kind {
	case field.String, field.Absent:
		return string(l.text) == t.text
	case field.Number:
		if t.whole != l.whole {
			return false
		}
		return t.whole && t.num == l.num || !t.whole && string(l.text) == t.text
	}
	return true
}

// predicate is one entry of a field's array: a test, or the anything-but of
// several.
type predicate struct {
	tests             []test
	not               bool   // anything-but
	operator, operand string // as the pattern writes them
}

// holds reports whether a leaf satisfies the predicate.
func (p *predicate) holds(l *leaf) bool {
	for i := range p.tests {
		if p.tests[i].holds(l) {
			return !p.not
		}
	}
	return p.not
}

// any reports whether one of the leaves satisfies the predicate.
func (p *predicate) any(leaves []leaf) bool {
	for i := range leaves {
		if p.holds(&leaves[i]) {
			return true
		}
	}
	return false
}

// plain reports whether the predicate is an exact value.
func (p *predicate) plain() bool { return !p.not && p.tests[0].op == exact }

// absent reports whether the predicate is exists:false.
func (p *predicate) absent() bool { return p.tests[0].op == absent }

// condition is what a pattern asks of one field: one of the predicates.
type condition struct {
	field      int // index into Pattern.fields
	predicates []*predicate
}

// conjunction is a pattern without $or: all of its conditions, in the order of
// the pattern.
type conjunction []condition
