package faults_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
)

// outageYAML has a sink outside the commit that goes away. max_age exceeds the outage:
// what is older would be dead-lettered.
const outageYAML = `
version: 1
node: {data: /w/data, limits: {in_flight: 200}}
sources:
  in: {watched: {queue: in, limit: 500}, key: data.key}
routes:
  far: {when: {type: [F]}, to: [far, near]}
  near: {when: {type: [N]}, to: [near]}
sinks:
  far: {far: {}, retry: {park_after: 1s, max_age: 24h}, duplicates: ok}
  near: {local: {queue: near}}
`

// outage is an engine, in a synctest bubble, whose sink `far` is away.
type outage struct {
	t      *testing.T
	ledger *faults.Ledger
	disk   *vfs.Mem
	in     *watched
	far    *remote
	engine *engine.Engine
	stop   func() error
	issued int
}

func newOutage(t *testing.T, seed uint64, park int64) *outage {
	t.Helper()
	o := &outage{
		t: t, ledger: faults.NewLedger(seed), disk: newDisk(t, nil), in: &watched{Transport: memory.New()},
		far: &remote{name: "far", limits: transports.Limits{Idempotent: true, KeyedFailure: true}},
	}
	e, err := (&rig{fs: o.disk, yaml: outageYAML, extra: []transports.Transport{o.in, o.far}, lanes: 2, park: park}).open()
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	o.engine, o.stop = e, func() error { cancel(); return <-done }
	return o
}

// put gives an event in, every third one for `far` too; false = the queue is full.
func (o *outage) put() bool {
	o.t.Helper()
	if o.room() <= 0 {
		return false
	}
	kind, sinks := "N", []string{"near"}
	if o.issued%3 == 0 {
		kind, sinks = "F", []string{"far", "near"}
	}
	e := o.ledger.Issue(fmt.Sprintf("k%d", o.issued%10), kind, sinks...)
	o.issued++
	must(o.t, o.in.Queue("in").Put(transports.Entry{Key: []byte(e.Key), Data: e.Data}))
	o.ledger.Oblige(e)
	return true
}

func (o *outage) room() int { return 500 - len(o.in.Queue("in").Entries()) }

func (o *outage) answer(a func(*transports.Entry) transports.Result) {
	o.far.mu.Lock()
	defer o.far.mu.Unlock()
	o.far.answer = a
}

// check stops the engine and judges everything that came out.
func (o *outage) check() {
	o.t.Helper()
	must(o.t, o.stop())
	found, err := faults.Collect(faults.Places{FS: o.disk, Data: "/w/data", Queues: map[string]string{"near": "near"}, Dead: "dead"})
	must(o.t, err)
	found.Delivered = append(found.Delivered, o.far.delivered()...)
	must(o.t, o.ledger.Check(found).Err())
	if len(found.Dead) > 0 {
		o.t.Errorf("%d dead letters: %v", len(found.Dead), found.Dead[0])
	}
	if n := len(o.in.Queue("in").Entries()); n > 0 {
		o.t.Errorf("%d events were never acked", n)
	}
}

// TestSinkAwayForAnHour: acks go on, other sinks get theirs at once, nothing but the
// park queue grows, and all of it arrives in order when the sink is back (I1, I7, I15).
func TestSinkAwayForAnHour(t *testing.T) {
	seed := seedOf(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, seed, 0)
		o.answer(away)
		time.Sleep(time.Second)
		for second := range 3600 {
			if !o.put() {
				t.Fatalf("the source waits after %d s", second)
			}
			time.Sleep(time.Second)
			if second%600 != 599 {
				continue
			}
			time.Sleep(5 * time.Second)
			st := o.engine.Status()
			if acks := o.in.count(); acks != o.issued || st.InFlight > 0 {
				t.Errorf("after %d s: %d acks of %d events, %d in flight", second, acks, o.issued, st.InFlight)
			}
			if n := st.Sinks["far"].Parked; n != (o.issued+2)/3 {
				t.Errorf("after %d s: %d parked, want %d", second, n, (o.issued+2)/3)
			}
			near, err := faults.WalkQueue(o.disk, "/w/data", "near")
			if must(t, err); len(near) != o.issued {
				t.Errorf("after %d s: the other sink has %d of %d", second, len(near), o.issued)
			}
		}
		o.answer(nil)
		time.Sleep(10 * time.Second) // a probe comes at least every 5 s
		if n := o.engine.Status().Sinks["far"].Parked; n != 0 {
			t.Errorf("%d are parked 10 s after the sink came back", n)
		}
		o.put() // goes straight on
		time.Sleep(time.Second)
		o.check()
	})
}

// TestSinkAwayParkQueueFull: at its bound the park queue takes no more, the source is
// not asked for more, nothing grows; all arrives in the end.
func TestSinkAwayParkQueueFull(t *testing.T) {
	const bound = 32 << 10
	seed := seedOf(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, seed, bound)
		o.answer(away)
		waited, acks := 0, 0
		for second := range 3600 {
			if !o.put() {
				waited++
			}
			time.Sleep(time.Second)
			st := o.engine.Status()
			if st.InFlight > 1000 { // its limit, and what one Receive may bring beyond it
				t.Fatalf("after %d s: %d events in flight", second, st.InFlight)
			}
			if n := st.Sinks["far"].Parked; n > 2*bound/340 { // parked entries are 345 bytes and more
				t.Fatalf("after %d s: %d parked", second, n)
			}
			if second == 1800 {
				acks = o.in.count()
			}
		}
		if waited < 1000 {
			t.Errorf("the source had to wait in %d of 3600 s", waited)
		}
		if n := o.in.count(); n != acks {
			t.Errorf("%d acks while nothing could be parked", n-acks)
		}
		o.answer(nil)
		time.Sleep(time.Minute)
		o.check()
	})
}

// TestOneKeyFails: a key that its sink does not take holds up nobody else's events.
func TestOneKeyFails(t *testing.T) {
	seed := seedOf(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, seed, 0)
		o.answer(func(e *transports.Entry) transports.Result {
			if string(e.Key) == "k0" {
				return transports.Result{Class: transports.Retry, Err: errors.New("busy")}
			}
			return transports.Result{}
		})
		for range 600 {
			o.put()
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Second)
		for _, d := range o.far.delivered() {
			if strings.Contains(string(d.Data), `"key":"k0"`) {
				t.Fatalf("%s arrived", d.Data)
			}
		}
		if got, want := len(o.far.delivered()), 200-20; got != want {
			t.Errorf("%d deliveries of the other keys, want %d", got, want)
		}
		if acks := o.in.count(); acks != o.issued {
			t.Errorf("%d acks of %d events", acks, o.issued)
		}
		o.answer(nil)
		time.Sleep(10 * time.Second)
		o.check()
	})
}

// TestSweepOfParking crashes the engine at every operation on its disk while
// deliveries are parked, wait and go out again: what is parked is neither lost nor
// out of order, and only what was in flight may come twice (I1, I5, I7).
func TestSweepOfParking(t *testing.T) {
	const yaml = `
version: 1
node: {data: /w/data}
sources:
  in: {file: {path: in.ndjson, follow: true}, key: data.key}
routes:
  all: {to: [far]}
sinks:
  far: {far: {}, retry: {park_after: 1s, max_age: 24h}, duplicates: ok}
`
	seed := seedOf(t)
	l := faults.NewLedger(seed)
	var in []byte
	for i := range 40 {
		e := l.Issue(fmt.Sprintf("k%d", i%6), "T", "far")
		in = append(append(in, e.Data...), '\n')
		l.Oblige(e)
	}
	disk := newDisk(t, map[string][]byte{"in.ndjson": in})
	// run takes the sink away for some seconds of each run.
	run := func(fs vfs.FS, far *remote, lanes int) error {
		far.mu.Lock()
		start := time.Now()
		far.answer = func(e *transports.Entry) transports.Result {
			if time.Since(start) < 8*time.Second {
				return away(e)
			}
			return transports.Result{}
		}
		far.mu.Unlock()
		return runQuietly(&rig{fs: fs, yaml: yaml, extra: []transports.Transport{far}, lanes: lanes, commit: smallLog})
	}
	newFar := func() *remote {
		return &remote{name: "far", limits: transports.Limits{Idempotent: true, KeyedFailure: true}}
	}
	probe := vfs.NewFaults(disk.Crash(seed), vfs.Fault{})
	synctest.Test(t, func(t *testing.T) { must(t, run(probe, newFar(), 2)) })
	t.Logf("%d operations", probe.Ops())
	for k := uint64(1); k <= probe.Ops(); k++ {
		synctest.Test(t, func(t *testing.T) {
			mem, far := disk.Crash(seed), newFar()
			_ = run(vfs.NewFaults(mem, vfs.Fault{At: k}), far, 2)
			after := mem.Crash(seed + k)
			if err := run(after, far, 1+int(k%3)); err != nil {
				t.Fatalf("operation %d: the next start: %v", k, err)
			}
			if err := l.Check(faults.Found{Delivered: far.delivered()}, "far").Err(); err != nil {
				t.Fatalf("operation %d: %v", k, err)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// smallLog makes the commit log go through files and snapshots with little work.
var smallLog = commit.Config{SegmentBytes: 4 << 10, SnapshotEvery: 6 << 10}
