package rehearsal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/plugins/wasm"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestBubble: what this package wants of synctest, which is not made for it.
func TestBubble(t *testing.T) {
	begun := time.Now()
	var passed time.Duration
	if err := inBubble(func() {
		at := time.Now()
		time.Sleep(24 * time.Hour)
		passed = time.Since(at)
	}); err != nil || passed != 24*time.Hour {
		t.Errorf("a day takes %v: %v", passed, err)
	}
	if real := time.Since(begun); real > time.Minute {
		t.Errorf("a virtual day takes %v", real)
	}
	if err := inBubble(func() { panic("so") }); err == nil || err.Error() != "panic: so" {
		t.Errorf("a panic is %v", err)
	}
	if err := inBubble(func() { time.Sleep(time.Hour) }); err != nil {
		t.Errorf("a bubble after a failure: %v", err)
	}
}

const shopConfig = `version: 1
node: {lanes: 3}
sources:
  in: {file: {path: none.ndjson}, key: data.k, dedup: {window: 10m}, expire: {after: 1h}}
  queue: {memory: {queue: q}}
plugins: {vip: {wasm: vip.wasm, on_error: retry}}
routes:
  all: {from: [in], when: {type: [A]}, to: [out, side]}
  vip: {from: [queue], filter: [vip], to: [out]}
sinks:
  out: {memory: {queue: out}, retry: {park_after: 1s, max_age: 1h}}
  side: {file: {path: side.ndjson}}
`

func stage(t *testing.T) *Stage {
	t.Helper()
	dir := t.TempDir()
	code, err := os.ReadFile("../../examples/plugins/vip-rust/vip-rust.wasm")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "vip.wasm"), code, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	all := []transports.Transport{file.New(), local.New(), memory.New()}
	plan, err := config.Load(config.Options{File: filepath.Join(dir, "weir.yaml"), Data: []byte(shopConfig), Transports: all, Hosts: []string{"wasm"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), Config{Plan: plan, Transports: all, Hosts: []plugins.Host{wasm.New(wasm.Config{})}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("a test touched the disk: %v, %v", left, err)
		}
	})
	return s
}

// outcomes runs the tests of a text and returns what fails, test by test.
func outcomes(t *testing.T, s *Stage, text string) []string {
	t.Helper()
	f, err := config.ParseTests("x_test.yaml", []byte(text))
	var all *config.Errors
	if errors.As(err, &all) {
		t.Fatal(all)
	}
	var out []string
	for i := range f.Cases {
		o, err := s.Run(&f.Cases[i])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.Join(o.Failures, "\n"))
	}
	return out
}

func event(id, kind, data string) string {
	return fmt.Sprintf(`{specversion: "1.0", id: %q, source: /s, type: %s, data: %s}`, id, kind, data)
}

func TestRehearsal(t *testing.T) {
	s := stage(t)
	for _, test := range []struct{ name, text, want string }{
		{"passes", `
    events: [{in: in, event: ` + event("1", "A", "{k: x, n: 1}") + `}]
    expect: {out: [{id: "1", data: {n: 1.0}, $key: x, $route: all, $at: 0s}], side: 1}`, ""},
		{"partial", `
    events: [{in: in, event: ` + event("1", "A", "{k: x, l: [1, {a: 1, b: 2}], n: null}") + `}]
    expect: {out: [{data: {l: [1, {b: 2}], n: null, gone: {$absent: true}}, subject: {$absent: true}}]}`, ""},
		{"differs", `
    events: [{in: in, event: ` + event("1", "A", "{k: x, n: 1, l: [1]}") + `}]
    expect: {out: [{data: {n: "1", l: [1, 2], m: 3, k: {$absent: true}}}]}`, `out (line 5): 1 deliveries, want 1
  missing     {"data":{"n":"1","l":[1,2],"m":3,"k":{"$absent":true}}}
    nearest:  data.k is "x", want none; data.l is [1], want [1,2]; data.m is missing
  unexpected  {"specversion":"1.0","id":"1","source":"/s","type":"A","data":{"k":"x","n":1,"l":[1]}}`},
		{"numbers", `
    events: [{in: in, event: ` + event("1", "A", "{k: x, n: 3.0e2, big: 123456789012345678901}") + `}]
    expect: {out: [{data: {n: 300, big: 123456789012345678901}}]}`, ""},
		{"long numbers are no floats", `
    events: [{in: in, event: ` + event("1", "A", "{k: x, big: 123456789012345678901}") + `}]
    expect: {out: [{data: {big: 123456789012345678902}}]}`, `out (line 5): 1 deliveries, want 1
  missing     {"data":{"big":123456789012345678902}}
    nearest:  data.big is 123456789012345678901, want 123456789012345678902
  unexpected  {"specversion":"1.0","id":"1","source":"/s","type":"A","data":{"k":"x","big":123456789012345678901}}`},
		{"order of a key", `
    events:
      - {in: in, event: ` + event("1", "A", "{k: x}") + `}
      - {in: in, event: ` + event("2", "A", "{k: y}") + `}
      - {in: in, event: ` + event("3", "A", "{k: x}") + `}
    expect: {out: [{id: "2"}, {id: "3"}, {id: "1"}], side: {contains: [{id: "3"}]}}`, `out (line 8): 3 deliveries, want 3
  out of order for key "x": {"id":"1"} arrived before {"id":"3"}`},
		{"ambiguous expectations", `
    events:
      - {in: in, event: ` + event("1", "A", "{k: x}") + `}
      - {in: in, event: ` + event("2", "A", "{k: x}") + `}
    expect: {out: [{type: A}, {data: {k: x}}], side: [{id: "1"}, {type: A}]}`, ""},
		{"window and expiry in virtual time", `
    start: 2026-01-02T00:00:00Z
    events:
      - {in: in, event: ` + event("1", "A", "{k: x}") + `}
      - {in: in, at: 599s, event: ` + event("1", "A", "{k: x}") + `}
      - {in: in, at: 601s, event: ` + event("1", "A", "{k: x}") + `}
      - {in: in, at: 2h, event: {specversion: "1.0", id: "2", source: /s, type: A, time: "2026-01-02T00:30:00Z", data: {}}}
      - {in: in, event: {specversion: "1.0", id: "3", source: /s, type: A, time: "2026-01-02T01:30:00Z", data: {}}}
    expect: {out: 3}
    outcomes: {delivered: 3, duplicate: 1, expired: 1}`, ""},
		{"parked and delivered in order", `
    answers: {out: [` + strings.Repeat("retry, ", 30) + `ok]}
    events:
      - {in: in, event: ` + event("1", "A", "{k: x}") + `}
      - {in: in, at: 10s, event: ` + event("2", "A", "{k: x}") + `}
    expect: {out: [{id: "1"}, {id: "2"}]}
    outcomes: {delivered: 2}`, ""},
		{"dead of age", `
    limit: 3h
    answers: {out: [` + strings.Repeat("retry, ", 3000) + `ok]}
    events: [{in: in, event: ` + event("1", "A", "{k: x}") + `}]
    expect: {out: 0, side: 1}
    dead_letters: [{reason: retry_exhausted, sink: out, route: all, event_id: "1"}]`, ""},
		{"dead letters that nobody expects", `
    answers: {out: [poison]}
    events: [{in: in, event: ` + event("1", "A", "{k: x}") + `}, {in: in, event: "{"}]`, `dead letters (line 3): 2 dead letters, want 0
  unexpected  poison of 1: poison: the test says poison
  unexpected  invalid_json of `},
		{"a plug-in", `
    events:
      - {in: queue, key: a, event: ` + event("1", "OrderCreated", "{total: 500}") + `}
      - {in: queue, event: ` + event("2", "OrderCreated", "{total: 5}") + `}
    expect: {out: [{id: "1", $key: a}]}
    outcomes: {delivered: 1, filtered: 1}`, ""},
		{"outcomes", `
    events: [{in: in, event: ` + event("1", "B", "{}") + `}]
    outcomes: {delivered: 1}`, "outcomes: 0 events are delivered, want 1\noutcomes: 1 events are unmatched, want 0"},
		{"names", `
    events: [{event: x}]
    answers: {nosink: [ok]}
    expect: {nowhere: 0}`, "line 4: in: is missing, and there is more than one source\nline 6: expect: no sink \"nowhere\"\nline 3: answers: no sink \"nosink\""},
		{"counts", `
    events: [{in: in, event: ` + event("1", "A", "{}") + `}]
    expect: {side: 2}`, "side (line 5): 1 deliveries, want 2\n  arrived     {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"A\",\"data\":{}}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outcomes(t, s, "version: 1\ntests:\n  - name: x"+test.text+"\n")[0]
			if want := test.want; got != want && (!strings.HasSuffix(want, " of ") || !strings.HasPrefix(got, want)) {
				t.Errorf("fails with\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestRepeats: what passes once passes always, on any number of lanes.
func TestRepeats(t *testing.T) {
	s := stage(t)
	text := "version: 1\ntests:\n  - name: x\n    events:\n"
	for i := range 40 {
		text += fmt.Sprintf("      - {in: in, event: %s}\n", event(fmt.Sprint(i%30), "A", fmt.Sprintf("{k: k%d}", i%7)))
	}
	text += "    answers: {out: [retry, ok, retry]}\n    expect: {out: 29}\n"
	first := outcomes(t, s, text)[0]
	if first == "" {
		t.Fatal("30 events arrive, not 29")
	}
	for range 10 {
		if got := outcomes(t, s, text)[0]; got != first {
			t.Fatalf("a repeat gives\n%s\nafter\n%s", got, first)
		}
	}
}

// TestAssign: as many expectations as possible get an arrival, and of one key in
// order if any assignment does so, by brute force.
func TestAssign(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var got []seen
		for range rapid.IntRange(0, 4).Draw(r, "got") {
			got = append(got, seen{value: map[string]any{
				"a": rapid.SampledFrom([]string{"1", "2"}).Draw(r, "a"), "b": rapid.SampledFrom([]string{"1", "2"}).Draw(r, "b"),
			}, key: "k"})
		}
		var want []any
		for range rapid.IntRange(0, 4).Draw(r, "want") {
			w := map[string]any{}
			for _, name := range []string{"a", "b"} {
				if rapid.Bool().Draw(r, "named") {
					w[name] = rapid.SampledFrom([]string{"1", "2"}).Draw(r, "value")
				}
			}
			want = append(want, w)
		}
		by := assign(want, got)
		used, count := map[int]bool{}, 0
		for i, at := range by {
			if at < 0 {
				continue
			}
			if count++; used[at] || differs(want[i], got[at].value, nil, "") != "" {
				r.Fatalf("expectation %d has arrival %d: %v", i, at, by)
			}
			used[at] = true
		}
		if most := mostAssigned(want, got, 0, make([]bool, len(got))); count != most {
			r.Fatalf("%d of %d possible: %v", count, most, by)
		}
	})
}

func mostAssigned(want []any, got []seen, i int, taken []bool) int {
	if i == len(want) {
		return 0
	}
	best := mostAssigned(want, got, i+1, taken)
	for j := range got {
		if !taken[j] && differs(want[i], got[j].value, nil, "") == "" {
			taken[j] = true
			best = max(best, 1+mostAssigned(want, got, i+1, taken))
			taken[j] = false
		}
	}
	return best
}
