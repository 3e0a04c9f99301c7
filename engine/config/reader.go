package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// reader decodes one value into a place of the plan and describes, for the
// JSON Schema, what it takes. One table of members per section serves both, so
// that the schema cannot fall behind.
type reader struct {
	read   func(f *findings, n *node, path string)
	schema func() schema
}

// member is a key of a section.
type member struct {
	name     string
	doc      string
	required bool
	later    bool // known, and refused in this version
	reader
}

// later is a key of a capability that this version does not have.
func later(name string) member { return member{name: name, later: true} }

// object reads a mapping of known members.
func object(members ...member) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if n.isNull() {
				n = &node{at: n.at, kind: mapping}
			}
			if n.kind != mapping {
				f.wrongType(n, path, "a mapping")
				return
			}
			for _, p := range n.pairs {
				readMember(f, members, p, path)
			}
			for _, m := range members {
				if m.required && n.get(m.name) == nil {
					f.add(n.at, path, fmt.Sprintf("%s is missing", m.name), m.doc)
				}
			}
		},
		schema: func() schema { return objectSchema(members) },
	}
}

func readMember(f *findings, members []member, p pair, path string) {
	at := join(path, p.key)
	f.places[at] = p.value.at
	i := slices.IndexFunc(members, func(m member) bool { return m.name == p.key })
	switch {
	case i < 0:
		f.add(p.at, join(path, shorten(p.key)), "unknown key", didYouMean(p.key, memberNames(members)))
	case members[i].later:
		f.add(p.at, at, "not available in this version", "")
	case p.value.broken:
	default:
		members[i].read(f, p.value, at)
	}
}

// memberNames are the keys that this version takes.
func memberNames(members []member) []string {
	var names []string
	for _, m := range members {
		if !m.later {
			names = append(names, m.name)
		}
	}
	return names
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (f *findings) wrongType(n *node, path, want string) {
	hint := ""
	if n.kind == scalar && n.plain && strings.HasPrefix(want, "text") && !n.isNull() {
		hint = fmt.Sprintf("write \"%s\" in quotes", n.shown())
	}
	f.add(n.at, path, fmt.Sprintf("%s, where %s should be", n.what(), want), hint)
}

// text reads a string, one of enum where there are any.
func text(dst *string, enum ...string) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if !n.isText() {
				f.wrongType(n, path, "text")
				return
			}
			if len(enum) > 0 && !slices.Contains(enum, n.text) {
				f.add(n.at, path, fmt.Sprintf("%s is not one of %s", n.what(), strings.Join(enum, ", ")), nearest(n, enum))
				return
			}
			*dst = n.text
		},
		schema: func() schema { return textSchema(enum) },
	}
}

// nearest is didYouMean without the list, which the error has already, and
// without a word about values that came by reference.
func nearest(n *node, known []string) string {
	if hint := didYouMean(n.text, known); n.raw == "" && strings.HasPrefix(hint, "did") {
		return hint
	}
	return ""
}

// yesNo reads true or false.
func yesNo(dst *bool) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			v, ok := n.boolean()
			if !ok {
				f.wrongType(n, path, "true or false")
				return
			}
			*dst = v
		},
		schema: func() schema { return orReference(schema{"type": "boolean"}) },
	}
}

// integer is what whole numbers, sizes and durations are stored in.
type integer interface{ ~int | ~int64 }

// whole reads a whole number between two bounds.
func whole[T integer](dst *T, lowest, highest int64) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if !n.isTyped() {
				f.wrongType(n, path, "a whole number")
				return
			}
			bounded(f, n, path, dst, parseInt, lowest, highest, func(v int64) string { return fmt.Sprint(v) })
		},
		schema: func() schema { return wholeSchema(lowest, highest) },
	}
}

// size reads a number of bytes between two bounds.
func size[T integer](dst *T, lowest, highest int64) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if n.kind != scalar {
				f.wrongType(n, path, "a size such as 16MiB")
				return
			}
			bounded(f, n, path, dst, parseSize, lowest, highest, formatSize)
		},
		schema: sizeSchema,
	}
}

// duration reads a time span between two bounds.
func duration(dst *time.Duration, lowest, highest time.Duration) reader {
	parse := func(s string) (int64, error) { d, err := parseDuration(s); return int64(d), err }
	format := func(v int64) string { return formatDuration(time.Duration(v)) }
	return reader{
		read: func(f *findings, n *node, path string) {
			if n.kind != scalar {
				f.wrongType(n, path, "a duration such as 5s")
				return
			}
			bounded(f, n, path, dst, parse, int64(lowest), int64(highest), format)
		},
		schema: durationSchema,
	}
}

// bounded parses a number and checks its range.
func bounded[T integer](f *findings, n *node, path string, dst *T,
	parse func(string) (int64, error), lowest, highest int64, format func(int64) string,
) {
	v, err := parse(n.text)
	if err != nil {
		f.add(n.at, path, fmt.Sprintf("%s: %v", n.what(), err), "")
		return
	}
	if v < lowest || v > highest {
		f.add(n.at, path, fmt.Sprintf("%s is not between %s and %s", n.what(), format(lowest), format(highest)), "")
		return
	}
	*dst = T(v)
}

// texts reads a list of strings; one string stands for a list of one.
func texts(dst *[]string, check func(f *findings, n *node, path string) bool) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			items := []*node{n}
			if n.kind == list {
				items = n.items
			} else if n.isNull() {
				return
			}
			out := make([]string, 0, len(items))
			for _, item := range items {
				switch {
				case item.broken:
				case n.kind != list && !n.isText():
					f.wrongType(item, path, "text or a list")
				case !item.isText():
					f.wrongType(item, path, "text")
				case slices.Contains(out, item.text):
					f.add(item.at, path, fmt.Sprintf("%s is there twice", item.what()), "")
				case check == nil || check(f, item, path):
					out = append(out, item.text)
				}
			}
			*dst = out
		},
		schema: textsSchema,
	}
}

// named reads a mapping from the user's own names to things. Names become
// parts of file names and addresses, so their letters are few.
func named[T any](what string, limit int, make func(name string) (T, reader), keep func(T)) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if n.isNull() {
				return
			}
			if n.kind != mapping {
				f.wrongType(n, path, "a mapping from names to "+what+"s")
				return
			}
			if len(n.pairs) > limit {
				f.add(n.at, path, fmt.Sprintf("%d %ss; at most %d are allowed", len(n.pairs), what, limit), "")
				return
			}
			for _, p := range n.pairs {
				at := join(path, p.key)
				f.places[at] = p.at
				if p.value.broken {
					continue
				}
				if !nameForm.MatchString(p.key) {
					f.add(p.at, join(path, shorten(p.key)), fmt.Sprintf("%q cannot be a name", shorten(p.key)),
						"up to 64 letters, digits, _, - and ., the first a letter or digit")
					continue
				}
				thing, r := make(p.key)
				value := p.value
				if value.isNull() {
					value = &node{at: p.at, kind: mapping}
				}
				r.read(f, value, at)
				keep(thing)
			}
		},
		schema: func() schema {
			_, r := make("name")
			return schema{
				"type": []string{"object", "null"}, "additionalProperties": r.schema(),
				"propertyNames": schema{"pattern": nameForm.String()},
			}
		},
	}
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
