package measure

import (
	"math"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestHistogramCountsAsASortWould holds it against a plain count.
func TestHistogramCountsAsASortWould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOf(rapid.Float64Range(0, 100)).Draw(t, "values")
		var h Histogram
		h.Seconds()
		sum := 0.0
		for _, v := range values {
			h.Observe(v, 1)
			sum += v
		}
		d := h.Read()
		if d.Count != uint64(len(values)) || math.Abs(d.Sum-sum) > 1e-9*(1+sum) {
			t.Fatalf("count %d sum %v, want %d %v", d.Count, d.Sum, len(values), sum)
		}
		upTo := uint64(0)
		for i, bound := range d.Bounds {
			upTo += d.Counts[i]
			want := uint64(0)
			for _, v := range values {
				if v <= bound {
					want++
				}
			}
			if upTo != want {
				t.Fatalf("%d values up to %v, want %d", upTo, bound, want)
			}
		}
		for _, q := range []float64{0, 0.5, 0.99, 1} {
			if v := d.Quantile(q); v < 0 || v > 60 || math.IsNaN(v) {
				t.Fatalf("quantile %v is %v", q, v)
			}
		}
	})
}

func TestQuantile(t *testing.T) {
	var h Histogram
	h.Counts()
	if got := h.Read().Quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	h.Observe(3, 98)
	h.Observe(1000, 1)
	h.Observe(1e9, 1)
	d := h.Read()
	for q, want := range map[float64][2]float64{0.5: {2, 4}, 0.98: {2, 4}, 0.99: {512, 1024}, 1: {16384, 16384}} {
		if got := d.Quantile(q); got < want[0] || got > want[1] {
			t.Errorf("quantile %v is %v, want in %v", q, got, want)
		}
	}
	var zero Histogram
	zero.Observe(7, 2)
	if d := zero.Read(); d.Count != 2 || d.Mean() != 7 || d.Quantile(0.5) != 0 {
		t.Errorf("without bounds: %+v", d)
	}
}

func TestObserveFromManyGoroutines(t *testing.T) {
	var h Histogram
	h.Bytes()
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 1000 {
				h.Observe(2, 3)
			}
		})
	}
	wait.Wait()
	if d := h.Read(); d.Count != 12_000 || d.Sum != 24_000 || d.Counts[0] != 12_000 {
		t.Errorf("%+v", d)
	}
	if n := testing.AllocsPerRun(100, func() { h.Observe(5, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
