package plugins

import (
	"math"
	"strconv"
	"unsafe"
)

// shortNumber reads the numbers that most events hold in one pass: integers of
// up to 18 characters and plain decimals of up to 15 digits. SlotAbsent = it is
// none of these.
func shortNumber(text []byte) (uint64, SlotType) {
	if len(text) == 0 || len(text) > 18 {
		return 0, SlotAbsent
	}
	start := 0
	if text[0] == '-' {
		start = 1
	}
	var m uint64 // 18 digits stay below 2^63
	point := 0
	for i := start; i < len(text); i++ {
		d := uint64(text[i] - '0')
		if d <= 9 {
			m = m*10 + d
			continue
		}
		if text[i] != '.' || point != 0 || i == start {
			return 0, SlotAbsent
		}
		point = i
	}
	if point == 0 {
		if start == 0 {
			return m, SlotInt
		}
		return -m, intUnlessZero(m)
	}
	if len(text)-start-1 > exactDigits {
		return 0, SlotAbsent
	}
	f := float64(m) / tens[len(text)-1-point] // both exact, so rounded once
	if start == 1 {
		f = -f
	}
	return math.Float64bits(f), SlotFloat
}

// intUnlessZero leaves "-0" (and a lone "-") to the slow way.
func intUnlessZero(m uint64) SlotType {
	if m == 0 {
		return SlotAbsent
	}
	return SlotInt
}

// parseInt reads an integer that fits an i64. "-0" is left to parseFloat,
// which keeps its sign.
func parseInt(text []byte) (int64, bool) {
	digits := text
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		digits = text[1:]
	}
	if len(digits) == 0 || len(digits) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range digits {
		d := uint64(c - '0')
		if d > 9 {
			return 0, false
		}
		n = n*10 + d // 19 digits stay below 2^64
	}
	if negative {
		if n == 0 || n > 1<<63 {
			return 0, false
		}
		return -int64(n), true
	}
	return int64(n), n <= math.MaxInt64
}

var tens = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// exactDigits is how many decimal digits every float64 keeps.
const exactDigits = 15

// parseFloat reads a JSON number whose decimal value survives the way to a
// float64 and back.
func parseFloat(text []byte) (float64, bool) {
	d, ok := scanDecimal(text)
	if !ok {
		return 0, false
	}
	// Both operands are exact and IEEE division and multiplication round once,
	// so the result is the nearest float.
	if d.digits <= exactDigits && d.exp >= -22 && d.exp <= 22 {
		f := float64(d.mantissa)
		if d.exp < 0 {
			f /= tens[-d.exp]
		} else {
			f *= tens[d.exp]
		}
		if d.negative {
			f = -f
		}
		return f, true
	}
	// ParseFloat keeps no reference to its argument except in an error, which
	// copies it.
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(text), len(text)), 64)
	if err != nil {
		return 0, false
	}
	if d.digits > 17 { // no float's shortest text is longer
		return 0, false
	}
	var buf [32]byte
	back, ok := scanDecimal(strconv.AppendFloat(buf[:0], f, 'e', -1, 64))
	return f, ok && back == d
}

// decimal is a number as mantissa x 10^exp without trailing zeros in the
// mantissa; zero has exp 0. Beyond 19 digits the mantissa is not kept.
type decimal struct {
	mantissa uint64
	exp      int
	digits   int
	negative bool
}

// maxExponent keeps exponents of hostile texts from overflowing an int.
const maxExponent = 1 << 20

func scanDecimal(text []byte) (decimal, bool) {
	var d decimal
	i, n := 0, len(text)
	if i < n && text[i] == '-' {
		d.negative = true
		i++
	}
	seen, zeros, fraction := 0, 0, false
	for ; i < n; i++ {
		c := text[i]
		if c == '.' && !fraction && seen > 0 {
			fraction = true
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		seen++
		if fraction {
			d.exp--
		}
		if c == '0' {
			zeros++ // counted only once a later digit makes them significant
			continue
		}
		if d.digits > 0 {
			d.digits += zeros
			for ; zeros > 0 && d.digits <= 19; zeros-- {
				d.mantissa *= 10
			}
		}
		zeros = 0
		d.digits++
		if d.digits <= 19 {
			d.mantissa = d.mantissa*10 + uint64(c-'0')
		}
	}
	if seen == 0 {
		return d, false
	}
	d.exp += zeros
	exp, ok := scanExponent(text[i:])
	if !ok {
		return d, false
	}
	d.exp += exp
	if d.digits == 0 {
		d.exp = 0
	}
	return d, true
}

func scanExponent(text []byte) (int, bool) {
	if len(text) == 0 {
		return 0, true
	}
	if text[0] != 'e' && text[0] != 'E' {
		return 0, false
	}
	text = text[1:]
	negative := false
	if len(text) > 0 && (text[0] == '+' || text[0] == '-') {
		negative = text[0] == '-'
		text = text[1:]
	}
	if len(text) == 0 {
		return 0, false
	}
	exp := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		exp = min(exp*10+int(c-'0'), maxExponent)
	}
	if negative {
		return -exp, true
	}
	return exp, true
}
