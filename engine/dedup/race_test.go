package dedup

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// I5: lanes that meet the same identities at the same time have one effect of
// each, whatever fails in between, and every event is settled once.
func TestI5LanesShareATable(t *testing.T) {
	const lanes, ids, repeats = 4, 5000, 3
	tb := New[int](Config{MaxIDs: ids * 2})
	effects := make([]atomic.Int32, ids)
	settled := make([]atomic.Int32, ids*repeats*lanes)
	var lane sync.WaitGroup
	for l := range lanes {
		lane.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(l)))
			var followers []Follower[int]
			finish := func(ref int, tok Token) {
				for again := true; again; {
					again = false
					followers = followers[:0]
					if rng.IntN(4) == 0 {
						followers = tb.Release(0, tok, followers)
						settled[ref].Add(1)
					} else {
						effects[ref%ids].Add(1)
						followers = tb.Commit(0, []Token{tok}, followers)
						settled[ref].Add(1)
					}
					for _, f := range followers {
						if f.Verdict.Holds() {
							ref, tok, again = f.Ref, f.Token, true
							continue
						}
						settled[f.Ref].Add(1)
					}
				}
			}
			for k := 0; k < ids*repeats; k += 16 {
				var reqs []Request[int]
				for i := k; i < min(k+16, ids*repeats); i++ {
					ref := l*ids*repeats + i
					hi, lo := fingerprint(uint64(ref%ids) + 1)
					reqs = append(reqs, Request[int]{Hi: hi, Lo: lo, Ref: ref})
				}
				out := make([]Claim, len(reqs))
				tb.Claim(0, reqs, out)
				for i, c := range out {
					switch c.Verdict {
					case Fresh:
						finish(reqs[i].Ref, c.Token)
					case Duplicate:
						settled[reqs[i].Ref].Add(1)
					case Follows:
					default:
						t.Errorf("verdict %v", c.Verdict)
					}
				}
				tb.Look(0, reqs[0].Hi, reqs[0].Lo)
			}
		})
	}
	lane.Go(func() {
		for range 20 {
			if err := tb.Snapshot(func([]byte) error { return nil }); err != nil {
				t.Error(err)
			}
			tb.Len()
			tb.Bytes()
			tb.Evicted()
		}
	})
	lane.Wait()
	if n := tb.InFlight(); n != 0 {
		t.Errorf("%d claims are left", n)
	}
	for i := range settled {
		if n := settled[i].Load(); n != 1 {
			t.Fatalf("event %d was settled %d times", i, n)
		}
	}
	for i := range effects {
		if n := effects[i].Load(); n > 1 {
			t.Fatalf("identity %d had %d effects", i, n)
		}
	}
}

// In steady state, with ids coming and expiring, nothing is allocated.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	tb := New[int](Config{Window: time.Second, MaxIDs: 1 << 17})
	rng := rand.New(rand.NewPCG(1, 1))
	reqs, out, toks := make([]Request[int], batch), make([]Claim, batch), make([]Token, batch)
	followers := make([]Follower[int], 0, batch)
	now := time.Duration(0)
	step := func() {
		now += time.Millisecond
		for i := range reqs {
			reqs[i] = Request[int]{Hi: rng.Uint64(), Lo: rng.Uint64()}
		}
		tb.Claim(now, reqs, out)
		for i := range out {
			toks[i] = out[i].Token
		}
		followers = tb.Commit(now, toks, followers[:0])
	}
	for range 10_000 {
		step()
	}
	if n := testing.AllocsPerRun(2000, step); n > 0 {
		t.Fatalf("%v allocations a batch", n)
	}
	if n := tb.Len(); n < 64_000 || n > 64_000+64*1024 {
		t.Fatalf("%d ids are held of 64,000 inside the window", n)
	}
	if tb.Evicted() != 0 {
		t.Fatal("the count bound was met")
	}
	before := tb.Bytes()
	tb.Expire(now + time.Hour)
	if after := tb.Bytes(); after > before/2 {
		t.Fatalf("%d bytes of %d are kept for an empty window", after, before)
	}
}
