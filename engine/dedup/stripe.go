package dedup

import (
	"math/bits"
	"sync"
	"time"
	"unsafe"
)

// stripe is one lock's part of a table.
type stripe[R any] struct {
	mu     sync.Mutex
	number uint32
	now    int64 // highest tick met
	w      window
	f      flight[R]
	_      [64]byte
}

func (s *stripe[R]) init(number uint32, sh *shape) {
	s.number = number
	s.w.init(number, sh, s.moveOut)
	s.f.init()
}

func (s *stripe[R]) locked(f func(*stripe[R])) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// visit takes the engine time of a caller. Lanes read the clock apart, so it
// may come a little late.
func (s *stripe[R]) visit(now int64) {
	s.now = max(s.now, now)
	s.w.expire(s.now)
}

func (s *stripe[R]) claimAll(now int64, members uint64, mixed []uint64, reqs []Request[R], out []Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visit(now)
	for m := members; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		out[i] = s.claim(mixed[i], &reqs[i])
	}
}

func (s *stripe[R]) claim(h uint64, r *Request[R]) Claim {
	if s.f.count > 0 {
		if c := s.f.find(h, r.Hi, r.Lo); c != nil {
			s.f.attach(&c.queue, r)
			return Claim{Verdict: Follows}
		}
	}
	seq, known := s.w.find(h, r.Hi, r.Lo)
	if known && s.w.entry(seq).at < atOldest {
		s.follow(seq, r)
		return Claim{Verdict: Follows}
	}
	verdict := s.judge(seq, known, r)
	if !verdict.Holds() {
		return Claim{Verdict: verdict}
	}
	return Claim{Verdict: verdict, Token: s.take(h, known, r)}
}

// take makes a claim for an identity that has none.
func (s *stripe[R]) take(h uint64, known bool, r *Request[R]) Token {
	if known || s.w.idle() >= s.w.maxIdle {
		slot, generation := s.f.take(h, r, known)
		return slotToken(s.number, slot, generation)
	}
	e := entry{hi: r.Hi, lo: r.Lo, data: r.Data, version: r.Version}
	return entryToken(s.number, s.w.hold(h, e, s.now))
}

// follow attaches an event to a claim that stands in the ring.
func (s *stripe[R]) follow(seq uint64, r *Request[R]) {
	e, q := s.w.entry(seq), none
	if e.at == atFollowed {
		q = s.f.followed[seq]
	}
	e.at = atFollowed
	s.f.attach(&q, r)
	s.f.followed[seq] = q
}

// moveOut takes a claim that the ring came to its end with.
func (s *stripe[R]) moveOut(seq uint64, e entry) {
	r := Request[R]{Hi: e.hi, Lo: e.lo, Data: e.data, Version: e.version}
	slot, _ := s.f.take(s.w.mix(e.hi, e.lo), &r, false)
	s.f.moved[seq] = slot
	if e.at == atFollowed {
		s.f.claims[slot].queue = s.f.followed[seq]
		delete(s.f.followed, seq)
	}
}

// judge holds a request against what find said of its identity.
func (s *stripe[R]) judge(seq uint64, known bool, r *Request[R]) Verdict {
	if !known || s.w.expired(seq, s.now) {
		return Fresh
	}
	e := s.w.entry(seq)
	return compare(e.data, e.version, r)
}

// compare judges a request against what was committed of its identity.
func compare[R any](data uint64, version uint32, r *Request[R]) Verdict {
	switch {
	case r.HasVersion && r.Version != version:
		if !r.MayUpdate {
			return Duplicate
		}
		if r.Version < version {
			return Stale
		}
		return Update
	case r.Data == data:
		return Duplicate
	case r.MayUpdate && !r.HasVersion:
		return Update
	}
	return Conflict
}

func (s *stripe[R]) commitAll(now, at int64, members uint64, tokens []Token, out []Follower[R]) []Follower[R] {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visit(now)
	for m := members; m != 0; m &= m - 1 {
		tok := tokens[bits.TrailingZeros64(m)]
		if seq := tok.seq(); tok&inRing != 0 && s.w.holds(seq) {
			out = s.commit(seq, at, out)
		} else if c, slot := s.moved(tok); c != nil {
			s.enter(c, at) // which may move other claims, and with them the memory of all
			out = s.settle(&s.f.claims[slot], slot, out)
		}
	}
	return out
}

// commit makes a claim in the ring final and judges its followers.
func (s *stripe[R]) commit(seq uint64, at int64, out []Follower[R]) []Follower[R] {
	e := s.w.entry(seq)
	followed := e.at == atFollowed
	s.w.commit(seq, at)
	if !followed {
		return out
	}
	q := s.f.followed[seq]
	delete(s.f.followed, seq)
	for {
		r, ok := s.f.detach(&q)
		if !ok {
			return out
		}
		v := compare(e.data, e.version, &r)
		if v != Update {
			out = append(out, Follower[R]{Ref: r.Ref, Verdict: v})
			continue
		}
		slot, generation := s.f.take(s.w.mix(e.hi, e.lo), &r, true)
		s.f.claims[slot].queue = q
		return append(out, Follower[R]{Ref: r.Ref, Verdict: v, Token: slotToken(s.number, slot, generation)})
	}
}

// holds says whether a token holds its claim.
func (s *stripe[R]) holds(tok Token) bool {
	if tok&inRing != 0 && s.w.holds(tok.seq()) {
		return true
	}
	_, held := s.f.moved[tok.seq()]
	if tok&inRing == 0 {
		held = s.held(tok) != nil
	}
	return held
}

// moved returns the claim outside of the ring that a token holds, nil where it
// holds none, and its slot. A claim that left the ring is known by its token once.
func (s *stripe[R]) moved(tok Token) (*claim[R], uint32) {
	if tok&inRing == 0 {
		return s.held(tok), tok.slot()
	}
	slot, ok := s.f.moved[tok.seq()]
	if !ok {
		return nil, 0
	}
	delete(s.f.moved, tok.seq())
	return &s.f.claims[slot], slot
}

// held returns the claim that a slot's token holds, nil where it holds none.
func (s *stripe[R]) held(tok Token) *claim[R] {
	if int(tok.slot()) >= len(s.f.claims) {
		return nil
	}
	c := &s.f.claims[tok.slot()]
	if c.generation != tok.generation() { // that of a free slot was not given yet
		return nil
	}
	return c
}

// enter puts a claim's identity into the window.
func (s *stripe[R]) enter(c *claim[R], at int64) {
	if c.known {
		if seq, ok := s.w.find(c.mixed, c.Hi, c.Lo); ok {
			s.w.refresh(seq, c.Data, c.Version, at)
			return
		}
	}
	s.w.add(c.mixed, entry{hi: c.Hi, lo: c.Lo, data: c.Data, version: c.Version}, at, s.now)
}

// settle judges the followers of a claim that was just committed.
func (s *stripe[R]) settle(c *claim[R], slot uint32, out []Follower[R]) []Follower[R] {
	data, version := c.Data, c.Version
	for {
		r, ok := s.f.detach(&c.queue)
		if !ok {
			s.f.free(slot)
			return out
		}
		v := compare(data, version, &r)
		if v == Update {
			generation := s.f.pass(c, &r, true)
			return append(out, Follower[R]{Ref: r.Ref, Verdict: v, Token: slotToken(s.number, slot, generation)})
		}
		out = append(out, Follower[R]{Ref: r.Ref, Verdict: v})
	}
}

func (s *stripe[R]) release(now int64, tok Token, out []Follower[R]) []Follower[R] {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visit(now)
	q, h := none, uint64(0)
	if seq := tok.seq(); tok&inRing != 0 && s.w.holds(seq) {
		e := s.w.entry(seq)
		h = s.w.mix(e.hi, e.lo)
		if e.at == atFollowed {
			q = s.f.followed[seq]
			delete(s.f.followed, seq)
		}
		s.w.free(seq)
	} else {
		c, slot := s.moved(tok)
		if c == nil {
			return out
		}
		q, h = c.queue, c.mixed
		s.f.free(slot)
	}
	return s.inherit(h, q, out)
}

// inherit gives the claim of a failed attempt to the first follower that may have
// it. Nobody else holds the identity meanwhile: the stripe is locked.
func (s *stripe[R]) inherit(h uint64, q queue, out []Follower[R]) []Follower[R] {
	for {
		r, ok := s.f.detach(&q)
		if !ok {
			return out
		}
		seq, known := s.w.find(h, r.Hi, r.Lo)
		v := s.judge(seq, known, &r)
		if !v.Holds() {
			out = append(out, Follower[R]{Ref: r.Ref, Verdict: v})
			continue
		}
		tok := s.take(h, known, &r)
		s.succeed(tok, q)
		return append(out, Follower[R]{Ref: r.Ref, Verdict: v, Token: tok})
	}
}

// succeed puts followers behind a claim that has none.
func (s *stripe[R]) succeed(tok Token, q queue) {
	switch {
	case q.first < 0:
	case tok&inRing == 0:
		s.f.claims[tok.slot()].queue = q
	default:
		s.w.entry(tok.seq()).at = atFollowed
		s.f.followed[tok.seq()] = q
	}
}

func (s *stripe[R]) replay(h uint64, e entry, tick int64) {
	s.visit(tick - 1) // ticks of commits are rounded up
	if s.now-tick >= s.w.window {
		return
	}
	seq, known := s.w.find(h, e.hi, e.lo)
	if !known {
		s.w.add(h, e, tick, s.now)
		return
	}
	old := s.w.tick(seq)
	if tick > old || tick == old && (e.version == 0 || e.version >= s.w.entry(seq).version) {
		s.w.refresh(seq, e.data, e.version, tick)
	}
}

func (s *stripe[R]) look(now int64, h, hi, lo uint64) State {
	var st State
	q := none
	if c := s.f.find(h, hi, lo); c != nil {
		st.InFlight, q = true, c.queue
	}
	seq, ok := s.w.find(h, hi, lo)
	if ok && s.w.entry(seq).at < atOldest {
		st.InFlight, ok = true, false
		if s.w.entry(seq).at == atFollowed {
			q = s.f.followed[seq]
		}
	}
	for i := q.first; i >= 0; i = s.f.followers[i].next {
		st.Followers++
	}
	if ok && !s.w.expired(seq, max(now, s.now)) {
		e := s.w.entry(seq)
		st.Committed, st.Data, st.Version = true, e.data, e.version
		st.At = time.Duration(s.w.tick(seq)) * tickLength
	}
	return st
}

func (s *stripe[R]) expireAll(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = max(s.now, now)
	for s.w.expireOne(s.now) {
	}
	s.w.shrink()
}

func (s *stripe[R]) bytes() int64 {
	return int64(unsafe.Sizeof(*s)) + s.w.bytes() + s.f.bytes()
}
