package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// jsonText is JSON made of a part of the file, with the places that its pieces
// came from. Scalars go by JSON's rules and keep their digits: 1e3 and
// integers of any length are numbers, quoted text is text.
type jsonText struct {
	data   []byte
	marks  []mark
	broken bool // a reference could not be replaced; reported already

	placeholders bool // unquoted <names> stand for values
}

// mark says where the JSON from an offset on stood in the file.
type mark struct {
	offset   int
	at       place
	path     string
	replaced string // the text that came by reference, which must not be shown
}

func (t *jsonText) mark(at place, path, replaced string) {
	t.marks = append(t.marks, mark{len(t.data), at, path, replaced})
}

// hides is true where a text holds something that came by reference.
func (t *jsonText) hides(text string) bool {
	return slices.ContainsFunc(t.marks, func(m mark) bool {
		return m.replaced != "" && strings.Contains(text, m.replaced)
	})
}

// find returns the mark of the piece that an offset lies in.
func (t *jsonText) find(offset int) mark {
	i, _ := slices.BinarySearchFunc(t.marks, offset, func(m mark, at int) int {
		if m.offset <= at {
			return -1
		}
		return 1
	})
	return t.marks[max(i-1, 0)]
}

func (t *jsonText) write(f *findings, n *node, path string) {
	t.mark(n.at, path, n.replaced())
	t.broken = t.broken || n.broken
	switch n.kind {
	case list:
		t.data = append(t.data, '[')
		for i, item := range n.items {
			if i > 0 {
				t.data = append(t.data, ',')
			}
			t.write(f, item, path)
		}
		t.mark(n.at, path, "")
		t.data = append(t.data, ']')
	case mapping:
		t.data = append(t.data, '{')
		for i, p := range n.pairs {
			if i > 0 {
				t.data = append(t.data, ',')
			}
			inner := join(path, p.key)
			t.mark(p.at, inner, "")
			t.text(p.key)
			t.data = append(t.data, ':')
			t.write(f, p.value, inner)
		}
		t.mark(n.at, path, "")
		t.data = append(t.data, '}')
	default:
		t.scalar(f, n, path)
	}
}

func (t *jsonText) scalar(f *findings, n *node, path string) {
	switch _, isBool := n.boolean(); {
	case !n.plain:
		t.text(n.text)
	case t.placeholders && n.isPlaceholder():
		t.data = append(t.data, n.text...)
	case n.text == "": // nothing after the colon
		t.data = append(t.data, "null"...)
	case isLiteral(n.text):
		t.data = append(t.data, n.text...)
	case isBool, n.isNull(), looksNumeric(n.text):
		f.add(n.at, path, fmt.Sprintf("%s means different things in YAML and JSON", n.what()),
			fmt.Sprintf("write it as JSON, or \"%s\" in quotes for text", n.shown()))
		t.data = append(t.data, "null"...)
	default:
		t.text(n.text)
	}
}

// replaced is the text of a scalar that references filled.
func (n *node) replaced() string {
	if n.raw == "" {
		return ""
	}
	return n.text
}

// isLiteral is true for JSON's own true, false, null and numbers.
func isLiteral(text string) bool {
	switch text[0] {
	case '"', '{', '[', ' ', '\t', '\n', '\r':
		return false
	}
	return json.Valid([]byte(text)) && strings.TrimSpace(text) == text
}

// text appends a JSON string without escaping what only HTML minds.
func (t *jsonText) text(s string) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("config: a string that is no JSON: " + err.Error()) // cannot be: strings always are
	}
	t.data = append(t.data, strings.TrimSuffix(b.String(), "\n")...)
}

// pattern reads a route's pattern: a mapping, or its JSON as text.
func pattern(dst *[]byte) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			var t jsonText
			switch {
			case n.isNull():
				return
			case n.kind == scalar && !n.plain:
				t.mark(n.at, path, n.replaced())
				t.data = []byte(n.text)
			case n.kind != mapping:
				f.wrongType(n, path, "a pattern such as {type: [OrderCreated]}")
				return
			default:
				before := len(f.mistakes)
				if t.write(f, n, path); t.broken || len(f.mistakes) > before {
					return
				}
				checkNames(f, n, path)
			}
			if !compilePattern(f, &t) {
				return
			}
			*dst = t.data
			if n.kind == scalar {
				checkNamesOfText(f, n, path)
			}
		},
		schema: func() schema {
			return schema{"type": []string{"object", "string", "null"}}
		},
	}
}

// checkNames looks at the names at the top of a pattern, its alternatives
// under $or included: each must be one that events can have, and one thing
// must not be called by both of its names.
func checkNames(f *findings, n *node, path string) {
	seen := map[string]pair{}
	collectNames(n, func(p pair) {
		root, _, _ := strings.Cut(p.key, ".")
		if !slices.Contains(fieldRoots, root) && !isExtension(root) {
			f.add(p.at, join(path, p.key), "no event has a field of this name", rootHint(root))
			return
		}
		if near := nearRoot(root); near != "" {
			f.warn(p.at, join(path, p.key), fmt.Sprintf("%q is taken for an extension attribute", shorten(root)), fmt.Sprintf("did you mean %q?", near))
		}
		warnOperators(f, p, join(path, p.key))
		if _, ok := seen[root]; !ok {
			seen[root] = p
		}
	})
	for _, theirs := range []string{"account", "detail", "detail-type", "region", "resources"} {
		a, both := seen[theirs]
		b, alsoOurs := seen[spellings[theirs]]
		if both && alsoOurs {
			later := a
			if b.at.line > a.at.line || (b.at.line == a.at.line && b.at.column > a.at.column) {
				later = b
			}
			f.add(later.at, path, fmt.Sprintf("both %s and %s, two names of one thing", theirs, spellings[theirs]), "use one of them")
		}
	}
}

// nearRoot is the name at the top of an event that was most likely meant by one
// that is none, "" where the name looks like one of the user's own.
func nearRoot(name string) string {
	if slices.Contains(fieldRoots, name) {
		return ""
	}
	for _, root := range fieldRoots {
		switch d := distance(name, root); {
		case len(root) < 4 || d > 2 || d == 2 && len(root) < 7:
		case len(root) == 4 && len(name) == 4 && !swapped(name, root):
			// date is not meant to be data, but dtaa is.
		default:
			return root
		}
	}
	return ""
}

// swapped says that two names of one length have the same letters.
func swapped(a, b string) bool {
	x, y := []byte(a), []byte(b)
	slices.Sort(x)
	slices.Sort(y)
	return string(x) == string(y)
}

// warnOperators warns of an operator that stands where a field does: below a name
// instead of in its list. That is a pattern too, of a field with the operator's name.
func warnOperators(f *findings, p pair, path string) {
	for _, inner := range p.value.pairs {
		at := join(path, inner.key)
		if slices.Contains(listOperators, inner.key) && inner.value.kind == list {
			f.warn(inner.at, at, fmt.Sprintf("%q is taken for a field's name", inner.key),
				fmt.Sprintf("as an operator it stands in a list: %s: [{%s: ...}]", shorten(p.key), inner.key))
		}
		warnOperators(f, inner, at)
	}
}

// listOperators are the operators whose operand may be a list.
var listOperators = []string{"numeric", "anything-but"}

// checkNamesOfText does the same for a pattern that stands as text; all of its
// mistakes are at the text's place.
func checkNamesOfText(f *findings, n *node, path string) {
	own := &findings{places: map[string]place{}}
	if root := readJSON(&refs{findings: own}, n.at.file, []byte(n.text)); root != nil {
		checkNames(own, root, path)
	}
	for _, m := range own.mistakes {
		f.add(n.at, m.Path, m.Error, m.Hint)
	}
	for _, m := range own.warnings {
		f.warn(n.at, m.Path, m.Error, m.Hint)
	}
}

// collectNames visits the members at the top of a pattern and of its alternatives.
func collectNames(n *node, visit func(pair)) {
	for _, p := range n.pairs {
		if p.key != "$or" {
			visit(p)
			continue
		}
		for _, alternative := range p.value.items {
			collectNames(alternative, visit)
		}
	}
}
