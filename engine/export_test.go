package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
)

const exportYAML = `
sources: {in: {memory: {queue: in}}}
routes: {all: {from: [in], when: {data: {n: [{exists: true}]}}, to: [out]}}
sinks:
  out: {memory: {queue: out}}
  index: {memory: {queue: index}}
  file: {file: {path: /w/index.ndjson}}
journal: {to: [index, file]}
`

// exported are the lines of the journal among events, as id -> event id and outcome.
func exported(t *testing.T, events []string) (ids []string, lines map[string]string) {
	t.Helper()
	lines = map[string]string{}
	for _, text := range events {
		var e struct {
			SpecVersion, ID, Source, Type string
			Data                          journal.Line
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if e.Source != "/weir/journal" || e.SpecVersion != "1.0" {
			t.Errorf("not an event of the journal: %s", text)
		}
		ids = append(ids, e.ID)
		line := e.Data.ID + " " + e.Data.Outcome
		for _, d := range e.Data.Deliveries {
			line += " " + d.Route + ">" + d.Sink
		}
		if was, ok := lines[e.ID]; ok && was != line {
			t.Errorf("%s stands for two lines: %s, %s", e.ID, was, line)
		}
		lines[e.ID] = line
	}
	return ids, lines
}

func (l *live) index() (events []string) {
	for _, e := range l.memory.Queue("index").Entries() {
		events = append(events, string(e.Data))
	}
	return events
}

func linesOfFile(t *testing.T, mem *vfs.Mem, name string) []string {
	t.Helper()
	list, err := linesIn(mem, name)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// wantLines compares without order.
func wantLines(t *testing.T, what string, lines map[string]string, want []string) {
	t.Helper()
	var got []string
	for _, line := range lines {
		got = append(got, line)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s has %d lines\n%q\nwant %d\n%q", what, len(got), got, len(want), want)
	}
}

// TestJournalIsExported: every event, refused ones too, with where it went; once in a
// local sink, across restarts and power cuts.
func TestJournalIsExported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, queues := vfs.NewMem(), memory.New()
		var want []string
		for round := range 3 {
			l := runLive(t, mem, queues, exportYAML)
			l.put("in", round*10, round*10+10)
			if err := l.memory.Queue("in").Put(transports.Entry{Data: fmt.Appendf(nil, `{"broken":%d`, round)}); err != nil {
				t.Fatal(err)
			}
			l.put("in", round*10, round*10+1)
			for i := range 10 {
				want = append(want, fmt.Sprintf("e%d delivered all>out", round*10+i))
			}
			want = append(want, fmt.Sprintf("e%d duplicate", round*10), "REFUSED refused")
			time.Sleep(3 * time.Second)
			if st := l.engine.Status().Exports["index"]; st.Behind != 0 || st.Exported != 12 {
				t.Errorf("round %d: %+v", round, st)
			}
			if round == 1 {
				mem = mem.Crash(uint64(round))
			}
			l.stop()
		}
		for what, events := range map[string][]string{"index": (&live{memory: queues}).index(), "file": linesOfFile(t, mem, "/w/index.ndjson")} {
			ids, lines := exported(t, events)
			for id, line := range lines {
				if strings.HasSuffix(line, " refused") {
					lines[id] = "REFUSED refused"
				}
			}
			wantLines(t, what, lines, slices.Clone(want))
			if what == "file" && len(ids) != len(lines) {
				t.Errorf("the file has %d entries for %d lines: a local sink holds each once (I5)", len(ids), len(lines))
			}
		}
	})
}

// TestExportToASinkThatIsDown holds nobody else up, says that it is behind, and goes on
// where it was.
func TestExportToASinkThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLive(t, vfs.NewMem(), memory.New(), exportYAML)
		defer l.stop()
		var down atomic.Bool
		down.Store(true)
		l.memory.Queue("index").OnWrite(func(transports.Entry) transports.Result {
			if down.Load() {
				return transports.Result{Class: transports.Retry, Err: fmt.Errorf("down")}
			}
			return transports.Result{}
		})
		l.put("in", 0, 500)
		time.Sleep(2 * time.Hour)
		if n := len(l.memory.Queue("out").Entries()); n != 500 {
			t.Fatalf("%d events arrived, want 500", n)
		}
		st := l.engine.Status()
		if !slices.ContainsFunc(st.Waits, func(w flow.Wait) bool { return w.What == "the journal's export" && w.For == "sink index" }) {
			t.Errorf("waits: %+v", st.Waits)
		}
		if p := st.Sinks["index"].Parked; p != 0 {
			t.Errorf("%d lines are parked", p)
		}
		if st.Exports["file"].Behind != 0 || st.Exports["file"].Exported != 500 {
			t.Errorf("the other export: %+v", st.Exports["file"])
		}
		down.Store(false)
		time.Sleep(time.Minute)
		ids, lines := exported(t, l.index())
		if len(lines) != 500 || len(ids) != 500 || l.engine.Status().Exports["index"].Behind != 0 {
			t.Errorf("%d entries, %d lines: %+v", len(ids), len(lines), l.engine.Status().Exports["index"])
		}
	})
}

// TestExportDoesNotFeedOnItself: the engine takes in what it exports, and that ends.
func TestExportDoesNotFeedOnItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLive(t, vfs.NewMem(), memory.New(), `
sources: {in: {memory: {queue: in}}, back: {memory: {queue: index}}}
routes: {all: {from: [in], to: [out]}, back: {from: [back], to: [else]}}
sinks: {out: {memory: {queue: out}}, else: {memory: {queue: else}}, index: {memory: {queue: index}}}
journal: {to: [index]}
`)
		defer l.stop()
		l.put("in", 0, 10)
		time.Sleep(time.Hour)
		if n := len(l.memory.Queue("else").Entries()); n != 10 {
			t.Errorf("%d lines of the journal came back in, want 10", n)
		}
		if st := l.engine.Status().Exports["index"]; st.Exported != 10 || st.Behind != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestExportTellsWhatItMissed: where the journal's retention lets records go before a
// sink took them, the sink gets to know.
func TestExportTellsWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, queues := vfs.NewMem(), memory.New()
		small := commit.Config{SegmentBytes: 8 << 10, SnapshotEvery: 16 << 10}
		l := runLiveWith(t, mem, queues, strings.Replace(exportYAML, "journal: {to: [index, file]}", "journal: {to: [index], keep: 1m}", 1), small)
		var down atomic.Bool
		down.Store(true)
		l.memory.Queue("index").OnWrite(func(transports.Entry) transports.Result {
			if down.Load() {
				return transports.Result{Class: transports.Retry, Err: fmt.Errorf("down")}
			}
			return transports.Result{}
		})
		for round := range 20 {
			l.put("in", round*100, round*100+100)
			time.Sleep(2 * time.Minute)
		}
		down.Store(false)
		time.Sleep(5 * time.Minute)
		st := l.engine.Status().Exports["index"]
		l.stop()
		gaps, lines := 0, 0
		for _, text := range l.index() {
			if strings.Contains(text, `"type":"weir.journal_gap"`) {
				gaps++
			} else {
				lines++
			}
		}
		if st.Lost == 0 || gaps == 0 || lines == 2000 || lines == 0 || st.Behind != 0 {
			t.Errorf("%+v; %d lines, %d gaps", st, lines, gaps)
		}
	})
}

// TestExportSurvivesCrashesI1I5: wherever the power goes, a local sink of journal.to ends
// with each line of the journal once.
func TestExportSurvivesCrashesI1I5(t *testing.T) {
	world := func() *world {
		w := newWorld(t, 40)
		w.yaml += "  index: {file: {path: index.ndjson}}\njournal: {to: [index]}\n"
		return w
	}
	probe := world()
	count := vfs.NewFaults(probe.mem, vfs.Fault{})
	must(t, probe.run(count))
	must(t, bijection(probe.mem, 48+4))
	step := uint64(9)
	if *sweepAll {
		step = 1
	}
	t.Logf("seed %d, %d operations", *seedFlag, count.Ops())
	for k := uint64(1); k <= count.Ops(); k += step {
		w := world()
		if err := w.run(vfs.NewFaults(w.mem, vfs.Fault{At: k})); errors.Is(err, errHang) {
			t.Fatalf("operation %d: %v", k, err)
		}
		after := w.mem.Crash(*seedFlag + k)
		if err := w.run(after); err != nil {
			t.Fatalf("operation %d: the next start failed: %v", k, err)
		}
		if err := errors.Join(w.check(after), bijection(after, 48+4)); err != nil {
			t.Fatalf("operation %d: %v", k, err)
		}
	}
}

// bijection wants each line of the journal once among the exported ones, and no others.
func bijection(mem *vfs.Mem, least int) error {
	j, closeJournal, err := journal.Look(mem, "/w/data", nil)
	if err != nil {
		return err
	}
	list, err := j.All(context.Background(), journal.Query{Oldest: true})
	if err := errors.Join(err, closeJournal()); err != nil {
		return err
	}
	if len(list) < least {
		return fmt.Errorf("the journal has %d lines, want %d", len(list), least)
	}
	events, err := linesIn(mem, "/w/index.ndjson")
	if err != nil {
		return err
	}
	seen := map[string]int{}
	for _, text := range events {
		seen[idOf([]byte(text))]++
	}
	var errs []error
	for _, l := range list {
		id := fmt.Sprintf("weir.journal/%016x-%d-%d", j.Identity(), l.Record, l.Entry)
		if seen[id] != 1 {
			errs = append(errs, fmt.Errorf("%s, of %s %s, stands there %d times", id, l.ID, l.Outcome, seen[id]))
		}
		delete(seen, id)
	}
	for id := range seen {
		errs = append(errs, fmt.Errorf("%s is no line of the journal", id))
	}
	return errors.Join(errs...)
}
