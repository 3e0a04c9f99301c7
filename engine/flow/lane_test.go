package flow

import "testing"

// BenchmarkHeldKey is what it costs that as many events of one key as the in-flight
// limit allows wait for a sink outside of the commit.
func BenchmarkHeldKey(b *testing.B) {
	const events = 10_000
	c := &chunk{items: make([]item, events)}
	for b.Loop() {
		clear(c.items)
		l := &lane{held: map[uint64][]ref{}}
		for i := range c.items {
			r := ref{c, uint32(i)}
			c.items[i].pending = 1
			if l.mustWait(r) {
				b.Fatal("nothing follows another event")
			}
			l.finish(r)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}
