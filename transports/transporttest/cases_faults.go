package transporttest

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
)

const (
	faultFor   = 600 * time.Millisecond // how long a fault lasts
	recovery   = 10 * time.Second       // I16: by then a fresh event arrives
	writeLimit = 2 * time.Second        // of one Write; then its outcome is given up
	// busyCalls is how often a second a source may return with nothing, or connect,
	// while the other side fails.
	busyCalls = 100
	busyCPU   = 0.6 // of a core
)

// rider takes events through trouble: receiving and acking may fail, as long as
// that is not said to be for ever.
type rider struct {
	t     *testing.T
	r     *rig
	l     *ledger
	acked map[int]bool
	calls int // that returned at once with nothing
	fault string
}

// take receives and acks what it can.
func (d *rider) take(wait time.Duration) {
	d.t.Helper()
	start := time.Now()
	got, err := d.r.receiveOnce(100, wait)
	if len(got) == 0 && time.Since(start) < wait/2 {
		d.calls++
		pause(5 * time.Millisecond) // as soon as the engine would ask again
	}
	if err != nil {
		d.tolerable("Receive", err)
		return
	}
	for _, it := range got {
		n, err := d.l.received(it)
		must(d.t, err)
		if err := d.r.ack(it); err != nil {
			d.tolerable("Settle", err)
			continue
		}
		d.acked[n.N] = true
	}
}

func (d *rider) tolerable(what string, err error) {
	d.t.Helper()
	if errors.Is(err, transports.ErrFatal) || errors.Is(err, transports.ErrClosed) {
		d.t.Fatalf("%s: %s: %v: the source gave up for ever", d.fault, what, err)
	}
}

// finish waits until all is acked and sent.
func (d *rider) finish(behind *background, total int) {
	d.t.Helper()
	deadline := time.Now().Add(recovery)
	for (len(d.acked) < total || !behind.idle()) && time.Now().Before(deadline) {
		must(d.t, behind.failure())
		d.take(quiet)
	}
	must(d.t, behind.failure())
	must(d.t, d.l.missing())
	switch {
	case len(d.acked) < total:
		d.t.Errorf("I16: %s: %d of %d events could be acked within %v", d.fault, len(d.acked), total, recovery)
	case !behind.idle():
		d.t.Errorf("I16: %s: the sink is not over it after %v", d.fault, recovery)
	}
}

// faults is case 11: the other side refuses, resets, is silent, trickles,
// answers with errors, does the work and loses the reply: nothing is lost, no
// loop spins, and it is over soon after (I1, I16).
func faults(t *testing.T, f Factory) {
	r := closed(t, f)
	f.needs(t, Faulting, r.place.Network != nil || len(r.place.Faults) > 0)
	list := r.place.Faults
	var proxy *Proxy
	if n := r.place.Network; n != nil {
		var err error
		proxy, err = NewProxy(n.Target)
		must(t, err)
		t.Cleanup(func() { must(t, proxy.Close()) })
		r.place.Source, r.place.Sink = n.Via(proxy.Address())
		for mode := Healthy + 1; mode < modes; mode++ {
			if n.HTTP || mode < firstHTTP {
				list = append(list, proxy.fault(mode))
			}
		}
	}
	must(t, r.open())
	m, l := newMaker(f, 1), newLedger(f)
	ride := rider{t: t, r: r, l: l, acked: map[int]bool{}}
	behind := newBackground(&sender{sink: r.sink, limits: r.limits, patience: faultFor + 2*recovery, writeLimit: writeLimit})
	defer behind.stop()
	send := func(n int) {
		for range n {
			e := m.next(fmt.Sprint("k", m.n%4), m.n*37%3000)
			must(t, l.wasSent(e))
			must(t, behind.offer([]transports.Entry{e}))
		}
	}
	goroutines := 0
	for i, fault := range list {
		ride.fault = fault.Name
		send(8)
		ride.finish(behind, m.n)
		through(t, &ride, fault, proxy, func() { send(12) })
		ride.finish(behind, m.n)
		if t.Failed() {
			return
		}
		switch now := runtime.NumGoroutine(); {
		case i == 0:
			goroutines = now
		case now > goroutines+20:
			t.Fatalf("I15: %d goroutines after %s, %d after the first fault", now, fault.Name, goroutines)
		}
	}
}

// through lives through one fault and counts what it costs.
func through(t *testing.T, ride *rider, fault Fault, proxy *Proxy, send func()) {
	t.Helper()
	connects := proxy.Connections()
	ride.calls = 0
	start, cpu := time.Now(), cpuTime()
	must(t, fault.Begin())
	ended := make(chan error, 1)
	time.AfterFunc(faultFor, func() { ended <- fault.End() })
	send()
	for over := false; !over; {
		select {
		case err := <-ended:
			must(t, err)
			over = true
		default:
			ride.take(quiet)
		}
	}
	lasted := time.Since(start)
	most := int(float64(busyCalls) * lasted.Seconds())
	if ride.calls > most {
		t.Errorf("%s: %d calls of Receive returned at once with nothing within %v: a busy loop", fault.Name, ride.calls, lasted)
	}
	if n := proxy.Connections() - connects; n > uint64(most) {
		t.Errorf("%s: %d connections within %v: a busy loop", fault.Name, n, lasted)
	}
	if used := cpuTime() - cpu; used.Seconds() > busyCPU*lasted.Seconds() {
		t.Errorf("%s: %v of processor time within %v: a busy loop", fault.Name, used, lasted)
	}
}

// stoppedConsumer is case 12: a source that is not asked takes no more into
// memory, and keeps what it holds (I15).
func stoppedConsumer(t *testing.T, f Factory) {
	r := closed(t, f)
	must(t, r.openSink())
	m, l := newMaker(f, 1), newLedger(f)
	const total, size, bound = 1000, 24 << 10, 8 << 20
	for m.n < total {
		e := m.next(fmt.Sprint("k", m.n%50), size)
		must(t, l.wasSent(e))
		must(t, r.send(e))
	}
	before := heap()
	must(t, r.openSource())
	got, err := r.receive(10, patience)
	must(t, err)
	if len(got) == 0 {
		t.Fatal("nothing came")
	}
	pause(5 * quiet)
	if grown := int64(heap()) - int64(before); grown > bound {
		t.Errorf("I15: memory grew by %d KiB while the source was not asked, at most %d are fine", grown>>10, bound>>10)
	}
	for _, it := range got {
		_, err := l.received(it)
		must(t, err)
	}
	must(t, r.ack(got...))
	waitFor(t, r, l, func() bool { take(t, r, l, quiet); return l.missing() == nil })
	must(t, l.missing())
	for n, times := range l.came {
		if times != 1 {
			t.Errorf("I5: event %d came %d times", n, times)
		}
	}
}

// heap is what is in use after a collection.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Bounds of a source with nothing to do, for one second.
const (
	idleFor   = time.Second
	idleWait  = 250 * time.Millisecond // as the engine waits
	idleCalls = 40
	idleCPU   = 0.3
)

// idle is case 14: with nothing to give, a source waits and does not ask around.
func idle(t *testing.T, f Factory) {
	r := closed(t, f)
	var proxy *Proxy
	if n := r.place.Network; n != nil {
		var err error
		proxy, err = NewProxy(n.Target)
		must(t, err)
		t.Cleanup(func() { must(t, proxy.Close()) })
		r.place.Source, r.place.Sink = n.Via(proxy.Address())
	}
	must(t, r.open())
	r.nothing(t, quiet) // what opening takes is over
	requests, cpu, calls := proxy.Requests(), cpuTime(), 0
	for start := time.Now(); time.Since(start) < idleFor; calls++ {
		got, err := r.receiveOnce(10, idleWait)
		must(t, err)
		if len(got) > 0 {
			t.Fatalf("%d events came, and none was sent", len(got))
		}
	}
	if calls > idleCalls {
		t.Errorf("Receive returned %d times within %v with nothing, each time before the wait of %v was over", calls, idleFor, idleWait)
	}
	if n := proxy.Requests() - requests; n > idleCalls {
		t.Errorf("%d requests to the other side within %v", n, idleFor)
	}
	if used := cpuTime() - cpu; used.Seconds() > idleCPU*idleFor.Seconds() {
		t.Errorf("%v of processor time within %v", used, idleFor)
	}
}

// pause waits where there is nothing to wait for.
func pause(d time.Duration) { <-time.After(d) }
