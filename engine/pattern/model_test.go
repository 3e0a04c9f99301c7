package pattern

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// modelPredicate is a value or operator of a pattern, as text and as a
// judgement on a decoded scalar (string, json.Number, bool or nil).
type modelPredicate struct {
	text   string
	absent bool
	judge  func(any) bool
}

// modelPattern is a pattern as it was drawn.
type modelPattern struct {
	paths      []string
	predicates map[string][]modelPredicate
	or         []*modelPattern // nil = none
}

// modelLeaf is a scalar of an event and the array elements around it.
type modelLeaf struct {
	value any
	chain map[string]int // array -> element
}

// modelEvent is the scalars of an event by path.
type modelEvent map[string][]modelLeaf

func decodeEvent(doc []byte) modelEvent {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	e := modelEvent{}
	e.add("", "", v, map[string]int{})
	return e
}

// add walks an event; place names where v stands, arrays and all.
func (e modelEvent) add(path, place string, v any, chain map[string]int) {
	switch x := v.(type) {
	case map[string]any:
		for name, member := range x {
			below := name
			if path != "" {
				below = path + "." + name
			}
			e.add(below, place+"/"+name, member, chain)
		}
	case []any:
		for i, element := range x {
			within := chain
			switch element.(type) {
			case map[string]any, []any:
				within = map[string]int{place: i}
				for k, n := range chain {
					within[k] = n
				}
			}
			e.add(path, fmt.Sprintf("%s[%d]", place, i), element, within)
		}
	default:
		e[path] = append(e[path], modelLeaf{v, chain})
	}
}

func fits(a, b map[string]int) bool {
	for k, i := range a {
		if n, both := b[k]; both && n != i {
			return false
		}
	}
	return true
}

// expand lists the conjunctions of a pattern.
func (p *modelPattern) expand(before map[string][]modelPredicate) []map[string][]modelPredicate {
	own := map[string][]modelPredicate{}
	for k, v := range before {
		own[k] = v
	}
	for k, v := range p.predicates {
		own[k] = v
	}
	if p.or == nil {
		return []map[string][]modelPredicate{own}
	}
	var all []map[string][]modelPredicate
	for _, alternative := range p.or {
		all = append(all, alternative.expand(own)...)
	}
	return all
}

// matches is the definition: some conjunction has, for each of its fields, a
// scalar that satisfies it or the field's absence, all chosen scalars fit each
// other, and no scalar of an absent field fits all that were chosen.
func (p *modelPattern) matches(e modelEvent) bool {
	for _, conj := range p.expand(nil) {
		var paths []string
		for path := range conj {
			paths = append(paths, path)
		}
		if choose(conj, paths, e, nil, nil) {
			return true
		}
	}
	return false
}

func choose(conj map[string][]modelPredicate, paths []string, e modelEvent, chosen []map[string]int, absent []string) bool {
	if len(paths) == 0 {
		for _, path := range absent {
			for _, leaf := range e[path] {
				if fitsAll(leaf.chain, chosen) {
					return false
				}
			}
		}
		return true
	}
	path, rest := paths[0], paths[1:]
	for _, q := range conj[path] {
		if q.absent {
			if choose(conj, rest, e, chosen, append(absent[:len(absent):len(absent)], path)) {
				return true
			}
			continue
		}
		for _, leaf := range e[path] {
			if q.judge(leaf.value) && fitsAll(leaf.chain, chosen) &&
				choose(conj, rest, e, append(chosen[:len(chosen):len(chosen)], leaf.chain), absent) {
				return true
			}
		}
	}
	return false
}

func fitsAll(chain map[string]int, chosen []map[string]int) bool {
	for _, c := range chosen {
		if !fits(chain, c) {
			return false
		}
	}
	return true
}

// Vocabularies, small so that things meet.
var (
	modelNames   = []string{"a", "b", "c", "a.b"}
	modelPaths   = []string{"a", "b", "c", "a.b", "a.c", "b.a", "a.b.c"}
	modelStrings = []string{"", "x", "xy", "yx", "XY", "xyx", "10.0.0.1", "10.1.0.1", "é", `"\`, "*"}
	modelNumbers = []string{"0", "-0.0", "1", "1.0", "10e-1", "2.5", "-3", "300", "3e2"}
)

func number(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

func onString(f func(string) bool) func(any) bool {
	return func(v any) bool {
		s, ok := v.(string)
		return ok && f(s)
	}
}

// upperASCII folds as the vocabulary needs it.
func upperASCII(s string) string { return strings.ToUpper(s) }

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func starMatch(pattern string) func(string) bool {
	parts := strings.Split(pattern, "*")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return regexp.MustCompile(`(?s)\A` + strings.Join(parts, ".*") + `\z`).MatchString
}

// drawText draws an operator on strings: its name, operand and judgement.
func drawText(t *rapid.T, bare bool) (name, operand string, judge func(string) bool) {
	s := rapid.SampledFrom(modelStrings[1:10]).Draw(t, "operand")
	switch rapid.IntRange(0, 3).Draw(t, "text operator") {
	case 0:
		if !bare && rapid.Bool().Draw(t, "ignore case") {
			return "prefix", `{"equals-ignore-case":` + quoted(s) + `}`, func(x string) bool { return strings.HasPrefix(upperASCII(x), upperASCII(s)) }
		}
		return "prefix", quoted(s), func(x string) bool { return strings.HasPrefix(x, s) }
	case 1:
		if !bare && rapid.Bool().Draw(t, "ignore case") {
			return "suffix", `{"equals-ignore-case":` + quoted(s) + `}`, func(x string) bool { return strings.HasSuffix(upperASCII(x), upperASCII(s)) }
		}
		return "suffix", quoted(s), func(x string) bool { return strings.HasSuffix(x, s) }
	case 2:
		return "equals-ignore-case", quoted(s), func(x string) bool { return upperASCII(x) == upperASCII(s) }
	}
	w := rapid.SampledFrom([]string{"*", "x*", "*x", "*y*", "x*x", "x", "*.*.0.1", "x*y*x"}).Draw(t, "wildcard")
	return "wildcard", quoted(w), starMatch(w)
}

func drawPredicate(t *rapid.T) modelPredicate {
	switch rapid.IntRange(0, 9).Draw(t, "predicate") {
	case 0, 1:
		s := rapid.SampledFrom(modelStrings).Draw(t, "string")
		return modelPredicate{text: quoted(s), judge: onString(func(x string) bool { return x == s })}
	case 2:
		s := rapid.SampledFrom(modelNumbers).Draw(t, "number")
		want, _ := number(json.Number(s))
		return modelPredicate{text: s, judge: func(v any) bool { x, ok := number(v); return ok && x == want }}
	case 3:
		word := rapid.SampledFrom([]string{"true", "false", "null"}).Draw(t, "word")
		return modelPredicate{text: word, judge: func(v any) bool {
			switch v.(type) {
			case bool, nil:
				return strings.Replace(fmt.Sprint(v), "<nil>", "null", 1) == word
			}
			return false
		}}
	case 4:
		if rapid.Bool().Draw(t, "exists") {
			return modelPredicate{text: `{"exists":true}`, judge: func(any) bool { return true }}
		}
		return modelPredicate{text: `{"exists": false}`, absent: true}
	case 5, 6:
		name, operand, judge := drawText(t, false)
		return modelPredicate{text: fmt.Sprintf(`{%q:%s}`, name, operand), judge: onString(judge)}
	case 7:
		low, high := rapid.IntRange(-4, 1).Draw(t, "low"), rapid.IntRange(2, 301).Draw(t, "high")
		return modelPredicate{text: fmt.Sprintf(`{"numeric":[">",%d,"<=",%d]}`, low, high), judge: func(v any) bool {
			x, ok := number(v)
			return ok && x > float64(low) && x <= float64(high)
		}}
	case 8:
		block := netip.MustParsePrefix("10.0.0.0/16")
		return modelPredicate{text: `{"cidr":"10.0.0.0/16"}`, judge: onString(func(x string) bool {
			a, err := netip.ParseAddr(x)
			return err == nil && block.Contains(a)
		})}
	}
	return drawAnythingBut(t)
}

func drawAnythingBut(t *rapid.T) modelPredicate {
	switch rapid.IntRange(0, 2).Draw(t, "anything-but") {
	case 0:
		list := rapid.SliceOfN(rapid.SampledFrom(modelStrings), 1, 3).Draw(t, "strings")
		text, _ := json.Marshal(list)
		return modelPredicate{text: `{"anything-but":` + string(text) + `}`, judge: func(v any) bool {
			for _, s := range list {
				if v == any(s) {
					return false
				}
			}
			return true
		}}
	case 1:
		s := rapid.SampledFrom(modelNumbers).Draw(t, "number")
		want, _ := number(json.Number(s))
		return modelPredicate{text: `{"anything-but":` + s + `}`, judge: func(v any) bool { x, ok := number(v); return !ok || x != want }}
	}
	name, operand, judge := drawText(t, true)
	return modelPredicate{text: fmt.Sprintf(`{"anything-but":{%q:[%s]}}`, name, operand), judge: func(v any) bool {
		s, ok := v.(string)
		return !ok || !judge(s)
	}}
}

func drawPattern(t *rapid.T, depth int) *modelPattern {
	p := &modelPattern{predicates: map[string][]modelPredicate{}}
	p.paths = rapid.SliceOfNDistinct(rapid.SampledFrom(modelPaths), 1, 3, rapid.ID).Draw(t, "paths")
	for _, path := range p.paths {
		for range rapid.IntRange(1, 3).Draw(t, "predicates") {
			p.predicates[path] = append(p.predicates[path], drawPredicate(t))
		}
	}
	if depth > 0 && rapid.IntRange(0, 2).Draw(t, "or") == 0 {
		for range rapid.IntRange(2, 3).Draw(t, "alternatives") {
			p.or = append(p.or, drawPattern(t, depth-1))
		}
	}
	return p
}

// render writes the pattern; some paths nested, some with dots.
func (p *modelPattern) render(b *strings.Builder) {
	b.WriteString("{")
	for i, path := range p.paths {
		if i > 0 {
			b.WriteString(", ")
		}
		name, open, closing := path, "", ""
		if len(p.predicates[path])%2 == 1 {
			name, open = strings.ReplaceAll(path, ".", `":{"`), ""
			closing = strings.Repeat("}", strings.Count(path, "."))
		}
		b.WriteString(open + `"` + name + `":[`)
		for k, q := range p.predicates[path] {
			if k > 0 {
				b.WriteString(",")
			}
			b.WriteString(q.text)
		}
		b.WriteString("]" + closing)
	}
	if p.or != nil {
		b.WriteString(`, "$or": [`)
		for i, q := range p.or {
			if i > 0 {
				b.WriteString(",\n")
			}
			q.render(b)
		}
		b.WriteString("]")
	}
	b.WriteString("}")
}

func drawEvent(t *rapid.T, depth int) any {
	kind := rapid.IntRange(0, 7).Draw(t, "kind")
	if depth == 0 {
		kind %= 4
	}
	switch kind {
	case 0, 1:
		return rapid.SampledFrom(modelStrings).Draw(t, "string")
	case 2:
		return json.RawMessage(rapid.SampledFrom(modelNumbers).Draw(t, "number"))
	case 3:
		return rapid.SampledFrom([]any{true, false, nil}).Draw(t, "word")
	case 4, 5:
		a := make([]any, rapid.IntRange(0, 3).Draw(t, "elements"))
		for i := range a {
			a[i] = drawEvent(t, depth-1)
		}
		return unmixed(a)
	}
	return drawObject(t, depth)
}

// drawObject draws members; a dotted name does not stand beside the object
// that it looks like, which is the one case that join does not decide exactly.
func drawObject(t *rapid.T, depth int) map[string]any {
	m := map[string]any{}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(modelNames), 0, 3, rapid.ID).Draw(t, "names") {
		m[name] = drawEvent(t, depth-1)
	}
	if _, both := m["a"]; both {
		delete(m, "a.b")
	}
	return m
}

// TestSetModel draws sets of patterns and events and compares with the
// definition; the whole set must say what sets of one rule say, and Explain
// must agree with Match.
func TestSetModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var models []*modelPattern
		var rules []*Pattern
		for range rapid.IntRange(1, 6).Draw(t, "rules") {
			m := drawPattern(t, 2)
			var b strings.Builder
			m.render(&b)
			p, err := Compile([]byte(b.String()))
			if err != nil {
				t.Fatalf("%v\n%s", err, b.String())
			}
			models, rules = append(models, m), append(rules, p)
		}
		all := newMatcher(t, rules...)
		for range 4 {
			doc, err := json.Marshal(drawObject(t, 4))
			if err != nil {
				t.Fatal(err)
			}
			event := decodeEvent(doc)
			got, err := all.match(doc)
			if err != nil {
				t.Fatalf("%v\n%s", err, doc)
			}
			inSet := map[uint32]bool{}
			for _, rule := range got {
				inSet[rule] = true
			}
			for i, p := range rules {
				want := models[i].matches(event)
				alone := newMatcher(t, p)
				one, err := alone.match(doc)
				if err != nil || len(one) == 1 != want || inSet[uint32(i)] != want {
					t.Fatalf("want %v, alone %v, in the set %v (%v)\n%s\n%s", want, len(one) == 1, inSet[uint32(i)], err, p, doc)
				}
				if v := p.Explain(&alone.view); v.Matched != want || !want && (v.Field == "" || v.Operator == "") {
					t.Fatalf("want %v, Explain says %+v\n%s\n%s", want, v, p, doc)
				}
			}
		}
	})
}
