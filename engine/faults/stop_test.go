package faults_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
)

// TestStop asks the real binary to stop in the middle of its work, several times:
// it drains within its limit with exit code 0, and each next start goes on.
func TestStop(t *testing.T) {
	f := newFolder(t, refuseYAML)
	seed := seedOf(t)
	l, random := faults.NewLedger(seed), rand.New(rand.NewPCG(seed, 3))
	for i := range 6 {
		first := f.issue(l, 20_000, "out", "copy")
		run := f.start(fmt.Sprintf("--node.lanes=%d", 1+random.IntN(8)), "--drain", "90s")
		f.awaitText("out.ndjson", first.ID) // it is at work
		timer := time.NewTimer(time.Duration(random.IntN(60)) * time.Millisecond)
		select {
		case <-timer.C:
		case <-run.ended:
			t.Fatalf("it ended by itself: %s", &run.stderr)
		}
		if code := run.stop(t); code != 0 {
			t.Fatalf("stop %d: exit code %d\n%s", i, code, &run.stderr)
		}
		if out := run.stdout.String(); strings.Contains(out, "not settled") {
			t.Errorf("stop %d left events in flight: %s", i, out)
		}
	}
	f.once()
	must(t, verdict(l, f.places(map[string]string{"out": "out.ndjson"}, map[string]string{"copy": "copy"})))
}

// TestStopTwice: a second signal ends the program at once, and nothing is lost by it.
func TestStopTwice(t *testing.T) {
	f, l := pipeFolder(t)
	run := f.start("--drain", "1h")
	f.awaitText("near.ndjson", `"id"`)
	must(t, run.cmd.Process.Signal(syscall.SIGTERM))
	f.awaitNotice(run, "stopping, at most 1h0m0s")
	if code := run.stopAgain(t); code != 3 {
		t.Errorf("exit code %d at the second signal, want 3", code)
	}
	f.finishPipe(l)
}

// stopAgain repeats a signal until the process has ended: one that comes at once is
// taken for an echo of the first.
func (p *process) stopAgain(t *testing.T) int {
	t.Helper()
	tick, late := time.NewTicker(100*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		case <-p.ended:
			return p.code()
		case <-late:
			t.Fatalf("it did not end within %v of the second signal\n%s", patience, &p.stderr)
		}
	}
}

// TestStopWithSinkDown: the drain ends at its deadline and says what is left; at the
// next start that comes again.
func TestStopWithSinkDown(t *testing.T) {
	f, l := pipeFolder(t)
	run := f.start("--drain", "1s")
	f.awaitText("near.ndjson", `"id"`)
	start := time.Now()
	if code := run.stop(t); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("it gave up after %v, its limit is 1s", took)
	}
	if text := run.stderr.String(); !strings.Contains(text, "events were not settled within 1s; they come again at the next start") {
		t.Errorf("the error does not say what is left: %s", text)
	}
	f.finishPipe(l)
}

// pipeFolder has a sink that is a named pipe which nobody reads. Half of the events
// go there.
func pipeFolder(t *testing.T) (*folder, *faults.Ledger) {
	t.Helper()
	f := newFolder(t, `
version: 1
node: {data: ./data, lanes: 2}
sources:
  in: {file: {path: in.ndjson, follow: true}, key: data.key}
routes:
  far: {when: {type: [F]}, to: [far]}
  near: {when: {type: [N]}, to: [near]}
sinks:
  far: {file: {path: pipe}, retry: {park_after: 1h, max_age: 24h}, duplicates: ok}
  near: {file: {path: near.ndjson}}
`)
	if err := syscall.Mkfifo(f.path("pipe"), 0o600); err != nil {
		skip(t, "named pipes: "+err.Error())
	}
	l := faults.NewLedger(seedOf(t))
	var in []byte
	for i := range 600 {
		kind := []string{"F", "N"}[i%2]
		e := l.Issue(fmt.Sprintf("%s%d", kind, i%20), kind, map[string]string{"F": "far", "N": "near"}[kind])
		in = append(append(in, e.Data...), '\n')
		l.Oblige(e)
	}
	f.append("in.ndjson", in)
	return f, l
}

// awaitNotice waits until the process has said something.
func (f *folder) awaitNotice(p *process, text string) {
	f.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !strings.Contains(p.stderr.String(), text) {
		select {
		case <-tick.C:
		case <-limit:
			f.t.Fatalf("it did not say %q: %s", text, &p.stderr)
		}
	}
}

// finishPipe runs on with somebody at the other end of the pipe, and judges.
func (f *folder) finishPipe(l *faults.Ledger) {
	f.t.Helper()
	pipe, err := os.OpenFile(f.path("pipe"), os.O_RDWR, 0) // a writer of our own, so that the reader never meets an end
	must(f.t, err)
	var got []faults.Delivered
	read := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(pipe)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() && lines.Text() != "end" {
			got = append(got, faults.Delivered{Sink: "far", Data: []byte(lines.Text())})
		}
		read <- lines.Err()
	}()
	f.once()
	_, err = pipe.WriteString("end\n")
	must(f.t, err)
	must(f.t, <-read)
	must(f.t, pipe.Close())
	found, err := faults.Collect(faults.Places{
		FS: vfs.OS{}, Data: f.path("data"), Files: map[string]string{"near": f.path("near.ndjson")}, Dead: "dead",
	})
	must(f.t, err)
	found.Delivered = append(found.Delivered, got...)
	must(f.t, l.Check(found, "far").Err())
}
