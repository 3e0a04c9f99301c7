package flow

import (
	"context"
	"sync"
	"time"
)

// room is the in-flight limit in events and bytes. A source is asked only while there
// is room for what it usually gives; what it then gives is counted, so the limits may
// be passed by one chunk a source. Nothing is held for sources that have nothing.
type room struct {
	mu        sync.Mutex // guards all
	events    int64      // received and not durable; of chunks that are not scanned yet a guess
	bytes     int64      // of chunks that the lanes are not done with
	chunks    int
	ahead     int // chunks that some lane has not run yet
	maxEvents int64
	maxBytes  int64
	maxAhead  int
	waiting   bool
	since     time.Time     // of waiting
	changed   chan struct{} // closed and renewed when room was given back to somebody who waits
}

// aheadALane is how many chunks a lane sources may run ahead of the lanes: enough to
// keep those busy, and no more, since memory follows the most that was ever ahead.
const aheadALane = 8

// wait returns when a chunk may be asked for, or false when ctx is done.
func (r *room) wait(ctx context.Context, bytes int64, events int) bool {
	return r.until(ctx, func() bool {
		idle := r.chunks == 0 && r.events == 0 // one event may be larger than all limits
		return idle || r.chunks < maxChunks && r.ahead < r.maxAhead && r.bytes+bytes <= r.maxBytes && r.events+int64(events) <= r.maxEvents
	})
}

// empty returns when nothing is in flight, or false when ctx is done.
func (r *room) empty(ctx context.Context) bool {
	return r.until(ctx, func() bool { return r.chunks == 0 && r.events == 0 })
}

func (r *room) until(ctx context.Context, so func() bool) bool {
	for {
		r.mu.Lock()
		if so() {
			r.mu.Unlock()
			return true
		}
		changed := r.changed
		if !r.waiting {
			r.waiting, r.since = true, time.Now()
		}
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// enter counts a chunk that was received, with a guess at its events.
func (r *room) enter(bytes int64, guess int) {
	r.mu.Lock()
	r.bytes += bytes
	r.events += int64(guess)
	r.chunks++
	r.ahead++
	r.mu.Unlock()
}

// scanned replaces a chunk's guess by the count of its events.
func (r *room) scanned(events, guess int) {
	r.mu.Lock()
	r.events += int64(events - guess)
	r.mu.Unlock()
}

// give takes back a chunk that the lanes are done with.
func (r *room) give(bytes int64) {
	r.mu.Lock()
	r.bytes -= bytes
	r.chunks--
	r.tell()
	r.mu.Unlock()
}

// wake has those who wait look again, at what is not counted here.
func (r *room) wake() {
	r.mu.Lock()
	r.tell()
	r.mu.Unlock()
}

// is says whether something holds.
func (r *room) is(so func(*room) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return so(r)
}

// bound sets the limits.
func (r *room) bound(events, bytes int64) {
	r.mu.Lock()
	r.maxEvents, r.maxBytes = events, bytes
	r.tell()
	r.mu.Unlock()
}

// ran takes back a chunk that all lanes have run, though they may not be done with it.
func (r *room) ran() {
	r.mu.Lock()
	r.ahead--
	r.tell()
	r.mu.Unlock()
}

// leave takes back events that are durable, or were given back to their source.
func (r *room) leave(events int) {
	r.mu.Lock()
	r.events -= int64(events)
	r.tell()
	r.mu.Unlock()
}

// tell wakes who waits. The caller holds mu.
func (r *room) tell() {
	if r.waiting {
		r.waiting = false
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

func (r *room) held() (events, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events, r.bytes
}

// full says since when somebody waits for room, and for which; the zero time = nobody does.
func (r *room) full() (since time.Time, events bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	events = r.events*2 >= r.maxEvents
	if !r.waiting || !events && r.bytes*2 < r.maxBytes {
		return time.Time{}, false // nobody, or somebody who waits for all to be settled
	}
	return r.since, events
}
