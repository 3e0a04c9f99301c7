package dedup

import (
	"testing"
	"time"
)

// settled claims and commits an id that may be new or an update.
func settled(t *testing.T, tb *Table[int], now time.Duration, id uint64, version uint32, want Verdict) {
	t.Helper()
	tb.Commit(now, []Token{one(t, tb, now, req(id, version, id, 0), want)}, nil)
}

// wantKnown asks without a claim.
func wantKnown(t *testing.T, tb *Table[int], now time.Duration, want map[uint64]bool) {
	t.Helper()
	for id, known := range want {
		r := req(id, 0, 0, 0)
		if st := tb.Look(now, r.Hi, r.Lo); st.Committed != known {
			t.Errorf("id %d at %v: %+v, want known %v", id, now, st, known)
		}
	}
}

// An id that was updated outlives its block: its age counts from the update.
func TestUpdatedIdsOutliveTheirBlock(t *testing.T) {
	tb := newTable[int](Config{Window: time.Minute, MaxIDs: 1000}, 1, 2)
	for id := uint64(1); id <= 8; id++ {
		settled(t, tb, 0, id, 1, Fresh)
	}
	settled(t, tb, 50*time.Second, 6, 2, Update)
	tb.Expire(61 * time.Second)
	if tb.Len() != 1 || tb.Evicted() != 0 {
		t.Fatalf("%d ids, %d evicted, want only the updated one", tb.Len(), tb.Evicted())
	}
	one(t, tb, 109*time.Second, req(6, 2, 6, 0), Duplicate)
	one(t, tb, 110*time.Second, req(6, 2, 6, 0), Fresh)
}

// The count bound takes the ids that were committed longest ago first.
func TestCountBoundSparesUpdatedIds(t *testing.T) {
	tb := newTable[int](Config{Window: time.Minute, MaxIDs: 4}, 1, 2) // room for 12
	for id := uint64(1); id <= 12; id++ {
		settled(t, tb, 0, id, 1, Fresh)
	}
	settled(t, tb, time.Second, 2, 2, Update)
	settled(t, tb, time.Second, 13, 1, Fresh)
	wantKnown(t, tb, time.Second, map[uint64]bool{1: false, 2: true, 3: false, 4: false, 5: true, 6: true, 7: true, 8: true, 12: true, 13: true})
	if tb.Evicted() != 3 {
		t.Errorf("%d evicted, want 3", tb.Evicted())
	}
	// Were all of a block spared, there would be no room.
	for id := uint64(5); id <= 8; id++ {
		settled(t, tb, 2*time.Second, id, 2, Update)
	}
	for id := uint64(14); id <= 16; id++ {
		settled(t, tb, 2*time.Second, id, 1, Fresh)
	}
	wantKnown(t, tb, 2*time.Second, map[uint64]bool{5: true, 6: true, 7: false, 8: false, 9: true, 14: true, 15: true, 16: true})
	if tb.Evicted() != 5 || tb.Len() > 12 {
		t.Errorf("%d evicted, want 5; %d held", tb.Evicted(), tb.Len())
	}
}

// An id that moves while a snapshot runs is in the snapshot.
func TestSnapshotHoldsIdsThatMove(t *testing.T) {
	cfg := Config{Window: time.Minute, MaxIDs: 1000}
	tb := newTable[int](cfg, 1, 2)
	for id := uint64(1); id <= 8; id++ {
		settled(t, tb, 0, id, 1, Fresh)
	}
	settled(t, tb, 50*time.Second, 6, 2, Update)
	recovered := newTable[int](cfg, 1, 2)
	err := tb.Snapshot(func(b []byte) error {
		tb.Expire(61 * time.Second) // drops the blocks; the second is not written yet
		return recovered.Load(b)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantKnown(t, recovered, 61*time.Second, map[uint64]bool{1: false, 5: false, 6: true})
}
