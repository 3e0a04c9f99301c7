package event

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// TimeError says why a text is no time. Its values are shared: compare Reason.
type TimeError struct{ Reason string }

func (e *TimeError) Error() string { return "time " + e.Reason }

var (
	errTimeKind   = &TimeError{"is no string"}
	errTimeForm   = &TimeError{"is not RFC 3339"}
	errTimeRange  = &TimeError{"is out of range"}
	errTimeOffset = &TimeError{"has no offset from UTC: set missing.zone"}
	errTimeBare   = &TimeError{"has no offset from UTC"}
	errTimeEpoch  = &TimeError{"is a number: set missing.epoch_unit"}
)

// instant is a time as seconds since 1970 and nanoseconds.
type instant struct {
	sec  int64
	nsec int32
}

func (i instant) time() time.Time { return time.Unix(i.sec, int64(i.nsec)).UTC() }

// unixNano saturates: RFC 3339 reaches from year 0 to 9999, nanoseconds only
// from 1677 to 2262.
func (i instant) unixNano() int64 {
	if i.sec >= math.MaxInt64/1_000_000_000 {
		return math.MaxInt64
	}
	if i.sec <= math.MinInt64/1_000_000_000 {
		return math.MinInt64
	}
	return i.sec*1_000_000_000 + int64(i.nsec)
}

// CheckTime reads an attribute's time from its raw JSON value (a string's
// content without quotes is taken as well). It accepts every RFC 3339 text:
// any number of fraction digits (those past nanoseconds are cut), a leap
// second at 23:59:60 UTC (read as the next second), lower-case t and z; and
// what the layout's innermost envelope allows beyond: no offset where
// m.Zone is set, a number where m.EpochUnit is set. Times outside of what
// nanoseconds in 64 bits reach come back as the nearest end. It does not
// allocate unless the text holds JSON escapes.
func CheckTime(raw []byte, l *Layout, m Missing) (unixNano int64, err *TimeError) {
	i, err := readTime(raw, l.inner(), m)
	return i.unixNano(), err
}

func readTime(raw []byte, e Envelope, m Missing) (instant, *TimeError) {
	if len(raw) == 0 {
		return instant{}, errTimeForm
	}
	text := raw
	switch c := raw[0]; {
	case c == '"':
		if len(raw) < 2 {
			return instant{}, errTimeForm
		}
		text = raw[1 : len(raw)-1]
	case c == 't', c == 'f', c == 'n', c == '{', c == '[':
		return instant{}, errTimeKind
	}
	i, bare, err := parseTime(text)
	if err == nil && !bare {
		return i, nil
	}
	if err == nil {
		return zoned(i, e, m)
	}
	if raw[0] != '"' && e == EventHub {
		return parseEpoch(raw, m.EpochUnit)
	}
	return unescapedTime(raw, e, m, err)
}

// unescapedTime tries a string with JSON escapes in it, which are legal if odd.
func unescapedTime(raw []byte, e Envelope, m Missing, err *TimeError) (instant, *TimeError) {
	escaped := false
	for _, c := range raw {
		escaped = escaped || c == '\\'
	}
	if !escaped || raw[0] != '"' {
		return instant{}, err
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return instant{}, err
	}
	i, bare, err := parseTime([]byte(text))
	if err == nil && bare {
		return zoned(i, e, m)
	}
	return i, err
}

// zoned gives a time without an offset the configured zone.
func zoned(i instant, e Envelope, m Missing) (instant, *TimeError) {
	if !envelopes[e].zone {
		return instant{}, errTimeBare
	}
	if m.Zone == nil {
		return instant{}, errTimeOffset
	}
	if m.Zone != time.UTC {
		t := i.time()
		y, mo, d := t.Date()
		h, mi, s := t.Clock()
		i.sec = time.Date(y, mo, d, h, mi, s, 0, m.Zone).Unix()
	}
	if i.sec < firstSecond || i.sec > lastSecond {
		return i, errTimeRange // no text in UTC could say it
	}
	return i, nil
}

// The seconds of the years 0 and 9999 at the ends of RFC 3339.
const (
	firstSecond = -62167219200
	lastSecond  = 253402300799
)

// digits2 reads two decimal digits; anything else gives 255 or more.
func digits2(b []byte, i int) uint {
	hi, lo := uint(b[i]-'0'), uint(b[i+1]-'0')
	if hi > 9 || lo > 9 {
		return 255
	}
	return hi*10 + lo
}

var daysIn = [...]uint8{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// daysBefore counts the days of a common year before a month.
var daysBefore = [...]uint16{0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334}

// parseTime reads RFC 3339, and says whether the offset is lacking (bare; the
// instant is then as if in UTC).
func parseTime(b []byte) (i instant, bare bool, err *TimeError) {
	if len(b) < len("2006-01-02T15:04:05") || b[4] != '-' || b[7] != '-' || b[10]|0x20 != 't' || b[13] != ':' || b[16] != ':' {
		return i, false, errTimeForm
	}
	century, decade := digits2(b, 0), digits2(b, 2)
	month, day := digits2(b, 5), digits2(b, 8)
	hour, minute, second := digits2(b, 11), digits2(b, 14), digits2(b, 17)
	if century|decade|month|day|hour|minute|second >= 128 {
		return i, false, errTimeForm
	}
	year := century*100 + decade
	leap := year%4 == 0 && (year%100 != 0 || year%400 == 0)
	if month-1 > 11 || day == 0 || hour > 23 || minute > 59 || second > 60 ||
		day > uint(daysIn[month]) && (!leap || month != 2 || day != 29) {
		return i, false, errTimeRange
	}
	days := int64(year)*365 + int64(year+3)/4 - int64(year+99)/100 + int64(year+399)/400 + int64(daysBefore[month]) + int64(day) - 1
	if leap && month > 2 {
		days++
	}
	const epochDays = 719528 // from the first day of year 0 to 1970
	i.sec = (days-epochDays)*86400 + int64(hour*3600+minute*60+second)

	rest := b[19:]
	if len(rest) > 0 && rest[0] == '.' {
		n := 1
		scale := int32(100_000_000)
		for ; n < len(rest) && rest[n]-'0' <= 9; n++ {
			i.nsec += int32(rest[n]-'0') * scale
			scale /= 10
		}
		if n == 1 {
			return i, false, errTimeForm
		}
		rest = rest[n:]
	}
	switch {
	case len(rest) == 0:
		bare = true
	case len(rest) == 1 && rest[0]|0x20 == 'z':
	case len(rest) == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		h, m := digits2(rest, 1), digits2(rest, 4)
		if h|m >= 128 {
			return i, false, errTimeForm
		}
		if h > 23 || m > 59 {
			return i, false, errTimeRange
		}
		offset := int64(h*3600 + m*60)
		if rest[0] == '+' {
			offset = -offset
		}
		i.sec += offset
	default:
		return i, false, errTimeForm
	}
	// A leap second is the last of a UTC day, hence already the next day's first.
	if second == 60 && !bare && i.sec%86400 != 0 {
		return i, false, errTimeRange
	}
	return i, bare, nil
}

// parseEpoch reads a JSON number in the configured unit; fractions are taken
// to the nanosecond, exponents are refused.
func parseEpoch(raw []byte, unit string) (instant, *TimeError) {
	var digits int // decimal places down to nanoseconds
	switch unit {
	case "s":
		digits = 9
	case "ms":
		digits = 6
	case "us":
		digits = 3
	case "ns":
		digits = 0
	default:
		return instant{}, errTimeEpoch
	}
	negative := raw[0] == '-'
	if negative {
		raw = raw[1:]
	}
	whole, fraction := raw, []byte(nil)
	for n, c := range raw {
		if c == '.' {
			whole, fraction = raw[:n], raw[n+1:]
			break
		}
	}
	for _, part := range [2][]byte{whole, fraction} {
		for _, c := range part {
			if c < '0' || c > '9' {
				return instant{}, errTimeForm
			}
		}
	}
	n, err := strconv.ParseInt(string(whole), 10, 64)
	if err != nil {
		return instant{}, errTimeRange
	}
	perSecond := int64(math.Pow10(9 - digits))
	nanos := (n % perSecond) * int64(math.Pow10(digits))
	scale := int64(math.Pow10(digits)) / 10
	for _, c := range fraction {
		nanos += int64(c-'0') * scale
		scale /= 10
	}
	sec := n / perSecond
	if negative {
		sec, nanos = -sec, -nanos
		if nanos < 0 {
			sec, nanos = sec-1, nanos+1e9
		}
	}
	if sec < firstSecond || sec > lastSecond {
		return instant{}, errTimeRange
	}
	return instant{sec, int32(nanos)}, nil
}
