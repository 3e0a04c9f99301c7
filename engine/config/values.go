package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones by name on machines that have no database of them
)

// use is a place that names a thing, checked once all things are known.
type use struct {
	what string // source, sink, plug-in
	name string
	at   place
	path string
	raw  string
}

// names reads the names of things of one sort.
func (f *file) names(dst *[]string, what string) reader {
	return texts(dst, func(_ *findings, n *node, path string) bool {
		f.uses = append(f.uses, use{what, n.text, n.at, path, n.raw})
		return true
	})
}

// one reads a single name.
func (f *file) one(dst *[]string, what string) reader {
	return reader{
		read: func(fs *findings, n *node, path string) {
			if !n.isText() {
				fs.wrongType(n, path, "the name of a "+what)
				return
			}
			f.names(dst, what).read(fs, n, path)
		},
		schema: func() schema { return schema{"type": "string"} },
	}
}

// withCheck runs a check after a reader.
func withCheck(r reader, check func(f *findings, n *node, path string)) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			r.read(f, n, path)
			check(f, n, path)
		},
		schema: r.schema,
	}
}

// switchable reads a section that true and false may stand for.
func switchable(on *bool, r reader) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if v, ok := n.boolean(); ok {
				*on = v
				return
			}
			if n.isNull() {
				return
			}
			*on = true
			if n.kind != mapping {
				f.wrongType(n, path, "a mapping, true or false")
				return
			}
			r.read(f, n, path)
		},
		schema: func() schema { return schema{"anyOf": []schema{{"type": []string{"boolean", "null"}}, r.schema()}} },
	}
}

// uriReference reads an event's source.
func uriReference(dst *string) reader {
	return withCheck(text(dst), func(f *findings, n *node, path string) {
		if *dst == "" {
			return
		}
		if _, err := url.Parse(*dst); err != nil || strings.ContainsAny(*dst, " \t\n<>\"{}|\\^`") {
			f.add(n.at, path, fmt.Sprintf("%s is not a URI reference such as /shop/orders", n.what()), "")
		}
	})
}

// zone reads a time zone by its name.
func zone(dst **time.Location) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			var name string
			if text(&name).read(f, n, path); name == "" {
				return
			}
			loc, err := time.LoadLocation(name)
			if err != nil || name == "Local" {
				f.add(n.at, path, fmt.Sprintf("%s is not a time zone", n.what()), "such as UTC or Europe/Berlin")
				return
			}
			*dst = loc
		},
		schema: func() schema { return schema{"type": "string"} },
	}
}

// fieldPath reads the path of one field.
func fieldPath(dst *string) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			var written string
			before := len(f.mistakes)
			if text(&written).read(f, n, path); len(f.mistakes) > before {
				return
			}
			if p, ok := readField(f, n, path, written); ok {
				*dst = p
			}
		},
		schema: func() schema { return schema{"type": "string"} },
	}
}

func fieldPaths(dst *[]string) reader {
	r := texts(dst, func(f *findings, n *node, path string) bool {
		_, ok := readField(f, n, path, n.text)
		return ok
	})
	return withCheck(r, func(f *findings, n *node, path string) {
		for i, written := range *dst {
			(*dst)[i] = canonicalField(written)
		}
		if n.kind == list && len(n.items) == 0 {
			f.add(n.at, path, "must name a field", "")
		}
	})
}

func readField(f *findings, n *node, path, written string) (string, bool) {
	if problem, hint := checkField(written); problem != "" {
		if n.raw != "" {
			problem, hint = "brings no field path", ""
		}
		f.add(n.at, path, n.what()+" "+problem, hint)
		return "", false
	}
	return canonicalField(written), true
}

// fieldRoots are the names at the top of an event, beside extension attributes.
var fieldRoots = []string{
	"id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data",
	"detail-type", "detail", "account", "region", "resources",
}

// maxFieldDepth bounds the names of one path.
const maxFieldDepth = 32

// checkField says why a path can lead to no field of an event.
func checkField(path string) (problem, hint string) {
	names := strings.Split(path, ".")
	switch {
	case path == "":
		return "is no field path", "such as data.order_id"
	case slices.Contains(names, ""):
		return "is no field path: a name between dots is empty", ""
	case len(names) > maxFieldDepth:
		return fmt.Sprintf("is deeper than %d names", maxFieldDepth), ""
	}
	root := names[0]
	if !slices.Contains(fieldRoots, root) && !isExtension(root) {
		return "is no field of an event", rootHint(root)
	}
	if len(names) > 1 && root != "data" && root != "detail" {
		return fmt.Sprintf("is no field path: %s holds no further fields", root), "data of an event stands under data."
	}
	return "", ""
}

// rootHint suggests a name at the top of an event, where that is near enough.
func rootHint(root string) string {
	if hint := didYouMean(root, fieldRoots); strings.HasPrefix(hint, "did") {
		return hint
	}
	return "id, source, type, subject, time, data.*, or an extension in small letters and digits"
}

// isExtension is true for names that CloudEvents allows attributes to have.
func isExtension(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// spellings are EventBridge's names for canonical ones.
var spellings = map[string]string{
	"detail-type": "type",
	"detail":      "data",
	"account":     "awsaccount",
	"region":      "awsregion",
	"resources":   "awsresources",
}

// canonicalField writes a path with the canonical name at its top. detail
// stays: inside it the untouched data of an EventBridge envelope begins, which
// may hold another envelope.
func canonicalField(path string) string {
	root, rest, nested := strings.Cut(path, ".")
	if nested || root == "detail" {
		return path
	}
	if name, ok := spellings[root]; ok {
		return name
	}
	return root + rest
}

func contains(names []string, name string) bool { return slices.Contains(names, name) }
