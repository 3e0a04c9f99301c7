package config

import (
	"errors"

	compiler "github.com/weir-project/weir/engine/pattern"
)

// compilePattern reports why a pattern is refused, at the place of the piece at fault.
func compilePattern(f *findings, t *jsonText) bool {
	_, err := compiler.Compile(t.data)
	if err == nil {
		return true
	}
	at, reason := t.marks[0], err.Error()
	var where *compiler.Error
	if errors.As(err, &where) {
		at, reason = t.find(where.Offset), where.Reason
	}
	if at.replaced != "" || t.hides(reason) {
		reason = "the pattern is refused for what a reference brought here"
	}
	f.add(at.at, at.path, reason, "")
	return false
}
