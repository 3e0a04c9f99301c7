package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxReferenced bounds the text that one ${file:...} brings in.
const maxReferenced = 1 << 20

// refs replaces references in values and collects mistakes while files are read.
type refs struct {
	*findings
	dir      string                      // where relative paths of ${file:...} start
	env      func(string) (string, bool) // nil = leave references as they are
	readFile func(string) ([]byte, error)
}

// scalar makes a node of a scalar's text, with its references replaced.
func (r *refs) scalar(at place, text string, plain bool) *node {
	n := &node{at: at, text: text, plain: plain}
	if !utf8.ValidString(text) {
		r.add(at, "", "text that is not UTF-8", "")
		n.text = strings.ToValidUTF8(text, "")
		return n
	}
	if r.literal || r.env == nil || !strings.Contains(text, "$") {
		return n
	}
	replaced, found, problem, hint := r.replace(text)
	if problem != "" {
		r.add(at, "", problem, hint)
		n.broken = true
	}
	n.text = replaced
	if found {
		n.raw = text
		r.referred = append(r.referred, replaced)
	}
	return n
}

// replace returns text with references replaced, and whether it held any.
func (r *refs) replace(text string) (out string, found bool, problem, hint string) {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i+1 == len(text) {
			b.WriteString(text)
			return b.String(), found, problem, hint
		}
		b.WriteString(text[:i])
		switch text = text[i+1:]; text[0] {
		case '$':
			b.WriteByte('$')
			text = text[1:]
		case '{':
			end := strings.IndexByte(text, '}')
			if end < 0 {
				return b.String(), true, `a reference "${" without its "}"`, "a dollar alone is written $$"
			}
			found = true
			value, p, h := r.lookup(text[1:end])
			if p != "" {
				problem, hint = p, h
			}
			b.WriteString(value)
			text = text[end+1:]
		default:
			b.WriteByte('$')
		}
	}
}

// lookup returns what a reference stands for. Errors name the reference, never a value.
func (r *refs) lookup(ref string) (value, problem, hint string) {
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		return r.file(path)
	}
	name, fallback, hasFallback := strings.Cut(ref, ":-")
	if !isVariable(name) {
		return "", fmt.Sprintf("%q is no reference", shorten("${"+name+"}")),
			"${VAR}, ${VAR:-default} or ${file:path}; a dollar alone is written $$"
	}
	value, set := r.env(name)
	switch {
	case set && (value != "" || !hasFallback):
	case hasFallback:
		value = fallback
	default:
		return "", fmt.Sprintf("the environment variable %s is not set", name),
			fmt.Sprintf("set it, or write ${%s:-default}", name)
	}
	if !utf8.ValidString(value) {
		return "", fmt.Sprintf("the environment variable %s is not UTF-8", name), ""
	}
	return value, "", ""
}

func (r *refs) file(path string) (value, problem, hint string) {
	if path == "" {
		return "", "${file:} without a path", ""
	}
	full := path
	if !filepath.IsAbs(full) {
		full = filepath.Join(r.dir, full)
	}
	data, err := r.readFile(full)
	switch {
	case err != nil:
		return "", fmt.Sprintf("${file:%s}: %v", shorten(path), cause(err)), ""
	case len(data) > maxReferenced:
		return "", fmt.Sprintf("${file:%s}: larger than %d bytes", shorten(path), maxReferenced), ""
	case !utf8.Valid(data):
		return "", fmt.Sprintf("${file:%s}: not UTF-8 text", shorten(path)), ""
	}
	text := strings.TrimSuffix(string(data), "\n")
	return strings.TrimSuffix(text, "\r"), "", ""
}

func isVariable(name string) bool {
	for i, c := range []byte(name) {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '_':
		case c >= '0' && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return name != ""
}
