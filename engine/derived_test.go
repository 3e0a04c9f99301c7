package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
)

const derivedYAML = `
version: 1
node: {data: /w/data}
sources:
  orders: {file: {path: in.ndjson}, key: data.customer}
routes:
  accept: {from: [orders], react: {template: {type: Accepted, data: {customer: <data.customer>, n: <data.n>}}}, to: [out]}
  arrange:
    when: {type: [Accepted]}
    react: [{template: {type: Arranged}}, {template: {type: Told, data: "<data.n>"}}]
    to: [kitchen]
  last: {when: {type: [Arranged, Told]}, to: [last]}
sinks:
  out: {file: {path: out.ndjson}}
  last: {file: {path: last.ndjson}}
  kitchen: {local: {queue: kitchen}}
`

// newDerivedWorld has orders of a few customers, some of them twice; each order makes
// one descendant, and that two more.
func newDerivedWorld(t *testing.T, orders int) *world {
	w := &world{mem: vfs.NewMem(), yaml: derivedYAML, lanes: 2}
	var in bytes.Buffer
	for i := range orders {
		line := fmt.Sprintf(`{"specversion":"1.0","id":"e%03d","source":"/shop","type":"Order","data":{"customer":"c%d","n":%d}}`, i, i%5, i)
		fmt.Fprintln(&in, line)
		if i%4 == 0 {
			fmt.Fprintln(&in, line)
		}
	}
	w.input(t, in.Bytes())
	return w
}

// derivedOutcome is what the sinks hold: sorted ids, and per customer the order in
// which the kitchen got the numbers.
type derivedOutcome struct{ out, kitchen, last []string }

func outcomeOf(mem *vfs.Mem) (o derivedOutcome, err error) {
	var errs [3]error
	o.out, errs[0] = linesOf(mem, "/w/out.ndjson")
	o.last, errs[1] = linesOf(mem, "/w/last.ndjson")
	o.kitchen, errs[2] = queueOf(mem, "kitchen")
	for _, list := range [][]string{o.out, o.last, o.kitchen} {
		slices.Sort(list)
	}
	return o, errors.Join(errs[:]...)
}

// inOrder wants the numbers of each customer in the order of their orders (I7).
func inOrder(mem *vfs.Mem) error {
	lines, err := linesIn(mem, "/w/last.ndjson")
	last := map[string]int{}
	for _, line := range lines {
		if !strings.Contains(line, `"type":"Arranged"`) {
			continue
		}
		customer := cutOut(line, `"customer":"`, `"`)
		var n int
		if _, err := fmt.Sscanf(cutOut(line, `"n":`, "}"), "%d", &n); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if before, ok := last[customer]; ok && before >= n {
			return fmt.Errorf("%d of %s came after %d (I7)", n, customer, before)
		}
		last[customer] = n
	}
	return err
}

func (o *derivedOutcome) compare(want *derivedOutcome) error {
	var errs []error
	for _, c := range []struct {
		name      string
		got, want []string
	}{{"out", o.out, want.out}, {"kitchen", o.kitchen, want.kitchen}, {"last", o.last, want.last}} {
		if !slices.Equal(c.got, c.want) {
			errs = append(errs, fmt.Errorf("%s holds %d events, want %d (I1, I2, I5, I9):\n%q\nwant\n%q", c.name, len(c.got), len(c.want), c.got, c.want))
		}
	}
	return errors.Join(errs...)
}

// TestDerivedEventsSurviveCrashesI1I5I7I9 crashes, or fails, the engine at every
// operation on its disk. Whatever that left, the next start ends with every derived
// event where it belongs, once, under the id that it has without a crash, and those of
// one key in order.
func TestDerivedEventsSurviveCrashesI1I5I7I9(t *testing.T) {
	const orders = 25
	probe := newDerivedWorld(t, orders)
	count := vfs.NewFaults(probe.mem, vfs.Fault{})
	must(t, probe.run(count))
	want, err := outcomeOf(probe.mem.Crash(1))
	must(t, err)
	must(t, inOrder(probe.mem))
	if len(want.out) != orders || len(want.kitchen) != orders || len(want.last) != 2*orders {
		t.Fatalf("without faults: %d, %d, %d events", len(want.out), len(want.kitchen), len(want.last))
	}
	for _, list := range [][]string{want.out, want.kitchen, want.last} {
		if len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Fatalf("an id stands twice: %q", list)
		}
	}
	step := uint64(3)
	if *sweepAll {
		step = 1
	}
	t.Logf("seed %d, %d operations", *seedFlag, count.Ops())
	for _, f := range []struct {
		name string
		err  error
	}{{"crash", nil}, {"EIO", syscall.EIO}, {"ENOSPC", syscall.ENOSPC}} {
		t.Run(f.name, func(t *testing.T) {
			for k := uint64(1); k <= count.Ops(); k += step {
				w := newDerivedWorld(t, orders)
				if err := w.run(vfs.NewFaults(w.mem, vfs.Fault{At: k, Err: f.err})); errors.Is(err, errHang) {
					t.Fatalf("operation %d: %v", k, err)
				}
				after := w.mem.Crash(*seedFlag + k)
				w.lanes = int(1 + k%3) // another number of lanes at the next start
				if err := w.run(after); err != nil {
					t.Fatalf("operation %d: the next start failed: %v", k, err)
				}
				got, err := outcomeOf(after)
				if err = errors.Join(err, got.compare(&want), inOrder(after)); err != nil {
					t.Fatalf("operation %d: %v", k, err)
				}
			}
		})
	}
}
