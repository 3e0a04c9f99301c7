// Package report is what all benchmarks share: the line that each case prints,
// interleaved pairs of measurements, and what a run must say of its machine.
//
// Machines are shared: only ratios of one run are to be trusted, so every
// figure stands beside a yardstick that was measured in turn with it, and the
// yardstick beside an anchor (crc32 over the same bytes) that shows whether the
// yardstick itself was slow.
package report

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Options of a run.
type Options struct {
	Dir   string // folder for files; on a disk where the benchmark is a durable one
	Seed  uint64
	Quick bool   // smaller, for a first look
	Only  string // case to run, a pattern as path.Match has it; "" = all
	Log   io.Writer
}

// Wants says whether a case is to be run.
func (o Options) Wants(name string) bool {
	if o.Only == "" || o.Only == name {
		return true
	}
	ok, err := path.Match(o.Only, name)
	return ok && err == nil
}

// Pairs is how many interleaved measurements a case takes.
func (o Options) Pairs() int {
	if o.Quick {
		return 3
	}
	return 5
}

// Printf says how far the run is.
func (o Options) Printf(format string, args ...any) {
	if o.Log != nil {
		fmt.Fprintf(o.Log, format+"\n", args...)
	}
}

// Subject is what a bar is held against.
type Subject uint8

// Subjects of bars.
const (
	Nothing Subject = iota // the case is for the record
	Ratio
	Figure
)

// Line is the result of one case.
type Line struct {
	Name      string
	Figure    float64
	Unit      string
	Yardstick float64 // same unit; 0 = none
	Ratio     float64 // median of the pairs' own ratios, figure to yardstick; 0 = none
	Of        Subject // of the bar
	Bar       float64
	AtLeast   bool // the bar is a lower bound
	Note      string
}

// Missed says whether the case missed its bar.
func (l Line) Missed() bool {
	v := l.Ratio
	switch l.Of {
	case Nothing:
		return false
	case Figure:
		v = l.Figure
	}
	if l.AtLeast {
		return !(v >= l.Bar)
	}
	return !(v <= l.Bar)
}

// String is the line as it is printed.
func (l Line) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-34s %12s %-9s", l.Name, number(l.Figure), l.Unit)
	if l.Yardstick != 0 {
		fmt.Fprintf(&b, " yardstick %10s", number(l.Yardstick))
	}
	if l.Ratio != 0 {
		fmt.Fprintf(&b, " ratio %6.3f", l.Ratio)
	}
	if l.Of != Nothing {
		sign, verdict := "<=", "ok"
		if l.AtLeast {
			sign = ">="
		}
		if l.Missed() {
			verdict = "MISSED"
		}
		fmt.Fprintf(&b, " bar %s %s %s", sign, number(l.Bar), verdict)
	}
	if l.Note != "" {
		fmt.Fprintf(&b, "  (%s)", l.Note)
	}
	return strings.TrimRight(b.String(), " ")
}

func number(v float64) string {
	switch {
	case v >= 1000 || v <= -1000 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// Pair holds interleaved measurements of two things.
type Pair struct {
	A, B   float64 // medians
	Ratio  float64 // median of each pair's A to B
	Ratios []float64
}

// Spread is the range of the ratios, for notes.
func (p Pair) Spread() string {
	return fmt.Sprintf("ratios %.2f to %.2f", slices.Min(p.Ratios), slices.Max(p.Ratios))
}

// Interleave measures a and b in turn n times, each first every other time.
func Interleave(n int, a, b func() (float64, error)) (Pair, error) {
	var as, bs []float64
	var p Pair
	for i := range n {
		first, second := a, b
		if i%2 == 1 {
			first, second = b, a
		}
		x, err := first()
		if err != nil {
			return Pair{}, err
		}
		y, err := second()
		if err != nil {
			return Pair{}, err
		}
		if i%2 == 1 {
			x, y = y, x
		}
		as, bs, p.Ratios = append(as, x), append(bs, y), append(p.Ratios, x/y)
	}
	p.A, p.B, p.Ratio = Median(as), Median(bs), Median(p.Ratios)
	return p, nil
}

// Median of values, which must not be empty.
func Median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
