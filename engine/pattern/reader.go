package pattern

import (
	"iter"

	"github.com/weir-project/weir/engine/field"
)

// reader reads text that is known to be JSON.
type reader struct {
	text []byte
	at   int
}

func (r *reader) refuse(at int, format string, args ...any) error {
	return refuse(r.text, at, format, args...)
}

func (r *reader) space() {
	for r.at < len(r.text) && (r.text[r.at] == ' ' || r.text[r.at] == '\n' || r.text[r.at] == '\t' || r.text[r.at] == '\r') {
		r.at++
	}
}

// peek is the first byte of what is read next, 0 at the end.
func (r *reader) peek() byte {
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

// colon reads a colon and the white space around it.
func (r *reader) colon() {
	r.space()
	r.at++
	r.space()
}

// members runs over the members of the object at hand; the loop's body reads
// name, colon and value.
func (r *reader) members() iter.Seq[struct{}] { return r.items('}') }

// elements runs over the elements of the array at hand; the loop's body reads
// each.
func (r *reader) elements() iter.Seq[struct{}] { return r.items(']') }

func (r *reader) items(closing byte) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		r.at++
		for r.space(); r.peek() != closing; r.space() {
			if r.peek() == ',' {
				r.at++
				r.space()
			}
			if !yield(struct{}{}) {
				return
			}
		}
		r.at++
	}
}

// str reads a string.
func (r *reader) str() string {
	start := r.at + 1
	for r.at = start; r.text[r.at] != '"'; r.at++ {
		if r.text[r.at] == '\\' {
			r.at++
		}
	}
	r.at++
	return string(field.AppendUnescaped(nil, r.text[start:r.at-1]))
}

// word reads a number, true, false or null.
func (r *reader) word() string {
	start := r.at
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ',', ']', '}', ' ', '\n', '\t', '\r':
			return string(r.text[start:r.at])
		}
		r.at++
	}
	return string(r.text[start:r.at])
}

// found names the kind of what is read next, for errors.
func (r *reader) found() string {
	switch c := r.peek(); {
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == 0:
		return "nothing"
	}
	return "a number"
}

// excerpt is the scalar that is read next, for errors.
func (r *reader) excerpt() string {
	const longest = 40
	c := *r
	if c.peek() == '"' {
		c.str()
	} else {
		c.word()
	}
	s := r.text[r.at:c.at]
	if len(s) > longest {
		return `"..."`
	}
	return string(s)
}
