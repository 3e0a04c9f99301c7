package flow

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// leases are the deliveries of a source that are held for a time only. Each is
// extended when half of that is over, until it is settled.
type leases struct {
	extender transports.Extender
	changed  chan struct{} // holds one element when by has new ones

	mu sync.Mutex // guards by, which the in-flight limit bounds
	by map[string]lease
}

type lease struct {
	half time.Duration
	due  time.Time
}

const (
	leaseRetry = 4                     // an extension that failed is tried again after this part of half a lease
	leaseFloor = 10 * time.Millisecond // half of the shortest lease that can be kept
)

func newLeases(e transports.Extender) *leases {
	return &leases{extender: e, changed: make(chan struct{}, 1), by: map[string]lease{}}
}

// hold notes deliveries that were received.
func (l *leases) hold(list []transports.Delivery) {
	if l == nil {
		return
	}
	now, some := time.Now(), false
	l.mu.Lock()
	for i := range list {
		if list[i].Lease.IsZero() {
			continue
		}
		half := max(list[i].Lease.Sub(now)/2, leaseFloor)
		l.by[list[i].ID] = lease{half: half, due: now.Add(half)}
		some = true
	}
	l.mu.Unlock()
	if !some {
		return
	}
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// settled forgets deliveries that the source was told about.
func (l *leases) settled(list []transports.Settlement) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range list {
		delete(l.by, list[i].ID)
	}
}

// due lists what is to be extended now, and says when to look again; zero = when there
// is something new.
func (l *leases) due(now time.Time) (ids []string, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, at := range l.by {
		switch {
		case !at.due.After(now):
			ids = append(ids, id)
		case next.IsZero() || at.due.Before(next):
			next = at.due
		}
	}
	return ids, next
}

// extended notes what became of an extension. What was lost is with another by now; its
// ack will be refused.
func (l *leases) extended(ids []string, errs []error, now time.Time) (lost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, id := range ids {
		at, ok := l.by[id]
		if !ok {
			continue // settled meanwhile
		}
		switch {
		case errs == nil || errs[i] == nil:
			at.due = now.Add(at.half)
		case errors.Is(errs[i], transports.ErrNotHeld):
			delete(l.by, id)
			lost++
			continue
		default:
			at.due = now.Add(at.half / leaseRetry)
		}
		l.by[id] = at
	}
	return lost
}

// extend keeps a source's leases until ctx is done.
func (f *Flow) extend(ctx context.Context, s *source) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		ids, next := s.leases.due(time.Now())
		if len(ids) > 0 {
			errs := s.leases.extender.Extend(ctx, ids)
			if lost := s.leases.extended(ids, errs, time.Now()); lost > 0 {
				f.cfg.Log.Warn("leases were lost: the events come again", "source", s.name, "deliveries", lost)
			}
			continue
		}
		pause := time.Hour
		if !next.IsZero() {
			pause = time.Until(next)
		}
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-s.leases.changed:
		case <-ctx.Done():
			return
		}
	}
}
