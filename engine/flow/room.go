package flow

import (
	"context"
	"sync"
)

// room is the in-flight limit in events and bytes.
type room struct {
	mu            sync.Mutex // guards all
	events, bytes int64      // held; for chunks that are not scanned yet events are a guess
	inFlight      int64      // events of the chunks that are
	chunks        int
	maxEvents     int64
	maxBytes      int64
	changed       chan struct{} // closed and renewed when room was given back
}

// wait takes room for a chunk as soon as the limits allow it.
func (r *room) wait(ctx context.Context, bytes int64, events int) bool {
	for {
		r.mu.Lock()
		free := r.chunks == 0 || r.chunks < maxChunks && r.bytes+bytes <= r.maxBytes && r.events+int64(events) <= r.maxEvents
		if free {
			r.bytes += bytes
			r.events += int64(events)
			r.chunks++
			r.mu.Unlock()
			return true
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// grow takes more bytes for a chunk that became larger.
func (r *room) grow(bytes int64) {
	r.mu.Lock()
	r.bytes += bytes
	r.mu.Unlock()
}

// scanned replaces a chunk's guess by the count of its events.
func (r *room) scanned(events, guess int) {
	r.mu.Lock()
	r.events += int64(events - guess)
	r.inFlight += int64(events)
	r.mu.Unlock()
}

// add is wait without waiting.
func (r *room) add(bytes int64) {
	r.mu.Lock()
	r.bytes += bytes
	r.chunks++
	r.mu.Unlock()
}

func (r *room) give(bytes int64, events int, counted bool) {
	r.mu.Lock()
	if counted {
		r.inFlight -= int64(events)
	}
	r.bytes -= bytes
	r.events -= int64(events)
	r.chunks--
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
}

// empty waits until nothing is in flight.
func (r *room) empty(ctx context.Context) error {
	for {
		r.mu.Lock()
		n, changed := r.chunks, r.changed
		r.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *room) held() (events, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inFlight, r.bytes
}
