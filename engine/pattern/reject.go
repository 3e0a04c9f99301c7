package pattern

import "github.com/weir-project/weir/engine/field"

// Most events of a stream match few rules, and most rules stand under an exact
// value. Where all rules do, an event none of whose values is one that a rule
// stands under can be sent away before anything is decoded.

// reject is what the check needs: the fields that rules stand under.
type reject struct {
	on     bool
	pivots []uint32
}

// newReject looks at a finished set.
func (s *Set) newReject() (r reject) {
	if len(s.always) > 0 {
		return r
	}
	for _, conjunctions := range s.byField {
		if len(conjunctions) > 0 {
			return r
		}
	}
	seen := make([]bool, len(s.fields))
	for p, conjunctions := range s.byValue {
		if len(conjunctions) > 0 {
			seen[s.predicates[p].field] = true
		}
	}
	for f, pivot := range seen {
		if !pivot {
			continue
		}
		if s.ahead[f] != nil {
			return r // a prefix stands there: the lengths have to be tried
		}
		r.pivots = append(r.pivots, uint32(f))
	}
	r.on = true
	return r
}

// hopeless reports that no rule can match. Values that would have to be decoded
// first are left to Match.
func (s *Set) hopeless(v *View) bool {
	for _, f := range s.reject.pivots {
		slot := v.Slots[f]
		if slot < 0 {
			if slot == Absent {
				continue
			}
			return false
		}
		x := v.Values.Get(int(slot))
		switch {
		case x.Next != 0 || x.Kind == field.Number || x.Flags&field.Escaped != 0:
			return false
		case x.Kind == field.Absent || !x.Scalar():
			continue
		}
		l := leaf{kind: x.Kind, text: x.Raw(v.Doc)}
		if p, ok := s.find(f, &l); ok && len(s.byValue[p]) > 0 {
			return false
		}
	}
	return true
}
