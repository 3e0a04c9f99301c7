package dedup

import "unsafe"

// flight holds the claims of one stripe that have no entry of their own in the ring,
// and the followers of all claims. Most claims stand in the ring, where a commit finds
// them at their final place; here are those that would not be right there: updates of
// what is committed, those that the ring came to its end with, and those above the
// ring's share of idle entries. Freed places are used again last in first out, so
// the part in use stays in the cache.
type flight[R any] struct {
	// table finds claims: u32 of the fingerprint << 32 | claim slot + 1; 0 = empty.
	// Linear probing with backward-shift deletion, at most half full.
	table         []uint64
	count         int
	claims        []claim[R]
	freeClaim     int32             // -1 = none; chained through claim.first
	followed      map[uint64]queue  // followers of claims in the ring, by sequence number
	moved         map[uint64]uint32 // claim slots of those that left the ring
	followers     []follower[R]
	freeFollower  int32 // -1 = none; chained through follower.next
	followerCount int
}

// claim is the right to run the event of an identity.
type claim[R any] struct {
	Request[R]
	mixed      uint64 // see shape.mix
	generation uint32 // of the token that holds it
	known      bool   // the window had an entry of the identity when it was claimed
	queue             // followers; of a free place, the next free one
}

// queue is a list of followers, oldest first; -1 = none.
type queue struct{ first, last int32 }

var none = queue{-1, -1}

type follower[R any] struct {
	Request[R]
	next int32
}

func (f *flight[R]) init() {
	f.table = make([]uint64, 64)
	f.followed, f.moved = map[uint64]queue{}, map[uint64]uint32{}
	f.freeClaim, f.freeFollower = -1, -1
}

// probe is the part of a mixed fingerprint by which claims are found.
func probe(h uint64) uint32 { return uint32(h >> 16) }

func (f *flight[R]) find(h, hi, lo uint64) *claim[R] {
	p := probe(h)
	mask := uint32(len(f.table) - 1)
	for i := p & mask; f.table[i] != 0; i = (i + 1) & mask {
		if uint32(f.table[i]>>32) != p {
			continue
		}
		if c := &f.claims[uint32(f.table[i])-1]; c.Hi == hi && c.Lo == lo {
			return c
		}
	}
	return nil
}

// take makes a claim for an identity that has none.
func (f *flight[R]) take(h uint64, r *Request[R], known bool) (slot, generation uint32) {
	if f.freeClaim >= 0 {
		slot = uint32(f.freeClaim)
		f.freeClaim = f.claims[slot].first
	} else {
		slot = uint32(len(f.claims))
		f.claims = append(f.claims, claim[R]{generation: 1})
	}
	c := &f.claims[slot]
	c.Request, c.mixed, c.known, c.queue = *r, h, known, none
	f.count++
	if 2*f.count > len(f.table) {
		f.grow()
	}
	f.put(uint64(probe(h))<<32 | uint64(slot+1))
	return slot, c.generation
}

func (f *flight[R]) put(v uint64) {
	mask := uint32(len(f.table) - 1)
	i := uint32(v>>32) & mask
	for f.table[i] != 0 {
		i = (i + 1) & mask
	}
	f.table[i] = v
}

func (f *flight[R]) grow() {
	old := f.table
	f.table = make([]uint64, 2*len(old))
	for _, v := range old {
		if v != 0 {
			f.put(v)
		}
	}
}

// pass gives a claim to another event of its identity and returns its
// generation: tokens of the former holder no longer hold.
func (f *flight[R]) pass(c *claim[R], r *Request[R], known bool) uint32 {
	c.Request, c.known = *r, known
	c.generation = next(c.generation)
	return c.generation
}

// next skips 0, which the zero Token has.
func next(generation uint32) uint32 {
	if generation++; generation == 0 {
		generation = 1
	}
	return generation
}

// free ends a claim that has no followers.
func (f *flight[R]) free(slot uint32) {
	c := &f.claims[slot]
	f.remove(uint64(probe(c.mixed))<<32 | uint64(slot+1))
	f.count--
	c.Request = Request[R]{}
	c.generation = next(c.generation)
	c.first, f.freeClaim = f.freeClaim, int32(slot)
}

func (f *flight[R]) remove(v uint64) {
	mask := uint32(len(f.table) - 1)
	i := uint32(v>>32) & mask
	for f.table[i] != v {
		i = (i + 1) & mask
	}
	// Entries behind the hole move up as long as that brings them no nearer than
	// where their probe begins.
	for j := (i + 1) & mask; f.table[j] != 0; j = (j + 1) & mask {
		begin := uint32(f.table[j]>>32) & mask
		if (j-begin)&mask >= (j-i)&mask {
			f.table[i] = f.table[j]
			i = j
		}
	}
	f.table[i] = 0
}

// attach has an event follow a claim.
func (f *flight[R]) attach(q *queue, r *Request[R]) {
	i := f.freeFollower
	if i >= 0 {
		f.freeFollower = f.followers[i].next
	} else {
		i = int32(len(f.followers))
		f.followers = append(f.followers, follower[R]{})
	}
	f.followers[i] = follower[R]{Request: *r, next: -1}
	if q.last >= 0 {
		f.followers[q.last].next = i
	} else {
		q.first = i
	}
	q.last = i
	f.followerCount++
}

// detach takes the oldest follower off a claim.
func (f *flight[R]) detach(q *queue) (Request[R], bool) {
	i := q.first
	if i < 0 {
		return Request[R]{}, false
	}
	r := f.followers[i].Request
	q.first = f.followers[i].next
	if q.first < 0 {
		q.last = -1
	}
	f.followers[i] = follower[R]{next: f.freeFollower}
	f.freeFollower = i
	f.followerCount--
	return r, true
}

func (f *flight[R]) bytes() int64 {
	return 8*int64(len(f.table)) +
		int64(cap(f.claims))*int64(unsafe.Sizeof(claim[R]{})) +
		int64(cap(f.followers))*int64(unsafe.Sizeof(follower[R]{}))
}
