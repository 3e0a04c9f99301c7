package faults_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/local"
)

var killCycles = flag.Int("cycles", 50, "kill -9 cycles of the real binary")

const killYAML = `
version: 1
node: {data: ./data}
sources:
  lines: {file: {path: in.ndjson, follow: true}, key: data.key}
  alone: {local: {queue: alone}, key: data.key}
  shared: {local: {queue: shared, share: true}, key: data.key}
routes:
  lines: {from: [lines], when: {type: [T]}, to: [out]}
  alone: {from: [alone], when: {type: [T]}, to: [copy]}
  shared: {from: [shared], when: {type: [T]}, to: [copy, out]}
unmatched: [rest]
sinks:
  out: {file: {path: out.ndjson}}
  rest: {file: {path: rest.ndjson}}
  copy: {local: {queue: copy}}
`

// producer gives events in, some of them several times, and keeps the ledger.
type producer struct {
	*folder
	ledger *faults.Ledger
	random *rand.Rand
	sent   map[string][]faults.Event // by prefix of their keys
}

// next makes up to most events of a source; prefix tells its keys from other sources'.
func (p *producer) next(most int, prefix string, sinks ...string) []faults.Event {
	var list []faults.Event
	for range 1 + p.random.IntN(most) {
		switch n := p.random.IntN(20); {
		case n == 0 && len(p.sent[prefix]) > 0:
			list = append(list, p.sent[prefix][p.random.IntN(len(p.sent[prefix]))]) // a repeat
			continue
		case n == 1:
			list = append(list, p.ledger.Issue(prefix+"-other", "U", "rest"))
		default:
			list = append(list, p.ledger.Issue(fmt.Sprintf("%s-%d", prefix, p.random.IntN(12)), "T", sinks...))
		}
	}
	p.sent[prefix] = append(p.sent[prefix], list...)
	return list
}

// send puts events into a local queue of the data folder, while no engine has it.
func (p *producer) send(queue string, list []faults.Event) {
	p.t.Helper()
	q, err := local.OpenQueue(vfs.OS{}, p.path("data"), queue)
	must(p.t, err)
	entries := make([]transports.Entry, len(list))
	for i := range list {
		entries[i].Data = list[i].Data
	}
	must(p.t, q.Send(p.t.Context(), entries...))
	p.ledger.Oblige(list...)
	must(p.t, q.Close())
}

// lines appends events to the input file, in pieces that do not end where events do.
func (p *producer) lines(list []faults.Event) {
	p.t.Helper()
	var b bytes.Buffer
	for i := range list {
		b.Write(list[i].Data)
		b.WriteByte('\n')
	}
	for b.Len() > 0 {
		p.append("in.ndjson", b.Next(1+p.random.IntN(8<<10)))
	}
	p.ledger.Oblige(list...)
}

// feed appends lines for a while, so that the engine is at work whenever it is killed.
func (p *producer) feed(run *process, long time.Duration) {
	p.t.Helper()
	timer, tick := time.NewTimer(long), time.NewTicker(3*time.Millisecond)
	defer tick.Stop()
	for {
		p.lines(p.next(40, "f", "out"))
		select {
		case <-tick.C:
		case <-timer.C:
			return
		case <-run.ended:
			p.t.Fatalf("it ended by itself with exit code %d\n%s", run.code(), &run.stderr)
		}
	}
}

// TestKillCycles kills the real binary again and again while it works: nothing is
// lost, invented, doubled or out of order (I1, I2, I3, I5, I7, I8), whatever the
// number of lanes, and a fresh event arrives at once after it (I16).
func TestKillCycles(t *testing.T) {
	cycles := *killCycles
	if testing.Short() {
		cycles = min(cycles, 5)
	}
	f := newFolder(t, killYAML)
	seed := seedOf(t)
	p := &producer{folder: f, ledger: faults.NewLedger(seed), random: rand.New(rand.NewPCG(seed, 2)), sent: map[string][]faults.Event{}}
	p.append("in.ndjson", nil)
	for range cycles {
		p.send("alone", p.next(1000, "a", "copy"))
		p.send("shared", p.next(500, "s", "copy", "out"))
		run := f.start(fmt.Sprintf("--node.lanes=%d", 1+p.random.IntN(8)), "--node.log.level=error")
		p.feed(run, time.Duration(5+p.random.IntN(496))*time.Millisecond)
		run.kill()
	}
	run := f.start("--node.lanes=2")
	f.awaitFresh(p.ledger, "in.ndjson", "out", "out.ndjson")
	if code := run.stop(t); code != 0 {
		t.Fatalf("exit code %d after SIGTERM\n%s", code, &run.stderr)
	}
	f.once()
	at := f.places(map[string]string{"out": "out.ndjson", "rest": "rest.ndjson"}, map[string]string{"copy": "copy"})
	must(t, verdict(p.ledger, at))
	found, err := faults.Collect(at)
	must(t, err)
	t.Logf("%d cycles: %d events owed, %d deliveries, %d drops, %d dead letters",
		cycles, p.ledger.Obliged(), len(found.Delivered), len(found.Dropped), len(found.Dead))
	if len(found.Dead) > 0 {
		t.Errorf("%d dead letters, and no event was bad: %v", len(found.Dead), found.Dead[0])
	}
	if size, err := os.Stat(f.path("out.ndjson")); err != nil || size.Size() == 0 {
		t.Errorf("the file sink is empty: %v", err)
	}
}
