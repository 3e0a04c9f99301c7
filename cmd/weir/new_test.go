package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestNew: a new folder is right, its tests pass, and it runs at once.
func TestNew(t *testing.T) {
	t.Chdir(t.TempDir())
	if got := weir("", "new", "shop"); got.code != 0 || !strings.Contains(got.out, "plugins/vip.wasm") {
		t.Fatal(got)
	}
	if got := weir("", "new", "shop"); got.code != exitUsage || !strings.Contains(got.diag, "shop is not empty") {
		t.Errorf("a folder that is not empty: %v", got)
	}
	t.Chdir("shop")
	for _, args := range [][]string{{"check"}, {"test"}, {"run"}} {
		if got := weir("", args...); got.code != 0 {
			t.Fatalf("%v exits with %d\n%s%s", args, got.code, got.out, got.diag)
		}
	}
	if left, err := filepath.Glob("plugins/vip/src/*.rs"); err != nil || len(left) == 0 {
		t.Errorf("the plug-in has no source: %v", err)
	}
	out, err := os.ReadFile("out/large.ndjson")
	if err != nil || strings.Count(string(out), "\n") != 1 {
		t.Errorf("out/large.ndjson holds %q: %v", out, err)
	}
	for _, name := range []string{"weir.schema.json", "weir.test.schema.json"} {
		text, err := os.ReadFile(name)
		if err != nil || !json.Valid(text) {
			t.Errorf("%s is no JSON: %v", name, err)
		}
	}
}

// TestTest runs tests that fail, that are wrong, and none.
func TestTest(t *testing.T) {
	const good = "version: 1\ntests:\n  - name: large\n    events: [{event: {specversion: \"1.0\", id: \"1\", source: /s, type: T, data: {total: 60}}}]\n    expect: {kitchen: [{id: \"1\"}], audit: 1}\n"
	files := map[string]string{"weir.yaml": goodConfig, "good_test.yaml": good}
	folder(t, files)
	golden := func(name string) string {
		return filepath.Join(wd, "testdata", name+".golden")
	}
	var all strings.Builder
	step := func(code int, args ...string) {
		t.Helper()
		got := weir("", args...)
		if got.code != code {
			t.Errorf("%v exits with %d, want %d\n%s%s", args, got.code, code, got.out, got.diag)
		}
		all.WriteString("$ weir " + strings.Join(args, " ") + "\n" + got.out + got.diag)
	}
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	step(0, "test")
	step(0, "test", "-v", "--only", "lar")
	step(2, "test", "--only", "none")
	write("bad_test.yaml", strings.Replace(good, `id: "1"}]`, `id: "2"}]`, 1))
	step(1, "test")
	step(1, "test", "--json", "bad_test.yaml")
	write("bad_test.yaml", "version: 1\ntests:\n  - nam: x\n    start: tomorrow\n    events:\n      - {at: 5m, event: {id: 1e3}}\n      - {at: 1m, event: {id: 1}, file: x}\n      - {at: 10m}\n    answers: {k: [retri]}\n    expect: {k: {contain: []}, j: many, l: 3}\n")
	step(2, "test", "bad_test.yaml")
	write("bad_test.yaml", "version: 1\nconfig: gone.yaml\ntests: [{name: x, events: []}]\n")
	step(2, "test", "bad_test.yaml")
	step(2, "test", "nowhere")
	if err := os.Remove("good_test.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove("bad_test.yaml"); err != nil {
		t.Fatal(err)
	}
	step(2, "test")
	compare(t, golden("test"), all.String())
}

// TestPattern tries patterns on events.
func TestPattern(t *testing.T) {
	vectors := filepath.Join(wd, "..", "..", "engine", "pattern", "testdata", "vectors.jsonl")
	folder(t, map[string]string{
		"weir.yaml": goodConfig, "orders.ndjson": orders,
		"bridge.ndjson": `{"version":"0","id":"x","detail-type":"OrderCreated","source":"shop","account":"1","time":"2026-03-02T11:00:01Z","region":"eu","resources":[],"detail":{"Metadata":{"event_time_iso8601":"2026-03-02T11:00:01Z","event_type":"A","event_version":"1.0","event_id":"oc-1"},"Data":{"n":1}}}` + "\n",
		"wrong.jsonl":   `{"pattern":{"a":[1]},"event":{"a":2},"match":true,"name":"two is one"}` + "\n" + `{"pattern":{"a":1},"valid":true}` + "\n" + `{"pattern":{"a":1},"valid":false}` + "\n",
		"broken.jsonl":  `{"pattern":{"a":[1]},"event":{"a":2}}` + "\n",
	})
	var all strings.Builder
	for _, step := range []struct {
		code int
		args []string
	}{
		{0, []string{"match", "big", "orders.ndjson"}},
		{1, []string{"match", `{"type": ["Other"]}`, "orders.ndjson", "-q"}},
		{0, []string{"match", `{"n": [1]}`}}, // standard input, in no envelope
		{0, []string{"match", `{"detail": {"Metadata": {"event_type": ["A"]}}, "region": ["eu"]}`, "bridge.ndjson"}},
		{0, []string{"match", `{"type": ["A"], "data": {"n": [1]}, "id": ["oc-1"]}`, "bridge.ndjson"}},
		{1, []string{"match", "--raw", `{"type": ["A"]}`, "bridge.ndjson"}},
		{0, []string{"match", `{"detail-type": ["Order"], "detail": {"total": [60]}}`, "orders.ndjson", "--json"}},
		{2, []string{"match", "small", "orders.ndjson"}},
		{2, []string{"match", `{"a": 1}`, "orders.ndjson"}},
		{2, []string{"match", `{"a": [1]}`, "gone.ndjson"}},
		{1, []string{"test", "wrong.jsonl"}},
		{2, []string{"test", "broken.jsonl"}},
		{2, []string{"test", "gone.jsonl"}},
	} {
		got := weir("{\"n\":1}\n\n{\"n\":2}\n", append([]string{"pattern"}, step.args...)...)
		if got.code != step.code {
			t.Errorf("%v exits with %d, want %d\n%s%s", step.args, got.code, step.code, got.out, got.diag)
		}
		all.WriteString("$ weir pattern " + strings.Join(step.args, " ") + "\n" + got.out + got.diag)
	}
	compare(t, filepath.Join(wd, "testdata", "pattern.golden"), all.String())
	if got := weir("", "pattern", "test", vectors); got.code != 0 || !strings.HasSuffix(got.out, " passed, 0 failed\n") {
		t.Errorf("the engine's own vectors: %v", got)
	}
}

// TestCompletion completes names of the configuration.
func TestCompletion(t *testing.T) {
	folder(t, map[string]string{"weir.yaml": goodConfig})
	if got := weir("{}", "queue", "send", "byhand"); got.code != 0 {
		t.Fatal(got)
	}
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"queue", "receive", ""}, []string{"byhand", "dead", "kitchen"}},
		{[]string{"queue", "receive", "--topic", ""}, nil},
		{[]string{"queue", "receive", "kitchen", ""}, nil},
		{[]string{"pattern", "match", ""}, []string{"big"}},
		{[]string{"tap", ""}, []string{"big"}},
		{[]string{"tap", "--sink", ""}, []string{"audit", "kitchen"}},
		{[]string{"explain", "--source", ""}, []string{"orders"}},
		{[]string{"journal", "--route", ""}, []string{"big"}},
		{[]string{"dlq", "list", "--source", ""}, []string{"orders"}},
		{[]string{"completion", ""}, shells},
	} {
		got := weir("", append([]string{"__complete"}, test.args...)...)
		lines := strings.Split(strings.TrimSpace(got.out), "\n")
		if lines = lines[:len(lines)-1]; !slices.Equal(lines, test.want) {
			t.Errorf("%v completes to %q, want %q", test.args, lines, test.want)
		}
	}
	for _, shell := range shells {
		if got := weir("", "completion", shell); got.code != 0 || !strings.Contains(got.out, "weir") {
			t.Errorf("completion %s exits with %d", shell, got.code)
		}
	}
	if got := weir("", "completion", "csh"); got.code != exitUsage {
		t.Errorf("completion csh exits with %d", got.code)
	}
}
