package template

import (
	"github.com/weir-project/weir/engine/field"
)

// The functions of this file walk through JSON that is known to be valid.

// stringEnd is where the closing quote of a string is, whose content b begins with.
func stringEnd(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(b)
}

// valueEnd is the length of the value that b begins with.
func valueEnd(b []byte) int {
	switch b[0] {
	case '"':
		return stringEnd(b[1:]) + 2
	case '{', '[':
		depth := 0
		for i := 0; i < len(b); i++ {
			switch b[i] {
			case '"':
				i += stringEnd(b[i+1:]) + 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return len(b)
	}
	for i, c := range b {
		switch c {
		case ',', '}', ']', ' ', '\t', '\r', '\n', ':':
			return i
		}
	}
	return len(b)
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	return b
}

// elements calls visit for each element of an array, until it says false.
func elements(value []byte, visit func(element []byte) bool) {
	b := skipSpace(value[1:])
	for len(b) > 0 && b[0] != ']' {
		n := valueEnd(b)
		if !visit(b[:n]) {
			return
		}
		if b = skipSpace(b[n:]); len(b) > 0 && b[0] == ',' {
			b = skipSpace(b[1:])
		}
	}
}

// Members calls visit for each member of an object, with its name as it stands inside
// the quotes, until it says false.
func Members(value []byte, visit func(name, member []byte) bool) {
	b := skipSpace(value[1:])
	for len(b) > 0 && b[0] == '"' {
		end := stringEnd(b[1:])
		name := b[1 : end+1]
		b = skipSpace(b[end+2:])
		b = skipSpace(b[1:]) // the colon
		n := valueEnd(b)
		if !visit(name, b[:n]) {
			return
		}
		if b = skipSpace(b[n:]); len(b) > 0 && b[0] == ',' {
			b = skipSpace(b[1:])
		}
	}
}

// follow goes steps from a value.
func follow(value []byte, steps []step) ([]byte, bool) {
	for i, s := range steps {
		switch {
		case s.index == eachItem:
			return followEach(value, steps[i+1:])
		case s.index >= 0:
			v, ok := elementAt(value, s.index)
			if !ok {
				return nil, false
			}
			value = v
		default:
			v, ok := memberOf(value, s.name)
			if !ok {
				return nil, false
			}
			value = v
		}
	}
	return value, true
}

// followEach makes an array of what the steps find in each element.
func followEach(value []byte, steps []step) ([]byte, bool) {
	if value[0] != '[' {
		return nil, false
	}
	out := []byte{'['}
	elements(value, func(e []byte) bool {
		if v, ok := follow(e, steps); ok {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, v...)
		}
		return true
	})
	return append(out, ']'), true
}

func elementAt(value []byte, index int) (found []byte, ok bool) {
	if value[0] != '[' {
		return nil, false
	}
	elements(value, func(e []byte) bool {
		if index == 0 {
			found, ok = e, true
			return false
		}
		index--
		return true
	})
	return found, ok
}

// memberOf finds the first member of a name.
func memberOf(value []byte, name string) (found []byte, ok bool) {
	if value[0] != '{' {
		return nil, false
	}
	var unescaped []byte
	Members(value, func(n, v []byte) bool {
		if string(n) != name {
			unescaped = field.AppendUnescaped(unescaped[:0], n)
			if string(unescaped) != name {
				return true
			}
		}
		found, ok = v, true
		return false
	})
	return found, ok
}
