package dedup

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"time"
)

// Limits and defaults of a table.
const (
	DefaultWindow = 10 * time.Minute
	DefaultMaxIDs = 2_000_000
	MaxWindow     = 180 * 24 * time.Hour // so that a commit's age fits 32 bits of ticks
	MaxMaxIDs     = 1 << 28              // so that a slot keeps at least 9 bits of tag

	batch      = 64  // requests or tokens that are worked on at once
	maxStripes = 128 // 7 bits of a token
)

// Config is what configuration says of a source's dedup window. The zero value
// means the defaults.
type Config struct {
	Window time.Duration // how long after its commit an identity is known; 0 = DefaultWindow
	MaxIDs int           // identities that are kept at least; 0 = DefaultMaxIDs
}

// Validate says what is wrong with a configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Window < 0 || c.Window > MaxWindow {
		errs = append(errs, fmt.Errorf("dedup window %v: not between 0 and %v", c.Window, MaxWindow))
	}
	if c.MaxIDs < 0 || c.MaxIDs > MaxMaxIDs {
		errs = append(errs, fmt.Errorf("dedup max_ids %d: not between 0 and %d", c.MaxIDs, MaxMaxIDs))
	}
	return errors.Join(errs...)
}

// Request asks to claim the identity of one event.
type Request[R any] struct {
	Hi, Lo     uint64 // 128-bit fingerprint of the identity
	Data       uint64 // hash of the data bytes
	Version    uint32 // of the envelope; 0 where it has none
	HasVersion bool
	MayUpdate  bool // the event may replace a committed one of its identity
	Ref        R    // the caller's handle of the event, given back in Follower
}

// Verdict is what the table says of an event.
type Verdict uint8

// Verdicts. Fresh and Update come with a token and must end in Commit or
// Release; the others are final, except Follows, whose event comes back from
// the Commit or Release of the claim that it follows.
const (
	Fresh     Verdict = iota + 1 // not known: the event holds the claim
	Update                       // known, and this event replaces it: the event holds the claim
	Duplicate                    // known: the same again, or a repeat that may not update
	Stale                        // known with a higher version
	Conflict                     // known with the same version and other data
	Follows                      // claimed by an event in flight, to which this one is now attached
)

var verdictNames = [...]string{"none", "new", "update", "duplicate", "stale", "conflict", "follows"}

// String is the verdict's name in journals and explanations.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// Holds says whether the verdict comes with a claim.
func (v Verdict) Holds() bool { return v == Fresh || v == Update }

// Token names one attempt's claim. The zero Token names none.
//
// Its bits: 0..6 stripe | 7 = 1 | 8..63 sequence number of the claimed entry, or
// 0..6 stripe | 7 = 0 | 8..31 claim slot | 32..63 generation of the slot, from 1
type Token uint64

const inRing Token = 1 << 7

func entryToken(stripe uint32, seq uint64) Token { return Token(seq)<<8 | inRing | Token(stripe) }

func slotToken(stripe, slot, generation uint32) Token {
	return Token(generation)<<32 | Token(slot)<<8 | Token(stripe)
}

func (t Token) stripe() uint32     { return uint32(t) & (maxStripes - 1) }
func (t Token) seq() uint64        { return uint64(t) >> 8 }
func (t Token) slot() uint32       { return uint32(t) >> 8 }
func (t Token) generation() uint32 { return uint32(t >> 32) }

// Claim is the answer to one Request. Token is set for Fresh and Update.
type Claim struct {
	Verdict Verdict
	Token   Token
}

// Follower is an event that was attached to a claim and now has a verdict of
// its own, never Follows. With Fresh or Update it holds the claim under Token
// and is to be run in its own lane; otherwise it is settled.
type Follower[R any] struct {
	Ref     R
	Verdict Verdict
	Token   Token
}

// Table is the dedup state of one source. All methods are safe for concurrent
// use, except that Load and Replay belong before the first Claim. The memory
// of claims follows the caller's limit of events in flight.
type Table[R any] struct {
	stripes []stripe[R]
	shape   *shape
	shift   uint
}

// New makes an empty table. It panics where cfg does not validate.
func New[R any](cfg Config) *Table[R] {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	if cfg.Window == 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.MaxIDs == 0 {
		cfg.MaxIDs = DefaultMaxIDs
	}
	return newTable[R](cfg, stripesFor(cfg.MaxIDs), 10)
}

// stripesFor has a lane find its stripe free nearly always and still meet many events
// of its batch in each: a visit moves the stripe's lines from one core to another. It
// keeps windows of a few ids from being all slack, and keeps room for tags in the slots
// of very large ones.
func stripesFor(maxIDs int) int {
	n := pow2(min(2*runtime.GOMAXPROCS(0), maxStripes))
	n = min(n, pow2(maxIDs>>14))
	return min(max(n, pow2(maxIDs>>19)), maxStripes)
}

// pow2 is the least power of two that is not less than n.
func pow2(n int) int {
	if n <= 1 {
		return 1
	}
	return 1 << bits.Len(uint(n-1))
}

func newTable[R any](cfg Config, stripes int, blockShift uint) *Table[R] {
	t := &Table[R]{
		stripes: make([]stripe[R], stripes),
		shape:   newShape(cfg, stripes, blockShift),
		shift:   64 - uint(bits.Len(uint(stripes-1))),
	}
	for i := range t.stripes {
		t.stripes[i].init(uint32(i), t.shape)
	}
	return t
}

// spread sets, for each stripe, the bits of the batch's members it owns.
type spread [maxStripes]uint64

// Claim judges a batch of events in order and sets out, which has at least the
// length of reqs. now is the engine time. It does not allocate once the table
// has met its usual number of events in flight.
func (t *Table[R]) Claim(now time.Duration, reqs []Request[R], out []Claim) {
	tick := floorTick(now)
	for len(reqs) > 0 {
		n := min(len(reqs), batch)
		var by spread
		var mixed [batch]uint64
		for i := range reqs[:n] {
			mixed[i] = t.shape.mix(reqs[i].Hi, reqs[i].Lo)
			k := (mixed[i] >> t.shift) & (maxStripes - 1)
			by[k] |= 1 << i
			t.stripes[k].w.warm(mixed[i])
		}
		for i := range t.stripes {
			if by[i] != 0 {
				t.stripes[i].claimAll(tick, by[i], mixed[:n], reqs[:n], out[:n])
			}
		}
		reqs, out = reqs[n:], out[n:]
	}
}

// Commit tells that the records of the claims are durable with engine time at:
// their identities enter the window. It appends to out the followers that now
// have a verdict: they are judged against what was committed, oldest first. A
// follower that may update takes the claim; those behind it follow it.
// Tokens that hold no claim any more are passed over (see Held).
func (t *Table[R]) Commit(at time.Duration, tokens []Token, out []Follower[R]) []Follower[R] {
	for len(tokens) > 0 {
		n := min(len(tokens), batch)
		var by spread
		for i, tok := range tokens[:n] {
			by[tok.stripe()] |= 1 << i
		}
		for i := range t.stripes {
			if by[i] != 0 {
				out = t.stripes[i].commitAll(floorTick(at), ceilTick(at), by[i], tokens[:n], out)
			}
		}
		tokens = tokens[n:]
	}
	return out
}

// Release gives a claim back because its attempt failed. It appends to out the
// followers that now have a verdict, oldest first: those that repeat what the
// window holds are settled, the first other one takes the claim under a token of
// its own, and those behind that one follow it. A token that holds no claim
// any more does nothing.
func (t *Table[R]) Release(now time.Duration, tok Token, out []Follower[R]) []Follower[R] {
	if int(tok.stripe()) >= len(t.stripes) {
		return out
	}
	return t.stripes[tok.stripe()].release(floorTick(now), tok, out)
}

// Held says whether the token still holds its claim. Ask before the record of
// an attempt is written: one whose claim was released must not record it.
func (t *Table[R]) Held(tok Token) bool {
	if int(tok.stripe()) >= len(t.stripes) {
		return false
	}
	s := &t.stripes[tok.stripe()]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds(tok)
}

// Replay puts a commit found in the log into the window. Of several commits of
// an identity the one with the highest engine time stays, of one tick the one
// with the highest version: so repeats and another order do no harm. Only
// commits without a version in one tick are told apart by the order of replay.
func (t *Table[R]) Replay(hi, lo, data uint64, version uint32, at time.Duration) {
	e := entry{hi: hi, lo: lo, data: data, version: version}
	h, s := t.stripeOf(hi, lo)
	s.locked(func(s *stripe[R]) { s.replay(h, e, ceilTick(at)) })
}

// State is what the table knows of an identity, for explanations.
type State struct {
	InFlight  bool // claimed by an event that is not settled
	Followers int  // events attached to that claim
	Committed bool // in the window
	Data      uint64
	Version   uint32
	At        time.Duration // engine time of the commit, to 10 ms
}

// Look says what the table knows of an identity at engine time now.
func (t *Table[R]) Look(now time.Duration, hi, lo uint64) State {
	h, s := t.stripeOf(hi, lo)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.look(floorTick(now), h, hi, lo)
}

// Expire frees memory of identities whose window is over. Claim and Commit do
// this along the way; Expire serves sources that have gone quiet.
func (t *Table[R]) Expire(now time.Duration) {
	tick := floorTick(now)
	for i := range t.stripes {
		t.stripes[i].expireAll(tick)
	}
}

// Len is how many identities are committed, some of which may have expired
// and wait to be dropped.
func (t *Table[R]) Len() int {
	n := 0
	for i := range t.stripes {
		t.stripes[i].locked(func(s *stripe[R]) { n += int(s.w.len() - s.w.idle()) })
	}
	return n
}

// InFlight is how many claims are held.
func (t *Table[R]) InFlight() int {
	n := 0
	for i := range t.stripes {
		t.stripes[i].locked(func(s *stripe[R]) { n += s.f.count + int(s.w.claimed) })
	}
	return n
}

// Evicted is how many identities the count bound took from the window before
// their time was over. Above 0, MaxIDs is too small for the traffic.
func (t *Table[R]) Evicted() uint64 {
	var n uint64
	for i := range t.stripes {
		t.stripes[i].locked(func(s *stripe[R]) { n += s.w.evicted })
	}
	return n
}

// Bytes is the memory of the table.
func (t *Table[R]) Bytes() int64 {
	var n int64
	for i := range t.stripes {
		t.stripes[i].locked(func(s *stripe[R]) { n += s.bytes() })
	}
	return n
}

func (t *Table[R]) stripeOf(hi, lo uint64) (mixed uint64, s *stripe[R]) {
	mixed = t.shape.mix(hi, lo)
	return mixed, &t.stripes[mixed>>t.shift]
}

// Judge is the verdict that Claim would give a request, from what Look said of its
// identity.
func Judge[R any](st State, r *Request[R]) Verdict {
	switch {
	case st.InFlight:
		return Follows
	case !st.Committed:
		return Fresh
	}
	return compare(st.Data, st.Version, r)
}
