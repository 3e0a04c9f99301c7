package transporttest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// seedOf is the seed of a randomised case; WEIR_SEED repeats a run.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("WEIR_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	t.Logf("WEIR_SEED=%d", seed)
	return seed
}

// setAndOrder is case 1: 10k events of 200 keys in many sizes, the largest as
// large as may be: the same set, in order within each key (I1, I2, I7).
func setAndOrder(t *testing.T, f Factory) {
	r := onDisk(t, f)
	m, l := newMaker(f, seedOf(t)), newLedger(f)
	largest := maxEvent
	if r.limits.EntryBytes > 0 {
		largest = min(largest, r.limits.EntryBytes)
	}
	const batch = 100
	total := 10_000
	if f.Slow {
		total /= 10
	}
	empty := 0
	for m.n < total {
		var entries []transports.Entry
		for len(entries) < batch {
			size := m.rng.IntN(400)
			if m.n == 377 || m.n == 378 {
				size = largest
			}
			entries = append(entries, m.next(fmt.Sprintf("key-%d", m.rng.IntN(200)), size))
		}
		must(t, l.wasSent(entries...))
		must(t, r.send(entries...))
		if f.Carries.Empty && m.n%1000 == 0 {
			must(t, r.send(transports.Entry{}))
			empty--
		}
		empty += take(t, r, l, 0)
	}
	waitFor(t, r, l, func() bool {
		empty += take(t, r, l, quiet)
		return l.missing() == nil && empty == 0
	})
	must(t, l.missing())
	if empty != 0 {
		t.Errorf("%d more empty events came than were sent", empty)
	}
	for n, times := range l.came {
		if times != 1 {
			t.Errorf("I5: event %d came %d times without a crash", n, times)
		}
	}
}

// waitFor calls do until it says that all is there, or nothing has come for a while.
func waitFor(t *testing.T, r *rig, l *ledger, do func() bool) {
	t.Helper()
	for deadline, seen := time.Now().Add(patience), 0; !do(); {
		switch {
		case l.total != seen:
			deadline, seen = time.Now().Add(patience), l.total
		case time.Now().After(deadline):
			return
		}
		if r.behind != nil {
			must(t, r.behind.failure())
		}
	}
}

// take receives and acks what is there and returns how many events were empty.
func take(t *testing.T, r *rig, l *ledger, wait time.Duration) (empty int) {
	t.Helper()
	for {
		got, err := r.receive(64, wait)
		must(t, err)
		if len(got) == 0 {
			return empty
		}
		for _, it := range got {
			if len(it.Data) == 0 {
				empty++
				continue
			}
			_, err := l.received(it)
			must(t, err)
		}
		must(t, r.ack(got...))
	}
}

// nackWithDelay is case 3: an event that was given back comes not early, comes
// again with its id and a higher attempt, and no later one of its key passes it.
func nackWithDelay(t *testing.T, f Factory) {
	r := onDisk(t, f)
	if !r.caps.Nack {
		notApplicable(t, "lacks nack: Capabilities.Nack is false, the engine retries by itself")
	}
	m, l := newMaker(f, 1), newLedger(f)
	entries := []transports.Entry{m.next("a", 0), m.next("b", 0), m.next("a", 0), m.next("b", 0), m.next("a", 0)}
	must(t, l.wasSent(entries...))
	must(t, r.send(entries...))
	got, err := r.receive(1, patience)
	must(t, err)
	if len(got) != 1 || got[0].Attempt != 1 {
		t.Fatalf("%d events, want the first at its first attempt: %+v", len(got), got)
	}
	const delay = 300 * time.Millisecond
	first, start := got[0], time.Now()
	must(t, r.nack(first, delay))
	seenA, seenB := 0, 0
	for deadline := time.Now().Add(patience); seenA+seenB < len(entries) && time.Now().Before(deadline); {
		got, err := r.receive(10, quiet)
		must(t, err)
		for _, it := range got {
			n, err := l.received(it)
			must(t, err)
			switch {
			case n.Key == "b":
				seenB++
			case n.Seq != seenA:
				t.Fatalf("I7: event %d of the key came before its nacked event %d", n.Seq, seenA)
			default:
				seenA++
			}
			if n.N != 0 {
				continue
			}
			if early := delay - time.Since(start); early > 0 {
				t.Errorf("nacked event came %v early", early)
			}
			if !f.Answered && (it.ID != first.ID || it.Attempt != 2) {
				t.Errorf("nacked event came with id %q and attempt %d, want %q and 2", it.ID, it.Attempt, first.ID)
			}
		}
		must(t, r.ack(got...))
	}
	must(t, l.missing())
}

// ackThenCrash is case 4: what was acked does not come again after a crash,
// and what was not does (I1, I3).
func ackThenCrash(t *testing.T, f Factory) {
	f.may(t, Crash)
	seed := seedOf(t)
	for round := range uint64(10) {
		r := newRig(t, f, vfs.NewMem(), "/place", "")
		must(t, r.open())
		m, l := newMaker(f, seed+round), newLedger(f)
		acked := map[int]bool{}
		var held []item
		rng := rand.New(rand.NewPCG(seed, round))
		for range 40 {
			entries := []transports.Entry{m.next(fmt.Sprint("k", rng.IntN(5)), 0), m.next(fmt.Sprint("k", rng.IntN(5)), 0)}
			must(t, l.wasSent(entries...))
			must(t, r.send(entries...))
			got, err := r.receive(1+rng.IntN(3), quiet)
			must(t, err)
			held = append(held, got...)
			// In the order received, so that marks never pass what is not settled (I8).
			now := held[:min(len(held), rng.IntN(4))]
			held = held[len(now):]
			must(t, r.ack(now...))
			for _, it := range now {
				n, err := l.received(it)
				must(t, err)
				if acked[n.N] {
					t.Fatalf("round %d: event %d came after its ack: %s in %q, settled %v, resume %q", round, n.N, it.ID, it.Partition, r.settled, r.resume)
				}
				acked[n.N] = true
			}
			if rng.IntN(8) == 0 {
				must(t, r.crash(rng.Uint64()))
				held = nil
			}
		}
		must(t, r.crash(rng.Uint64()))
		for {
			got, err := r.receive(100, quiet)
			must(t, err)
			if len(got) == 0 {
				break
			}
			for _, it := range got {
				n, err := l.received(it)
				must(t, err)
				if acked[n.N] {
					t.Fatalf("round %d: event %d came after its ack: %s in %q, settled %v, resume %q", round, n.N, it.ID, it.Partition, r.settled, r.resume)
				}
			}
			must(t, r.ack(got...))
		}
		must(t, l.missing())
		must(t, r.close())
	}
}

// oddAcks is case 5: a settlement that is late, double, of something unknown
// or after Close has a defined outcome and harms nothing.
func oddAcks(t *testing.T, f Factory) {
	r := onDisk(t, f)
	m, l := newMaker(f, 1), newLedger(f)
	entries := []transports.Entry{m.next("a", 0), m.next("b", 0), m.next("c", 0)}
	must(t, l.wasSent(entries...))
	must(t, r.send(entries...))
	var got []item
	for deadline := time.Now().Add(patience); len(got) < len(entries) && time.Now().Before(deadline); {
		more, err := r.receive(10, quiet)
		must(t, err)
		got = append(got, more...)
	}
	if len(got) != len(entries) {
		t.Fatalf("%d of %d events came", len(got), len(entries))
	}
	must(t, r.ack(got...))
	ctx := context.Background()
	odd := func(what string, s transports.Settlement, strict bool) {
		t.Helper()
		err := r.settle([]transports.Settlement{s})
		if !errors.Is(err, transports.ErrNotHeld) && (strict || err != nil) {
			t.Errorf("%s: %v, want ErrNotHeld", what, err)
		}
	}
	last := got[len(got)-1]
	if r.caps.Positions == transports.KeptByBroker {
		odd("second ack", transports.Settlement{ID: last.ID, Partition: last.Partition}, true)
		odd("ack of an unknown id", transports.Settlement{ID: "no-such-delivery", Partition: last.Partition}, true)
		odd("nack after ack", transports.Settlement{ID: last.ID, Partition: last.Partition, Nack: true}, true)
	} else {
		odd("the same mark again", transports.Settlement{Partition: last.Partition, Through: last.through, Ordinal: last.next}, false)
		odd("a partition that is not held", transports.Settlement{Partition: "no-such-partition", Through: last.through, Ordinal: last.next}, true)
	}
	one := m.next("d", 0)
	must(t, l.wasSent(one))
	must(t, r.send(one))
	if more, err := r.receive(10, patience); err != nil || len(more) != 1 {
		t.Fatalf("after odd acks: %d events, %v", len(more), err)
	}
	source := r.source
	must(t, r.closeSource())
	errs := source.Settle(ctx, []transports.Settlement{{ID: last.ID, Partition: last.Partition, Through: last.through, Ordinal: last.next}})
	if err := errors.Join(errs...); r.caps.Positions == transports.KeptByBroker && !errors.Is(err, transports.ErrNotHeld) && !errors.Is(err, transports.ErrClosed) {
		t.Errorf("ack after Close: %v, want ErrNotHeld", err)
	}
}
