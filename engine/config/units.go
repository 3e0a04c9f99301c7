package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// parseInt reads a whole number as people write it: 10000 or 10_000. Leading
// zeros, hexadecimal and exponents are refused, since readers of YAML disagree
// about them.
func parseInt(text string) (int64, error) {
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || (digits[0] == '0' && len(digits) > 1) || !onlyDigits(digits) {
		return 0, fmt.Errorf("not a whole number such as 10_000")
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("too large")
	}
	return n, nil
}

// onlyDigits allows single underscores between digits.
func onlyDigits(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9':
		case c == '_' && i > 0 && i+1 < len(s) && s[i-1] != '_':
		default:
			return false
		}
	}
	return true
}

// sizeUnits are tried longest first.
var sizeUnits = []struct {
	suffix string
	bytes  float64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// parseSize reads a number of bytes: 16MiB, 1.5GB, 512B, 1048576.
func parseSize(text string) (int64, error) {
	bad := fmt.Errorf("not a size such as 16MiB")
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		number = strings.TrimRight(number, " ")
		whole, fraction, hasFraction := strings.Cut(number, ".")
		if !onlyDigits(whole) || whole == "" || (hasFraction && (fraction == "" || !onlyDigits(fraction))) {
			return 0, bad
		}
		f, err := strconv.ParseFloat(strings.ReplaceAll(number, "_", ""), 64)
		if err != nil {
			return 0, bad
		}
		if f*u.bytes >= math.MaxInt64 {
			return 0, fmt.Errorf("too large")
		}
		return int64(f * u.bytes), nil
	}
	n, err := parseInt(text)
	if err != nil || n < 0 {
		return 0, bad
	}
	return n, nil
}

// formatSize is the shortest exact spelling of a number of bytes.
func formatSize(n int64) string {
	for i := 3; i >= 0; i-- {
		if unit := int64(sizeUnits[i].bytes); n >= unit && n%unit == 0 {
			return fmt.Sprintf("%d%s", n/unit, sizeUnits[i].suffix)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// parseDuration reads 5s, 1h30m, 14d, 1d12h; days have 24 hours. A number
// without a unit is refused, except 0.
func parseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("not a duration such as 5s, 10m or 14d")
	rest := text
	var days float64
	if number, after, ok := strings.Cut(text, "d"); ok {
		f, err := strconv.ParseFloat(number, 64)
		if err != nil || f < 0 || strings.ContainsAny(number, "+-eExXpPiInN_") {
			return 0, bad
		}
		days, rest = f, after
	}
	var d time.Duration
	if rest != "" || text == "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil || strings.ContainsAny(rest, "+-") {
			return 0, bad
		}
	}
	total := days*float64(24*time.Hour) + float64(d)
	if total >= math.MaxInt64 {
		return 0, fmt.Errorf("too large")
	}
	return time.Duration(days*float64(24*time.Hour)) + d, nil
}

// formatDuration writes whole days as 14d, and leaves out zero minutes and seconds.
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
