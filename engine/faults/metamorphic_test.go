package faults_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
)

// effects is what a configuration makes of an event log, without what it may choose:
// how keys stand among each other.
type effects struct {
	lines   map[string][]string // by sink and key, in order
	letters map[string]int      // by reason and original bytes
}

const metamorphicYAML = `
version: 1
node: {data: /w/data, limits: {in_flight: %d}}
sources:
  ce: {file: {path: ce.ndjson}, key: data.key}
  versions: {file: {path: versions.ndjson}, codec: attributes, key: data.key, dedup: {update_types: [Updated]}}
  queue: {local: {queue: in, share: %v}, key: data.key}
routes:
  a: {from: [ce], when: {type: [A]}, to: [out, copy]}
  ab: {from: [ce, queue], when: {type: [A, B]}, to: [copy]}
  versions: {from: [versions], to: [out]}
unmatched: [rest]
sinks:
  out: {file: {path: out.ndjson}}
  rest: {file: {path: rest.ndjson, rotate_size: 8KiB, name: "rest-{number}"}}
  copy: {local: {queue: copy}}
`

// inputs is an event log: repeats, conflicts, updates, stale versions and malformed lines.
type inputs struct {
	ce, versions []byte
	queue        []faults.Event
}

func newInputs(seed uint64, n int) inputs {
	random := rand.New(rand.NewPCG(seed, 4))
	var in inputs
	var lines, versions []string
	l := faults.NewLedger(seed)
	for i := range n {
		e := l.Issue(fmt.Sprintf("k%d", random.IntN(9)), []string{"A", "B", "C"}[random.IntN(3)])
		lines = append(lines, string(e.Data))
		switch random.IntN(8) {
		case 0:
			lines = append(lines, lines[random.IntN(len(lines))])
		case 1:
			lines = append(lines, strings.Replace(string(e.Data), `"body":"`, `"body":"other`, 1)) // a conflict
		case 2:
			lines = append(lines, fmt.Sprintf(`{"broken": %d`, i))
		case 3:
			in.queue = append(in.queue, l.Issue(fmt.Sprintf("q%d", random.IntN(5)), "B"))
		}
		id := random.IntN(1 + n/5)
		versions = append(versions, fmt.Sprintf(
			`{"attributes":{"type":%q,"source":"s","eventId":"v%d","eventTime":"2026-01-02T03:04:05Z","eventCount":%d},"data":{"key":"v%d","n":%d}}`,
			[]string{"Created", "Updated"}[random.IntN(2)], id, random.IntN(4), id, i))
	}
	in.ce, in.versions = []byte(strings.Join(lines, "\n")+"\n"), []byte(strings.Join(versions, "\n")+"\n")
	return in
}

// setting is one random way to work through an event log.
type setting struct {
	lanes, chunk, inFlight int
	share                  bool
	commit                 commit.Config
	kills                  int
}

func newSetting(random *rand.Rand) setting {
	return setting{
		lanes: 1 + random.IntN(8), chunk: 300 << random.IntN(8), inFlight: 256 << random.IntN(6), share: random.IntN(2) == 0,
		commit: commit.Config{SegmentBytes: 2 << 10 << random.IntN(10), SnapshotEvery: 4 << 10 << random.IntN(10), GroupWait: time.Duration(random.IntN(3)) * time.Millisecond},
		kills:  random.IntN(6),
	}
}

// work runs the event log through an engine, crashing it as often as the setting says.
func (s setting) work(t *testing.T, in inputs, seed uint64) effects {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 5))
	disk := newDisk(t, map[string][]byte{"ce.ndjson": in.ce, "versions.ndjson": in.versions})
	sendAll(t, disk, "in", in.queue)
	r := rig{yaml: fmt.Sprintf(metamorphicYAML, s.inFlight, s.share), chunk: s.chunk, commit: s.commit}
	for range s.kills {
		r.lanes, r.fs = 1+random.IntN(8), vfs.NewFaults(disk, vfs.Fault{At: 1 + random.Uint64N(400)})
		_ = runQuietly(&r)
		disk = disk.Crash(random.Uint64())
	}
	r.lanes, r.fs = s.lanes, disk
	must(t, runQuietly(&r))
	return effectsOn(t, disk)
}

func effectsOn(t *testing.T, disk *vfs.Mem) effects {
	t.Helper()
	e := effects{lines: map[string][]string{}, letters: map[string]int{}}
	names, err := disk.List("/w")
	must(t, err)
	places := faults.Places{FS: disk, Data: "/w/data", Files: map[string]string{}, Queues: map[string]string{"copy": "copy"}}
	for _, name := range names {
		if strings.HasPrefix(name, "rest") || name == "out.ndjson" {
			places.Files[name] = "/w/" + name
		}
	}
	found, err := faults.Collect(places)
	must(t, err)
	slices.SortStableFunc(found.Delivered, func(a, b faults.Delivered) int { return strings.Compare(order(a.Sink), order(b.Sink)) })
	for _, d := range found.Delivered {
		sink, _, _ := strings.Cut(d.Sink, "-")
		sink, _, _ = strings.Cut(sink, ".")
		_, key, _ := strings.Cut(string(d.Data), `"key":"`)
		key, _, _ = strings.Cut(key, `"`)
		at := sink + " " + d.Route + " " + key
		e.lines[at] = append(e.lines[at], string(d.Data))
	}
	letters, err := faults.WalkLetters(disk, "/w/data", "dead")
	must(t, err)
	for _, l := range letters {
		e.letters[l.Reason+" "+string(l.Bytes())]++
	}
	return e
}

// order puts rotated files before the one that is still written.
func order(sink string) string {
	if sink == "rest.ndjson" {
		return "rest-~"
	}
	return sink
}

func (e effects) compare(want effects) error {
	var errs []error
	for _, at := range slices.Sorted(maps.Keys(want.lines)) {
		if !slices.Equal(e.lines[at], want.lines[at]) {
			errs = append(errs, fmt.Errorf("%s has %d events, want %d, or in another order:\n%s\nwant\n%s", at, len(e.lines[at]), len(want.lines[at]), strings.Join(e.lines[at], "\n"), strings.Join(want.lines[at], "\n")))
		}
	}
	for at := range e.lines {
		if want.lines[at] == nil {
			errs = append(errs, fmt.Errorf("%s has %d events, want none", at, len(e.lines[at])))
		}
	}
	if !maps.Equal(e.letters, want.letters) {
		errs = append(errs, fmt.Errorf("%d sorts of dead letters, want %d, or other ones", len(e.letters), len(want.letters)))
	}
	return errors.Join(errs...)
}

func (e effects) count() (n int) {
	for _, list := range e.lines {
		n += len(list)
	}
	return n
}

// TestMetamorphic: one event log has the same effects, in the same order per key,
// under any number of lanes, any sizes, and any crashes (I1, I2, I5, I7).
func TestMetamorphic(t *testing.T) {
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 6))
	for log := range 3 {
		in := newInputs(seed+uint64(log), 150)
		var want effects
		synctest.Test(t, func(t *testing.T) {
			want = setting{lanes: 1, chunk: 1 << 20, inFlight: 10_000}.work(t, in, 0)
		})
		if want.count() < 100 || len(want.letters) < 3 {
			t.Fatalf("the plain run had %d effects and %d sorts of dead letters", want.count(), len(want.letters))
		}
		for range 20 {
			s, runSeed := newSetting(random), random.Uint64()
			synctest.Test(t, func(t *testing.T) {
				if err := s.work(t, in, runSeed).compare(want); err != nil {
					t.Errorf("log %d, %+v: %v", log, s, err)
				}
			})
		}
	}
}
