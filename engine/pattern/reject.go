package pattern

import "github.com/weir-project/weir/engine/field"

// Most events of a stream match few rules, and most rules stand under an exact
// value. Where all rules do, an event none of whose values is one that a rule
// stands under can be sent away before anything is decoded.

// reject is what the check needs: the fields that rules stand under.
type reject struct {
	on     bool
	pivots []pivot
}

// pivot is a field that rules stand under. lengths has bit n%64 for each length n of a
// string that one does: most values of an event have another length.
type pivot struct {
	field   uint32
	lengths uint64
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
	lengths := make([]uint64, len(s.fields))
	for p, conjunctions := range s.byValue {
		if len(conjunctions) > 0 {
			f := s.predicates[p].field
			seen[f] = true
			for _, t := range s.predicates[p].tests {
				lengths[f] |= 1 << (len(t.text) % 64)
			}
		}
	}
	for f, yes := range seen {
		if !yes {
			continue
		}
		if s.ahead[f] != nil {
			return r // a prefix stands there: the lengths have to be tried
		}
		r.pivots = append(r.pivots, pivot{field: uint32(f), lengths: lengths[f]})
	}
	r.on = true
	return r
}

// hopeless reports that no rule can match. Values that would have to be decoded
// first are left to Match.
func (s *Set) hopeless(v *View) bool {
	for i := range s.reject.pivots {
		f := s.reject.pivots[i].field
		slot := v.Slots[f]
		if slot < 0 {
			if slot == Absent {
				continue
			}
			return false
		}
		x := &v.Values.First()[slot]
		switch {
		case x.Next != 0 || x.Kind == field.Number || x.Flags&field.Escaped != 0:
			return false
		case x.Kind == field.Absent || !x.Scalar():
			continue
		case x.Kind == field.String && s.reject.pivots[i].lengths>>(x.Len%64)&1 == 0:
			continue
		}
		l := leaf{kind: x.Kind, text: x.Raw(v.Doc)}
		if p, ok := s.find(f, &l); ok && len(s.byValue[p]) > 0 {
			return false
		}
	}
	return true
}
