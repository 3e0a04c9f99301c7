package local

import (
	"sync"
	"time"
)

// gatherMost bounds how long a round waits for the callers of the one before.
const gatherMost = 500 * time.Microsecond

// rounds lets concurrent callers share durable writes: while one round is
// being written, the callers that come meanwhile fill the next one. The first
// of them writes it, so no goroutine of its own is needed. Callers that were
// served by the last round often come again at once: the next one waits for
// them up to a quarter of what a write takes, else two halves of the callers
// would take turns and need twice as many syncs.
type rounds[T any] struct {
	mu      sync.Mutex
	filling *round[T]
	running bool
	spare   *T
	last    int           // callers of the last round
	took    time.Duration // by its write
}

type round[T any] struct {
	content *T
	callers int
	wanted  int           // callers worth waiting for
	lead    chan struct{} // takes one token: its receiver writes the round
	full    chan struct{} // closed when wanted callers are there
	done    chan struct{}
	err     error
}

// do adds to a round and returns when that round was written. add runs under
// the lock shared by all callers; write runs in one caller at a time, with the
// round's content to itself, and leaves it empty for reuse.
func (r *rounds[T]) do(add func(*T), write func(*T) error) error {
	mine := r.join(add)
	select {
	case <-mine.done:
		return mine.err
	case <-mine.lead:
	}
	r.gather(mine)
	start := time.Now()
	mine.err = write(mine.content)
	r.finish(mine, time.Since(start))
	return mine.err
}

func (r *rounds[T]) join(add func(*T)) *round[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.filling == nil {
		r.filling = &round[T]{content: r.spare, wanted: r.last, lead: make(chan struct{}, 1), full: make(chan struct{}), done: make(chan struct{})}
		if r.spare == nil {
			r.filling.content = new(T)
		}
		r.spare = nil
	}
	mine := r.filling
	add(mine.content)
	mine.callers++
	if mine.callers == mine.wanted {
		close(mine.full)
	}
	if !r.running {
		r.running = true
		mine.lead <- struct{}{}
	}
	return mine
}

// gather waits for the callers that are likely to come and ends the filling.
func (r *rounds[T]) gather(mine *round[T]) {
	r.mu.Lock()
	wait := min(r.took/4, gatherMost)
	missing := mine.callers < mine.wanted
	r.mu.Unlock()
	if missing && wait > 0 {
		timer := time.NewTimer(wait)
		select {
		case <-mine.full:
		case <-timer.C:
		}
		timer.Stop()
	}
	r.mu.Lock()
	r.filling = nil
	r.mu.Unlock()
}

func (r *rounds[T]) finish(mine *round[T], took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spare, r.last, r.took = mine.content, mine.callers, took
	close(mine.done)
	next := r.filling
	if next == nil {
		r.running = false
		return
	}
	next.wanted, next.full = next.callers+mine.callers, make(chan struct{})
	next.lead <- struct{}{}
}
