package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

const bombYAML = `
version: 1
node: {data: /w/data}
sources:
  in: {file: {path: in.ndjson}}
routes:
  bomb:
    react: [{template: {type: <type>}}, {template: {type: <type>}}, {template: {type: <type>}}, {template: {type: <type>}}]
    to: [out]
sinks:
  out: {file: {path: out.ndjson}}
`

// bomb is an input of some events, each of which has a route emit four that do so again.
func bomb(t *testing.T, roots, size int) *world {
	w := &world{mem: vfs.NewMem(), yaml: bombYAML, lanes: 2}
	var in bytes.Buffer
	for i := range roots {
		fmt.Fprintf(&in, `{"specversion":"1.0","id":"root%03d","source":"/s","type":"T","data":"%0*d"}`+"\n", i, size, i)
	}
	w.input(t, in.Bytes())
	return w
}

// descendants counts, by root, what the sink holds.
func descendants(mem *vfs.Mem) (map[string]int, error) {
	lines, err := linesIn(mem, "/w/out.ndjson")
	n := map[string]int{}
	var ids []string
	for _, line := range lines {
		ids = append(ids, cutOut(line, `"id":"`, `"`))
		if root := cutOut(line, `"correlationid":"`, `"`); root != "" {
			n[root]++
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != len(lines) {
		err = errors.Join(err, errors.New("an id stands twice (I5)"))
	}
	return n, err
}

// TestDescendantsAreBounded: a fan-out bomb ends after 1,024 descendants of the root,
// also where the engine crashed meanwhile; all that was not emitted is a dead letter.
func TestDescendantsAreBounded(t *testing.T) {
	probe := bomb(t, 1, 1)
	count := vfs.NewFaults(probe.mem, vfs.Fault{})
	must(t, probe.run(count))
	for k := uint64(0); k <= count.Ops(); k += max(1, count.Ops()/12) {
		w := bomb(t, 1, 1)
		after := w.mem
		if k > 0 {
			_ = w.run(vfs.NewFaults(w.mem, vfs.Fault{At: k}))
			after = w.mem.Crash(*seedFlag + k)
			w.lanes = int(1 + k%3)
		}
		must(t, w.run(after))
		n, err := descendants(after)
		if err != nil || n["root000"] != derive.MaxDescendants {
			t.Fatalf("operation %d: %d descendants, %v", k, n["root000"], err)
		}
		dead, err := queueOf(after, "dead")
		must(t, err)
		if want := 4*(1+derive.MaxDescendants) - derive.MaxDescendants; len(dead) != want {
			t.Fatalf("operation %d: %d dead letters, want %d (I1)", k, len(dead), want)
		}
	}
}

// TestFullInternalQueueHoldsSourcesUp: with room for a few events only, bombs neither
// block the engine nor pass the bound by more than what is in flight; each emission is an
// event or a dead letter (I1, I15).
func TestFullInternalQueueHoldsSourcesUp(t *testing.T) {
	const roots, bound = 8, 64 << 10
	w := bomb(t, roots, 1000)
	all := []transports.Transport{file.New(), local.New()}
	plan, err := config.Load(config.Options{File: "/w/weir.yaml", Data: []byte(bombYAML), Transports: all})
	must(t, err)
	plan.Node.Lanes = 2
	plan.Node.Limits.InFlight, plan.Node.Limits.InFlightBytes = 8, 64<<10
	e, err := engine.New(engine.Config{
		Plan: plan, Transports: all, FS: w.mem, ChunkBytes: 1 << 10, DerivedBytes: bound, DrainLimit: time.Second,
		Commit: commit.Config{SegmentBytes: 1 << 20},
	})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	must(t, e.Run(ctx))
	must(t, ctx.Err())
	st := e.Status()
	n, err := descendants(w.mem)
	must(t, err)
	total := 0
	for root, n := range n {
		if n > derive.MaxDescendants {
			t.Errorf("%s has %d descendants", root, n)
		}
		total += n
	}
	letters := st.DeadLetters["descendant_limit"] + st.DeadLetters["derived_queue_full"] + st.DeadLetters["hop_limit"]
	if st.DeadLetters["derived_queue_full"] == 0 {
		t.Error("the queue was never full: the test says nothing")
	}
	if got := uint64(total) + letters; got != uint64(4*(roots+total)) {
		t.Errorf("%d events and %d dead letters for %d emissions (I1): %v", total, letters, 4*(roots+total), st.DeadLetters)
	}
	t.Logf("%d descendants, letters %v", total, st.DeadLetters)
}
