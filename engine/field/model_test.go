package field

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// tree is a document decoded by encoding/json, members in their order.
type tree struct {
	kind   Kind
	scalar any
	names  []string
	kids   []*tree
}

func parseTree(d *json.Decoder) (*tree, int) {
	token, err := d.Token()
	if err != nil {
		panic(err)
	}
	t, depth := &tree{scalar: token}, 0
	switch x := token.(type) {
	case json.Delim:
		t.kind, t.scalar = Object, nil
		if x == '[' {
			t.kind = Array
		}
		for d.More() {
			if t.kind == Object {
				name, err := d.Token()
				if err != nil {
					panic(err)
				}
				t.names = append(t.names, name.(string))
			}
			kid, below := parseTree(d)
			t.kids = append(t.kids, kid)
			depth = max(depth, below)
		}
		if _, err := d.Token(); err != nil {
			panic(err)
		}
		depth++
	case string:
		t.kind = String
	case json.Number:
		t.kind = Number
	case nil:
		t.kind = Null
	case bool:
		t.kind = False
		if x {
			t.kind = True
		}
	}
	return t, depth
}

// step is one array element that a value came through.
type step struct {
	array *tree
	index int
}

type modelValue struct {
	node    *tree
	chain   []step
	through bool
}

// model is what a document must be scanned to, written without regard for cost.
type model struct {
	accepted bool
	tree     *tree
	slots    [][]modelValue
}

func runModel(doc []byte, paths []Path, limits Limits) model {
	if !json.Valid(doc) || !utf8.Valid(doc) {
		return model{}
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	root, depth := parseTree(d)
	m := model{accepted: depth <= limits.Depth, tree: root, slots: make([][]modelValue, len(paths))}
	if !m.accepted || repeats(root, paths) {
		return model{}
	}
	through := 0
	unique := map[string]bool{}
	for i, p := range paths {
		m.collect(i, root, p, nil, false)
		if unique[p.String()] {
			continue
		}
		unique[p.String()] = true
		for _, x := range m.slots[i] {
			if x.through {
				through++
			}
		}
	}
	if through > limits.Elements {
		return model{}
	}
	return m
}

func (m *model) collect(slot int, t *tree, rest Path, chain []step, inside bool) {
	if len(rest) == 0 && (t.kind < Object || !inside) {
		m.slots[slot] = append(m.slots[slot], modelValue{t, chain, inside || len(chain) > 0})
	}
	switch t.kind {
	case Array:
		for i, kid := range t.kids {
			below := chain
			if kid.kind >= Object {
				below = append(chain[:len(chain):len(chain)], step{t, i})
			}
			m.collect(slot, kid, rest, below, true)
		}
	case Object:
		for i, kid := range t.kids {
			for n := 1; n <= len(rest); n++ {
				if t.names[i] == rest[:n].String() {
					m.collect(slot, kid, rest[n:], chain, false)
				}
			}
		}
	}
}

// repeats reports whether an object on the way to a wanted value names a
// wanted member twice.
func repeats(t *tree, paths []Path) bool {
	seen := map[string]bool{}
	for i, kid := range t.kids {
		if t.kind == Array {
			if repeats(kid, paths) {
				return true
			}
			continue
		}
		name, wanted := t.names[i], false
		var below []Path
		for _, p := range paths {
			for n := 1; n <= len(p); n++ {
				if p[:n].String() == name {
					wanted = true
					below = append(below, p[n:])
				}
			}
		}
		if wanted && seen[name] || repeats(kid, below) {
			return true
		}
		seen[name] = wanted
	}
	return false
}

func consistent(a, b []step) bool {
	for _, x := range a {
		for _, y := range b {
			if x.array == y.array && x.index != y.index {
				return false
			}
		}
	}
	return true
}

// against compares a scan with the model and describes the first difference.
func (m model) against(doc []byte, v *Values, err error) string {
	if m.accepted != (err == nil) {
		return fmt.Sprintf("accepted=%v, want %v (%v)", err == nil, m.accepted, err)
	}
	if err != nil {
		return ""
	}
	type placed struct {
		elem  uint32
		chain []step
	}
	var all []placed
	for slot, want := range m.slots {
		var got []Value
		for x, ok := v.Get(slot), true; ok; x, ok = v.Next(x) {
			if x.Kind != Absent {
				got = append(got, x)
			}
		}
		if len(got) != len(want) {
			return fmt.Sprintf("slot %d has %d values, want %d", slot, len(got), len(want))
		}
		for i, w := range want {
			if diff := w.node.against(doc, got[i]); diff != "" {
				return fmt.Sprintf("slot %d, value %d: %s", slot, i, diff)
			}
			all = append(all, placed{got[i].Elem, w.chain})
		}
	}
	for _, a := range all[:min(len(all), 40)] {
		for _, b := range all[:min(len(all), 40)] {
			if v.Consistent(a.elem, b.elem) != consistent(a.chain, b.chain) {
				return fmt.Sprintf("elements %d and %d: consistent=%v", a.elem, b.elem, !consistent(a.chain, b.chain))
			}
		}
	}
	return ""
}

func (t *tree) against(doc []byte, x Value) string {
	if x.Kind != t.kind {
		return fmt.Sprintf("kind %v, want %v", x.Kind, t.kind)
	}
	switch raw := x.Raw(doc); t.kind {
	case String:
		plain := string(raw)
		if x.Flags&Escaped != 0 {
			plain = string(AppendUnescaped(nil, raw))
		} else if strings.Contains(plain, `\`) {
			return "escaped string without its flag"
		}
		if plain != t.scalar.(string) || !bytes.Equal(x.JSON(doc), []byte(`"`+string(raw)+`"`)) {
			return fmt.Sprintf("string %q, want %q", plain, t.scalar)
		}
	case Number:
		if string(raw) != t.scalar.(json.Number).String() {
			return fmt.Sprintf("number %s, want %s", raw, t.scalar)
		}
		if (x.Flags&Integer != 0) == bytes.ContainsAny(raw, ".eE") {
			return fmt.Sprintf("number %s has flags %b", raw, x.Flags)
		}
	case Object, Array:
		if !json.Valid(raw) || (x.Flags&Empty != 0) != (len(t.kids) == 0) {
			return fmt.Sprintf("%v %s has flags %b", t.kind, raw, x.Flags)
		}
	default:
		if string(raw) != t.kind.String() {
			return fmt.Sprintf("%s, want %v", raw, t.kind)
		}
	}
	return ""
}
