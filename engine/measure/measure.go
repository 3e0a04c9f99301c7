// Package measure counts how long things take and how large they are.
//
// Promise: Observe takes a fixed, small number of atomic operations and allocates
// nothing, from any goroutine; a Distribution that is read meanwhile holds every
// observation that ended before, in whole or not at all. The memory of a histogram is
// fixed when it is made.
package measure

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// maxBounds is how many upper bounds a histogram may have.
const maxBounds = 24

// Histogram counts values by upper bounds. The zero value has only one bucket, for all.
type Histogram struct {
	bounds []float64
	counts [maxBounds + 1]atomic.Uint64
	sum    atomic.Uint64 // bits of a float64
}

// Distribution is what a histogram held at one moment.
type Distribution struct {
	Bounds []float64 // upper bounds of the buckets, ascending; the last bucket has none
	Counts []uint64  // by bucket, one more than Bounds; not cumulative
	Count  uint64
	Sum    float64
}

// Bounds of times in seconds and of counts.
var (
	seconds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	counts  = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384}
	bytes   = []float64{256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20}
)

// Seconds sets bounds for times, from 100 µs to a minute. It is called before the
// first Observe.
func (h *Histogram) Seconds() { h.bounds = seconds }

// Counts sets bounds for numbers of things.
func (h *Histogram) Counts() { h.bounds = counts }

// Bytes sets bounds for sizes, from 256 B to 64 MiB.
func (h *Histogram) Bytes() { h.bounds = bytes }

// Observe counts n times a value; seconds, where bounds are times.
func (h *Histogram) Observe(v float64, n uint64) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.counts[i].Add(n)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v*float64(n))) {
			return
		}
	}
}

// Since counts n times what has passed since a moment.
func (h *Histogram) Since(at time.Time, n uint64) { h.Observe(time.Since(at).Seconds(), n) }

// Read returns what was counted so far.
func (h *Histogram) Read() Distribution {
	d := Distribution{Bounds: h.bounds, Counts: make([]uint64, len(h.bounds)+1), Sum: math.Float64frombits(h.sum.Load())}
	for i := range d.Counts {
		d.Counts[i] = h.counts[i].Load()
		d.Count += d.Counts[i]
	}
	return d
}

// Quantile estimates the value below which a part q of all observations lie, evenly
// spread within a bucket; 0 where there are none, the highest bound where it lies
// above that.
func (d Distribution) Quantile(q float64) float64 {
	rank, seen := q*float64(d.Count), 0.0
	for i, n := range d.Counts {
		if n == 0 || seen+float64(n) < rank {
			seen += float64(n)
			continue
		}
		if i == len(d.Bounds) {
			break
		}
		low := 0.0
		if i > 0 {
			low = d.Bounds[i-1]
		}
		return low + (d.Bounds[i]-low)*(rank-seen)/float64(n)
	}
	if d.Count == 0 || len(d.Bounds) == 0 {
		return 0
	}
	return d.Bounds[len(d.Bounds)-1]
}

// Mean is the average, 0 where there is nothing.
func (d Distribution) Mean() float64 {
	if d.Count == 0 {
		return 0
	}
	return d.Sum / float64(d.Count)
}
