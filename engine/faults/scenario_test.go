package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// Scenarios are the checker's own test: each passes on the engine as it is and must
// fail where the bug it is named after is planted (build tag seeded).

// TestScenario runs them.
func TestScenario(t *testing.T) {
	t.Run("ack-before-sync", ackBeforeSync)
	t.Run("claim-kept", claimKept)
	t.Run("low-mark", lowMark)
}

// TestCheckerCatchesSeededBugs plants each bug and wants the scenario to find it.
func TestCheckerCatchesSeededBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a test binary")
	}
	if _, err := exec.LookPath("go"); err != nil {
		skip(t, "go tool")
	}
	binary := filepath.Join(t.TempDir(), "seeded.test")
	if out, err := exec.Command("go", "test", "-c", "-tags", "seeded", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := func(scenario, bug string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, "-test.run", "^TestScenario$/^"+scenario+"$", "-test.v", "-seed", "1")
		cmd.Env = append(os.Environ(), "WEIR_SEEDED="+bug)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, bug := range []string{"ack-before-sync", "claim-kept", "low-mark"} {
		t.Run(bug, func(t *testing.T) {
			if out, err := run(bug, ""); err != nil || !strings.Contains(out, "--- PASS: TestScenario/"+bug) {
				t.Fatalf("without the bug: %v\n%s", err, out)
			}
			out, err := run(bug, bug)
			if err == nil || !strings.Contains(out, "lost (I1)") {
				t.Fatalf("the checker did not find the bug: %v\n%s", err, out)
			}
		})
	}
}

const queueYAML = `
version: 1
node: {data: /w/data}
sources:
  in: {local: {queue: in, share: true}, key: data.key}
routes:
  all: {to: [out]}
sinks:
  out: {file: {path: out.ndjson}}
`

// ackBeforeSync crashes the engine at every operation on its disk while it works
// through a local queue that keeps its own positions: an ack that came before the
// record was durable is an event lost (I1, I3).
func ackBeforeSync(t *testing.T) {
	seed := seedOf(t)
	l := faults.NewLedger(seed)
	disk := newDisk(t, nil)
	fill(t, l, disk, "in", 40)
	probe := vfs.NewFaults(disk.Crash(seed), vfs.Fault{})
	synctest.Test(t, func(t *testing.T) { _ = runQuietly(&rig{fs: probe, yaml: queueYAML}) })
	for k := uint64(1); k <= probe.Ops(); k += 2 {
		synctest.Test(t, func(t *testing.T) {
			mem := disk.Crash(seed)
			_ = runQuietly(&rig{fs: vfs.NewFaults(mem, vfs.Fault{At: k}), yaml: queueYAML, lanes: 2})
			after := mem.Crash(seed + k)
			must(t, runQuietly(&rig{fs: after, yaml: queueYAML}))
			must(t, verdictAt(k, l, faults.Places{FS: after, Data: "/w/data", Files: map[string]string{"out": "/w/out.ndjson"}, Dead: "dead"}))
		})
		if t.Failed() {
			return
		}
	}
}

func verdictAt(k uint64, l *faults.Ledger, p faults.Places) error {
	if err := verdict(l, p); err != nil {
		return fmt.Errorf("after a crash at operation %d: %w", k, err)
	}
	return nil
}

// fill sends events to a local queue, as a producer without an engine does.
func fill(t *testing.T, l *faults.Ledger, fsys vfs.FS, queue string, events int) {
	t.Helper()
	var list []faults.Event
	for i := range events {
		list = append(list, l.Issue(fmt.Sprintf("k%d", i%5), "T", "out"))
	}
	sendAll(t, fsys, queue, list)
	l.Oblige(list...)
}

func sendAll(t *testing.T, fsys vfs.FS, queue string, list []faults.Event) {
	t.Helper()
	q, err := local.OpenQueue(fsys, "/w/data", queue)
	must(t, err)
	for _, e := range list {
		must(t, q.Send(t.Context(), transports.Entry{Data: e.Data}))
	}
	must(t, q.Close())
}

// quiet is how long an engine may have nothing to do, in virtual time, until a
// test takes its sources for empty.
const quiet = 5 * time.Second

// runQuietly runs an engine whose sources wait for more, in a synctest bubble, until
// nothing has happened for a while, then asks it to stop.
func runQuietly(r *rig) error {
	e, err := r.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for before := ""; ; {
		select {
		case err := <-done:
			return err
		case <-time.After(quiet):
		}
		now := fmt.Sprint(e.Status())
		if now == before {
			cancel()
			return <-done
		}
		before = now
	}
}

// claimKept lets a plug-in fail an event's first attempts, so that it is given back
// to its source and comes again: a claim that was kept would have it wait for ever (I6).
func claimKept(t *testing.T) {
	yaml := `
version: 1
node: {data: /w/data}
sources:
  in: {memory: {queue: in}, key: data.key}
plugins:
  picky: {flaky: ` + os.Args[0] + `, on_error: retry} # a module must be a file that is there
routes:
  all: {filter: [picky], to: [out]}
sinks:
  out: {file: {path: out.ndjson}}
`
	seed := seedOf(t)
	synctest.Test(t, func(t *testing.T) {
		l := faults.NewLedger(seed)
		disk, m, h := newDisk(t, nil), memory.New(), &flaky{failures: map[string]int{}}
		for i := range 20 {
			// A key each: a broker that takes single deliveries back gives the later
			// ones of the key meanwhile.
			e := l.Issue(fmt.Sprintf("k%d", i), "T", "out")
			must(t, m.Queue("in").Put(transports.Entry{Data: e.Data}))
			l.Oblige(e)
			if i%4 == 0 {
				h.failures[e.ID] = 4 // more than one delivery's attempts
			}
		}
		r := &rig{fs: disk, yaml: yaml, extra: []transports.Transport{m}, lanes: 2}
		r.hosts = append(r.hosts, h)
		err := runQuietly(r)
		must(t, errors.Join(err, verdict(l, faults.Places{FS: disk, Data: "/w/data", Files: map[string]string{"out": "/w/out.ndjson"}})))
		if left := m.Queue("in").Entries(); len(left) > 0 {
			t.Errorf("%d deliveries were never settled", len(left))
		}
	})
}

// lowMark crashes while an event is unsettled, its sink withholding the answer, and
// everything after it is settled and durable: no position may have passed it (I8).
func lowMark(t *testing.T) {
	const yaml = `
version: 1
node: {data: /w/data}
sources:
  in: {file: {path: in.ndjson, follow: true}}
routes:
  all: {to: [far]}
sinks:
  far: {far: {}, retry: {park_after: 1h, max_age: 24h}, duplicates: ok}
`
	seed := seedOf(t)
	synctest.Test(t, func(t *testing.T) {
		l := faults.NewLedger(seed)
		disk := newDisk(t, nil)
		var withheld string
		far := &remote{name: "far", limits: transports.Limits{Idempotent: true}, answer: func(e *transports.Entry) transports.Result {
			if strings.Contains(string(e.Data), withheld) {
				return away(e)
			}
			return transports.Result{}
		}}
		more := func(n int) []byte {
			var b []byte
			for i := range n {
				e := l.Issue(fmt.Sprintf("k%d-%d", n, i), "T", "far")
				if withheld == "" && i == 7 {
					withheld = `"id":"` + e.ID + `"`
				}
				b = append(append(b, e.Data...), '\n')
				l.Oblige(e)
			}
			return b
		}
		write(t, disk, "/w/in.ndjson", more(40))
		r := &rig{fs: disk, yaml: yaml, extra: []transports.Transport{far}, lanes: 2, chunk: 600}
		e, err := r.open()
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		time.Sleep(quiet)
		write(t, disk, "/w/in.ndjson", more(41)) // records that know where the low mark stands by now
		time.Sleep(quiet)
		after := disk.Crash(seed)
		cancel()
		if err := <-done; err == nil || !strings.Contains(err.Error(), "not settled within") {
			t.Errorf("stopped with an event unsettled: %v", err)
		}
		far.answer = nil
		must(t, runQuietly(&rig{fs: after, yaml: yaml, extra: []transports.Transport{far}, chunk: 600}))
		found, err := faults.Collect(faults.Places{FS: after, Data: "/w/data"})
		must(t, err)
		found.Delivered = far.delivered()
		must(t, l.Check(found, "far").Err())
	})
}
