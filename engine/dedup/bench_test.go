package dedup

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkClaimCommit is the way of new identities through the table in
// batches of 64, with the usual number in flight.
func BenchmarkClaimCommit(b *testing.B) {
	for _, held := range []int{1 << 16, 1 << 20} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			b.ReportAllocs()
			t := New[uint32](Config{Window: time.Hour, MaxIDs: held})
			rng := rand.New(rand.NewPCG(1, 2))
			reqs := make([]Request[uint32], batch)
			out := make([]Claim, batch)
			var followers []Follower[uint32]
			const inFlight = 64 // batches
			pending := make([][batch]Token, inFlight)
			step := func(i int) {
				for j := range reqs {
					reqs[j] = Request[uint32]{Hi: rng.Uint64(), Lo: rng.Uint64(), Data: 1}
				}
				now := time.Duration(i) * time.Microsecond
				t.Claim(now, reqs, out)
				p := &pending[i%inFlight]
				followers = t.Commit(now, p[:], followers[:0])
				for j := range out {
					p[j] = out[j].Token
				}
			}
			for i := range held / batch * 3 / 2 {
				step(i)
			}
			b.ResetTimer()
			for i := 0; i < b.N; i += batch {
				step(i / batch)
			}
		})
	}
}

func BenchmarkGrow(b *testing.B) {
	const n = 10_000_000
	fps := make([][2]uint64, n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range fps {
		fps[i] = [2]uint64{rng.Uint64(), rng.Uint64()}
	}
	b.Run("table", func(b *testing.B) {
		for range b.N {
			t := New[uint32](Config{Window: time.Hour, MaxIDs: n})
			reqs := make([]Request[uint32], batch)
			out := make([]Claim, batch)
			toks := make([]Token, batch)
			for i := 0; i < n; i += batch {
				for j := range reqs {
					reqs[j] = Request[uint32]{Hi: fps[i+j][0], Lo: fps[i+j][1], Data: 1}
				}
				t.Claim(0, reqs, out)
				for j := range out {
					toks[j] = out[j].Token
				}
				t.Commit(0, toks, nil)
			}
			b.ReportMetric(float64(t.Bytes())/n, "B/id")
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/id")
	})
	b.Run("map", func(b *testing.B) {
		for range b.N {
			m := map[[2]uint64]struct{}{}
			for i := range fps {
				m[fps[i]] = struct{}{}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/id")
	})
}
