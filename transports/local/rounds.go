package local

import "sync"

// rounds lets concurrent callers share durable writes: while one round is
// being written, the callers that come meanwhile fill the next one. The first
// of them writes it, so no goroutine of its own is needed.
type rounds[T any] struct {
	mu      sync.Mutex
	filling *round[T]
	running bool
	spare   *T
}

type round[T any] struct {
	content *T
	lead    chan struct{} // takes one token: its receiver writes the round
	done    chan struct{}
	err     error
}

// do adds to a round and returns when that round was written. add runs under
// the lock shared by all callers; write runs in one caller at a time, with the
// round's content to itself, and leaves it empty for reuse.
func (r *rounds[T]) do(add func(*T), write func(*T) error) error {
	r.mu.Lock()
	if r.filling == nil {
		r.filling = &round[T]{content: r.spare, lead: make(chan struct{}, 1), done: make(chan struct{})}
		if r.spare == nil {
			r.filling.content = new(T)
		}
		r.spare = nil
	}
	mine := r.filling
	add(mine.content)
	if !r.running {
		r.running = true
		mine.lead <- struct{}{}
	}
	r.mu.Unlock()

	select {
	case <-mine.done:
		return mine.err
	case <-mine.lead:
	}
	r.mu.Lock()
	r.filling = nil
	r.mu.Unlock()
	mine.err = write(mine.content)
	close(mine.done)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.spare = mine.content
	if r.filling == nil {
		r.running = false
		return mine.err
	}
	r.filling.lead <- struct{}{}
	return mine.err
}
