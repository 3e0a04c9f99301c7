package field

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// Bytes repeated through a word.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// stops marks, by its high bit, each byte of x that ends a plain run of a
// string: a quote, a backslash, a control character or a non-ASCII byte. Marks
// above the lowest one may be false, the lowest is exact.
func stops(x uint64) uint64 {
	return (((x ^ '"'*ones) - ones) | ((x ^ '\\'*ones) - ones) | (x - ' '*ones) | x) & highs
}

// space is the place of the first byte from i on that is not white space.
func space(doc []byte, i int) int {
	for ; i < len(doc); i++ {
		if c := doc[i]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			break
		}
	}
	return i
}

// text scans the rest of a string whose opening quote stands before doc[i].
func (v *Values) text(doc []byte, i int) (end int, flags uint8) {
	for i <= len(doc)-8 {
		if m := stops(binary.LittleEndian.Uint64(doc[i:])); m != 0 {
			i += bits.TrailingZeros64(m) >> 3
			if doc[i] == '"' {
				return i + 1, 0
			}
			break
		}
		i += 8
	}
	return v.richText(doc, i)
}

// richText is text for strings with escapes or non-ASCII bytes and for the
// last bytes of a document.
func (v *Values) richText(doc []byte, i int) (end int, flags uint8) {
	for i < len(doc) {
		c := doc[i]
		switch {
		case c == '"':
			return i + 1, flags
		case c == '\\':
			flags = Escaped
			n := escape(doc[i:])
			if n <= 0 {
				return v.fail(ReasonSyntax, min(i-n, len(doc))), 0
			}
			i += n
		case c < ' ':
			return v.fail(ReasonSyntax, i), 0
		case c < utf8.RuneSelf:
			i++
		default:
			r, size := utf8.DecodeRune(doc[i:])
			if r == utf8.RuneError && size == 1 {
				return v.fail(ReasonUTF8, i), 0
			}
			i += size
			continue // another one is likely
		}
		for i <= len(doc)-8 {
			m := stops(binary.LittleEndian.Uint64(doc[i:]))
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
	}
	return v.fail(ReasonSyntax, len(doc)), 0
}

// escape is the length of the escape at the beginning of s, or, if it is not
// one, how far in the byte at fault stands, negated.
func escape(s []byte) int {
	if len(s) < 2 {
		return -len(s)
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		for i := 2; i < 6; i++ {
			if i >= len(s) || unhex(s[i]) < 0 {
				return -i
			}
		}
		return 6
	}
	return -1
}

// unhex is the value of a hexadecimal digit, -1 for any other byte.
func unhex(c byte) rune {
	switch {
	case c-'0' <= 9:
		return rune(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return -1
}

// scalar is the place after the number, true, false or null at doc[i], or the
// complement of the place of the byte at fault.
func scalar(doc []byte, i int) (end int, kind Kind, flags uint8) {
	switch doc[i] {
	case 't':
		return literal(doc, i, "true"), True, 0
	case 'f':
		return literal(doc, i, "false"), False, 0
	case 'n':
		return literal(doc, i, "null"), Null, 0
	}
	end, flags = number(doc, i)
	return end, Number, flags
}

// literal is the place after the word at doc[i], or the complement of the
// place of the byte at fault.
func literal(doc []byte, i int, word string) int {
	for j := range len(word) {
		if i+j >= len(doc) || doc[i+j] != word[j] {
			return ^(i + j)
		}
	}
	return i + len(word)
}

// number is the place after the number at doc[i], or the complement of the
// place of the byte at fault.
func number(doc []byte, i int) (end int, flags uint8) {
	flags = Integer
	if i < len(doc) && doc[i] == '-' {
		i++
	}
	if i >= len(doc) || doc[i]-'0' > 9 {
		return ^i, 0
	}
	if doc[i] == '0' {
		i++
	} else {
		i = digits(doc, i)
	}
	if i < len(doc) && doc[i] == '.' {
		flags = 0
		from := i + 1
		if i = digits(doc, from); i == from {
			return ^i, 0
		}
	}
	if i < len(doc) && doc[i]|0x20 == 'e' {
		flags = 0
		i++
		if i < len(doc) && (doc[i] == '+' || doc[i] == '-') {
			i++
		}
		from := i
		if i = digits(doc, from); i == from {
			return ^i, 0
		}
	}
	return i, flags
}

// digits is the place of the first byte from i on that is not a digit.
func digits(doc []byte, i int) int {
	for i <= len(doc)-8 {
		x := binary.LittleEndian.Uint64(doc[i:]) ^ '0'*ones
		// A byte above 9 carries into its high bit; the lowest mark is exact.
		if m := ((x + (0x7f-9)*ones) | x) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
	for uint(i) < uint(len(doc)) && doc[i]-'0' <= 9 {
		i++
	}
	return i
}
