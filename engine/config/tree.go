package config

import (
	"slices"
	"strings"
)

// node is a value of the file with its place: what YAML and JSON are both read
// into, so that nothing behind it knows which of the two it was.
type node struct {
	at     place
	kind   kind
	text   string // scalar: after the replacement of references
	raw    string // scalar that holds references: as it was written; else ""
	plain  bool   // scalar without quotes: its type is read off the text
	broken bool   // scalar whose reference could not be replaced; reported already
	given  bool   // scalar from a flag or the environment, which have no quotes: text or number, as is wanted
	items  []*node
	pairs  []pair
	index  map[string]int // of pairs by key, where there are many
	twice  []string       // keys that were there twice; the later member is not among pairs
}

type kind uint8

const (
	scalar kind = iota
	list
	mapping
)

// pair is a member of a mapping. Keys are text, whatever YAML would make of them.
type pair struct {
	key   string
	at    place
	value *node
}

// isNull is true for what YAML leaves out or calls null.
func (n *node) isNull() bool {
	if n.kind != scalar || !n.plain {
		return false
	}
	switch n.text {
	case "", "~", "null", "Null", "NULL":
		return true
	}
	return false
}

// boolean reads an unquoted true or false.
func (n *node) boolean() (value, ok bool) {
	if !n.isTyped() {
		return false, false
	}
	switch n.text {
	case "true", "True", "TRUE":
		return true, true
	case "false", "False", "FALSE":
		return false, true
	}
	return false, false
}

// isTyped is true for scalars that may be numbers or booleans where these are
// wanted: unquoted ones, and those that a reference filled, which must stand in
// quotes inside { } and in JSON.
func (n *node) isTyped() bool { return n.kind == scalar && (n.plain || n.raw != "") }

// isText is true for scalars that are strings: quoted ones, unquoted ones that
// YAML gives no other type, and those that a reference filled (a password of
// digits is still a password).
func (n *node) isText() bool {
	if n.kind != scalar {
		return false
	}
	if !n.plain || n.raw != "" || n.given {
		return true
	}
	if _, isBool := n.boolean(); isBool || n.isNull() {
		return false
	}
	return !looksNumeric(n.text)
}

// shown is how a scalar may stand in an error: as it was written, so that the
// value behind a reference is not printed.
func (n *node) shown() string {
	if n.raw != "" {
		return shorten(n.raw)
	}
	return shorten(n.text)
}

// what names a node's sort in an error.
func (n *node) what() string {
	switch {
	case n.kind == list:
		return "a list"
	case n.kind == mapping:
		return "a mapping"
	case n.raw != "":
		return `"` + n.shown() + `"`
	case n.isNull():
		return "nothing"
	case n.plain && !n.isText():
		return n.shown()
	}
	return `"` + n.shown() + `"`
}

// get returns the value of a key, nil where it is not there.
func (n *node) get(key string) *node {
	if i := n.find(key); i >= 0 {
		return n.pairs[i].value
	}
	return nil
}

// indexed is how many members a mapping has before it gets an index.
const indexed = 16

// find returns the number of the member with a key, -1 where there is none.
func (n *node) find(key string) int {
	if n.index != nil {
		if i, ok := n.index[key]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(n.pairs, func(p pair) bool { return p.key == key })
}

// put appends a member.
func (n *node) put(p pair) {
	n.pairs = append(n.pairs, p)
	switch {
	case n.index != nil:
		n.index[p.key] = len(n.pairs) - 1
	case len(n.pairs) == indexed:
		n.index = make(map[string]int, 2*indexed)
		for i, q := range n.pairs {
			n.index[q.key] = i
		}
	}
}

// looksNumeric is true for what some reader of YAML 1.1 or 1.2 takes for a number.
func looksNumeric(text string) bool {
	s := strings.TrimLeft(text, "+-")
	if len(text)-len(s) > 1 || s == "" {
		return false
	}
	switch strings.ToLower(s) {
	case ".inf", ".nan":
		return true
	}
	if len(s) > 2 && s[0] == '0' && strings.ContainsRune("xXoObB", rune(s[1])) {
		return strings.Trim(s[2:], "0123456789abcdefABCDEF_") == ""
	}
	digits, exponent, dots := 0, false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '_' && digits > 0:
		case c == '.' && !exponent && dots == 0:
			dots++
		case (c == 'e' || c == 'E') && digits > 0 && !exponent && i+1 < len(s):
			exponent = true
			if s[i+1] == '+' || s[i+1] == '-' {
				i++
			}
			if i+1 == len(s) {
				return false
			}
		default:
			return false
		}
	}
	return digits > 0
}

// shownLength bounds what an error quotes of the file.
const shownLength = 80

func shorten(s string) string {
	if len(s) <= shownLength {
		return s
	}
	return strings.ToValidUTF8(s[:shownLength], "") + "..."
}
