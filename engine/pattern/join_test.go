package pattern

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestJoinModel draws what array consistency is about and little else: arrays
// in arrays, scalars beside objects, and conditions of which every combination
// of value and absence occurs.
func TestJoinModel(t *testing.T) {
	paths := []string{"a", "a.b", "a.c", "a.b.c", "b"}
	value := modelPredicate{text: `"x"`, judge: onString(func(s string) bool { return s == "x" })}
	gone := modelPredicate{text: `{"exists":false}`, absent: true}
	choices := [][]modelPredicate{{value}, {value}, {gone}, {value, gone}}
	rapid.Check(t, func(t *rapid.T) {
		m := &modelPattern{predicates: map[string][]modelPredicate{}}
		most := rapid.SampledFrom([]int{0, len(choices) - 1}).Draw(t, "with absence")
		m.paths = rapid.SliceOfNDistinct(rapid.SampledFrom(paths), 2, 4, rapid.ID).Draw(t, "paths")
		for _, path := range m.paths {
			m.predicates[path] = choices[rapid.IntRange(0, most).Draw(t, "choice")]
		}
		var b strings.Builder
		m.render(&b)
		p, err := Compile([]byte(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		s := newMatcher(t, p)
		for range 8 {
			mixed := !strings.Contains(p.String(), "exists")
			event := map[string]any{"a": drawNested(t, 4, mixed)}
			if rapid.IntRange(0, 3).Draw(t, "other") == 0 {
				event["b"] = drawNested(t, 1, mixed)
			}
			doc, err := json.Marshal(event)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.match(doc)
			if want := m.matches(decodeEvent(doc)); err != nil || len(got) == 1 != want {
				t.Fatalf("match=%v (%v), want %v\n%s\n%s", len(got) == 1, err, want, p, doc)
			} else if v := p.Explain(&s.view); v.Matched != want {
				t.Fatalf("Explain says %v, want %v\n%s\n%s", v, want, p, doc)
			}
		}
	})
}

func drawNested(t *rapid.T, depth int, mixed bool) any {
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	if depth == 0 {
		kind %= 2
	}
	switch kind {
	case 0:
		return "x"
	case 1:
		return "y"
	case 2, 3:
		a := make([]any, rapid.IntRange(1, 3).Draw(t, "elements"))
		for i := range a {
			a[i] = drawNested(t, depth-1, mixed)
		}
		if mixed {
			return a
		}
		return unmixed(a)
	}
	object := map[string]any{}
	for _, name := range []string{"b", "c"} {
		if rapid.Bool().Draw(t, name) {
			object[name] = drawNested(t, depth-1, mixed)
		}
	}
	return object
}

// unmixed takes the arrays out of an array that has scalars too: see join for
// why.
func unmixed(a []any) []any {
	scalars := slices.ContainsFunc(a, func(x any) bool {
		switch x.(type) {
		case []any, map[string]any:
			return false
		}
		return true
	})
	if scalars {
		a = slices.DeleteFunc(a, func(x any) bool { _, array := x.([]any); return array })
	}
	return a
}
