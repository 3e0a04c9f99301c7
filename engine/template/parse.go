package template

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Options of a template.
type Options struct {
	// Paths gives names to paths, as EventBridge's InputPathsMap does.
	Paths map[string]string
	// Escape writes what a placeholder of a Text stands for; nil = as it is.
	Escape func(dst, value []byte) []byte
}

// Error says what is wrong with a template, and where.
type Error struct {
	Offset int // in the text, in bytes
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("%s (at byte %d)", e.Reason, e.Offset) }

// Limits of templates.
const (
	MaxText  = 64 << 10 // bytes
	MaxRefs  = 256      // different fields
	maxDepth = 64       // objects and arrays in each other
)

// form is what is common to templates: the fields that they want, by slot.
type form struct {
	options Options
	refs    []Ref
	text    []byte
	at      int
	depth   int
}

// slot is the number of a field among those that the template wants.
func (f *form) slot(r Ref) int {
	for i, have := range f.refs {
		if have.Known == r.Known && slices.Equal(have.Path, r.Path) {
			return i
		}
	}
	f.refs = append(f.refs, r)
	return len(f.refs) - 1
}

// node is a value of a template.
type node struct {
	kind    kind
	literal []byte // JSON; of a part of a string what is inside the quotes
	slot    int
	steps   []step
	parts   []node   // of a string, an array or an object
	names   [][]byte // of an object's members: JSON with the colon
}

type kind uint8

const (
	isLiteral kind = iota
	isPlaceholder
	isText
	isArray
	isObject
)

func (f *form) fail(at int, format string, args ...any) *Error {
	return &Error{Offset: at, Reason: fmt.Sprintf(format, args...)}
}

func (f *form) space() {
	for f.at < len(f.text) && strings.IndexByte(" \t\r\n", f.text[f.at]) >= 0 {
		f.at++
	}
}

// next is the byte at hand, 0 at the end.
func (f *form) next() byte {
	if f.at < len(f.text) {
		return f.text[f.at]
	}
	return 0
}

// begin takes a text to parse.
func (f *form) begin(data []byte) *Error {
	if len(data) > MaxText {
		return f.fail(0, "a template of %d bytes, at most %d are allowed", len(data), MaxText)
	}
	if !utf8.Valid(data) {
		return f.fail(0, "the template is not UTF-8")
	}
	f.text = data
	return nil
}

func (f *form) value() (node, *Error) {
	f.space()
	switch f.next() {
	case 0:
		return node{}, f.fail(f.at, "a value is missing")
	case '{':
		return f.object()
	case '[':
		return f.array()
	case '"':
		return f.string()
	case '<':
		return f.alone()
	}
	start := f.at
	for f.at < len(f.text) && strings.IndexByte(" \t\r\n,]}:", f.text[f.at]) < 0 {
		f.at++
	}
	word := f.text[start:f.at]
	if !json.Valid(word) {
		return node{}, f.fail(start, "%q is no JSON and no placeholder", word)
	}
	return node{literal: word}, nil
}

// alone reads a placeholder outside of strings.
func (f *form) alone() (node, *Error) {
	if f.at+1 < len(f.text) && f.text[f.at+1] == '<' {
		return node{}, f.fail(f.at, "<< stands for < in strings only")
	}
	return f.placeholder()
}

// placeholder reads <name>; f.at is at the <.
func (f *form) placeholder() (node, *Error) {
	start := f.at
	length := strings.IndexAny(string(f.text[start+1:min(len(f.text), start+maxPath+2)]), "<>\"\n")
	if length < 0 || f.text[start+1+length] != '>' {
		return node{}, f.fail(start, "< is not closed: write << for a < that is meant")
	}
	name := string(f.text[start+1 : start+1+length])
	if name == "" || strings.ContainsAny(name, " \t\\") {
		return node{}, f.fail(start, "<%s> is no placeholder: write << for a < that is meant", name)
	}
	ref, steps, err := f.options.resolve(name)
	if err != nil {
		return node{}, f.fail(start, "%v", err)
	}
	n := node{kind: isPlaceholder, slot: f.slot(ref), steps: steps}
	if len(f.refs) > MaxRefs {
		return n, f.fail(start, "more than %d different placeholders", MaxRefs)
	}
	f.at = start + length + 2
	return n, nil
}

// string reads a string with placeholders in it.
func (f *form) string() (node, *Error) {
	start := f.at
	f.at++
	var parts []node
	var plain []byte
	for {
		switch c := f.next(); {
		case f.at >= len(f.text):
			return node{}, f.fail(start, "the string is not closed")
		case c == '"':
			f.at++
			if parts == nil {
				return f.literalString(start, plain)
			}
			if len(plain) > 0 {
				parts = append(parts, node{literal: plain})
			}
			return node{kind: isText, parts: parts}, nil
		case c == '<' && f.at+1 < len(f.text) && f.text[f.at+1] == '<':
			plain = append(plain, '<')
			f.at += 2
		case c == '<':
			n, err := f.placeholder()
			if err != nil {
				return n, err
			}
			if len(plain) > 0 {
				parts = append(parts, node{literal: plain})
				plain = nil
			}
			parts = append(parts, n)
		case c < ' ':
			return node{}, f.fail(f.at, "a control character in a string")
		case c == '\\':
			n := 2
			if f.at+1 < len(f.text) && f.text[f.at+1] == 'u' {
				n = 6
			}
			escape := f.text[f.at:min(len(f.text), f.at+n)]
			if !json.Valid(append(append([]byte{'"'}, escape...), '"')) {
				return node{}, f.fail(f.at, "%s is no escape that JSON has", escape)
			}
			plain = append(plain, escape...)
			f.at += n
		default:
			plain = append(plain, c)
			f.at++
		}
	}
}

func (f *form) literalString(start int, content []byte) (node, *Error) {
	quoted := append(append([]byte{'"'}, content...), '"')
	if !json.Valid(quoted) {
		return node{}, f.fail(start, "%s is no JSON string", quoted)
	}
	return node{literal: quoted}, nil
}

func (f *form) enter() *Error {
	if f.depth++; f.depth > maxDepth {
		return f.fail(f.at, "more than %d objects and arrays in each other", maxDepth)
	}
	f.at++
	return nil
}

func (f *form) array() (node, *Error) {
	if err := f.enter(); err != nil {
		return node{}, err
	}
	defer func() { f.depth-- }()
	n := node{kind: isArray}
	if f.space(); f.next() == ']' {
		f.at++
		return folded(n), nil
	}
	for {
		item, err := f.value()
		if err != nil {
			return n, err
		}
		n.parts = append(n.parts, item)
		f.space()
		switch f.next() {
		case ',':
			f.at++
		case ']':
			f.at++
			return folded(n), nil
		default:
			return n, f.fail(f.at, "the array wants a comma or ] here")
		}
	}
}

func (f *form) object() (node, *Error) {
	n, _, err := f.pairs(nil)
	return folded(n), err
}

// pairs reads an object. check, where there is one, sees each name before its value.
func (f *form) pairs(check func(name string, at int) *Error) (n node, names []string, err *Error) {
	if err := f.enter(); err != nil {
		return n, nil, err
	}
	defer func() { f.depth-- }()
	n.kind = isObject
	if f.space(); f.next() == '}' {
		f.at++
		return n, nil, nil
	}
	for {
		f.space()
		at := f.at
		name, quoted, err := f.name()
		if err != nil {
			return n, nil, err
		}
		if slices.Contains(names, name) {
			return n, nil, f.fail(at, "%q stands twice", name)
		}
		if check != nil {
			if err := check(name, at); err != nil {
				return n, nil, err
			}
		}
		if f.space(); f.next() != ':' {
			return n, nil, f.fail(f.at, "a colon is missing after %q", name)
		}
		f.at++
		value, err := f.value()
		if err != nil {
			return n, nil, err
		}
		names = append(names, name)
		n.names = append(n.names, append(quoted, ':'))
		n.parts = append(n.parts, value)
		f.space()
		switch f.next() {
		case ',':
			f.at++
		case '}':
			f.at++
			return n, names, nil
		default:
			return n, nil, f.fail(f.at, "the object wants a comma or } here")
		}
	}
}

// name reads a member's name, which holds no placeholders.
func (f *form) name() (name string, quoted []byte, err *Error) {
	at := f.at
	if f.next() != '"' {
		return "", nil, f.fail(at, "a name in quotes is missing")
	}
	n, err := f.string()
	if err != nil {
		return "", nil, err
	}
	if n.kind != isLiteral {
		return "", nil, f.fail(at, "a placeholder cannot be part of a name")
	}
	if json.Unmarshal(n.literal, &name) != nil {
		return "", nil, f.fail(at, "%s is no JSON string", n.literal)
	}
	return name, n.literal, nil
}

// folded makes a literal of what has no placeholders.
func folded(n node) node {
	for _, p := range n.parts {
		if p.kind != isLiteral {
			return n
		}
	}
	b, _, _ := n.append(nil, nil, 0) // a literal needs no event and cannot fail
	return node{literal: b}
}
