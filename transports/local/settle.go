package local

import (
	"bytes"
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/weir-project/weir/transports"
)

// keyHash names a key; 0 stands for none. Two keys with one hash only wait for
// each other.
func keyHash(key []byte) uint64 {
	if key == nil {
		return 0
	}
	return xxh3.Hash(key) | 1
}

func (g *group) slot(number uint64) *slot { return &g.ring[number&uint64(len(g.ring)-1)] }

// advance makes room for an entry that was read and returns its empty slot.
// Entries that are missing before it were dropped by retention: they count as
// settled.
func (g *group) advance(number uint64) *slot {
	if number > g.next {
		g.expire(run{g.next, number})
	}
	g.next = number + 1
	if g.progress.low > number {
		return g.empty(number)
	}
	if need := g.next - g.progress.low; need > uint64(len(g.ring)) {
		old := g.ring
		g.ring = make([]slot, 2*len(old))
		for n := g.progress.low; n < number; n++ {
			*g.slot(n) = old[n&uint64(len(old)-1)]
		}
	}
	return g.empty(number)
}

// expire settles entries that retention has dropped.
func (g *group) expire(r run) {
	g.progress.settle(r)
	g.gone = append(g.gone, r)
	g.counts.Expired += r.to - r.from
}

// takeGone hands over the runs that retention dropped, to be noted.
func (g *group) takeGone() []run {
	g.mu.Lock()
	defer g.mu.Unlock()
	gone := g.gone
	g.gone = nil
	return gone
}

func (g *group) empty(number uint64) *slot {
	s := g.slot(number)
	*s = slot{}
	return s
}

func (g *group) line(key uint64) *line {
	l := g.lines[key]
	if l != nil {
		return l
	}
	if last := len(g.free) - 1; last >= 0 {
		l, g.free = g.free[last], g.free[:last]
	} else {
		l = new(line)
	}
	l.key = key
	g.lines[key] = l
	return l
}

// rest frees a line on which nothing is under way.
func (g *group) rest(l *line) {
	if l.held > 0 || len(l.waiting) > 0 || l.runnable || l.delayed {
		return
	}
	delete(g.lines, l.key)
	*l = line{waiting: l.waiting[:0]}
	if len(g.free) < 4096 {
		g.free = append(g.free, l)
	}
}

// hold gives an entry to a member.
func (g *group) hold(number uint64, s stored, l *line, member uint32) given {
	sl := g.slot(number)
	sl.state, sl.member, sl.later, sl.due = slotHeld, member, 0, 0
	sl.tries++
	if l != nil {
		if l.last > g.progress.low && l.last <= number {
			g.slot(l.last - 1).later = number
		}
		l.last = number + 1
		l.held++
		l.member = member
	}
	g.counts.Given++
	return given{stored: s, number: number, tries: sl.tries}
}

// wait puts an entry that was just read at the end of its key's line.
func (g *group) wait(number uint64, raw []byte, l *line) {
	g.slot(number).state = slotWaiting
	l.waiting = append(l.waiting, number)
	if g.keptSize+len(raw) <= groupKeepData {
		g.kept[number] = bytes.Clone(raw)
		g.keptSize += len(raw)
	}
}

func (g *group) run(l *line) {
	if !l.runnable {
		l.runnable = true
		g.runnable = append(g.runnable, l)
	}
}

// wake tells waiting members that there may be something to give.
func (g *group) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// holds says whether the member has the entry under way.
func (g *group) holds(number uint64, member uint32) bool {
	if number < g.progress.low || number >= g.next {
		return false
	}
	s := g.slot(number)
	return s.state == slotHeld && s.member == member
}

// ack settles entries. It sets errs[i] to ErrNotHeld where the member does not
// hold numbers[i], and returns the runs that were settled.
func (g *group) ack(numbers []uint64, member uint32, errs []error, runs []run) []run {
	g.mu.Lock()
	defer g.mu.Unlock()
	freed := g.next-g.progress.low >= groupWindow
	for i, n := range numbers {
		if !g.holds(n, member) {
			errs[i] = transports.ErrNotHeld
			continue
		}
		g.counts.Acked++
		s := g.slot(n)
		s.state = slotSettled
		if s.key != 0 {
			l := g.lines[s.key]
			l.held--
			if l.held == 0 && len(l.waiting) > 0 && !l.delayed {
				g.run(l)
				freed = true
			}
			g.rest(l)
		}
		if last := len(runs) - 1; last >= 0 && runs[last].to == n {
			runs[last].to++
			continue
		}
		runs = append(runs, run{n, n + 1})
	}
	for _, r := range runs {
		g.progress.settle(r)
	}
	if freed {
		g.wake()
	}
	return runs
}

// nack gives an entry back, and with it the later entries of its key that are
// under way, so that none of them passes it. It returns how often the entry
// was given.
func (g *group) nack(number uint64, member uint32, due time.Time) (tries uint32, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.holds(number, member) {
		return 0, transports.ErrNotHeld
	}
	g.counts.Nacked++
	s := g.slot(number)
	if s.key == 0 { // a line of its own, so that it can wait
		s.key = number*0x9E3779B97F4A7C15 | 1
		l := g.line(s.key)
		l.held++
	}
	l := g.lines[s.key]
	later := s.later
	g.takeBack(number, l, due.UnixNano())
	for later != 0 {
		s := g.slot(later)
		if s.state == slotHeld {
			g.counts.TakenBack++
			g.takeBack(later, l, 0)
		}
		later = s.later
	}
	if g.progress.tries == nil {
		g.progress.tries = make(map[uint64]uint32)
	}
	g.progress.tries[number] = s.tries
	g.park(l)
	g.wake()
	return s.tries, nil
}

func (g *group) takeBack(number uint64, l *line, due int64) {
	s := g.slot(number)
	s.state, s.due = slotWaiting, due
	l.held--
	i, _ := slices.BinarySearch(l.waiting, number)
	l.waiting = slices.Insert(l.waiting, i, number)
}

// park puts a line with waiting entries where give looks for it.
func (g *group) park(l *line) {
	if l.delayed {
		return // its first entry may have changed: wakeDelayed reads it anew
	}
	g.run(l)
}

// leave takes back all that a member holds. It is given again at once.
func (g *group) leave(member uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for n := g.progress.low; n < g.next; n++ {
		if !g.holds(n, member) {
			continue
		}
		s := g.slot(n)
		if s.key == 0 {
			s.key = n*0x9E3779B97F4A7C15 | 1
			g.line(s.key).held++
		}
		l := g.lines[s.key]
		g.counts.TakenBack++
		g.takeBack(n, l, 0)
		g.park(l)
	}
	g.wake()
}

// underWay counts the entries that members hold and those that wait for their
// key or their delay.
func (g *group) underWay() (held, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for n := g.progress.low; n < g.next; n++ {
		switch g.slot(n).state {
		case slotHeld:
			held++
		case slotWaiting:
			waiting++
		}
	}
	return held, waiting
}
