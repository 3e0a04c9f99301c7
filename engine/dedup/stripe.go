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
	s.w.init(number, sh)
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
	if c := s.f.find(h, r.Hi, r.Lo); c != nil {
		s.f.attach(c, r)
		return Claim{Verdict: Follows}
	}
	verdict, known := s.judge(h, r)
	if !verdict.Holds() {
		return Claim{Verdict: verdict}
	}
	slot, generation := s.f.take(h, r, known)
	return Claim{Verdict: verdict, Token: makeToken(s.number, slot, generation)}
}

// judge holds a request against the window. known says that the identity has
// an entry there, be it expired.
func (s *stripe[R]) judge(h uint64, r *Request[R]) (v Verdict, known bool) {
	seq, known := s.w.find(h, r.Hi, r.Lo)
	if !known || s.w.expired(seq, s.now) {
		return Fresh, known
	}
	e := s.w.entry(seq)
	return compare(e.data, e.version, r), true
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
		if slot := int(tokens[bits.TrailingZeros64(m)].slot()); slot < len(s.f.claims) {
			s.w.warm(s.f.claims[slot].mixed)
		}
	}
	for m := members; m != 0; m &= m - 1 {
		tok := tokens[bits.TrailingZeros64(m)]
		if c := s.held(tok); c != nil {
			s.enter(c, at)
			out = s.settle(c, tok.slot(), out)
		}
	}
	return out
}

// held returns the claim that a token holds, nil where it holds none.
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
		r, ok := s.f.detach(c)
		if !ok {
			s.f.free(slot)
			return out
		}
		v := compare(data, version, &r)
		if v == Update {
			generation := s.f.pass(c, &r, true)
			return append(out, Follower[R]{Ref: r.Ref, Verdict: v, Token: makeToken(s.number, slot, generation)})
		}
		out = append(out, Follower[R]{Ref: r.Ref, Verdict: v})
	}
}

func (s *stripe[R]) release(now int64, tok Token, out []Follower[R]) []Follower[R] {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visit(now)
	c := s.held(tok)
	if c == nil {
		return out
	}
	for {
		r, ok := s.f.detach(c)
		if !ok {
			s.f.free(tok.slot())
			return out
		}
		v, known := s.judge(c.mixed, &r)
		if v.Holds() {
			generation := s.f.pass(c, &r, known)
			return append(out, Follower[R]{Ref: r.Ref, Verdict: v, Token: makeToken(s.number, tok.slot(), generation)})
		}
		out = append(out, Follower[R]{Ref: r.Ref, Verdict: v})
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
	if c := s.f.find(h, hi, lo); c != nil {
		st.InFlight = true
		for i := c.first; i >= 0; i = s.f.followers[i].next {
			st.Followers++
		}
	}
	if seq, ok := s.w.find(h, hi, lo); ok && !s.w.expired(seq, max(now, s.now)) {
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
