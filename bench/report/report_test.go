package report

import (
	"strings"
	"testing"
)

func TestMissed(t *testing.T) {
	cases := []struct {
		l    Line
		want bool
	}{
		{Line{Ratio: 9, Bar: 1}, false},
		{Line{Ratio: 1, Of: Ratio, Bar: 1}, false},
		{Line{Ratio: 1.01, Of: Ratio, Bar: 1}, true},
		{Line{Figure: 41, Ratio: 0.1, Of: Figure, Bar: 40}, true},
		{Line{Figure: 41, Of: Figure, Bar: 40, AtLeast: true}, false},
		{Line{Figure: 39, Of: Figure, Bar: 40, AtLeast: true}, true},
	}
	for _, c := range cases {
		if c.l.Missed() != c.want {
			t.Errorf("%+v: missed %v, want %v", c.l, !c.want, c.want)
		}
		if got := strings.Contains(c.l.String(), "MISSED"); got != c.want {
			t.Errorf("%q says MISSED: %v", c.l.String(), got)
		}
	}
}

func TestInterleaveTakesTurns(t *testing.T) {
	var order string
	side := func(name string, values ...float64) func() (float64, error) {
		i := -1
		return func() (float64, error) { order += name; i++; return values[i], nil }
	}
	p, err := Interleave(3, side("a", 2, 8, 3), side("b", 1, 2, 3))
	if err != nil || order != "abbaab" {
		t.Fatalf("order %q, %v", order, err)
	}
	if p.A != 3 || p.B != 2 || p.Ratio != 2 {
		t.Fatalf("%+v", p)
	}
}

func TestMedian(t *testing.T) {
	if m := Median([]float64{3, 1, 2}); m != 2 {
		t.Errorf("median %v", m)
	}
	if m := Median([]float64{4, 1, 2, 3}); m != 2.5 {
		t.Errorf("median %v", m)
	}
}
