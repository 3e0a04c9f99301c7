package faults_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
)

const roomYAML = `
version: 1
node: {data: /w/data, limits: {disk: %s}}
sources:
  in: {watched: {queue: in, limit: 500}, key: data.key}
routes:
  near: {when: {type: [N]}, to: [near]}
sinks:
  near: {local: {queue: near}}
journal: {keep: 5m, max: 8MiB}
dead_letters: {local: {queue: dead, segment: 4KiB}, keep: 10m, max: 1MiB}
`

// running is an engine at work in a synctest bubble.
type running struct {
	t      *testing.T
	engine *engine.Engine
	in     *watched
	stop   func()
}

func runRoom(t *testing.T, disk vfs.FS, limit string) *running {
	t.Helper()
	r := &running{t: t, in: &watched{Transport: memory.New()}}
	e, err := (&rig{fs: disk, yaml: fmt.Sprintf(roomYAML, limit), extra: []transports.Transport{r.in}, lanes: 2}).open()
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	r.engine, r.stop = e, func() {
		t.Helper()
		cancel()
		must(t, <-done)
	}
	return r
}

func (r *running) put(l *faults.Ledger, n int) {
	r.t.Helper()
	for i := range n {
		e := l.Issue(fmt.Sprint("k", i%5), "N", "near")
		must(r.t, r.in.Queue("in").Put(transports.Entry{Key: []byte(e.Key), Data: e.Data}))
		l.Oblige(e)
	}
}

func (r *running) waitsForDisk() bool {
	for _, w := range r.engine.Status().Waits {
		if w.What == "sources" && w.For == "room on the disk" && !w.Since.IsZero() && strings.Contains(w.Why, "node.limits.disk") {
			return true
		}
	}
	return false
}

// ballast is what else grows in the data folder.
func ballast(t *testing.T, disk vfs.FS, size int) {
	t.Helper()
	f, err := disk.Create("/w/data/ballast")
	must(t, err)
	must(t, f.Truncate(int64(size)))
	must(t, f.Close())
}

// TestI1SourcesWaitForTheDisk: before the limit is reached sources wait, with a reason
// to see; nothing fails; with room again everything arrives. A start with a lowered
// limit waits from the first event on (I15, I16).
func TestI1SourcesWaitForTheDisk(t *testing.T) {
	seed := seedOf(t)
	synctest.Test(t, func(t *testing.T) {
		disk, ledger := newDisk(t, nil), faults.NewLedger(seed)
		r := runRoom(t, disk, "1GiB")
		r.put(ledger, 50)
		time.Sleep(time.Second)
		ballast(t, disk, 1<<30-(60<<20))
		time.Sleep(time.Second)
		r.put(ledger, 50)
		time.Sleep(time.Minute)
		if n := len(r.in.Queue("in").Entries()); n == 0 || !r.waitsForDisk() {
			t.Fatalf("with 60 MiB left of 1 GiB %d events wait; waits are %+v", n, r.engine.Status().Waits)
		}
		ballast(t, disk, 512<<20)
		time.Sleep(10 * time.Second)
		if n := len(r.in.Queue("in").Entries()); n > 0 || r.waitsForDisk() {
			t.Fatalf("with room again %d events wait; waits are %+v", n, r.engine.Status().Waits)
		}
		r.stop()

		r = runRoom(t, disk, "256MiB")
		r.put(ledger, 50)
		time.Sleep(time.Minute)
		if n := len(r.in.Queue("in").Entries()); n != 50 || !r.waitsForDisk() {
			t.Fatalf("with a lowered limit %d events of 50 wait; waits are %+v", n, r.engine.Status().Waits)
		}
		must(t, disk.Remove("/w/data/ballast"))
		time.Sleep(10 * time.Second)
		r.stop()
		found, err := faults.Collect(faults.Places{FS: disk, Data: "/w/data", Queues: map[string]string{"near": "near"}, Dead: "dead"})
		must(t, err)
		must(t, ledger.Check(found).Err())
	})
}

// TestOldLettersAndJournalGo: what is older than it is to be kept goes and is counted,
// the rest stays; a lowered bound works on what an earlier run left.
func TestOldLettersAndJournalGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t, nil)
		r := runRoom(t, disk, "1GiB")
		sent := 0
		for range 40 { // minutes
			for range 20 {
				must(t, r.in.Queue("in").Put(transports.Entry{Data: fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","broken"`, sent)}))
				sent++
			}
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Second) // not at the moment of the last drop
		st := r.engine.Status()
		r.stop()
		letters, err := faults.WalkLetters(disk, "/w/data", "dead")
		must(t, err)
		if n := len(letters); n < 10*20 || n > 14*20 || int(st.LettersDropped)+n != sent {
			t.Errorf("%d letters were sent in 40 minutes, %d are left, %d are told as dropped: want those of ten minutes", sent, n, st.LettersDropped)
		}
		outcomes, err := faults.WalkJournal(disk, "/w/data")
		must(t, err)
		if n := len(outcomes); n < 5*20 || n > 9*20 {
			t.Errorf("%d outcomes of %d are in the journal: want those of five minutes", n, sent)
		}
	})
}

// slowSnapshots is a disk on which no snapshot gets further than its beginning while
// gate is not nil.
type slowSnapshots struct {
	vfs.FS
	gate atomic.Pointer[chan struct{}]
	held atomic.Int32
}

func (d *slowSnapshots) Create(name string) (vfs.File, error) {
	if gate := d.gate.Load(); gate != nil && strings.Contains(name, "/snapshots/") {
		d.held.Add(1)
		<-*gate
	}
	return d.FS.Create(name)
}

// TestTheDiskIsWatchedDuringRetention: however long retention writes at a snapshot,
// sources wait before the disk is full (I15).
func TestTheDiskIsWatchedDuringRetention(t *testing.T) {
	seed := seedOf(t)
	synctest.Test(t, func(t *testing.T) {
		mem, ledger, gate := newDisk(t, nil), faults.NewLedger(seed), make(chan struct{})
		disk := &slowSnapshots{FS: mem}
		r := runRoom(t, disk, "1GiB")
		disk.gate.Store(&gate)
		for range 10 { // minutes, twice as many as the journal keeps
			r.put(ledger, 5)
			time.Sleep(time.Minute)
		}
		if disk.held.Load() == 0 {
			t.Fatal("no snapshot was begun: nothing is tested")
		}
		ballast(t, mem, 1<<30-(60<<20))
		time.Sleep(time.Second)
		if !r.waitsForDisk() {
			t.Errorf("with 60 MiB left of 1 GiB, during a snapshot, waits are %+v", r.engine.Status().Waits)
		}
		close(gate)
		r.stop()
	})
}
