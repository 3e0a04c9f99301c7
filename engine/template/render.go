package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/weir-project/weir/engine/field"
)

// Source has the values of one event for a template's slots.
type Source interface {
	// Value is the field of a slot as raw, valid JSON without white space around it,
	// nil where the event does not have it. The bytes are read before the next call.
	Value(slot int) []byte
}

// ErrTooLarge says that what a template rendered passed the limit that it was given.
var ErrTooLarge = errors.New("the template renders more than the limit")

// MissingError says that an event lacks a field that a text needs.
type MissingError struct{ Path string }

func (e *MissingError) Error() string { return fmt.Sprintf("the event has no %s", e.Path) }

// append renders the value; there is none where it is only what the event lacks.
// max bounds dst in all, 0 = not at all.
func (n *node) append(dst []byte, s Source, max int) ([]byte, bool, error) {
	there := true
	var err error
	switch n.kind {
	case isLiteral:
		dst = append(dst, n.literal...)
	case isPlaceholder:
		v, ok := n.find(s)
		if !ok {
			return dst, false, nil
		}
		dst = append(dst, v...)
	case isText:
		dst, err = n.appendText(dst, s, max)
	case isArray:
		dst, err = n.appendParts(dst, '[', ']', s, max)
	case isObject:
		dst, err = n.appendParts(dst, '{', '}', s, max)
	}
	if err == nil && max > 0 && len(dst) > max {
		err = ErrTooLarge
	}
	return dst, there, err
}

func (n *node) appendParts(dst []byte, open, end byte, s Source, max int) ([]byte, error) {
	dst = append(dst, open)
	first := true
	for i := range n.parts {
		before := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		if n.names != nil {
			dst = append(dst, n.names[i]...)
		}
		var there bool
		var err error
		if dst, there, err = n.parts[i].append(dst, s, max); err != nil {
			return dst, err
		}
		if !there {
			dst = dst[:before]
			continue
		}
		first = false
	}
	return append(dst, end), nil
}

// appendText renders a JSON string.
func (n *node) appendText(dst []byte, s Source, max int) ([]byte, error) {
	dst = append(dst, '"')
	for i := range n.parts {
		p := &n.parts[i]
		if p.kind == isLiteral {
			dst = append(dst, p.literal...)
		} else if v, ok := p.find(s); ok {
			dst = appendInside(dst, v)
		}
		if max > 0 && len(dst) > max {
			return dst, ErrTooLarge
		}
	}
	return append(dst, '"'), nil
}

// appendInside appends a JSON value as content of a JSON string: a string's own
// content, all else without the white space and the quotes in it.
func appendInside(dst, value []byte) []byte {
	for i := 0; i < len(value); i++ {
		switch c := value[i]; c {
		case ' ', '\t', '\r', '\n':
		case '"':
			end := i + 1 + stringEnd(value[i+1:])
			dst = append(dst, value[i+1:end]...)
			i = end
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// find is what a placeholder stands for.
func (n *node) find(s Source) ([]byte, bool) {
	v := s.Value(n.slot)
	if v == nil {
		return nil, false
	}
	if len(n.steps) == 0 {
		return v, true
	}
	return follow(v, n.steps)
}

// Event is a template of an event's attributes and data. It is immutable and may be
// used concurrently.
type Event struct {
	form
	names   []string
	members []node
}

// ParseEvent compiles a template that is an object whose members are attributes
// (type, source, subject, time, datacontenttype, dataschema, extensions) and data;
// detail-type and detail are other words for type and data. Errors are *Error.
func ParseEvent(text []byte, o Options) (*Event, error) {
	e := &Event{form: form{options: o}}
	if err := e.parseEvent(text); err != nil {
		return nil, err
	}
	e.text = nil
	return e, nil
}

func (e *Event) parseEvent(data []byte) error {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return e.fail(0, "a template is a mapping of attributes and data")
	}
	if err := e.begin(data); err != nil {
		return err
	}
	e.space()
	var seen []string
	n, names, err := e.pairs(func(name string, at int) *Error {
		name, err := e.member(name, at)
		if err != nil {
			return err
		}
		if slices.Contains(seen, name) {
			return e.fail(at, "both words for %s", name)
		}
		seen = append(seen, name)
		return nil
	})
	if err != nil {
		return err
	}
	if e.space(); e.at < len(data) {
		return e.fail(e.at, "%q after the end of the template", data[e.at])
	}
	if len(names) == 0 {
		return e.fail(0, "the template is empty")
	}
	e.names, e.members = seen, n.parts
	return nil
}

// member is the canonical name of a member.
func (e *Event) member(name string, at int) (string, *Error) {
	switch name {
	case "detail":
		return "data", nil
	case "detail-type":
		return "type", nil
	case "id":
		return "", e.fail(at, "the id cannot be set: de-duplication stands on it")
	case "specversion", "data_base64", "weirenvelope":
		return "", e.fail(at, "%s cannot be set", name)
	case "account", "region", "resources":
		return "", e.fail(at, "%s cannot be set: it is EventBridge's own", name)
	}
	if !validExtension(name) {
		return "", e.fail(at, "no attribute has the name %q: they have lower-case letters and digits only, all else is below data", name)
	}
	return name, nil
}

// Refs are the fields that the template wants, by slot.
func (e *Event) Refs() []Ref { return e.refs }

// Names are the members, by canonical names, in the template's order.
func (e *Event) Names() []string { return e.names }

// Append appends the JSON of the i-th member to dst. It says false where the event has
// nothing for it. max bounds what dst may have in all, in bytes; 0 = no limit. The only
// error is ErrTooLarge.
func (e *Event) Append(dst []byte, i int, s Source, max int) ([]byte, bool, error) {
	return e.members[i].append(dst, s, max)
}

// Text is a template of a plain text, such as a topic or a header. It is immutable and
// may be used concurrently.
type Text struct {
	form
	parts []node
	names []string // of placeholders, by part
}

// ParseText compiles a text with placeholders. Errors are *Error.
func ParseText(text string, o Options) (*Text, error) {
	t := &Text{form: form{options: o}}
	if err := t.begin([]byte(text)); err != nil {
		return nil, err
	}
	var plain []byte
	flush := func() {
		if len(plain) > 0 {
			t.parts, t.names = append(t.parts, node{literal: plain}), append(t.names, "")
			plain = nil
		}
	}
	for t.at < len(text) {
		switch {
		case text[t.at] != '<':
			plain = append(plain, text[t.at])
			t.at++
		case t.at+1 < len(text) && text[t.at+1] == '<':
			plain = append(plain, '<')
			t.at += 2
		default:
			start := t.at
			n, err := t.placeholder()
			if err != nil {
				return nil, err
			}
			flush()
			t.parts, t.names = append(t.parts, n), append(t.names, text[start+1:t.at-1])
		}
	}
	flush()
	t.form.text = nil
	return t, nil
}

// Refs are the fields that the template wants, by slot.
func (t *Text) Refs() []Ref { return t.refs }

// Constant says that the text has no placeholders, and which it is.
func (t *Text) Constant() (string, bool) {
	if len(t.refs) > 0 {
		return "", false
	}
	if len(t.parts) == 0 {
		return "", true
	}
	return string(t.parts[0].literal), true
}

// Append appends the text to dst: strings without quotes and escapes, all else as in a
// string of an event template. Errors are ErrTooLarge and *MissingError.
func (t *Text) Append(dst []byte, s Source, max int) ([]byte, error) {
	for i := range t.parts {
		p := &t.parts[i]
		if p.kind == isLiteral {
			dst = append(dst, p.literal...)
		} else {
			v, ok := p.find(s)
			if !ok || string(v) == "null" {
				return dst, &MissingError{Path: t.names[i]}
			}
			dst = t.appendValue(dst, appendInside(nil, v))
		}
		if max > 0 && len(dst) > max {
			return dst, ErrTooLarge
		}
	}
	return dst, nil
}

// appendValue appends what a placeholder stands for, the content of a JSON string.
func (t *Text) appendValue(dst, inside []byte) []byte {
	if t.options.Escape == nil {
		return field.AppendUnescaped(dst, inside)
	}
	return t.options.Escape(dst, field.AppendUnescaped(nil, inside))
}

// AppendString appends a text as a JSON string, for values that no event holds.
func AppendString(dst []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f && s[i] != '"' && s[i] != '\\'
	}
	if plain {
		return append(append(append(dst, '"'), s...), '"')
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // strings always encode
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte{'\n'})...)
}
