package weir

import (
	"bytes"
	"errors"
	"strconv"
)

// Config is the plug-in's configuration, a JSON object that the host has
// validated. It stays valid.
type Config struct{ json []byte }

// NewConfig is a configuration of the given JSON, for tests.
func NewConfig(json string) Config { return Config{[]byte(json)} }

// Raw is a member's JSON text, nil if the object does not have it.
func (c Config) Raw(name string) []byte {
	s := scan{b: c.json}
	if s.space(); !s.eat('{') {
		return nil
	}
	for {
		s.space()
		key := s.value()
		if s.space(); !s.eat(':') {
			return nil
		}
		s.space()
		value := s.value()
		if t, ok := text(key); ok && t.Is(name) {
			return value
		}
		if s.space(); !s.eat(',') {
			return nil
		}
	}
}

// Number is a member that is a number, or the default where it is absent.
func (c Config) Number(name string, absent float64) (float64, error) {
	raw := c.Raw(name)
	if raw == nil {
		return absent, nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0, errors.New(name + " must be a number")
	}
	return f, nil
}

// Text is a member that is a string, or the default where it is absent.
func (c Config) Text(name, absent string) (string, error) {
	raw := c.Raw(name)
	if raw == nil {
		return absent, nil
	}
	t, ok := text(raw)
	if !ok {
		return "", errors.New(name + " must be a string")
	}
	return t.String(), nil
}

// Bool is a member that is true or false, or the default where it is absent.
func (c Config) Bool(name string, absent bool) (bool, error) {
	switch raw := c.Raw(name); string(raw) {
	case "":
		return absent, nil
	case "true", "false":
		return string(raw) == "true", nil
	}
	return false, errors.New(name + " must be true or false")
}

// Texts is a member that is an array of strings, or the default where it is
// absent.
func (c Config) Texts(name string, absent ...string) ([]string, error) {
	raw := c.Raw(name)
	if raw == nil {
		return absent, nil
	}
	wrong := errors.New(name + " must be an array of strings")
	s := scan{b: raw}
	if !s.eat('[') {
		return nil, wrong
	}
	list := []string{}
	for {
		s.space()
		if s.eat(']') {
			return list, nil
		}
		t, ok := text(s.value())
		if !ok {
			return nil, wrong
		}
		list = append(list, t.String())
		s.space()
		s.eat(',')
	}
}

func text(raw []byte) (t Text, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return Text{}, false
	}
	raw = raw[1 : len(raw)-1]
	return Text{Raw: raw, Escaped: bytes.IndexByte(raw, '\\') >= 0}, true
}

// scan walks valid JSON.
type scan struct {
	b  []byte
	at int
}

func (s *scan) more() bool { return s.at < len(s.b) }

func (s *scan) space() {
	for s.more() && (s.b[s.at] == ' ' || s.b[s.at] == '\t' || s.b[s.at] == '\n' || s.b[s.at] == '\r') {
		s.at++
	}
}

func (s *scan) eat(c byte) bool {
	if !s.more() || s.b[s.at] != c {
		return false
	}
	s.at++
	return true
}

// value passes one value and gives its text, nil where there is none.
func (s *scan) value() []byte {
	start, depth := s.at, 0
	for s.more() {
		switch c := s.b[s.at]; {
		case c == '"':
			if !s.text() {
				return nil
			}
		case c == '{' || c == '[':
			depth++
			s.at++
		case c == '}' || c == ']':
			depth--
			s.at++
		case depth > 0 && (c == ',' || c == ':' || c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			s.at++
			continue
		case !s.word():
			return nil
		}
		if depth < 0 {
			return nil
		}
		if depth == 0 {
			return s.b[start:s.at]
		}
	}
	return nil
}

func (s *scan) text() bool {
	for s.at++; s.more(); s.at++ {
		switch s.b[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return true
		}
	}
	return false
}

// word passes a number, true, false or null.
func (s *scan) word() bool {
	start := s.at
	for s.more() {
		c := s.b[s.at]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != 'E' && c != '+' && c != '-' && c != '.' {
			break
		}
		s.at++
	}
	return s.at > start
}
