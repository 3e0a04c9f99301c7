package config

import (
	"bytes"
	"fmt"
	"time"
)

// listed reads a list of things.
func listed[T any](what string, limit int, make func() (T, reader), keep func(T)) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if n.kind != list {
				f.wrongType(n, path, "a list")
				return
			}
			if len(n.items) > limit {
				f.add(n.at, path, fmt.Sprintf("%d %s; at most %d are allowed", len(n.items), what, limit), "")
				return
			}
			for i, item := range n.items {
				thing, r := make()
				r.read(f, item, fmt.Sprintf("%s[%d]", path, i))
				keep(thing)
			}
		},
		schema: func() schema {
			_, r := make()
			return schema{"type": "array", "items": r.schema()}
		},
	}
}

// byName reads a mapping from names that are defined elsewhere.
func byName[T any](dst *map[string]T, value func(*T) reader) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if n.kind != mapping {
				f.wrongType(n, path, "a mapping")
				return
			}
			*dst = map[string]T{}
			for _, p := range n.pairs {
				at := join(path, p.key)
				f.places[at] = p.at
				var v T
				value(&v).read(f, p.value, at)
				(*dst)[p.key] = v
			}
		},
		schema: func() schema {
			return schema{"type": "object", "additionalProperties": value(new(T)).schema()}
		},
	}
}

// instant reads a time.
func instant(dst *time.Time) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			at, err := time.Parse(time.RFC3339, n.text)
			if n.kind != scalar || err != nil {
				f.add(n.at, path, n.what()+" is no time", "such as 2026-01-02T03:04:05Z")
				return
			}
			*dst = at
		},
		schema: func() schema { return schema{"type": "string", "format": "date-time"} },
	}
}

// nonBlankLines splits a text into its lines, without those that hold nothing.
func nonBlankLines(text []byte) (lines [][]byte) {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			lines = append(lines, line)
		}
	}
	return lines
}
