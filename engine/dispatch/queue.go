package dispatch

import (
	"math/rand/v2"
	"time"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
)

// Limits of the window on the park queue.
const (
	windowEntries = 1024
	windowBytes   = 4 << 20
	// parkRetry is how soon a full park queue is asked again for room.
	parkRetry = 100 * time.Millisecond
	// idle is how long the loop sleeps with nothing to wait for.
	idle = time.Hour
)

// state is what the loop owns. Jobs stand in the queue of their key; live ones
// also in the list `oldest … newest` in offer order, which is the order of their
// park deadlines. A key queue is in `ready` while its head may be sent, in
// `delayed` while its head waits for its next attempt, in neither while it is sent.
type state struct {
	limits transports.Limits
	random *rand.Rand

	keys           map[uint64]*keyQueue // live keys
	ready          []*keyQueue          // in order of becoming ready
	delayed        []*keyQueue
	oldest, newest *Job
	waiting        int // live jobs
	free           *keyQueue

	batch   []*Job
	entries []transports.Entry
	results []transports.Result
	spare   []*Job
	ended   []Ended

	// The park queue: how many entries of each key are there, those among them that
	// are loaded, by key, and whether the sink is thought to be down.
	parkedKeys  map[uint64]int
	windowKeys  map[uint64]*keyQueue
	windowReady []*keyQueue
	windowCount int
	windowSize  int
	down        bool
	nextProbe   time.Time
	failures    int // writes in a row in which nothing arrived
	parkFull    bool
}

// keyQueue holds the jobs of one key, in order.
type keyQueue struct {
	key       uint64
	jobs      []*Job
	head      int
	sent      int       // jobs of the batch under way
	notBefore time.Time // of the head's next attempt
	overdue   bool      // park as soon as nothing of it is under way
	blocked   bool      // in no list: earlier entries of the key are parked, and the park queue is full
	next      *keyQueue // free list
}

func (s *state) init(cfg *Config) error {
	s.limits = cfg.Sink.Limits()
	s.random = rand.New(rand.NewPCG(cfg.Seed, 1))
	s.keys = map[uint64]*keyQueue{}
	s.windowKeys = map[uint64]*keyQueue{}
	s.parkedKeys = map[uint64]int{}
	if cfg.Park == nil {
		return nil
	}
	return cfg.Park.keys(s.parkedKeys)
}

func (q *keyQueue) len() int { return len(q.jobs) - q.head }

func (q *keyQueue) pop() {
	q.jobs[q.head] = nil
	q.head++
	if q.head == len(q.jobs) {
		q.jobs, q.head = q.jobs[:0], 0
	}
}

func (s *state) queue(in map[uint64]*keyQueue, key uint64) (q *keyQueue, fresh bool) {
	if q = in[key]; q != nil {
		return q, false
	}
	if q = s.free; q != nil {
		s.free, q.next = q.next, nil
	} else {
		q = &keyQueue{}
	}
	q.key = key
	in[key] = q
	return q, true
}

func (s *state) drop(in map[uint64]*keyQueue, q *keyQueue) {
	delete(in, q.key)
	*q = keyQueue{jobs: q.jobs[:0], next: s.free}
	s.free = q
}

// enqueue puts a live job behind its key's others.
func (d *Dispatcher) enqueue(j *Job) {
	q, fresh := d.queue(d.keys, j.Key)
	q.jobs = append(q.jobs, j)
	j.queue = q
	j.prev, j.next = d.newest, nil
	if d.newest != nil {
		d.newest.next = j
	} else {
		d.oldest = j
	}
	d.newest = j
	d.waiting++
	switch {
	case !fresh:
	case d.parkedKeys[j.Key] > 0:
		q.overdue, q.blocked = true, true
	default:
		d.ready = append(d.ready, q)
	}
}

func (d *Dispatcher) unlink(j *Job) {
	if j.prev != nil {
		j.prev.next = j.next
	} else {
		d.oldest = j.next
	}
	if j.next != nil {
		j.next.prev = j.prev
	} else {
		d.newest = j.prev
	}
	j.prev, j.next = nil, nil
	d.waiting--
}

// nextBatch fills the batch with what may be sent now; false = nothing yet. A
// sink that is down gets one parked entry as a probe, and nothing else.
func (d *Dispatcher) nextBatch(now time.Time) bool {
	d.wake(now)
	if d.down {
		return d.probe(now)
	}
	d.batch = d.batch[:0]
	size := 0
	d.windowReady = d.take(d.windowReady, &size)
	if len(d.batch) == 0 && !d.due(now) {
		return false
	}
	d.ready = d.take(d.ready, &size)
	return len(d.batch) > 0
}

// due says whether live jobs are enough, or have waited long enough, for a write.
func (d *Dispatcher) due(now time.Time) bool {
	if len(d.ready) == 0 {
		return false
	}
	return d.waiting >= d.cfg.BatchCount || d.oldest == nil || now.Sub(d.oldest.first) >= d.cfg.BatchWait
}

// take moves jobs from the heads of ready queues into the batch, one a key unless
// the sink keeps the order within a failing batch, and returns the queues left.
func (d *Dispatcher) take(ready []*keyQueue, size *int) []*keyQueue {
	n := 0
	for ; n < len(ready); n++ {
		q := ready[n]
		for i := q.head; i < len(q.jobs); i++ {
			j := q.jobs[i]
			bytes := len(j.Entry.Data)
			full := len(d.batch) >= d.cfg.BatchCount || (d.limits.Bytes > 0 && len(d.batch) > 0 && *size+bytes > d.limits.Bytes)
			if full {
				if q.sent == 0 {
					return append(ready[:0], ready[n:]...)
				}
				break
			}
			*size += bytes
			j.sent = true
			q.sent++
			d.batch = append(d.batch, j)
			if !d.limits.KeyedFailure {
				break
			}
		}
	}
	return ready[:0]
}

// wake moves queues whose head may be tried again to ready.
func (d *Dispatcher) wake(now time.Time) {
	left := d.delayed[:0]
	for _, q := range d.delayed {
		switch {
		case q.notBefore.After(now):
			left = append(left, q)
		case q.jobs[q.head].parked:
			d.windowReady = append(d.windowReady, q)
		default:
			d.ready = append(d.ready, q)
		}
	}
	clear(d.delayed[len(left):])
	d.delayed = left
}

// settleQueue takes a job that ended off its queue, and lets the queue go on when
// the last of its jobs in the batch was judged.
func (d *Dispatcher) settleQueue(j *Job, retryAt time.Time) {
	q := j.queue
	q.sent--
	if retryAt.IsZero() {
		d.removeFromQueue(q, j)
	} else if retryAt.After(q.notBefore) {
		q.notBefore = retryAt
	}
	if q.sent > 0 {
		return
	}
	in := d.keys
	if j.parked {
		in = d.windowKeys
	}
	switch {
	case q.len() == 0:
		d.drop(in, q)
	case q.overdue && !j.parked && d.mayPark():
		d.parkQueue(q)
	case q.notBefore.IsZero():
		if j.parked {
			d.windowReady = append(d.windowReady, q)
		} else {
			d.ready = append(d.ready, q)
		}
	default:
		d.delayed = append(d.delayed, q)
	}
}

func (d *Dispatcher) removeFromQueue(q *keyQueue, j *Job) {
	if q.jobs[q.head] == j {
		q.pop()
		q.notBefore = time.Time{}
		return
	}
	// A later entry of the key arrived although an earlier one did not: only a sink
	// that breaks its KeyedFailure promise does this. The job has ended all the same.
	for i := q.head; i < len(q.jobs); i++ {
		if q.jobs[i] == j {
			q.jobs = append(q.jobs[:i], q.jobs[i+1:]...)
			return
		}
	}
}

// end finishes a job that was sent.
func (d *Dispatcher) end(j *Job, outcome journal.Outcome, reason string) {
	j.Outcome, j.Reason = outcome, reason
	d.settleQueue(j, time.Time{})
	d.finish(j)
}

// finish tells of a job that is off its queue.
func (d *Dispatcher) finish(j *Job) {
	j.queue = nil
	if !j.parked {
		d.unlink(j)
		d.stats.waiting.Add(-1)
		d.stats.outcome(j.Outcome)
		j.Owner.Done(j)
		return
	}
	d.windowCount--
	d.windowSize -= len(j.Entry.Data)
	d.cfg.Park.left(len(j.Entry.Data))
	if d.parkedKeys[j.Key]--; d.parkedKeys[j.Key] <= 0 {
		delete(d.parkedKeys, j.Key)
		if q := d.keys[j.Key]; q != nil && q.blocked {
			q.overdue, q.blocked = false, false
			d.ready = append(d.ready, q)
		}
	}
	d.stats.outcome(j.Outcome)
	d.ended = append(d.ended, Ended{
		Redelivery: journal.Redelivery{Ordinal: j.ordinal, Outcome: j.Outcome, Attempts: uint32(j.Attempts), Reason: j.Reason},
		Entry:      j.Entry, Context: j.context,
	})
}

// endBlocked dead-letters a job and, where so configured, what waits behind it.
func (d *Dispatcher) endBlocked(j *Job, reason string) {
	q, parked := j.queue, j.parked
	var behind []*Job
	if d.cfg.BlockKey && q.sent == 1 && q.jobs[q.head] == j {
		behind = append(behind, q.jobs[q.head+1:]...)
		q.jobs = q.jobs[:q.head+1]
	}
	id := j.Entry.ID
	d.end(j, journal.Dead, reason)
	for _, b := range behind {
		b.Outcome, b.Reason, b.parked = journal.Dead, "blocked_by: "+id, parked
		d.finish(b)
	}
}

func (d *Dispatcher) retry(j *Job, at time.Time) { d.settleQueue(j, at) }

// pause is how long the loop may sleep.
func (d *Dispatcher) pause(now time.Time, writing bool) time.Duration {
	wait := idle
	until := func(t time.Time) { wait = min(wait, max(0, t.Sub(now))) }
	if d.oldest != nil && d.cfg.Park != nil {
		if d.parkFull {
			until(now.Add(parkRetry))
		} else if j := d.firstNotOverdue(); j != nil {
			until(j.first.Add(d.cfg.ParkAfter))
		}
	}
	if writing {
		return wait
	}
	for _, q := range d.delayed {
		until(q.notBefore)
	}
	switch {
	case d.down:
		if len(d.windowReady)+len(d.ready) > 0 {
			until(d.nextProbe)
		}
	case len(d.windowReady) > 0:
		return 0
	case len(d.ready) > 0 && d.oldest != nil:
		until(d.oldest.first.Add(d.cfg.BatchWait))
	}
	return wait
}

func (d *Dispatcher) firstNotOverdue() *Job {
	for j := d.oldest; j != nil; j = j.next {
		if !j.queue.overdue && !j.Patient {
			return j
		}
	}
	return nil
}
