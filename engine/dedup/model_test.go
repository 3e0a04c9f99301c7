package dedup

import (
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestMain raises the number of histories: `-rapid.checks` and `-rapid.seed`
// still decide.
func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "10000")
	flag.Parse()
	if testing.Short() {
		_ = flag.Set("rapid.checks", "500")
	}
	os.Exit(m.Run())
}

// model is the plainest table: it keeps everything, and asks the real one only
// which ids the count bound took away.
type model struct {
	t         *rapid.T
	cfg       Config
	stripes   int
	tb        *Table[int]
	now       time.Duration
	ids       int
	committed map[uint64]commit
	evicted   map[uint64]commit // ids that the count bound took
	taken     map[uint64]bool   // ids that the count bound took at any time
	flight    map[uint64]*attempt
	dead      []Token // tokens that hold nothing any more
	log       []commit
	reqs      map[int]Request[int] // by Ref
	order     []turn               // ids in the order they were added to the window
	turns     int                  // claims and commits so far
	updated   bool                 // an id was committed again while in the window
	evictions uint64
}

type commit struct {
	id, data uint64
	version  uint32
	at       time.Duration
}

type attempt struct {
	token     Token
	ref       int
	followers []int
	claimed   int // turn
}

type turn struct {
	id                 uint64
	claimed, committed int
}

func fingerprint(id uint64) (hi, lo uint64) { return id * 0x9e3779b97f4a7c15, ^id }

func idOf(r Request[int]) uint64 { return ^r.Lo }

func (m *model) known(id uint64) (commit, bool) {
	c, ok := m.committed[id]
	return c, ok && m.now-c.at < m.cfg.Window
}

// judge says in plain words what Claim promises.
func (m *model) judge(r Request[int]) Verdict {
	c, ok := m.known(idOf(r))
	if !ok {
		return Fresh
	}
	sameVersion := !r.HasVersion || r.Version == c.version
	if sameVersion && r.Data == c.data {
		return Duplicate
	}
	if !r.HasVersion && r.MayUpdate {
		return Update
	}
	if sameVersion {
		return Conflict
	}
	if !r.MayUpdate {
		return Duplicate
	}
	if r.Version > c.version {
		return Update
	}
	return Stale
}

func (m *model) claim() {
	n := rapid.IntRange(1, 5).Draw(m.t, "n")
	reqs := make([]Request[int], n)
	out := make([]Claim, n)
	for i := range reqs {
		r := &reqs[i]
		r.Hi, r.Lo = fingerprint(uint64(rapid.IntRange(1, m.ids).Draw(m.t, "id")))
		r.Data = uint64(rapid.IntRange(0, 1).Draw(m.t, "data"))
		shape := rapid.IntRange(0, 7).Draw(m.t, "version")
		r.HasVersion, r.MayUpdate = shape > 1, shape%2 == 1
		if r.HasVersion {
			r.Version = uint32(shape / 2)
		}
		r.Ref = len(m.reqs)
		m.reqs[r.Ref] = *r
	}
	if m.cfg.MaxIDs == 1000 {
		m.tb.Claim(m.now, reqs, out)
	}
	for i, r := range reqs {
		m.turns++
		if m.cfg.MaxIDs != 1000 { // the bound may take an id while others are claimed
			m.check()
			m.tb.Claim(m.now, reqs[i:i+1], out[i:i+1])
		}
		if a := m.flight[idOf(r)]; a != nil {
			if out[i].Verdict != Follows {
				m.t.Fatalf("claim of %+v: %v, but it is in flight", r, out[i].Verdict)
			}
			a.followers = append(a.followers, r.Ref)
			continue
		}
		if want := m.judge(r); out[i].Verdict != want {
			m.t.Fatalf("claim of %+v: %v, want %v", r, out[i].Verdict, want)
		}
		if out[i].Verdict.Holds() {
			m.flight[idOf(r)] = &attempt{token: out[i].Token, ref: r.Ref, claimed: m.turns}
		}
	}
}

func (m *model) pick() (uint64, *attempt) {
	var held []uint64
	for id := uint64(1); id <= uint64(m.ids); id++ {
		if m.flight[id] != nil {
			held = append(held, id)
		}
	}
	if len(held) == 0 {
		return 0, nil
	}
	id := rapid.SampledFrom(held).Draw(m.t, "held")
	return id, m.flight[id]
}

func (m *model) commitOne() {
	id, a := m.pick()
	if a == nil {
		return
	}
	r := m.reqs[a.ref]
	got := m.tb.Commit(m.now, []Token{a.token}, nil)
	at := (m.now + tickLength - 1) / tickLength * tickLength
	c := commit{id: id, data: r.Data, version: r.Version, at: at}
	if _, again := m.committed[id]; again {
		m.updated = true
	} else {
		m.turns++
		m.order = append(m.order, turn{id, a.claimed, m.turns})
	}
	m.committed[id] = c
	delete(m.evicted, id)
	m.log = append(m.log, c)
	m.followers(id, a, got)
}

func (m *model) release() {
	id, a := m.pick()
	if a == nil {
		return
	}
	m.followers(id, a, m.tb.Release(m.now, a.token, nil))
}

// followers checks what became of an attempt's followers, oldest first: each
// is judged as if it came now, and the first that may run has the claim.
func (m *model) followers(id uint64, a *attempt, got []Follower[int]) {
	m.dead = append(m.dead, a.token)
	delete(m.flight, id)
	for i, ref := range a.followers {
		want := m.judge(m.reqs[ref])
		if i >= len(got) || got[i].Ref != ref || got[i].Verdict != want {
			m.t.Fatalf("follower %d of id %d: got %+v, want event %d %v", i, id, got, ref, want)
		}
		if want.Holds() {
			m.flight[id] = &attempt{token: got[i].Token, ref: ref, followers: a.followers[i+1:], claimed: m.turns}
			got = got[: i+1 : i+1]
			break
		}
	}
	if n := len(got); n > len(a.followers) {
		m.t.Fatalf("%d followers came back of %d", n, len(a.followers))
	}
}

// table makes a table of small blocks that is the same in every run.
func (m *model) table() *Table[int] {
	tb := newTable[int](m.cfg, m.stripes, 2)
	tb.shape.secret = [2]uint64{0x243f6a8885a308d3, 0x13198a2e03707344}
	return tb
}

// late completes attempts that are over.
func (m *model) late() {
	if len(m.dead) == 0 {
		return
	}
	tok := rapid.SampledFrom(m.dead).Draw(m.t, "late")
	if m.tb.Held(tok) {
		m.t.Fatalf("token %#x still holds", tok)
	}
	if got := append(m.tb.Commit(m.now, []Token{tok}, nil), m.tb.Release(m.now, tok, nil)...); len(got) > 0 {
		m.t.Fatalf("a late token gave %+v", got)
	}
}

func (m *model) pass() {
	m.now += time.Duration(rapid.IntRange(0, int(m.cfg.Window)/3).Draw(m.t, "time"))
	if rapid.Bool().Draw(m.t, "expire") {
		m.tb.Expire(m.now)
	}
}

// crash recovers from a snapshot during which work went on, and the log from
// where the snapshot began; replayed out of order and with repeats. What was in
// flight is gone.
func (m *model) crash() {
	var slices [][]byte
	begin := len(m.log)
	steps := 0
	err := m.tb.Snapshot(func(b []byte) error {
		slices = append(slices, append([]byte(nil), b...))
		if steps++; steps < 10 {
			m.step(false)
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	fresh := m.table()
	tail := append([]commit(nil), m.log[begin:]...)
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(m.t, "shuffle"), 0))
	tail = append(tail, tail...)
	if m.evictions == 0 && len(m.log) <= m.cfg.MaxIDs && ordered(tail) {
		rng.Shuffle(len(tail), func(i, j int) { tail[i], tail[j] = tail[j], tail[i] })
		rng.Shuffle(len(slices), func(i, j int) { slices[i], slices[j] = slices[j], slices[i] })
	}
	for _, b := range slices {
		if err := fresh.Load(b); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, c := range tail {
		hi, lo := fingerprint(c.id)
		fresh.Replay(hi, lo, c.data, c.version, c.at)
	}
	m.tb = fresh
	m.flight, m.dead = map[uint64]*attempt{}, nil
	m.updated = true // the ring may be in another order now
	m.evictions = 0
	for id, c := range m.evicted { // taken by the bound then, not yet taken again now
		hi, lo := fingerprint(id)
		if st := fresh.Look(m.now, hi, lo); st.Committed && st.Data == c.data && st.Version == c.version && st.At == c.at {
			m.committed[id] = c
			delete(m.evicted, id)
		}
	}
	for id := range m.committed { // and the other way round, with the bound met
		hi, lo := fingerprint(id)
		if _, ok := m.known(id); ok && !fresh.Look(m.now, hi, lo).Committed {
			if fresh.Evicted() == 0 {
				m.t.Fatalf("id %d was lost by recovery at %v: %+v, log from %d of %+v, window %v", id, m.now, m.committed[id], begin, m.log, m.cfg.Window)
			}
			m.evicted[id] = m.committed[id]
			delete(m.committed, id)
		}
	}
	m.forgotten()
	m.evictions = fresh.Evicted()
}

// forgotten: an id that the bound took may have come again in the same tick with a
// lower version. Recovery, which has not met the bound yet, keeps the higher one.
func (m *model) forgotten() {
	for _, c := range m.log {
		hi, lo := fingerprint(c.id)
		now, ok := m.committed[c.id]
		st := m.tb.Look(m.now, hi, lo)
		if ok && m.taken[c.id] && c.at == now.at && c.version > now.version && st.Version == c.version && st.Data == c.data {
			m.committed[c.id] = c
		}
	}
}

// ordered says whether time and version alone order the commits of each id.
func ordered(log []commit) bool {
	type moment struct {
		id uint64
		at time.Duration
	}
	seen := map[moment]commit{}
	for _, c := range log {
		k := moment{c.id, c.at}
		if o, ok := seen[k]; ok && o != c && (o.version == 0 || c.version == 0) {
			return false
		}
		seen[k] = c
	}
	return true
}

// check compares all that the table knows.
func (m *model) check() {
	var missing uint64
	for id := uint64(1); id <= uint64(m.ids); id++ {
		hi, lo := fingerprint(id)
		st := m.tb.Look(m.now, hi, lo)
		if a := m.flight[id]; st.InFlight != (a != nil) || a != nil && (st.Followers != len(a.followers) || !m.tb.Held(a.token)) {
			m.t.Fatalf("id %d: %+v, want in flight %+v", id, st, a)
		}
		c, ok := m.known(id)
		if ok && !st.Committed {
			missing++
			m.checkEviction(id)
			m.evicted[id], m.taken[id] = c, true
			delete(m.committed, id)
			continue
		}
		if ok != st.Committed || ok && (st.Data != c.data || st.Version != c.version || st.At != c.at) {
			m.t.Fatalf("id %d at %v: %+v, want %v %+v", id, m.now, st, ok, c)
		}
	}
	if got := m.tb.Evicted() - m.evictions; got != missing {
		m.t.Fatalf("%d ids were evicted and %d counted", missing, got)
	}
	m.evictions += missing
}

// checkEviction: at least MaxIDs ids are kept, and without updates those that were
// settled after the evicted one was claimed.
func (m *model) checkEviction(id uint64) {
	if m.tb.Len() < m.cfg.MaxIDs {
		m.t.Fatalf("id %d was evicted with %d ids of %d", id, m.tb.Len(), m.cfg.MaxIDs)
	}
	if m.updated {
		return
	}
	newer, claimed := 0, 0
	for _, o := range m.order {
		if o.id == id {
			newer, claimed = 0, o.claimed // of its last commit
		}
	}
	for _, o := range m.order {
		if o.committed > claimed && o.id != id {
			newer++
		}
	}
	if newer < m.cfg.MaxIDs {
		m.t.Fatalf("id %d was evicted with %d ids newer than it", id, newer)
	}
}

func (m *model) step(crashes bool) {
	switch k := rapid.IntRange(0, 19).Draw(m.t, "step"); {
	case k < 8:
		m.claim()
	case k < 14:
		m.commitOne()
	case k < 16:
		m.release()
	case k < 17:
		m.late()
	case k < 19:
		m.pass()
	case crashes:
		m.crash()
	}
	m.check()
}

// I5, I6: every answer of the table equals a brute-force model's.
func TestI5I6Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			t:       t,
			cfg:     Config{Window: time.Duration(rapid.IntRange(1, 50).Draw(t, "window")) * tickLength, MaxIDs: rapid.SampledFrom([]int{4, 12, 1000}).Draw(t, "max")},
			stripes: 1, ids: rapid.SampledFrom([]int{3, 40}).Draw(t, "ids"),
			committed: map[uint64]commit{}, evicted: map[uint64]commit{}, taken: map[uint64]bool{}, flight: map[uint64]*attempt{}, reqs: map[int]Request[int]{},
		}
		if m.cfg.MaxIDs == 1000 {
			m.stripes = 4
		}
		m.tb = m.table()
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			m.step(true)
		}
	})
}
