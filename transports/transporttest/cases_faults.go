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
	errorPause = 50 * time.Millisecond  // before a source that returned an error is asked again
	writeLimit = 2 * time.Second        // of one Write; then its outcome is given up
	// busyCalls is how often a second a source may return with nothing, or connect,
	// while the other side fails.
	busyCalls = 100
	busyCPU   = 0.6 // of a core
)

// rider takes events through trouble: receiving and acking may fail, as long as
// that is not said to be for ever.
type rider struct {
	t      *testing.T
	r      *rig
	l      *ledger
	m      *maker
	behind *background
	acked  map[int]bool
	// unsure are events whose ack failed, and may have got through all the same.
	unsure map[int]bool
	calls  int // that returned at once with nothing
	fault  string
}

// newRider makes one whose entries are sent in the background, whatever happens.
func newRider(t *testing.T, r *rig, seed uint64, patience time.Duration) *rider {
	t.Helper()
	d := &rider{t: t, r: r, l: newLedger(r.f), m: newMaker(r.f, seed), acked: map[int]bool{}, unsure: map[int]bool{}}
	d.behind = newBackground(&sender{sink: r.sink, limits: r.limits, patience: patience, writeLimit: writeLimit})
	return d
}

// send makes an event of a key and sends it.
func (d *rider) send(key string, size int) {
	d.t.Helper()
	e := d.m.next(key, size)
	must(d.t, d.l.wasSent(e))
	if d.r.staged() != nil {
		must(d.t, d.r.send(e))
		return
	}
	must(d.t, d.behind.offer([]transports.Entry{e}))
}

// take receives and acks what it can.
func (d *rider) take(wait time.Duration) {
	d.t.Helper()
	start := time.Now()
	got, err := d.r.receiveOnce(100, wait)
	if len(got) == 0 && time.Since(start) < wait/2 {
		d.calls++
	}
	if err != nil {
		d.tolerable("Receive", err)
		pause(errorPause)
		return
	}
	for _, it := range got {
		n, err := d.l.received(it)
		must(d.t, err)
		d.ack(it, n.N)
	}
}

func (d *rider) ack(it item, n int) {
	d.t.Helper()
	err := d.r.ack(it)
	switch {
	case err == nil:
		d.acked[n] = true
	case !errors.Is(err, transports.ErrNotHeld):
		d.tolerable("Settle", err)
		d.unsure[n] = true
	}
}

func (d *rider) tolerable(what string, err error) {
	d.t.Helper()
	if errors.Is(err, transports.ErrFatal) || errors.Is(err, transports.ErrClosed) {
		d.t.Fatalf("%s: %s: %v: the source gave up for ever", d.fault, what, err)
	}
}

// finish sends one more event and waits until all is sent and acked, as far as
// that can be known, and that one for certain.
func (d *rider) finish() {
	d.t.Helper()
	d.send("fresh", 0)
	fresh := d.m.n - 1
	ended := 0
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		must(d.t, d.behind.failure())
		d.take(quiet)
		ended = len(d.acked)
		for n := range d.unsure {
			if !d.acked[n] {
				ended++
			}
		}
		if ended == d.m.n && d.acked[fresh] && d.behind.idle() {
			return
		}
	}
	must(d.t, d.behind.failure())
	must(d.t, d.l.missing())
	d.t.Errorf("I16: %s: after %v %d of %d events are acked; a fresh one: %v; the sink is over it: %v",
		d.fault, patience, ended, d.m.n, d.acked[fresh], d.behind.idle())
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
	ride := newRider(t, r, 1, faultFor+2*patience)
	defer ride.behind.stop()
	send := func(n int) {
		for range n {
			ride.send(fmt.Sprint("k", ride.m.n%4), ride.m.n*37%3000)
		}
	}
	goroutines := 0
	for i, fault := range list {
		ride.fault = fault.Name
		send(8)
		ride.finish()
		through(t, ride, fault, proxy, func() { send(12) })
		ride.finish()
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
	const bound = 8 << 20
	total, size := 1000, 24<<10
	if f.Slow {
		total, size = total/10, size*10
	}
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
	began := time.Now()
	for ; time.Since(began) < idleFor; calls++ {
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
	if used, lasted := cpuTime()-cpu, time.Since(began); used.Seconds() > idleCPU*lasted.Seconds() {
		t.Errorf("%v of processor time within %v", used, lasted)
	}
}

// pause waits where there is nothing to wait for.
func pause(d time.Duration) { <-time.After(d) }
