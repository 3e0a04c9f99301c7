package pattern

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/weir-project/weir/engine/field"
)

// Verdict is what a pattern says of an event, and why.
type Verdict struct {
	Matched     bool
	Alternative int // index among the combinations of the pattern's $or: the one that matched, or got furthest
	// The first condition that failed there; empty where the pattern matched.
	Field    string
	Found    string // the field's values as the event writes them, or "absent", "an object", "an empty array" ...
	Operator string // such as "prefix"; "equals" for plain values; "any of" where the condition lists several
	Operand  string // as the pattern writes it
	Apart    bool   // the condition holds, but only by another element of an array than the conditions before it
}

// String says the verdict in one line.
func (v Verdict) String() string {
	switch {
	case v.Matched:
		return "matched"
	case v.Apart:
		return fmt.Sprintf("%s is %s, want %s %s in the same array element as the fields before it", v.Field, v.Found, v.Operator, v.Operand)
	}
	return fmt.Sprintf("%s is %s, want %s %s", v.Field, v.Found, v.Operator, v.Operand)
}

// Explain judges an event like Match and names the first condition that
// failed, in the order of the pattern; of a pattern with $or, that of the
// alternative that got furthest. v.Slots must have an entry for each of the
// pattern's Fields. It allocates.
func (p *Pattern) Explain(v *View) Verdict {
	var e event
	e.load(v)
	best, furthest := Verdict{}, -1
	for i, conj := range p.alternatives {
		failed, apart := conj.firstFailure(&e, v)
		if failed < 0 {
			return Verdict{Matched: true, Alternative: i}
		}
		if failed <= furthest {
			continue
		}
		furthest = failed
		cond := conj[failed]
		best = Verdict{Alternative: i, Field: p.fields[cond.field].String(), Found: found(&e, v, cond.field), Apart: apart}
		best.Operator, best.Operand = cond.describe()
	}
	return best
}

// firstFailure is the index of the first condition that does not hold together
// with those before it, -1 if all do, and whether it holds by itself.
func (conj conjunction) firstFailure(e *event, v *View) (index int, apart bool) {
	through := 0
	for _, cond := range conj {
		through += count(e.through[cond.field])
	}
	for i, cond := range conj {
		alone := cond.holds(e.of(uint32(cond.field)))
		if !alone && (through < 2 || !cond.absent() || !e.through[cond.field]) {
			return i, false
		}
	}
	if through < 2 {
		return -1, false
	}
	// What must be absent is judged last: by what the others have chosen.
	order := make([]int, 0, len(conj))
	for _, absent := range []bool{false, true} {
		for i, cond := range conj {
			if cond.absent() == absent {
				order = append(order, i)
			}
		}
	}
	var j join
	if conj.together(order, e, v, &j) {
		return -1, false
	}
	for n := range order {
		if !conj.together(order[:n+1], e, v, &j) {
			return order[n], true
		}
	}
	return order[len(order)-1], true
}

// together reports whether the conditions of these indices hold by values that
// may be used together.
func (conj conjunction) together(indices []int, e *event, v *View, j *join) bool {
	j.begin(v.Values, len(indices))
	for k, i := range indices {
		if conj[i].absent() {
			j.mayLack(k)
		}
		for _, l := range e.of(uint32(conj[i].field)) {
			j.add(k, l.elem, conj[i].accepts(&l))
		}
	}
	return j.holds()
}

// accepts reports whether a value satisfies one of the condition's predicates.
func (c condition) accepts(l *leaf) bool {
	for _, p := range c.predicates {
		if p.holds(l) {
			return true
		}
	}
	return false
}

// absent reports whether the condition holds where its field is absent.
func (c condition) absent() bool {
	for _, p := range c.predicates {
		if p.absent() {
			return true
		}
	}
	return false
}

func (c condition) holds(leaves []leaf) bool {
	for i := range leaves {
		if c.accepts(&leaves[i]) {
			return true
		}
	}
	return len(leaves) == 0 && c.absent()
}

// describe is the condition's operator and operand.
func (c condition) describe() (operator, operand string) {
	if len(c.predicates) == 1 {
		return c.predicates[0].operator, c.predicates[0].operand
	}
	all := make([]string, len(c.predicates))
	for i, p := range c.predicates {
		all[i] = p.operand
		if p.operator != equals {
			all[i] = p.operator + " " + p.operand
		}
	}
	return "any of", strings.Join(all, ", ")
}

// found is what the event has in a field, shortened.
func found(e *event, v *View, f int) string {
	const longest = 200
	leaves := e.of(uint32(f))
	if len(leaves) == 0 {
		return emptiness(v, f)
	}
	all := make([]string, len(leaves))
	for i, l := range leaves {
		all[i] = string(l.text)
		if l.kind == field.String {
			all[i] = quote(l.text)
		}
	}
	s := strings.Join(all, " and ")
	if len(s) <= longest {
		return s
	}
	cut := longest
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// emptiness says what a field without a scalar is.
func emptiness(v *View, f int) string {
	slot := v.Slots[f]
	if slot < 0 {
		return "absent"
	}
	x := v.Values.Get(int(slot))
	switch {
	case x.Kind == field.Object:
		return "an object"
	case x.Kind == field.Array && x.Flags&field.Empty != 0:
		return "an empty array"
	case x.Kind == field.Array:
		return "an array without values"
	}
	return "absent"
}

// quote writes a string as JSON does, with escapes only where they must be.
func quote(text []byte) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ':
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
