package pattern

import (
	"strings"
	"unicode"
	"unsafe"
)

// folded is an operand of equals-ignore-case: for each character the spellings
// that an event may have in its place. Spellings of one character begin and
// end differently, so that an event is read without backtracking.
type folded [][]string

// fold lists the spellings of each character of s: its lower and its upper
// case, which may be several characters, and itself.
func fold(s string) folded {
	f := make(folded, 0, len(s))
	for _, r := range s {
		upper, long := longUpper[r]
		if !long {
			upper = string(unicode.ToUpper(r))
		}
		lower := string(unicode.ToLower(r))
		if r == 'İ' {
			lower = "i̇"
		}
		spellings := []string{lower}
		for _, other := range []string{upper, string(r)} {
			if other != lower && (other != upper || len(spellings) == 1) {
				spellings = append(spellings, other)
			}
		}
		f = append(f, spellings)
	}
	return f
}

// prefix is the number of bytes at the beginning of text that spell the whole
// of f, -1 if they do not.
func (f folded) prefix(text []byte) int {
	at := 0
	for _, spellings := range f {
		n := -1
		for _, s := range spellings {
			if rest := text[at:]; len(rest) >= len(s) && string(rest[:len(s)]) == s {
				n = len(s)
				break
			}
		}
		if n < 0 {
			return -1
		}
		at += n
	}
	return at
}

// suffix reports whether text ends with a spelling of f.
func (f folded) suffix(text []byte) bool {
	for i := len(f) - 1; i >= 0; i-- {
		n := -1
		for _, s := range f[i] {
			if at := len(text) - len(s); at >= 0 && string(text[at:]) == s {
				n = len(s)
				break
			}
		}
		if n < 0 {
			return false
		}
		text = text[:len(text)-n]
	}
	return true
}

// wildcard is an operand of wildcard: the literal runs between the stars.
type wildcard []string

// parseWildcard reads stars and the escapes \* and \\. Where the operand is
// wrong it says what is.
func parseWildcard(s string) (w wildcard, wrong string) {
	run := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '*':
			if i+1 < len(s) && s[i+1] == '*' {
				return nil, `two stars in a row: one star stands for any run of characters already`
			}
			w, run = append(w, string(run)), run[:0]
		case '\\':
			if i++; i >= len(s) || s[i] != '*' && s[i] != '\\' {
				return nil, `a backslash must be followed by * or by another backslash (in JSON: "\\*" or "\\\\")`
			}
			run = append(run, s[i])
		default:
			run = append(run, c)
		}
	}
	return append(w, string(run)), ""
}

// match takes each run at its first place after the one before, which finds a
// match if there is one.
func (w wildcard) match(text []byte) bool {
	first, last := w[0], w[len(w)-1]
	if len(w) == 1 {
		return string(text) == first
	}
	if len(text) < len(first)+len(last) || string(text[:len(first)]) != first || string(text[len(text)-len(last):]) != last {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, run := range w[1 : len(w)-1] {
		at := strings.Index(view(text), run)
		if at < 0 {
			return false
		}
		text = text[at+len(run):]
	}
	return true
}

// view is text as a string, without a copy; text must outlive it unchanged.
func view(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }
