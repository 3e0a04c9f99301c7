package pattern

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Error is why a pattern does not compile.
type Error struct {
	Offset       int    // byte at fault in the pattern's text
	Line, Column int    // the same from 1, the column in characters
	Reason       string // what is wrong and what would be right
}

// Error says where and why.
func (e *Error) Error() string {
	return fmt.Sprintf("compile pattern: line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// refuse makes the error for the byte at offset at.
func refuse(text []byte, at int, format string, args ...any) *Error {
	at = min(at, len(text))
	before := text[:at]
	return &Error{
		Offset: at,
		Line:   bytes.Count(before, []byte("\n")) + 1,
		Column: utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1,
		Reason: fmt.Sprintf(format, args...),
	}
}
