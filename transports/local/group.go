package local

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/segment"
)

// Limits of what one group has under way.
const (
	groupWindow   = 1 << 16  // entries from the lowest unsettled one to the last read
	groupKeepData = 64 << 20 // bytes of entries that wait for their key; past it they are read again
)

// feed is where a group reads entries from.
type feed interface {
	// next returns the next published entry, which is the caller's to keep, and
	// its number; io.EOF where there is none yet.
	next() (raw []byte, number uint64, err error)
	// at reads one entry again.
	at(number uint64) ([]byte, error)
}

// group shares the entries of a queue, or of a topic's consumer, among its
// members. A key's entries under way are with one member at a time; a nacked
// entry holds back all later ones of its key.
type group struct {
	mu       sync.Mutex
	feed     feed
	progress *progress
	next     uint64 // the entry to be read next
	ring     []slot // the entries progress.low..next-1, by number modulo its length
	lines    map[uint64]*line
	free     []*line
	runnable []*line
	delayed  []*line // lines whose first entry has a delay; few, unordered
	kept     map[uint64][]byte
	keptSize int
	members  uint32
	changed  chan struct{} // closed and replaced when something may be given again
	counts   counts
	gone     []run // dropped by retention, not noted yet
}

// counts are what a group has done since it was opened.
type counts struct {
	Given, Acked, Nacked, TakenBack, Expired uint64
}

type slot struct {
	key    uint64 // 0 = none
	due    int64  // waiting: not before, in ns of the wall clock
	later  uint64 // held: the next entry of the key that was given, 0 = none
	member uint32
	tries  uint32
	state  slotState
}

type slotState uint8

const (
	slotSettled slotState = iota
	slotHeld              // given to a member
	slotWaiting           // in its key's line
)

// line is a key that has entries under way.
type line struct {
	key      uint64
	last     uint64 // the last entry given + 1
	waiting  []uint64
	held     int
	member   uint32 // who holds
	runnable bool
	delayed  bool
}

func newGroup(f feed, p *progress) *group {
	return &group{
		feed: f, progress: p, next: p.low, ring: make([]slot, 1024),
		lines: make(map[uint64]*line), kept: make(map[uint64][]byte), changed: make(chan struct{}),
	}
}

// join adds a member and returns its number.
func (g *group) join() uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members++
	return g.members
}

// given is one entry handed to a member.
type given struct {
	stored
	number uint64
	tries  uint32
}

// give hands up to max entries to a member, appending them to dst, and says
// when the earliest delayed entry becomes due (zero = none) and which channel is
// closed when a settlement frees something.
func (g *group) give(dst []given, member uint32, max int, now time.Time) (out []given, due time.Time, changed <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	due = g.wakeDelayed(now.UnixNano())
	dst, err = g.giveWaiting(dst, member, max, now.UnixNano())
	if err != nil {
		return dst, due, g.changed, err
	}
	dst, err = g.giveNew(dst, member, max)
	return dst, due, g.changed, err
}

// wakeDelayed moves lines whose delay is over to the runnable ones.
func (g *group) wakeDelayed(now int64) (due time.Time) {
	left, first := g.delayed[:0], int64(0)
	for _, l := range g.delayed {
		at := g.slot(l.waiting[0]).due
		if at <= now {
			l.delayed = false
			g.run(l)
			continue
		}
		if first == 0 || at < first {
			first = at
		}
		left = append(left, l)
	}
	clear(g.delayed[len(left):])
	g.delayed = left
	if first == 0 {
		return time.Time{}
	}
	return time.Unix(0, first)
}

func (g *group) giveWaiting(dst []given, member uint32, max int, now int64) ([]given, error) {
	var err error
	left := g.runnable[:0]
	for i, l := range g.runnable {
		if len(dst) >= max || err != nil {
			left = append(left, g.runnable[i:]...)
			break
		}
		if l.held == 0 || l.member == member {
			dst, err = g.giveLine(dst, l, member, max, now)
		}
		switch {
		case len(l.waiting) == 0:
			l.runnable = false
			g.rest(l)
		case g.slot(l.waiting[0]).due > now:
			l.runnable, l.delayed = false, true
			g.delayed = append(g.delayed, l)
		default:
			left = append(left, l)
		}
	}
	clear(g.runnable[len(left):])
	g.runnable = left
	return dst, err
}

func (g *group) giveLine(dst []given, l *line, member uint32, max int, now int64) ([]given, error) {
	for len(l.waiting) > 0 && len(dst) < max && g.slot(l.waiting[0]).due <= now {
		n := l.waiting[0]
		s, err := g.stored(n)
		if errors.Is(err, segment.ErrDropped) {
			l.waiting = l.waiting[1:]
			g.slot(n).state = slotSettled
			g.expire(run{n, n + 1})
			continue
		}
		if err != nil {
			return dst, err
		}
		l.waiting = l.waiting[1:]
		dst = append(dst, g.hold(n, s, l, member))
	}
	return dst, nil
}

// stored is a waiting entry: the copy kept, else read again.
func (g *group) stored(number uint64) (stored, error) {
	raw, ok := g.kept[number]
	if ok {
		delete(g.kept, number)
		g.keptSize -= len(raw)
		return parseEntry(raw)
	}
	raw, err := g.feed.at(number)
	if err != nil {
		return stored{}, err
	}
	return parseEntry(raw)
}

func (g *group) giveNew(dst []given, member uint32, max int) ([]given, error) {
	for len(dst) < max && g.next-g.progress.low < groupWindow {
		raw, number, err := g.feed.next()
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
		settled := g.progress.isSettled(number)
		sl := g.advance(number)
		if settled {
			continue
		}
		s, err := parseEntry(raw)
		if err != nil {
			return dst, fmt.Errorf("entry %d: %w", number, err)
		}
		*sl = slot{key: keyHash(s.key), tries: g.progress.tries[number]}
		if sl.key == 0 {
			dst = append(dst, g.hold(number, s, nil, member))
			continue
		}
		l := g.line(sl.key)
		if len(l.waiting) > 0 || l.held > 0 && l.member != member {
			g.wait(number, raw, l)
			continue
		}
		dst = append(dst, g.hold(number, s, l, member))
	}
	return dst, nil
}
