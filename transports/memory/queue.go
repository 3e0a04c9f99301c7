package memory

import (
	"bytes"
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// ErrFull is the error of Put above the queue's limit.
var ErrFull = errors.New("queue is full")

// Queue is an ordered set of entries, each of which waits or is held by one
// source. All methods are safe for concurrent use. A look for the next entry
// passes over waiting entries of blocked keys one by one; the limit bounds it.
type Queue struct {
	name string

	mu      sync.Mutex
	limit   int
	bytes   int
	seq     uint64
	waiting *list.List       // of *item, by seq
	held    map[uint64]*item // by seq
	keys    map[string]*keyHold
	ended   bool
	changed chan struct{} // closed when there may be something new
	hook    func(transports.Entry) transports.Result
}

// item is one entry on its way through a queue.
type item struct {
	seq       uint64
	entry     transports.Entry
	published time.Time
	attempt   int
	notBefore time.Time // waiting
	holder    any       // held
	lease     time.Time // held; zero = for ever
}

// keyHold says which source has entries of a key, and how many.
type keyHold struct {
	holder any
	count  int
}

func newQueue(name string) *Queue {
	return &Queue{
		name: name, limit: DefaultLimit, waiting: list.New(),
		held: map[uint64]*item{}, keys: map[string]*keyHold{}, changed: make(chan struct{}),
	}
}

// Put appends copies of entries, all or, with ErrFull, none. Entry.ID, Route
// and Attempt are kept for Entries and Take; a source does not see them.
func (q *Queue) Put(entries ...transports.Entry) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := 0
	for i := range entries {
		size += len(entries[i].Data)
	}
	if q.full(len(entries), size) {
		return fmt.Errorf("put %d entries into %s: %w", len(entries), q.name, ErrFull)
	}
	for i := range entries {
		q.put(&entries[i])
	}
	q.wake()
	return nil
}

func (q *Queue) full(count, size int) bool {
	return q.waiting.Len()+len(q.held)+count > q.limit || q.bytes+size > MaxBytes
}

func (q *Queue) put(e *transports.Entry) {
	q.seq++
	q.bytes += len(e.Data)
	q.waiting.PushBack(&item{seq: q.seq, entry: clone(e), published: time.Now()})
}

// Take removes and returns up to most entries that wait and are due, oldest
// first, waiting up to wait for the first. It acks them by that.
func (q *Queue) Take(ctx context.Context, most int, wait time.Duration) ([]transports.Entry, error) {
	me := new(byte) // a holder of its own
	items, err := q.receive(ctx, me, most, wait, 0, nil)
	if err != nil {
		return nil, err
	}
	taken := make([]transports.Entry, len(items))
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, it := range items {
		taken[i] = it.entry
		q.drop(it)
	}
	q.wake()
	return taken, nil
}

// Entries returns copies of all entries that wait or are held, in order.
func (q *Queue) Entries() []transports.Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := make([]*item, 0, q.waiting.Len()+len(q.held))
	for el := q.waiting.Front(); el != nil; el = el.Next() {
		items = append(items, el.Value.(*item))
	}
	for _, it := range q.held {
		items = append(items, it)
	}
	slices.SortFunc(items, func(a, b *item) int { return cmp.Compare(a.seq, b.seq) })
	all := make([]transports.Entry, len(items))
	for i, it := range items {
		all[i] = clone(&it.entry)
	}
	return all
}

// End says that no more will be put: sources get io.EOF once all is settled.
func (q *Queue) End() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.wake()
}

// OnWrite lets a test decide what becomes of each entry that a sink writes
// here: an entry whose result is not transports.OK is not put. nil ends it.
// The hook must not call the queue.
func (q *Queue) OnWrite(hook func(transports.Entry) transports.Result) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hook = hook
}

func (q *Queue) setLimit(limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = limit
}

// wake lets every receiver look again.
func (q *Queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// receive holds up to most entries for holder, waiting for the first.
func (q *Queue) receive(ctx context.Context, holder any, most int, wait, lease time.Duration, closing <-chan struct{}) ([]*item, error) {
	deadline := time.Now().Add(wait)
	for {
		q.mu.Lock()
		if closed(closing) { // under the lock: abandon comes after it
			q.mu.Unlock()
			return nil, transports.ErrClosed
		}
		items, next := q.hold(holder, most, lease)
		done := q.ended && q.waiting.Len()+len(q.held) == 0
		changed := q.changed
		q.mu.Unlock()
		switch {
		case len(items) > 0:
			return items, nil
		case done:
			return nil, io.EOF
		case most <= 0, !time.Now().Before(deadline):
			return nil, nil
		}
		until := deadline
		if !next.IsZero() && next.Before(until) {
			until = next
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		case <-closing:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func closed(closing <-chan struct{}) bool {
	select {
	case <-closing:
		return true
	default:
		return false
	}
}

// hold moves due entries to the holder. It returns when to look again where
// there are none but will be by time alone.
func (q *Queue) hold(holder any, most int, lease time.Duration) (items []*item, next time.Time) {
	now := time.Now()
	next = q.expire(now)
	blocked := map[string]bool{}
	for el := q.waiting.Front(); el != nil && len(items) < most; {
		it, this := el.Value.(*item), el
		el = el.Next()
		key := string(it.entry.Key)
		keyed := it.entry.Key != nil
		if keyed && blocked[key] {
			continue
		}
		if it.notBefore.After(now) {
			next = earlier(next, it.notBefore)
			if keyed {
				blocked[key] = true
			}
			continue
		}
		if k := q.keys[key]; keyed && k != nil && k.holder != holder {
			blocked[key] = true
			continue
		}
		q.waiting.Remove(this)
		it.attempt++
		it.holder, it.lease = holder, time.Time{}
		if lease > 0 {
			it.lease = now.Add(lease)
		}
		q.held[it.seq] = it
		if keyed {
			q.grip(key, holder)
		}
		items = append(items, it)
	}
	return items, next
}

func (q *Queue) grip(key string, holder any) {
	k := q.keys[key]
	if k == nil {
		k = &keyHold{holder: holder}
		q.keys[key] = k
	}
	k.count++
}

// expire takes entries back whose lease ran out and returns when the next does.
func (q *Queue) expire(now time.Time) (next time.Time) {
	for _, it := range q.held {
		if it.lease.IsZero() {
			continue
		}
		if it.lease.After(now) {
			next = earlier(next, it.lease)
			continue
		}
		q.back(it, now)
	}
	return next
}

// back makes a held entry wait again, in its old place.
func (q *Queue) back(it *item, notBefore time.Time) {
	q.release(it)
	it.notBefore = notBefore
	for el := q.waiting.Front(); el != nil; el = el.Next() {
		if el.Value.(*item).seq > it.seq {
			q.waiting.InsertBefore(it, el)
			return
		}
	}
	q.waiting.PushBack(it)
}

// drop removes a held entry for good.
func (q *Queue) drop(it *item) {
	q.release(it)
	q.bytes -= len(it.entry.Data)
}

func (q *Queue) release(it *item) {
	delete(q.held, it.seq)
	it.holder = nil
	if it.entry.Key == nil {
		return
	}
	key := string(it.entry.Key)
	if k := q.keys[key]; k != nil {
		if k.count--; k.count == 0 {
			delete(q.keys, key)
		}
	}
}

// settle ends what holder has of an id.
func (q *Queue) settle(holder any, s *transports.Settlement) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.expire(now)
	seq, err := parseID(q.name, s.ID)
	it := q.held[seq]
	if err != nil || it == nil || it.holder != holder {
		return fmt.Errorf("settle %q: %w", s.ID, transports.ErrNotHeld)
	}
	if s.Nack {
		q.back(it, now.Add(s.Delay))
	} else {
		q.drop(it)
	}
	q.wake()
	return nil
}

// extend makes the lease of what holder has of an id begin anew.
func (q *Queue) extend(holder any, id string, lease time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.expire(now)
	seq, err := parseID(q.name, id)
	it := q.held[seq]
	if err != nil || it == nil || it.holder != holder {
		return fmt.Errorf("extend %q: %w", id, transports.ErrNotHeld)
	}
	if lease > 0 {
		it.lease = now.Add(lease)
	}
	return nil
}

// abandon takes back all that a source held.
func (q *Queue) abandon(holder any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, it := range q.held {
		if it.holder == holder {
			q.back(it, now)
		}
	}
	q.wake()
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func makeID(queue string, seq uint64) string { return queue + "/" + strconv.FormatUint(seq, 10) }

func parseID(queue, id string) (uint64, error) {
	if len(id) <= len(queue) || id[:len(queue)] != queue || id[len(queue)] != '/' {
		return 0, errors.New("id is of another queue")
	}
	return strconv.ParseUint(id[len(queue)+1:], 10, 64)
}

func clone(e *transports.Entry) transports.Entry {
	c := *e
	c.Key, c.Data, c.Headers = bytes.Clone(e.Key), bytes.Clone(e.Data), slices.Clone(e.Headers)
	return c
}
