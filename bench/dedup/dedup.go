// Package dedup measures engine/dedup: ten million new identities claimed and
// committed, beside the same put into a Go map of 16-byte keys. Times are
// processor time of the one thread that does it; both begin with an empty heap.
package dedup

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/weir-project/weir/bench/report"
	"github.com/weir-project/weir/engine/dedup"
)

// The bars.
const (
	barTime  = 1.0 // of the map's
	barBytes = 40  // an id
)

const batch = 64

// Run measures.
func Run(o report.Options) ([]report.Line, error) {
	n := 10_000_000
	if o.Quick {
		n = 2_000_000
	}
	keys := make([][16]byte, n)
	r := rand.New(rand.NewPCG(o.Seed, 128))
	for i := range keys {
		binary.LittleEndian.PutUint64(keys[i][:], r.Uint64())
		binary.LittleEndian.PutUint64(keys[i][8:], r.Uint64())
	}
	lines := []report.Line{report.AnchorLine(unsafe.Slice(&keys[0][0], 16*n))}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var heap, said float64 // bytes an id
	table := func() (float64, error) {
		before := emptyHeap()
		start := report.ThreadTime()
		t, err := claimAndCommit(keys)
		took := report.ThreadTime() - start
		if err != nil {
			return 0, err
		}
		heap, said = float64(liveHeap()-before)/float64(n), float64(t.Bytes())/float64(n)
		runtime.KeepAlive(t)
		o.Printf("dedup: table %v", took.Round(time.Millisecond))
		return float64(took.Nanoseconds()) / float64(n), nil
	}
	goMap := func() (float64, error) {
		emptyHeap()
		start := report.ThreadTime()
		m := map[[16]byte]struct{}{}
		for _, k := range keys {
			m[k] = struct{}{}
		}
		took := report.ThreadTime() - start
		if len(m) != n {
			return 0, fmt.Errorf("bench dedup: the map holds %d of %d", len(m), n)
		}
		o.Printf("dedup: map %v", took.Round(time.Millisecond))
		return float64(took.Nanoseconds()) / float64(n), nil
	}
	if o.Wants("claim-commit") || o.Wants("memory") {
		p, err := report.Interleave(o.Pairs(), table, goMap)
		if err != nil {
			return nil, err
		}
		lines = append(lines,
			report.Line{
				Name: "claim-commit", Figure: p.A, Unit: "ns/id", Yardstick: p.B, Ratio: p.Ratio,
				Of: report.Ratio, Bar: barTime, Note: fmt.Sprintf("%d ids; map[[16]byte]struct{}; %s", n, p.Spread()),
			},
			report.Line{
				Name: "memory", Figure: max(heap, said), Unit: "B/id", Of: report.Figure, Bar: barBytes,
				Note: fmt.Sprintf("MemStats %.1f, Bytes() %.1f", heap, said),
			})
	}
	return lines, nil
}

func claimAndCommit(keys [][16]byte) (*dedup.Table[uint32], error) {
	t := dedup.New[uint32](dedup.Config{Window: time.Hour, MaxIDs: len(keys)})
	var (
		reqs      [batch]dedup.Request[uint32]
		claims    [batch]dedup.Claim
		tokens    [batch]dedup.Token
		followers []dedup.Follower[uint32]
	)
	for i := 0; i < len(keys); i += batch {
		part := keys[i:min(i+batch, len(keys))]
		for j, k := range part {
			reqs[j] = dedup.Request[uint32]{
				Hi: binary.LittleEndian.Uint64(k[:]), Lo: binary.LittleEndian.Uint64(k[8:]),
				Data: uint64(j), Ref: uint32(i + j),
			}
		}
		now := time.Duration(i) * time.Microsecond
		t.Claim(now, reqs[:len(part)], claims[:])
		for j := range part {
			if claims[j].Verdict != dedup.Fresh {
				return nil, fmt.Errorf("bench dedup: id %d: %v", i+j, claims[j].Verdict)
			}
			tokens[j] = claims[j].Token
		}
		followers = t.Commit(now, tokens[:len(part)], followers[:0])
	}
	if n := t.Len(); n != len(keys) || t.Evicted() != 0 {
		return nil, fmt.Errorf("bench dedup: the table holds %d of %d, evicted %d", n, len(keys), t.Evicted())
	}
	return t, nil
}

// emptyHeap gives all free memory back to the system, so that each side pays
// for the memory that it asks for.
func emptyHeap() uint64 {
	debug.FreeOSMemory()
	return liveHeap()
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
