// Package dispatch delivers to sinks that stand outside the commit: batches,
// retries with back-off and full jitter, order per key, parking, dead letters.
//
// Promise: every job that is offered ends exactly once, as Delivered, Parked or
// Dead. Jobs of one key reach the sink in the order in which they were offered: a
// later one is not sent before the earlier one ended, and goes behind it into the
// park queue. A sink that is down holds up nothing but its own deliveries: after
// Config.ParkAfter they go to the park queue, as long as that has room; while it has
// none, jobs wait here, the events they belong to stay in flight, and their sources
// are not asked for more. So what a dispatcher holds in memory is bounded by the
// engine's in-flight limit times the destinations of an event, plus one window of
// the park queue (windowEntries, windowBytes).
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
)

// Config is a sink and how to deliver to it. Zero durations and counts mean the defaults.
type Config struct {
	Name       string
	Sink       transports.Sink
	BatchCount int           // entries a write, default 500
	BatchWait  time.Duration // how long a batch may wait to fill, default 5 ms
	ParkAfter  time.Duration // default 1 s
	MaxAge     time.Duration // from the first offer to the dead letter, default 1 h
	BackoffMin time.Duration // default 10 ms
	BackoffMax time.Duration // default 5 s; also the longest time between probes of a parked sink
	WriteLimit time.Duration // of one write, default 30 s; past it the outcome is unknown
	// BlockKey dead-letters a key's waiting jobs together with the one that failed.
	BlockKey bool
	// DuplicatesOK retries jobs whose outcome is unknown even at a sink that does
	// not drop repeated ids.
	DuplicatesOK bool
	// Insist never gives a job up: whatever the sink answers, it is tried again with
	// back-off. It is for dead letters, which have nowhere else to go.
	Insist bool
	Park   *Park // nil = jobs are never parked
	// Ended takes parked deliveries that ended, in order; it returns when their
	// record is handed to the commit log. Required with Park.
	Ended func(ctx context.Context, ended []Ended) error
	Seed  uint64 // of the jitter; 0 = random
}

func (c *Config) fill() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.BatchWait, 5*time.Millisecond)
	set(&c.ParkAfter, time.Second)
	set(&c.MaxAge, time.Hour)
	set(&c.BackoffMin, 10*time.Millisecond)
	set(&c.BackoffMax, 5*time.Second)
	set(&c.WriteLimit, 30*time.Second)
	if c.BatchCount == 0 {
		c.BatchCount = 500
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	if l := c.Sink.Limits().Entries; l > 0 && l < c.BatchCount {
		c.BatchCount = l
	}
}

// Job is one delivery. Its bytes are the owner's and must stand until Done.
type Job struct {
	Entry transports.Entry
	Key   uint64 // hash of Entry.Key; jobs with equal hashes keep their order
	Owner Owner
	// Ref, Index and Tag are the owner's own.
	Ref   any
	Index uint32
	Tag   uint64
	// Patient jobs are never parked, and given up only where the sink says that this
	// entry never works: their owner can wait. No other job has their key.
	Patient bool

	// How it ended; set when Done is called.
	Outcome  journal.Outcome
	Reason   string
	Attempts int

	queue      *keyQueue
	first      time.Time // of the offer
	prev, next *Job      // in offer order
	sent       bool
	ordinal    uint64 // parked: in the park queue
	parked     bool
	context    []byte // parked: the owner's own bytes
}

// Offered is when the job was first taken up; zero before that.
func (j *Job) Offered() time.Time { return j.first }

// Owner is told of the end of its jobs. Done must not block; the job is the owner's again.
type Owner interface{ Done(*Job) }

// Ended is the end of a parked delivery.
type Ended struct {
	journal.Redelivery
	Entry   transports.Entry // what would have been sent; valid during the call
	Context []byte           // as given to Park.FrameJob
}

// Dispatcher delivers to one sink.
type Dispatcher struct {
	cfg Config

	mu       sync.Mutex // guards inbox and expected
	inbox    []*Job
	expected []uint64 // keys of entries that others put into the park queue
	bell     chan struct{}

	orders chan *order // taken while nothing is written

	state
	cancel  context.CancelFunc
	stopped chan struct{}
	err     error
	stats   stats
}

// New returns a dispatcher that is not running. The sink must be open, the park
// queue resumed.
func New(cfg Config) (*Dispatcher, error) {
	cfg.fill()
	d := &Dispatcher{cfg: cfg, bell: make(chan struct{}, 1), orders: make(chan *order), stopped: make(chan struct{})}
	d.stats.init()
	return d, d.state.init(&d.cfg)
}

// Start runs the dispatcher until Stop.
func (d *Dispatcher) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go func() {
		defer close(d.stopped)
		d.err = d.run(ctx)
	}()
}

// Stop ends the dispatcher; jobs that have not ended are forgotten, so that their
// events are not settled and come again. It returns what made the dispatcher stop
// by itself, if anything did.
func (d *Dispatcher) Stop() error {
	d.cancel()
	<-d.stopped
	return d.err
}

// Stopped is closed when the dispatcher has ended, by Stop or by itself.
func (d *Dispatcher) Stopped() <-chan struct{} { return d.stopped }

// Offer hands over jobs, in order. It never blocks; see the package comment for what bounds it.
func (d *Dispatcher) Offer(jobs ...*Job) {
	d.stats.waiting.Add(int64(len(jobs)))
	d.mu.Lock()
	d.inbox = append(d.inbox, jobs...)
	d.mu.Unlock()
	select {
	case d.bell <- struct{}{}:
	default:
	}
}

// Expect tells of an entry that somebody else is about to put into the park queue:
// later jobs of its key go behind it.
func (d *Dispatcher) Expect(key uint64, bytes int) {
	d.cfg.Park.expect(bytes)
	d.mu.Lock()
	d.expected = append(d.expected, key)
	d.mu.Unlock()
	select {
	case d.bell <- struct{}{}:
	default:
	}
}

// run is the one goroutine that owns the state. Writes run beside it, one at a time.
func (d *Dispatcher) run(ctx context.Context) error {
	written := make(chan struct{}, 1)
	writing := false
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		orders := d.orders
		if writing {
			orders = nil
		}
		select {
		case o := <-orders: // before the next write: under load there always is one
			d.obey(o)
		default:
		}
		now := time.Now()
		d.accept(now)
		d.parkOverdue(now)
		parkChanged := d.parkChanged() // before the queue is read, so that no entry is missed
		if err := d.fillWindow(); err != nil {
			return fmt.Errorf("sink %s: read the park queue: %w", d.cfg.Name, err)
		}
		if !writing && d.nextBatch(now) {
			writing, orders = true, nil
			go func() {
				d.write(ctx)
				written <- struct{}{}
			}()
		}
		timer.Reset(d.pause(now, writing))
		select {
		case <-d.bell:
		case o := <-orders:
			d.obey(o)
		case <-parkChanged:
		case <-timer.C:
		case <-written:
			writing = false
			if ctx.Err() != nil {
				return nil
			}
			if err := d.judge(ctx, time.Now()); err != nil {
				return fmt.Errorf("sink %s: record redeliveries: %w", d.cfg.Name, err)
			}
		case <-ctx.Done():
			if writing {
				<-written
			}
			return nil
		}
	}
}

// accept moves the inbox into the key queues, or straight into the park queue.
func (d *Dispatcher) accept(now time.Time) {
	d.mu.Lock()
	jobs := d.inbox
	d.inbox = d.spare[:0]
	for _, key := range d.expected {
		d.parkedKeys[key]++
	}
	d.expected = d.expected[:0]
	d.mu.Unlock()
	for i, j := range jobs {
		jobs[i] = nil
		j.first, j.Attempts, j.sent = now, 0, false
		if (d.down || d.parkedKeys[j.Key] > 0) && !j.Patient && d.mayPark() {
			d.park(j)
			continue
		}
		d.enqueue(j)
	}
	d.spare = jobs[:0]
}

// write sends the batch. It runs beside the loop and touches only the batch.
func (d *Dispatcher) write(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.WriteLimit)
	defer cancel()
	d.entries = d.entries[:0]
	for _, j := range d.batch {
		j.Attempts++
		j.Entry.Attempt = j.Attempts
		d.entries = append(d.entries, j.Entry)
	}
	if cap(d.results) < len(d.batch) {
		d.results = make([]transports.Result, len(d.batch))
	}
	d.results = d.results[:len(d.batch)]
	clear(d.results)
	began := time.Now()
	d.cfg.Sink.Write(ctx, d.entries, d.results)
	d.stats.write.Since(began, 1)
	d.stats.batch.Observe(float64(len(d.entries)), 1)
	clear(d.entries)
}

// judge acts on the results of the batch.
func (d *Dispatcher) judge(ctx context.Context, now time.Time) error {
	ok, worst := 0, transports.OK
	for i, j := range d.batch {
		r := &d.results[i]
		if r.Class == transports.OK {
			ok++
		} else if r.Class != transports.Poison {
			worst = r.Class
		}
		d.result(j, r, now)
	}
	d.health(ok, worst, now)
	d.batch = d.batch[:0]
	if len(d.ended) == 0 {
		return nil
	}
	err := d.cfg.Ended(ctx, d.ended)
	clear(d.ended)
	d.ended = d.ended[:0]
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// result ends a job or makes it wait for its next attempt.
func (d *Dispatcher) result(j *Job, r *transports.Result, now time.Time) {
	j.sent = false
	d.stats.count(r, now)
	switch {
	case r.Class == transports.OK:
		if !j.parked {
			d.stats.latency.Observe(now.Sub(j.first).Seconds(), 1)
		}
		d.end(j, journal.Delivered, "")
	case d.cfg.Insist, j.Patient && r.Class != transports.Poison:
		d.retry(j, now.Add(max(r.After, d.backoff(j.Attempts))))
	case r.Class == transports.Poison:
		d.endBlocked(j, "poison: "+text(r.Err))
	case r.Class == transports.Unknown && !d.cfg.DuplicatesOK && !d.limits.Idempotent:
		d.endBlocked(j, "outcome_unknown: "+text(r.Err))
	case now.Sub(j.first) >= d.cfg.MaxAge:
		d.endBlocked(j, "retry_exhausted: "+text(r.Err))
	default:
		d.retry(j, now.Add(max(r.After, d.backoff(j.Attempts))))
	}
}

// backoff is exponential with full jitter: evenly spread up to min * 2^(attempt-1), at most max.
func (d *Dispatcher) backoff(attempt int) time.Duration {
	ceiling := d.cfg.BackoffMax
	if shift := attempt - 1; d.cfg.BackoffMin < ceiling>>shift {
		ceiling = d.cfg.BackoffMin << shift
	}
	return time.Duration(d.random.Int64N(int64(ceiling) + 1))
}

func text(err error) string {
	if err == nil {
		return "no reason given"
	}
	return err.Error()
}
