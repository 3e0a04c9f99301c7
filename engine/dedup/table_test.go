package dedup

import (
	"testing"
	"time"
)

func one(t *testing.T, tb *Table[int], now time.Duration, r Request[int], want Verdict) Token {
	t.Helper()
	var out [1]Claim
	tb.Claim(now, []Request[int]{r}, out[:])
	if out[0].Verdict != want {
		t.Fatalf("verdict on %+v: %v, want %v", r, out[0].Verdict, want)
	}
	if (out[0].Token != 0) != want.Holds() {
		t.Fatalf("verdict %v came with token %#x", want, out[0].Token)
	}
	return out[0].Token
}

func req(id uint64, version uint32, data uint64, ref int) Request[int] {
	return Request[int]{
		Hi: id * 0x9e3779b97f4a7c15, Lo: id * 0xd6e8feb86659fd93, Data: data,
		Version: version, HasVersion: version > 0, MayUpdate: version > 0, Ref: ref,
	}
}

func wantFollowers(t *testing.T, got []Follower[int], want ...Follower[int]) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("followers %+v, want %+v", got, want)
	}
	for i := range got {
		if got[i].Ref != want[i].Ref || got[i].Verdict != want[i].Verdict ||
			(got[i].Token != 0) != want[i].Verdict.Holds() {
			t.Fatalf("follower %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestVerdicts(t *testing.T) {
	cases := []struct {
		name string
		r    Request[int]
		want Verdict
	}{
		{"the same again", req(1, 3, 10, 0), Duplicate},
		{"higher version", req(1, 4, 11, 0), Update},
		{"lower version", req(1, 2, 10, 0), Stale},
		{"same version, other data", req(1, 3, 11, 0), Conflict},
		{"other identity", req(2, 3, 10, 0), Fresh},
		{"higher version that may not update", Request[int]{Hi: req(1, 0, 0, 0).Hi, Lo: req(1, 0, 0, 0).Lo, Version: 9, HasVersion: true}, Duplicate},
		{"lower version that may not update", Request[int]{Hi: req(1, 0, 0, 0).Hi, Lo: req(1, 0, 0, 0).Lo, Version: 1, HasVersion: true}, Duplicate},
		{"no version, same data", req(1, 0, 10, 0), Duplicate},
		{"no version, other data", req(1, 0, 11, 0), Conflict},
		{"no version, other data, may update", Request[int]{Hi: req(1, 0, 0, 0).Hi, Lo: req(1, 0, 0, 0).Lo, Data: 11, MayUpdate: true}, Update},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tb := New[int](Config{})
			tb.Commit(0, []Token{one(t, tb, 0, req(1, 3, 10, 0), Fresh)}, nil)
			one(t, tb, time.Second, c.r, c.want)
		})
	}
}

// I6: an attempt that failed gives its claim on, or frees the identity.
func TestI6ReleaseNeverBurnsTheIdentity(t *testing.T) {
	tb := New[int](Config{})
	first := one(t, tb, 0, req(1, 0, 10, 1), Fresh)
	one(t, tb, 0, req(1, 0, 10, 2), Follows)
	one(t, tb, 0, req(1, 0, 10, 3), Follows)

	got := tb.Release(0, first, nil)
	wantFollowers(t, got, Follower[int]{Ref: 2, Verdict: Fresh})
	second := got[0].Token
	if tb.Held(first) || !tb.Held(second) {
		t.Fatal("the claim did not pass on")
	}
	// A late completion of the first attempt finishes nothing.
	wantFollowers(t, tb.Commit(0, []Token{first}, nil))
	wantFollowers(t, tb.Release(0, first, nil))
	if tb.Len() != 0 || !tb.Held(second) {
		t.Fatal("a late token finished for its successor")
	}
	wantFollowers(t, tb.Commit(0, []Token{second}, nil), Follower[int]{Ref: 3, Verdict: Duplicate})
	one(t, tb, 0, req(1, 0, 10, 4), Duplicate)

	last := one(t, tb, 0, req(2, 0, 10, 5), Fresh)
	wantFollowers(t, tb.Release(0, last, nil))
	again := one(t, tb, 0, req(2, 0, 10, 6), Fresh)
	if again == last {
		t.Fatal("a token was given twice")
	}
	wantFollowers(t, tb.Commit(0, []Token{last}, nil))
	one(t, tb, 0, req(2, 0, 10, 7), Follows)
	if tb.InFlight() != 1 {
		t.Fatalf("%d claims in flight, want 1", tb.InFlight())
	}
}

func TestFollowersAreJudgedAgain(t *testing.T) {
	tb := New[int](Config{})
	tok := one(t, tb, 0, req(1, 2, 10, 1), Fresh)
	for i, r := range []Request[int]{
		req(1, 2, 10, 2), req(1, 1, 9, 3), req(1, 2, 77, 4), req(1, 3, 11, 5), req(1, 3, 11, 6), req(1, 4, 12, 7),
	} {
		_ = i
		one(t, tb, 0, r, Follows)
	}
	got := tb.Commit(time.Second, []Token{tok}, nil)
	wantFollowers(t, got, Follower[int]{Ref: 2, Verdict: Duplicate}, Follower[int]{Ref: 3, Verdict: Stale},
		Follower[int]{Ref: 4, Verdict: Conflict}, Follower[int]{Ref: 5, Verdict: Update})
	// The update fails: the next one is judged against the window, not against it.
	got = tb.Release(time.Second, got[3].Token, nil)
	wantFollowers(t, got, Follower[int]{Ref: 6, Verdict: Update})
	got = tb.Commit(time.Second, []Token{got[0].Token}, nil)
	wantFollowers(t, got, Follower[int]{Ref: 7, Verdict: Update})
	wantFollowers(t, tb.Commit(time.Second, []Token{got[0].Token}, nil))
	if st := tb.Look(time.Second, req(1, 0, 0, 0).Hi, req(1, 0, 0, 0).Lo); !st.Committed || st.Version != 4 || st.InFlight {
		t.Fatalf("state %+v", st)
	}
}

func TestAgeCountsFromCommit(t *testing.T) {
	tb := New[int](Config{Window: time.Minute})
	tok := one(t, tb, 0, req(1, 0, 1, 1), Fresh)
	// A claim in flight never expires.
	one(t, tb, 24*time.Hour, req(1, 0, 1, 2), Follows)
	tb.Commit(24*time.Hour, []Token{tok}, nil)
	one(t, tb, 24*time.Hour+time.Minute-time.Millisecond, req(1, 0, 1, 3), Duplicate)
	// Engine time that stands still expires nothing.
	for range 1000 {
		one(t, tb, 24*time.Hour+time.Minute-time.Millisecond, req(1, 0, 1, 3), Duplicate)
	}
	one(t, tb, 24*time.Hour+time.Minute, req(1, 0, 1, 4), Fresh)
}
