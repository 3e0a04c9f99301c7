package event

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// validate checks once, before any cursor, what the cursor relies on: valid
// UTF-8 and JSON within the limits.
func validate(raw []byte, lim Limits) *Error {
	if limit := orDefault(lim.Event, DefaultEvent); len(raw) > limit {
		return &Error{Reason: "has " + strconv.Itoa(len(raw)) + " bytes, more than the limit of " + strconv.Itoa(limit), Offset: limit}
	}
	return validateJSON(raw, orDefault(lim.Depth, DefaultDepth))
}

func validateJSON(raw []byte, maxDepth int) *Error {
	if !utf8.Valid(raw) {
		return &Error{Reason: "is not UTF-8", Offset: invalidUTF8(raw)}
	}
	if !json.Valid(raw) {
		err := &Error{Reason: "is not JSON", Offset: -1}
		var value json.RawMessage
		if syntax, ok := json.Unmarshal(raw, &value).(*json.SyntaxError); ok {
			err.Reason += ": " + syntax.Error()
			err.Offset = int(syntax.Offset)
		}
		return err
	}
	depth, text := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case text:
			if c == '\\' {
				i++
			} else if c == '"' {
				text = false
			}
		case c == '"':
			text = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return &Error{Reason: "is nested deeper than " + strconv.Itoa(maxDepth), Offset: i}
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

func invalidUTF8(raw []byte) int {
	for i := 0; i < len(raw); {
		r, size := utf8.DecodeRune(raw[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

func orDefault(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

// member is one name and value of an object, as raw JSON.
type member struct {
	key   []byte // with its quotes
	name  string
	value []byte // nil = removed
}

// object is an ordered JSON object that can be changed member by member.
type object []member

func (o object) index(name string) int {
	for i := range o {
		if o[i].name == name && o[i].value != nil {
			return i
		}
	}
	return -1
}

// get is a member's raw value, nil where there is none.
func (o object) get(name string) []byte {
	if i := o.index(name); i >= 0 {
		return o[i].value
	}
	return nil
}

// set replaces a member in its place or appends it; nil removes it.
func (o *object) set(name string, value []byte) {
	if i := o.index(name); i >= 0 {
		(*o)[i].value = value
		return
	}
	if value != nil {
		*o = append(*o, member{appendString(nil, name), name, value})
	}
}

func (o object) appendTo(dst []byte) []byte {
	dst = append(dst, '{')
	first := true
	for i := range o {
		if o[i].value == nil {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(dst, o[i].key...), ':')
		dst = append(dst, o[i].value...)
	}
	return append(dst, '}')
}

// parseObject takes valid JSON apart. ok is false where it is no object.
func parseObject(raw []byte) (o object, ok bool) {
	i := space(raw, 0)
	if i >= len(raw) || raw[i] != '{' {
		return nil, false
	}
	i = space(raw, i+1)
	for i < len(raw) && raw[i] != '}' {
		end := skip(raw, i)
		key := raw[i:end]
		i = space(raw, space(raw, end)+1) // the colon
		end = skip(raw, i)
		o = append(o, member{key, unquote(key), raw[i:end]})
		if i = space(raw, end); i < len(raw) && raw[i] == ',' {
			i = space(raw, i+1)
		}
	}
	return o, true
}

// parseArray takes valid JSON apart.
func parseArray(raw []byte) (values [][]byte, ok bool) {
	i := space(raw, 0)
	if i >= len(raw) || raw[i] != '[' {
		return nil, false
	}
	i = space(raw, i+1)
	for i < len(raw) && raw[i] != ']' {
		end := skip(raw, i)
		values = append(values, raw[i:end])
		if i = space(raw, end); i < len(raw) && raw[i] == ',' {
			i = space(raw, i+1)
		}
	}
	return values, true
}

// find is the raw value at a path of names in valid JSON, nil where there is
// none; of members of one name the first.
func find(raw []byte, path []string) []byte {
	raw = trim(raw)
	for _, name := range path {
		if raw = findMember(raw, name); raw == nil {
			return nil
		}
	}
	return raw
}

func findMember(raw []byte, name string) []byte {
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	for i := space(raw, 1); i < len(raw) && raw[i] != '}'; {
		end := skip(raw, i)
		key := raw[i:end]
		i = space(raw, space(raw, end)+1) // the colon
		end = skip(raw, i)
		if string(key[1:len(key)-1]) == name || bytes.IndexByte(key, '\\') >= 0 && unquote(key) == name {
			return raw[i:end]
		}
		if i = space(raw, end); i < len(raw) && raw[i] == ',' {
			i = space(raw, i+1)
		}
	}
	return nil
}

// duplicate is the name of a member that stands twice, "" where none does.
func (o object) duplicate() string {
	seen := make(map[string]struct{}, len(o))
	for i := range o {
		if _, twice := seen[o[i].name]; twice {
			return strconv.Quote(o[i].name)
		}
		seen[o[i].name] = struct{}{}
	}
	return ""
}

func trim(raw []byte) []byte { return bytes.Trim(raw, " \t\r\n") }

func space(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\r' || raw[i] == '\t') {
		i++
	}
	return i
}

// skip is the end of the valid JSON value that begins at i.
func skip(raw []byte, i int) int {
	depth := 0
	for ; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i
			}
		case ',', ':', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// unquote is the content of a valid JSON string.
func unquote(raw []byte) string {
	content := raw[1 : len(raw)-1]
	if bytes.IndexByte(content, '\\') < 0 {
		return string(content)
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// appendString writes a JSON string; bytes that are not UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	s = strings.ToValidUTF8(s, "\uFFFD")
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// equalJSON says whether two valid texts hold the same value: members in any
// order, numbers by their text.
func equalJSON(a, b []byte) bool {
	a, b = trim(a), trim(b)
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) == 0 || len(b) == 0 || a[0] != b[0] {
		return false
	}
	switch a[0] {
	case '{':
		oa, _ := parseObject(a)
		ob, _ := parseObject(b)
		if len(oa) != len(ob) {
			return false
		}
		others := make(map[string][]byte, len(ob))
		for i := range ob {
			others[ob[i].name] = ob[i].value
		}
		for i := range oa {
			if other, ok := others[oa[i].name]; !ok || !equalJSON(oa[i].value, other) {
				return false
			}
		}
		return true
	case '[':
		va, _ := parseArray(a)
		vb, _ := parseArray(b)
		if len(va) != len(vb) {
			return false
		}
		for i := range va {
			if !equalJSON(va[i], vb[i]) {
				return false
			}
		}
		return true
	case '"':
		return unquote(a) == unquote(b)
	}
	return false
}
