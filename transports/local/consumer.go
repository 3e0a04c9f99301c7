package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/transports"
)

// consumer is one reader of a topic, or the one of a queue: its progress and
// the files that remember it.
type consumer struct {
	place  *place
	name   string
	passed atomic.Uint64 // entries before it are settled for good

	mu       sync.Mutex
	progress progress // what is noted; the group has its own, which is ahead of it
	notes    *notes
	reader   *logFeed
	group    *group // where several members share
	owner    string // who reads alone
	users    int
	settling rounds[settled]
}

// settled is what one durable write of a group holds.
type settled struct {
	runs  []run
	tries []try
}

type try struct {
	entry uint64
	count uint32
}

func (c *consumer) path() string { return filepath.Join(c.place.dir(), "consumers", c.name) }

// attach opens a consumer. Alone, it may have one owner; else it is shared.
// start is where a consumer begins that was never attached before.
func (p *place) attach(name, owner string, alone bool, start uint64) (*consumer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.consumers[name]
	if c == nil {
		c = &consumer{place: p, name: name, progress: progress{low: start}}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users > 0 && (alone || c.group == nil) {
		return nil, fmt.Errorf("%s %q is read by %q already; sources that are to share it say `share: true`", p.kind, p.name, c.owner)
	}
	if c.users == 0 {
		if err := c.open(alone); err != nil {
			return nil, err
		}
	}
	c.users++
	c.owner = owner
	p.consumers[name] = c
	return c, nil
}

func (c *consumer) open(alone bool) error {
	if first := c.place.log.First(); c.progress.low < first {
		c.progress.settle(run{c.progress.low, first}) // dropped by retention
	}
	room := int64(0)
	if !alone {
		room = noteFileMax // its notes are synced one by one
	}
	notes, err := openNotes(c.place.fs, c.path(), room, func([]byte) error { return nil }, c.progress.appendWhole)
	if err != nil {
		return err
	}
	c.reader = &logFeed{log: c.place.log, number: c.progress.low}
	if !alone {
		c.group = newGroup(c.reader, c.progress.clone())
	}
	c.notes = notes
	c.passed.Store(c.progress.low)
	return nil
}

// detach ends one use.
func (c *consumer) detach() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.users > 0 {
		return nil
	}
	err := errors.Join(c.notes.sync(), c.notes.close(), c.reader.close())
	c.notes, c.group, c.reader = nil, nil, nil
	return err
}

// settleThrough moves a sole reader's mark. It is not synced: the engine that
// calls it keeps the position too.
func (c *consumer) settleThrough(through uint64) error {
	c.mu.Lock()
	if through <= c.progress.low {
		c.mu.Unlock()
		return transports.ErrNotHeld
	}
	from := c.progress.low
	c.progress.settle(run{from, through})
	err := c.notes.add(appendSettled(nil, []run{{from, through}}))
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.passed.Store(through)
	return c.place.trim()
}

// settle makes what a group has settled durable; callers share the sync.
func (c *consumer) settle(runs []run, tries []try) error {
	if len(runs)+len(tries) == 0 {
		return nil
	}
	err := c.settling.do(func(s *settled) {
		s.runs = append(s.runs, runs...)
		s.tries = append(s.tries, tries...)
	}, c.writeSettled)
	if err != nil {
		return fmt.Errorf("%s %q: %w", c.place.kind, c.place.name, err)
	}
	return c.place.trim()
}

func (c *consumer) writeSettled(s *settled) error {
	defer func() { s.runs, s.tries = s.runs[:0], s.tries[:0] }()
	slices.SortFunc(s.runs, func(a, b run) int { return cmp.Compare(a.from, b.from) })
	for _, r := range s.runs {
		c.progress.settle(r)
	}
	if len(s.runs) > 0 {
		if err := c.notes.add(appendSettled(nil, s.runs)); err != nil {
			return err
		}
	}
	for _, t := range s.tries {
		body := appendTry(nil, t.entry, t.count)
		if err := c.progress.apply(body); err != nil {
			return err
		}
		if err := c.notes.add(body); err != nil {
			return err
		}
	}
	if err := c.notes.sync(); err != nil {
		return err
	}
	c.passed.Store(c.progress.low)
	return nil
}

// take waits for entries for a member of the group.
func (c *consumer) take(ctx context.Context, dst []given, member uint32, max int, wait time.Duration, stop <-chan struct{}) ([]given, error) {
	if max <= 0 {
		return dst, nil
	}
	var timer *time.Timer
	deadline := time.Now().Add(wait)
	for {
		published := c.place.log.Changed()
		got, due, changed, err := c.group.give(dst, member, max, c.place.now())
		if gone := c.group.takeGone(); len(gone) > 0 {
			err = errors.Join(err, c.settle(gone, nil))
		}
		if len(got) > len(dst) {
			return got, nil // an error comes again
		}
		if err != nil {
			return got, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return got, nil
		}
		if !due.IsZero() {
			left = min(left, due.Sub(c.place.now())+1)
		}
		if timer == nil {
			timer = time.NewTimer(left)
			defer timer.Stop()
		} else {
			timer.Reset(left)
		}
		select {
		case <-ctx.Done():
			return got, ctx.Err()
		case <-stop:
			return got, transports.ErrClosed
		case <-c.place.closed:
			return got, transports.ErrClosed
		case <-published:
		case <-changed:
		case <-timer.C:
		}
	}
}

// readAhead is how many bytes are read at once.
const readAhead = 256 << 10

// logFeed reads a log in blocks that belong to whoever gets their entries.
type logFeed struct {
	log    *segment.Log
	number uint64 // the entry to be read next
	reader *segment.Reader
	block  []byte // framed entries not handed out yet
	last   []byte // block before the last entry was taken
	size   int    // of the last block: the next is likely alike

	again     *segment.Reader // for at
	againNext uint64
}

// next implements feed.
func (f *logFeed) next() ([]byte, uint64, error) {
	if len(f.block) == 0 {
		if err := f.fill(); err != nil {
			return nil, 0, err
		}
	}
	raw, rest, ok := segment.Unframe(f.block)
	if !ok {
		return nil, 0, fmt.Errorf("entry %d: wrong framing", f.number)
	}
	f.last, f.block = f.block, rest
	f.number++
	return raw, f.number - 1, nil
}

// unread puts the entry that next returned last back.
func (f *logFeed) unread() {
	f.block = f.last
	f.number--
}

// fill reads the next block; io.EOF where nothing more is published.
func (f *logFeed) fill() error {
	for range 2 {
		err := f.read()
		switch {
		case errors.Is(err, segment.ErrDropped):
			f.number = max(f.number, f.log.First())
			if err := f.closeReader(); err != nil {
				return err
			}
			continue
		case errors.Is(err, segment.ErrCaughtUp):
			return io.EOF
		case errors.Is(err, segment.ErrClosed):
			return transports.ErrClosed
		}
		return err
	}
	return segment.ErrDropped
}

func (f *logFeed) read() (err error) {
	if f.reader == nil {
		if f.reader, err = f.log.Reader(f.number); err != nil {
			f.reader = nil
			return err
		}
	}
	f.block, f.number, _, err = f.reader.ReadGroups(make([]byte, 0, f.size), readAhead)
	f.size = min(len(f.block)+512, readAhead)
	return err
}

// at implements feed. Entries that are asked for in order are read in order.
func (f *logFeed) at(number uint64) ([]byte, error) {
	const skip = 4096
	if f.again == nil || number < f.againNext || number > f.againNext+skip {
		if f.again != nil {
			if err := f.again.Close(); err != nil {
				return nil, err
			}
		}
		var err error
		if f.again, err = f.log.Reader(number); err != nil {
			f.again = nil
			return nil, err
		}
		f.againNext = number
	}
	for {
		raw, n, err := f.again.Next()
		if err != nil {
			return nil, err
		}
		f.againNext = n + 1
		if n == number {
			return slices.Clone(raw), nil
		}
	}
}

func (f *logFeed) closeReader() error {
	r := f.reader
	f.reader, f.block = nil, nil
	if r == nil {
		return nil
	}
	return r.Close()
}

func (f *logFeed) close() error {
	err := f.closeReader()
	if f.again != nil {
		err = errors.Join(err, f.again.Close())
		f.again = nil
	}
	return err
}
