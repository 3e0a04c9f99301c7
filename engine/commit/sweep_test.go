package commit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
)

var (
	seedFlag = flag.Uint64("seed", 1, "first seed of the sweep")
	seeds    = flag.Uint64("seeds", 2, "how many seeds the sweep tries for each operation")
)

// TestI1I2I3I4I8EveryOperation fails or crashes every operation of a workload,
// with power cuts and kills after it, and crashes the recovery too.
func TestI1I2I3I4I8EveryOperation(t *testing.T) {
	const tickets = 26
	t.Logf("seeds from %d", *seedFlag)
	mem := vfs.NewMem()
	dry := vfs.NewFaults(mem, vfs.Fault{})
	if out := work(dry, tickets); out.err != nil || out.committed != tickets {
		t.Fatalf("without faults: %+v", out)
	}
	n, err := openNode(mem)
	must(t, err)
	if first, _ := n.log.Held(); first == 0 || len(n.log.begins) != keepSnapshots {
		t.Fatalf("the workload must take snapshots and drop segments: first %d, snapshots at %v", first, n.log.begins)
	}
	must(t, n.close())
	t.Logf("%d operations", dry.Ops())
	for k := uint64(1); k <= dry.Ops()+20; k++ {
		for _, fault := range []error{nil, syscall.EIO, syscall.ENOSPC} {
			mem := vfs.NewMem()
			out := work(vfs.NewFaults(mem, vfs.Fault{At: k, Err: fault}), tickets)
			for seed := *seedFlag; seed < *seedFlag+*seeds; seed++ {
				name := fmt.Sprintf("operation %d, fault %v, seed %d", k, fault, seed)
				cut := mem.Crash(seed)
				recovered(t, name+", power cut", cut.Crash(seed), out)
				// The recovery crashes at some operation, and the power goes again.
				if n, err := openNode(vfs.NewFaults(cut, vfs.Fault{At: 1 + (k*31+seed*17)%90})); err == nil {
					_ = n.close() // it crashed while it was open, or not at all
				}
				recovered(t, name+", recovery cut", cut.Crash(seed+1), out)
			}
			// The process is killed or has ended; its successor sees what never was
			// durable, takes a ticket, and then the power goes.
			mem.Kill()
			recovered(t, fmt.Sprintf("operation %d, fault %v, killed", k, fault), mem, out)
		}
	}
}

// recovered checks what is there, cuts the power, and checks that all is there again.
func recovered(t *testing.T, name string, mem *vfs.Mem, out outcome) {
	t.Helper()
	names, _ := mem.List("data/snapshots")
	for _, file := range names {
		if !strings.HasSuffix(file, snapSuffix) {
			continue
		}
		f, err := mem.Open("data/snapshots/" + file)
		must(t, err)
		if err := readSnapshot(f, func(byte, []byte) error { return nil }); err != nil {
			t.Fatalf("%s: a snapshot got its name before it was durable: %v", name, err)
		}
	}
	count, err := check(mem, out)
	if err != nil {
		t.Fatalf("%s: %v (%+v)", name, err, out)
	}
	again := mem.Crash(uint64(count))
	if _, err := check(again, outcome{submitted: count, committed: count}); err != nil {
		t.Fatalf("%s, again: %v", name, err)
	}
}

// TestI4DiskFull fills the disk at every size: what was committed stays.
func TestI4DiskFull(t *testing.T) {
	for room := int64(0); room < 9000; room += 97 {
		mem := vfs.NewMem()
		out := work(vfs.NewFaults(mem, vfs.Fault{Limited: true, Room: room, Full: syscall.ENOSPC}), 26)
		if out.err != nil && !errors.Is(out.err, syscall.ENOSPC) {
			t.Fatalf("room %d: %v", room, out.err)
		}
		mem.Kill()
		recovered(t, fmt.Sprint("room ", room), mem, out)
	}
}

// TestI4FailureReachesEverybody: what waits gets the error, and nothing is
// taken any more.
func TestI4FailureReachesEverybody(t *testing.T) {
	mem := vfs.NewMem()
	armed := make(chan struct{})
	var fail vfs.FS
	dry := vfs.NewFaults(vfs.NewMem(), vfs.Fault{})
	n, err := openNode(dry)
	must(t, err)
	ops := dry.Ops()
	must(t, n.close())

	fail = vfs.NewFaults(mem, vfs.Fault{At: ops + 2, Err: syscall.EIO, Seen: func(k uint64, _, _ string) {
		if k == ops+1 {
			<-armed // the first group is under way
		}
	}})
	n, err = openNode(fail)
	must(t, err)
	told := make(chan error, 100)
	for i := range 20 {
		must(t, n.log.Submit(context.Background(), n.ticket(i, func(err error) { told <- err })))
	}
	close(armed)
	for range 20 {
		if err := <-told; !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("a waiting ticket is told %v", err)
		}
	}
	<-n.log.Failed()
	if err := n.log.Submit(context.Background(), n.ticket(20, func(error) { t.Error("told of a ticket that was not taken") })); !errors.Is(err, ErrFailed) {
		t.Fatalf("Submit after the failure: %v", err)
	}
	if err := n.log.Snapshot(context.Background()); !errors.Is(err, ErrFailed) {
		t.Fatalf("Snapshot after the failure: %v", err)
	}
	if err := n.log.Err(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Err: %v", err)
	}
	must(t, n.close())
}
