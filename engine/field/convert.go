package field

import (
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// AppendUnescaped appends to dst what the inside of a JSON string stands for,
// as UTF-8. raw must have passed Scan. A surrogate without its other half
// becomes U+FFFD, as encoding/json has it.
func AppendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '\\' || i+1 >= len(raw) {
			dst = append(dst, c)
			i++
			continue
		}
		switch c = raw[i+1]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hexRune(raw[i:])
			i += 6
			if utf16.IsSurrogate(r) {
				if pair := utf16.DecodeRune(r, hexRune(raw[min(i, len(raw)):])); pair != utf8.RuneError {
					r = pair
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
		i += 2
	}
	return dst
}

// hexRune is the code unit of a \uXXXX escape at the beginning of s, -1 if
// there is none.
func hexRune(s []byte) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range s[2:6] {
		d := unhex(c)
		if d < 0 {
			return -1
		}
		r = r<<4 | d
	}
	return r
}

// Int64 is the value of a JSON number without fraction and exponent, and false
// where it has either or does not fit.
func Int64(raw []byte) (int64, bool) {
	digits := raw
	negative := len(raw) > 0 && raw[0] == '-'
	if negative {
		digits = raw[1:]
	}
	if len(digits) == 0 || len(digits) > 19 {
		return 0, false
	}
	var n uint64 // 19 digits fit
	for _, c := range digits {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	if negative {
		return -int64(n), n <= 1<<63
	}
	return int64(n), n <= math.MaxInt64
}

// Float64 is the number nearest to a JSON number, and whether the number comes
// back from it: whether the shortest decimal that stands for the float64 is the
// very number. It does not for one with more digits than a float64 keeps, or
// out of its range (the answer is then an infinity or zero).
func Float64(raw []byte) (f float64, exact bool) {
	d := parseDecimal(raw)
	switch top := d.exponent + d.digits; {
	case d.digits == 0:
		return 0, true
	case top > 309:
		return math.Inf(d.sign()), false
	case top < -330:
		return 0, false
	case d.digits <= 15 && d.exponent >= -22 && d.exponent <= 22:
		f = float64(d.sign()) * float64(d.mantissa) // fits 53 bits, and the power of ten is exact
		if d.exponent < 0 {
			return f / tens[-d.exponent], true
		}
		return f * tens[d.exponent], true
	}
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(raw), len(raw)), 64)
	if err != nil || d.digits > 17 {
		return f, false
	}
	var shortest [32]byte
	return f, d == parseDecimal(strconv.AppendFloat(shortest[:0], f, 'e', -1, 64))
}

// tens are the powers of ten that a float64 holds exactly.
var tens = [...]float64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// decimal is mantissa x 10^exponent; the mantissa has no zeros at its end, so
// that equal numbers of up to 19 digits are equal values.
type decimal struct {
	mantissa uint64 // of more than 19 digits the first 19
	digits   int    // of the mantissa, however many
	exponent int
	negative bool
}

func (d decimal) sign() int {
	if d.negative {
		return -1
	}
	return 1
}

// parseDecimal reads a JSON number.
func parseDecimal(raw []byte) (d decimal) {
	zeros, fraction, i := 0, false, 0 // zeros: read, not yet known to be inside the number
	if len(raw) > 0 && raw[0] == '-' {
		d.negative = true
		i++
	}
	for ; i < len(raw) && raw[i]|0x20 != 'e'; i++ {
		c := raw[i]
		if c == '.' {
			fraction = true
			continue
		}
		if fraction {
			d.exponent--
		}
		if c == '0' {
			zeros++
			continue
		}
		if d.digits > 0 {
			d.push(0, zeros)
		}
		zeros = 0
		d.push(uint64(c-'0'), 1)
	}
	if d.digits == 0 {
		return decimal{negative: d.negative}
	}
	d.exponent += zeros
	if i < len(raw) {
		d.exponent += parseExponent(raw[i+1:])
	}
	return d
}

// push appends a digit n times.
func (d *decimal) push(digit uint64, n int) {
	for range n {
		if d.digits < 19 {
			d.mantissa = d.mantissa*10 + digit
		}
		d.digits++
	}
}

// parseExponent reads what follows the e of a number. Beyond a million it
// stops counting: documents shorter than that cannot bring such a number back
// into range, and longer ones need not.
func parseExponent(raw []byte) (n int) {
	negative := len(raw) > 0 && raw[0] == '-'
	for _, c := range raw {
		if c-'0' <= 9 && n < 1_000_000 {
			n = n*10 + int(c-'0')
		}
	}
	if negative {
		return -n
	}
	return n
}
