package quickstart_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/plugins/wasm"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

var update = flag.Bool("update", false, "write the golden files anew")

// files are the file sinks of the example, queues its local queues.
var (
	files  = []string{"couriers", "invoices", "payments", "rides", "unmatched", "uploads"}
	queues = []string{"kitchen", "dead"}
)

// outcomes is what becomes of the 42 events.
var outcomes = map[string]uint64{
	"delivered": 19, "duplicate": 5, "unmatched": 5, "filtered": 2, "stale": 1,
	"expired": 1, "discarded": 1, "conflict": 1, "refused": 7,
}

// folder copies the example, so that each run has fresh data.
func folder(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for from, to := range map[string]string{
		"events":              "quickstart/events",
		"../plugins/vip-rust": "plugins/vip-rust",
	} {
		copyFiles(t, from, filepath.Join(root, to))
	}
	dir := filepath.Join(root, "quickstart")
	copyFile(t, "weir.yaml", filepath.Join(dir, "weir.yaml"))
	return dir
}

func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := filepath.Glob(filepath.Join(from, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if strings.HasPrefix(filepath.Base(name), ".") {
			continue
		}
		copyFile(t, name, filepath.Join(to, filepath.Base(name)))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// run runs the example in dir with a clock that stands still, and returns what
// the engine counted.
func run(t *testing.T, dir string) engine.Status {
	t.Helper()
	host := wasm.New(wasm.Config{})
	eng, err := engine.New(engine.Config{
		File:       filepath.Join(dir, "weir.yaml"),
		Transports: []transports.Transport{file.New(), local.New()},
		Plugins:    []plugins.Host{host},
		Now:        func() time.Time { return time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := eng.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return eng.Status()
}

// counts adds up outcomes over all sources.
func counts(s engine.Status) (all map[string]uint64, before uint64) {
	all = map[string]uint64{}
	for _, source := range s.Sources {
		before += source.Before
		for name, n := range source.Outcomes {
			all[name] += n
		}
	}
	return all, before
}

// TestQuickstart runs the example and compares every sink with its golden file
// (I1: all 42 events are accounted for; I5: each once). Then it runs it again:
// nothing comes twice.
func TestQuickstart(t *testing.T) {
	dir := folder(t)
	got, before := counts(run(t, dir))
	if !maps.Equal(got, outcomes) || before != 0 {
		t.Errorf("outcomes %v and %d before, want %v and none", got, before, outcomes)
	}
	compare(t, dir)

	got, before = counts(run(t, dir))
	if len(got) != 0 || before != 42 {
		t.Errorf("the second run: outcomes %v and %d before, want none and 42", got, before)
	}
	compare(t, dir)
}

// compare holds what stands in the sinks against the golden files. Events of
// different keys have no order between them, so lines are sorted; the order
// within a key is looked at before that (I7).
func compare(t *testing.T, dir string) {
	t.Helper()
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(dir, "run", name+".ndjson"))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, bytes.Split(bytes.TrimSpace(data), []byte("\n")))
	}
	for _, name := range queues {
		golden(t, name, entries(t, filepath.Join(dir, "run", "weir-data"), name))
	}
}

// entries reads a queue without taking anything off it.
func entries(t *testing.T, data, name string) [][]byte {
	t.Helper()
	q, err := local.OpenQueueWith(local.QueueConfig{Data: data, Kind: local.QueueKind, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	c, err := q.Consumer("", true)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Receive(context.Background(), 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]byte
	for _, d := range got {
		lines = append(lines, d.Data)
	}
	return lines
}

// stable is what the golden file holds of a line: all of it, but of a dead
// letter what does not depend on the machine.
func stable(t *testing.T, name string, line []byte) string {
	t.Helper()
	if name != "dead" {
		return string(line)
	}
	var letter struct {
		Type string
		Data struct {
			Reason   string `json:"reason"`
			Detail   string `json:"detail"`
			Source   string `json:"source"`
			Original string `json:"original"`
		}
	}
	if err := json.Unmarshal(line, &letter); err != nil || letter.Type != "weir.dead_letter" {
		t.Fatalf("no dead letter (%v): %s", err, line)
	}
	short, err := json.Marshal(letter.Data)
	if err != nil {
		t.Fatal(err)
	}
	return string(short)
}

func golden(t *testing.T, name string, lines [][]byte) {
	t.Helper()
	inOrder(t, name, lines)
	var text []string
	for _, line := range lines {
		text = append(text, stable(t, name, line))
	}
	slices.Sort(text)
	got := strings.Join(text, "\n") + "\n"
	path := filepath.Join("testdata", name+".ndjson")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: have\n%s\nwant\n%s", name, got, want)
	}
}

// inOrder looks at the versions of one ride, which share an identity and so a
// key: their times never go back, but for what de-duplication drops.
func inOrder(t *testing.T, name string, lines [][]byte) {
	t.Helper()
	if name != "rides" {
		return
	}
	last := map[string]string{}
	for _, line := range lines {
		var e struct{ ID, Time string }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v in %s", name, err, line)
		}
		if e.Time < last[e.ID] {
			t.Errorf("%s: %s came after %s of the same key", name, e.Time, last[e.ID])
		}
		last[e.ID] = e.Time
	}
}

// TestBinary runs the example as a user does and reads the envelope of --json.
func TestBinary(t *testing.T) {
	weir := filepath.Join(t.TempDir(), "weir")
	if runtime.GOOS == "windows" {
		weir += ".exe"
	}
	build := exec.Command("go", "build", "-o", weir, "github.com/weir-project/weir/cmd/weir")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	config := filepath.Join(folder(t), "weir.yaml")
	var answer struct {
		OK     bool
		Result struct {
			Events      uint64
			Outcomes    map[string]uint64
			DeadLetters map[string]uint64 `json:"dead_letters"`
		}
	}
	envelope(t, &answer, weir, "run", "--json", "-c", config)
	if !answer.OK || answer.Result.Events != 42 || !maps.Equal(answer.Result.Outcomes, outcomes) {
		t.Errorf("run: %+v, want 42 events and %v", answer, outcomes)
	}
	wantDead := map[string]uint64{"conflict": 1, "invalid_field": 5, "invalid_json": 1, "unknown_envelope": 1}
	if !maps.Equal(answer.Result.DeadLetters, wantDead) {
		t.Errorf("dead letters %v, want %v", answer.Result.DeadLetters, wantDead)
	}

	// The commands that make run suggests.
	var kitchen struct{ Result []json.RawMessage }
	envelope(t, &kitchen, weir, "queue", "receive", "kitchen", "--ack=false", "--json", "-c", config)
	if len(kitchen.Result) != 3 {
		t.Errorf("queue kitchen holds %d events, want 3", len(kitchen.Result))
	}
	var dead struct{ Result []json.RawMessage }
	envelope(t, &dead, weir, "queue", "receive", "dead", "--ack=false", "--json", "-c", config)
	if len(dead.Result) != 8 {
		t.Errorf("queue dead holds %d events, want 8", len(dead.Result))
	}
	envelope(t, new(any), weir, "check", "--json", "-c", config)
}

// envelope runs a command, which must end with 0, and reads what it printed.
func envelope(t *testing.T, to any, name string, args ...string) {
	t.Helper()
	var diag bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &diag
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("weir %s: %v\n%s%s", strings.Join(args, " "), err, out, diag.Bytes())
	}
	if err := json.Unmarshal(out, to); err != nil {
		t.Fatalf("weir %s: %v in %s", strings.Join(args, " "), err, out)
	}
}

// TestEventsAreCounted keeps the table of the README true: 42 lines.
func TestEventsAreCounted(t *testing.T) {
	total := 0
	for _, name := range []string{"orders", "partners", "rides", "uploads"} {
		data, err := os.ReadFile(filepath.Join("events", name+".ndjson"))
		if err != nil {
			t.Fatal(err)
		}
		total += bytes.Count(data, []byte("\n"))
	}
	var sum uint64
	for _, n := range outcomes {
		sum += n
	}
	if total != 42 || sum != 42 {
		t.Fatalf("%d events, %d outcomes, want 42", total, sum)
	}
}
