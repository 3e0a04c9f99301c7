package field

import "math/bits"

// skip validates the object or array at doc[i], in which nothing is wanted.
// depth counts it. It keeps its own stack, one bit a level.
func (v *Values) skip(doc []byte, i, depth int) int {
	const bitsAWord = 64
	var objects uint64 // lowest bit: the innermost container is an object
	level := 0
	for {
		// A value begins at doc[i].
		if i >= len(doc) {
			return v.fail(ReasonSyntax, i)
		}
		switch c := doc[i]; c {
		case '"':
			i, _ = v.text(doc, i+1)
		case '{', '[':
			if depth+level > v.depth {
				return v.fail(ReasonDepth, i)
			}
			if level == bitsAWord {
				i = v.skip(doc, i, depth+level)
				break
			}
			level++
			objects <<= 1
			i = space(doc, i+1)
			closing := byte(']')
			if c == '{' {
				objects |= 1
				closing = '}'
			}
			if i < len(doc) && doc[i] == closing {
				i++
				level--
				objects >>= 1
				break
			}
			if c == '{' {
				i = v.skipName(doc, i)
			}
			if i < 0 {
				return -1
			}
			continue
		default:
			if i, _, _ = scalar(doc, i); i < 0 {
				return v.fail(ReasonSyntax, ^i)
			}
		}
		if i < 0 {
			return -1
		}
		if i, level, objects = v.skipClosing(doc, i, level, objects); i < 0 || level == 0 {
			return i
		}
	}
}

// skipClosing goes on after a value in skip: over closing brackets and then
// over the comma (and name) before the next value.
func (v *Values) skipClosing(doc []byte, i, level int, objects uint64) (int, int, uint64) {
	for level > 0 {
		if uint(i) < uint(len(doc)) && doc[i] <= ' ' {
			i = space(doc, i)
		}
		if uint(i) >= uint(len(doc)) {
			return v.fail(ReasonSyntax, i), 0, 0
		}
		c := doc[i]
		if c == ',' {
			if objects&1 != 0 {
				return v.skipName(doc, i+1), level, objects
			}
			return space(doc, i+1), level, objects
		}
		if c != ']'+byte(objects&1)*('}'-']') {
			return v.fail(ReasonSyntax, i), 0, 0
		}
		i++
		level--
		objects >>= 1
	}
	return i, 0, 0
}

// skipName scans a name in skip, with white space before it, and its colon.
func (v *Values) skipName(doc []byte, i int) int {
	if uint(i) < uint(len(doc)) && doc[i] <= ' ' {
		i = space(doc, i)
	}
	if uint(i) >= uint(len(doc)) || doc[i] != '"' {
		return v.fail(ReasonSyntax, min(i, len(doc)))
	}
	if i < len(doc)-8 {
		m := stops(word(doc, i+1))
		if end := i + 1 + bits.TrailingZeros64(m)>>3; m != 0 && doc[end] == '"' && end+1 < len(doc) && doc[end+1] == ':' {
			if i = end + 2; i < len(doc) && doc[i] <= ' ' {
				i = space(doc, i)
			}
			return i
		}
	}
	if i, _ = v.text(doc, i+1); i < 0 {
		return -1
	}
	return v.colon(doc, i)
}
