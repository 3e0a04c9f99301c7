package config

import (
	"fmt"
	"slices"
	"strings"
)

// Mistake is one finding, with the place it stands at. Line and Column count
// from 1, columns in characters; they are 0 for what comes from a flag or the
// environment, which File then names.
type Mistake struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Path   string `json:"path,omitempty"` // such as routes.deliveries.to
	Error  string `json:"error"`
	Hint   string `json:"hint,omitempty"` // such as: did you mean "kitchen"?
}

// String is the mistake on one line, as
// weir.yaml:12:7: routes.deliveries.to: no sink "kichen" (did you mean "kitchen"?).
func (m Mistake) String() string {
	var b strings.Builder
	if m.File != "" {
		b.WriteString(m.File)
		if m.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", m.Line, m.Column)
		}
		b.WriteString(": ")
	}
	if m.Path != "" {
		b.WriteString(m.Path + ": ")
	}
	b.WriteString(m.Error)
	if m.Hint != "" {
		b.WriteString(" (" + m.Hint + ")")
	}
	return b.String()
}

// Errors are all mistakes of a configuration, sorted by place.
type Errors struct {
	Mistakes []Mistake
}

// Error lists the mistakes, one a line.
func (e *Errors) Error() string {
	lines := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// place is where a value stands.
type place struct {
	file         string
	line, column int
}

// sortMistakes orders by file, line and column, and drops repetitions.
func sortMistakes(ms []Mistake) []Mistake {
	slices.SortStableFunc(ms, func(a, b Mistake) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		if a.Column != b.Column {
			return a.Column - b.Column
		}
		return strings.Compare(a.Path+a.Error, b.Path+b.Error)
	})
	return slices.Compact(ms)
}

// parentPath cuts the last part of a dotted path.
func parentPath(path string) string {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[:i]
	}
	return ""
}
