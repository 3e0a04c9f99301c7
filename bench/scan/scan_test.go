package scan

import (
	"testing"
	"time"
)

// TestRun checks that the events are what the bar speaks of and that every
// case measures something; it does not judge speed, which tests share a
// machine for.
func TestRun(t *testing.T) {
	total := 0
	events := Events(1000, 7)
	for _, doc := range events {
		total += len(doc)
	}
	if mean := total / len(events); mean < 342 || mean > 362 {
		t.Errorf("events have %d bytes on average, want about 352", mean)
	}
	results, err := Run(Options{Pairs: 1, Sample: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Scan <= 0 || r.Valid <= 0 || r.Ratio <= 0 || r.PerScan <= 0 {
			t.Errorf("nothing measured: %v", r)
		}
		t.Log(r)
	}
}

func BenchmarkPairs(b *testing.B) {
	for b.Loop() {
		results, err := Run(Options{})
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range results {
			b.Log(r)
		}
	}
}
