package weir

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is a JSON string: what stands between its quotes.
type Text struct {
	Raw     []byte
	Escaped bool // Raw holds escapes
}

// Is says whether the string equals another. It does not allocate.
func (t Text) Is(s string) bool {
	if t.Escaped {
		return t.same(s)
	}
	return string(t.Raw) == s
}

// HasPrefix says whether the string begins with another. It does not allocate.
func (t Text) HasPrefix(s string) bool {
	if t.Escaped {
		return t.begins(s)
	}
	return len(t.Raw) >= len(s) && string(t.Raw[:len(s)]) == s
}

//go:noinline // so that Is is inlined
func (t Text) same(s string) bool {
	rest, ok := t.cut(s)
	return ok && len(rest) == 0
}

//go:noinline // so that HasPrefix is inlined
func (t Text) begins(s string) bool {
	_, ok := t.cut(s)
	return ok
}

// cut passes a prefix and gives the raw text after it. A prefix that ends
// within an escaped character's bytes is none.
func (t Text) cut(s string) (rest []byte, ok bool) {
	raw := t.Raw
	var char [utf8.UTFMax]byte
	for len(s) > 0 {
		if len(raw) == 0 {
			return nil, false
		}
		var n int
		n, raw = next(raw, &char)
		if n > len(s) || s[:n] != string(char[:n]) {
			return nil, false
		}
		s = s[n:]
	}
	return raw, true
}

// String is the string with its escapes undone; it allocates.
func (t Text) String() string {
	if !t.Escaped {
		return string(t.Raw)
	}
	out := make([]byte, 0, len(t.Raw))
	var char [utf8.UTFMax]byte
	for raw := t.Raw; len(raw) > 0; {
		var n int
		n, raw = next(raw, &char)
		out = append(out, char[:n]...)
	}
	return string(out)
}

// next takes a byte or an escape from raw and writes what it means to char.
func next(raw []byte, char *[utf8.UTFMax]byte) (n int, rest []byte) {
	if raw[0] != '\\' || len(raw) == 1 {
		char[0] = raw[0]
		return 1, raw[1:]
	}
	if raw[1] != 'u' {
		c := raw[1]
		if i := bytes.IndexByte([]byte("nrtbf"), c); i >= 0 {
			c = "\n\r\t\b\f"[i]
		}
		char[0] = c
		return 1, raw[2:]
	}
	r, ok := hex4(raw[2:])
	if !ok {
		return 0, nil
	}
	raw = raw[6:]
	if utf16.IsSurrogate(r) {
		pair := rune(utf8.RuneError)
		if len(raw) > 1 && raw[0] == '\\' && raw[1] == 'u' {
			if low, ok := hex4(raw[2:]); ok {
				pair = utf16.DecodeRune(r, low)
			}
		}
		r = pair
		if pair != utf8.RuneError {
			raw = raw[6:]
		}
	}
	return utf8.EncodeRune(char[:], r), raw
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
