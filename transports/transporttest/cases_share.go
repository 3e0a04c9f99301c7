package transporttest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
)

// join opens another source on the same place. The test closes it.
func (r *rig) join(t *testing.T, settings transports.Settings) *rig {
	t.Helper()
	other := &rig{
		f: r.f, dir: r.dir, fs: r.fs, transport: r.transport, place: r.place, assigned: map[string]bool{},
		resume: map[string]transports.Position{}, settled: map[string]uint64{},
	}
	if settings != nil {
		other.place.Source = settings
	}
	must(t, other.openSource())
	t.Cleanup(func() { must(t, other.closeSource()) })
	return other
}

// one receives exactly one event.
func (r *rig) one(t *testing.T, l *ledger, wait time.Duration) item {
	t.Helper()
	got, err := r.receive(10, wait)
	must(t, err)
	if len(got) != 1 {
		t.Fatalf("%d events within %v, want one", len(got), wait)
	}
	_, err = l.received(got[0])
	must(t, err)
	return got[0]
}

// nothing fails where something comes.
func (r *rig) nothing(t *testing.T, wait time.Duration) {
	t.Helper()
	got, err := r.receive(10, wait)
	must(t, err)
	if len(got) > 0 {
		t.Fatalf("%d events came, none should: the first is %q at attempt %d", len(got), got[0].ID, got[0].Attempt)
	}
}

// leases is case 6: a lease that is extended holds for ever, one that is not
// goes to another source, and the ack of who lost it is refused.
func leases(t *testing.T, f Factory) {
	r := closed(t, f)
	f.needs(t, Lease, r.place.Lease > 0)
	must(t, r.openSink())
	m, l := newMaker(f, 1), newLedger(f)
	send := func() {
		t.Helper()
		e := m.next("a", 0)
		must(t, l.wasSent(e))
		must(t, r.send(e))
	}
	slow := r.join(t, r.place.LeaseSource)
	if extender, ok := slow.source.(transports.Extender); ok {
		other := r.join(t, r.place.LeaseSource)
		for try := 1; ; try++ {
			send()
			if extended(t, slow, other, l, extender) {
				break
			}
			if try == leaseTries {
				t.Fatalf("a lease of %v ran out in each of %d tries because the test was late itself: the place needs a longer one", r.place.Lease, try)
			}
		}
		must(t, other.closeSource())
	} else {
		t.Log("the source does not extend leases: only their end is looked at")
	}
	send()
	held := slow.one(t, l, patience)
	start := time.Now()
	other := r.join(t, r.place.LeaseSource)
	again := other.one(t, l, r.place.Lease+patience)
	if early := r.place.Lease*9/10 - time.Since(start); early > 0 {
		t.Errorf("given to another %v before the lease was over", early)
	}
	if again.ID != held.ID || again.Attempt != held.Attempt+1 {
		t.Errorf("came again with id %q and attempt %d, want %q and %d", again.ID, again.Attempt, held.ID, held.Attempt+1)
	}
	if err := slow.ack(held); !errors.Is(err, transports.ErrNotHeld) {
		t.Errorf("ack of who lost the lease: %v, want ErrNotHeld", err)
	}
	must(t, other.ack(again))
	other.nothing(t, r.place.Lease+quiet)
}

// Bounds of case 6.
const (
	leaseTries  = 20 // to extend a lease in time
	leaseRounds = 6  // half leases for which one is extended
)

// leased is an event that a source holds while another one asks for it.
type leased struct {
	t           *testing.T
	slow, other *rig
	extender    transports.Extender
	held        item
	since       time.Time // the lease began, or was extended, then or later
}

// extended holds an event for longer than its lease. It is false where the test
// itself came too late to extend it, so that nothing is known: somebody else had the
// processor.
func extended(t *testing.T, slow, other *rig, l *ledger, extender transports.Extender) bool {
	t.Helper()
	h := leased{t: t, slow: slow, other: other, extender: extender, since: time.Now()}
	h.held = slow.one(t, l, patience)
	for range leaseRounds {
		got, err := other.receive(10, slow.place.Lease/2)
		must(t, err)
		err = h.extend()
		switch {
		case !h.inTime():
			h.endedBy(got)
			return false
		case err != nil:
			t.Fatalf("extension within the lease: %v", err)
		case len(got) > 0:
			t.Fatalf("%q was given to another although its lease was extended in time", got[0].ID)
		}
	}
	err := slow.ack(h.held)
	if err != nil && !h.inTime() {
		h.endedBy(nil)
		return false
	}
	must(t, err)
	if err := errors.Join(extender.Extend(context.Background(), []string{h.held.ID})...); !errors.Is(err, transports.ErrNotHeld) {
		t.Errorf("extension after the ack: %v, want ErrNotHeld", err)
	}
	return true
}

// inTime says that the lease cannot have ended by now.
func (h *leased) inTime() bool { return time.Since(h.since) < h.slow.place.Lease*9/10 }

func (h *leased) extend() error {
	before := time.Now()
	err := errors.Join(h.extender.Extend(context.Background(), []string{h.held.ID})...)
	if h.inTime() {
		h.since = before
	}
	return err
}

// endedBy acks the event, whoever has it by now.
func (h *leased) endedBy(got []item) {
	h.t.Helper()
	h.t.Logf("the test was late to extend %q", h.held.ID)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if h.slow.ack(h.held) == nil || len(got) > 0 && h.other.ack(got...) == nil {
			return
		}
		var err error
		got, err = h.other.receive(10, quiet)
		must(h.t, err)
	}
	h.t.Fatalf("an event whose lease ran out could not be acked within %v", patience)
}

// consumer is a source of case 7 with what it holds.
type consumer struct {
	*rig
	mine   []item
	paused int // steps
}

// crowd is what case 7 knows of all consumers.
type crowd struct {
	t         *testing.T
	r         *rig
	l         *ledger
	rng       *rand.Rand
	consumers []*consumer
	holder    map[string]*consumer // by key
	count     map[string]int       // events held, by key
	acked     map[int]bool
}

const maxConsumers = 3

// joinAndLeave is case 7: consumers join, pause and leave; every event comes, in
// order per key, and no key is with two at once.
func joinAndLeave(t *testing.T, f Factory) {
	f.may(t, Group)
	seed := seedOf(t)
	r := closed(t, f)
	must(t, r.openSink())
	m := newMaker(f, seed)
	c := crowd{
		t: t, r: r, l: newLedger(f), rng: rand.New(rand.NewPCG(seed, 5)),
		holder: map[string]*consumer{}, count: map[string]int{}, acked: map[int]bool{},
	}
	c.joins()
	const total, keys = 400, 20
	for m.n < total {
		for range c.rng.IntN(3) {
			e := m.next(fmt.Sprint("k", c.rng.IntN(keys)), 0)
			must(t, c.l.wasSent(e))
			must(t, r.send(e))
		}
		switch who := c.consumers[c.rng.IntN(len(c.consumers))]; c.rng.IntN(30) {
		case 0:
			c.joins()
		case 1:
			c.leaves(who)
		case 2:
			who.paused = 20
		default:
			c.step(who, quiet/10)
		}
	}
	for len(c.consumers) < maxConsumers {
		c.joins()
	}
	for deadline := time.Now().Add(patience); len(c.acked) < m.n && time.Now().Before(deadline); {
		before := len(c.acked)
		for _, who := range c.consumers {
			c.step(who, quiet/10)
		}
		if len(c.acked) > before {
			deadline = time.Now().Add(patience)
		}
	}
	must(t, c.l.missing())
	if len(c.acked) != m.n {
		t.Errorf("%d of %d events could be acked", len(c.acked), m.n)
	}
	c.balanced()
}

func (c *crowd) joins() {
	if len(c.consumers) < maxConsumers {
		c.consumers = append(c.consumers, &consumer{rig: c.r.join(c.t, nil)})
	}
}

// leaves closes a source with all that it holds, unless it is the last.
func (c *crowd) leaves(who *consumer) {
	if len(c.consumers) == 1 {
		return
	}
	c.t.Helper()
	for _, it := range who.mine {
		c.lost(it)
	}
	c.consumers = slices.DeleteFunc(c.consumers, func(other *consumer) bool { return other == who })
	must(c.t, who.closeSource())
}

// lost notes that a consumer holds an event no more.
func (c *crowd) lost(it item) {
	n, err := parse(it.Data)
	must(c.t, err)
	if c.count[n.Key]--; c.count[n.Key] == 0 {
		delete(c.holder, n.Key)
	}
}

// step lets one consumer take a few events and ack some of what it has.
func (c *crowd) step(who *consumer, wait time.Duration) {
	c.t.Helper()
	if who.paused > 0 {
		who.paused--
		return
	}
	got, err := who.receive(1+c.rng.IntN(5), wait)
	must(c.t, err)
	for _, it := range got {
		n, err := c.l.received(it)
		must(c.t, err)
		if other := c.holder[n.Key]; other != nil && other != who && who.caps.Order != transports.OrderNone {
			c.t.Fatalf("I7: key %s came to a second consumer while another had %d events of it", n.Key, c.count[n.Key])
		}
		c.holder[n.Key] = who
		c.count[n.Key]++
	}
	who.mine = append(who.mine, got...)
	n := c.rng.IntN(len(who.mine) + 1)
	must(c.t, who.ack(who.mine[:n]...))
	for _, it := range who.mine[:n] {
		c.lost(it)
		what, err := parse(it.Data)
		must(c.t, err)
		if c.acked[what.N] && !c.r.f.Answered {
			c.t.Fatalf("event %d was acked twice", what.N)
		}
		c.acked[what.N] = true
	}
	who.mine = who.mine[n:]
}

// balanced holds the shares of partitions against each other, where there are
// enough for everybody.
func (c *crowd) balanced() {
	c.t.Helper()
	all, least, most := map[string]int{}, 1<<30, 0
	for _, who := range c.consumers {
		mine := who.partitions()
		for _, p := range mine {
			all[p]++
		}
		least, most = min(least, len(mine)), max(most, len(mine))
	}
	if len(all) < len(c.consumers) {
		c.t.Logf("%d partitions for %d consumers: balance is not looked at", len(all), len(c.consumers))
		return
	}
	for p, n := range all {
		if n > 1 {
			c.t.Logf("partition %s is shared: balance is not looked at", p)
			return
		}
	}
	if most-least > 1 {
		c.t.Errorf("consumers have between %d and %d partitions, want a difference of 1 at most", least, most)
	}
}

// movingUnderLoad is case 8: partitions are added or the place moves while
// events go through: all come, first deliveries in order (I1, I7).
func movingUnderLoad(t *testing.T, f Factory) {
	r := closed(t, f)
	f.needs(t, Moving, r.place.Move != nil)
	must(t, r.open())
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 6))
	ride := newRider(t, r, seed, 2*patience)
	ride.fault = "move"
	defer ride.behind.stop()
	const rounds, moves = 60, 4
	for i := range rounds {
		for range 1 + rng.IntN(4) {
			ride.send(fmt.Sprint("k", rng.IntN(8)), rng.IntN(100))
		}
		if i%(rounds/moves) == rounds/moves/2 {
			moved := make(chan error, 1)
			time.AfterFunc(quiet/10, func() { moved <- r.place.Move() })
			for range 3 {
				ride.take(quiet) // the last one waits
			}
			must(t, <-moved)
		}
		ride.take(quiet / 10)
	}
	ride.finish()
}
