package dispatch

import (
	"time"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
)

// mayPark says whether the park queue has room.
func (d *Dispatcher) mayPark() bool {
	if d.cfg.Park == nil {
		return false
	}
	d.parkFull = d.cfg.Park.Full()
	return !d.parkFull
}

// park ends a job that is on no queue: its owner writes it to the park queue.
func (d *Dispatcher) park(j *Job) {
	d.parkedKeys[j.Key]++
	d.cfg.Park.expect(len(j.Entry.Data))
	d.stats.waiting.Add(-1)
	j.Outcome, j.Reason = journal.Parked, ""
	d.stats.outcome(journal.Parked)
	j.Owner.Done(j)
}

// parkOverdue parks what has waited for ParkAfter, with everything of the same
// key behind it. What is under way is parked when its write returns.
func (d *Dispatcher) parkOverdue(now time.Time) {
	for j := d.firstNotOverdue(); j != nil && d.cfg.Park != nil; j = d.firstNotOverdue() {
		if now.Sub(j.first) < d.cfg.ParkAfter {
			break
		}
		j.queue.overdue = true
	}
	if d.cfg.Park == nil {
		return
	}
	for j := d.oldest; j != nil && j.queue.overdue; {
		q := j.queue
		for j != nil && j.queue == q {
			j = j.next
		}
		if q.sent > 0 {
			continue
		}
		if !d.mayPark() {
			return
		}
		if !q.blocked {
			d.ready = without(d.ready, q)
			d.delayed = without(d.delayed, q)
		}
		d.parkQueue(q)
		j = d.oldest
	}
}

// parkQueue parks the jobs of a live key queue that is in no list, as long as
// there is room; what is left may not pass the parked ones.
func (d *Dispatcher) parkQueue(q *keyQueue) {
	for q.len() > 0 {
		if !d.mayPark() {
			q.overdue, q.blocked = true, true
			return
		}
		j := q.jobs[q.head]
		q.pop()
		d.unlink(j)
		j.queue = nil
		d.park(j)
	}
	d.drop(d.keys, q)
}

func without(list []*keyQueue, q *keyQueue) []*keyQueue {
	for i := range list {
		if list[i] == q {
			return append(list[:i], list[i+1:]...)
		}
	}
	return list
}

func (d *Dispatcher) parkChanged() <-chan struct{} {
	if d.cfg.Park == nil {
		return nil
	}
	return d.cfg.Park.Changed()
}

// fillWindow loads parked entries, in order, up to the window's limits.
func (d *Dispatcher) fillWindow() error {
	if d.cfg.Park == nil {
		return nil
	}
	for d.windowCount < windowEntries && d.windowSize < windowBytes {
		e, ok, err := d.cfg.Park.next()
		if err != nil || !ok {
			return err
		}
		j := &Job{
			Entry: e.entry, Key: e.key, Attempts: e.attempts, first: e.first,
			ordinal: e.ordinal, parked: true, context: e.context,
		}
		q, fresh := d.queue(d.windowKeys, j.Key)
		q.jobs = append(q.jobs, j)
		j.queue = q
		d.windowCount++
		d.windowSize += len(e.entry.Data)
		if fresh {
			d.windowReady = append(d.windowReady, q)
		}
	}
	return nil
}

// probe sends the first parked entry (or the first live job, where nothing is
// parked yet) to a sink that is down.
func (d *Dispatcher) probe(now time.Time) bool {
	if now.Before(d.nextProbe) {
		return false
	}
	d.batch = d.batch[:0]
	for _, list := range []*[]*keyQueue{&d.windowReady, &d.ready} {
		if len(*list) == 0 {
			continue
		}
		q := (*list)[0]
		*list = append((*list)[:0], (*list)[1:]...)
		j := q.jobs[q.head]
		j.sent = true
		q.sent++
		d.batch = append(d.batch, j)
		return true
	}
	return false
}

// health learns from a write whether the sink is up: one entry that arrived is
// enough; a write in which nothing did, with parked work, means down.
func (d *Dispatcher) health(ok int, worst transports.Class, now time.Time) {
	if ok > 0 || worst == transports.OK {
		d.failures, d.down = 0, false
		d.stats.down.Store(false)
		d.stats.fatal.Store(false)
		return
	}
	d.failures++
	d.stats.fatal.Store(worst == transports.Fatal)
	if len(d.parkedKeys) == 0 && d.failures < downAfter {
		return
	}
	d.down = true
	d.stats.down.Store(true)
	d.nextProbe = now.Add(d.backoff(d.failures))
}

// downAfter is how many writes in a row must fail whole before a sink with nothing
// parked counts as down.
const downAfter = 3
