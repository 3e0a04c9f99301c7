package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

const badInputYAML = `
version: 1
node: {data: /w/data, lanes: 2, limits: {event: %s}}
sources:
  in: {file: {path: in.ndjson}, key: data.k}
routes:
  eu: {when: {data: {region: [eu]}}, to: [out]}
unmatched: [out]
sinks:
  out: {file: {path: out.ndjson}}
`

// refused is what came of an input.
type refused struct {
	lines   []string // of the sink
	letters []faults.Letter
	status  engine.Status
}

// feed runs an input through an engine in memory.
func feed(t *testing.T, limit string, in []byte) refused {
	t.Helper()
	mem := vfs.NewMem()
	must(t, mem.MkdirAll("/w"))
	f, err := mem.Create("/w/in.ndjson")
	must(t, err)
	_, err = f.Write(in)
	must(t, err)
	must(t, f.Close())
	all := []transports.Transport{file.New(), local.New()}
	plan, err := config.Load(config.Options{File: "/w/weir.yaml", Data: fmt.Appendf(nil, badInputYAML, limit), Transports: all})
	must(t, err)
	e, err := engine.New(engine.Config{Plan: plan, Transports: all, FS: mem})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	must(t, e.Run(ctx))
	r := refused{status: e.Status()}
	lines, err := faults.WalkLines(mem, "/w/out.ndjson")
	must(t, err)
	for _, l := range lines {
		r.lines = append(r.lines, string(l))
	}
	r.letters, err = faults.WalkLetters(mem, "/w/data", "dead")
	must(t, err)
	return r
}

// neighbours stand on the lines before and after a bad one.
var neighbours = [2]string{cloudEvent(1, "T", "eu"), cloudEvent(2, "T", "us")}

// between puts a line between its neighbours.
func between(line []byte) []byte {
	return bytes.Join([][]byte{[]byte(neighbours[0]), line, []byte(neighbours[1]), nil}, []byte("\n"))
}

// judge wants the neighbours untouched, and of the line between them that it passes
// as it is or is a dead letter with a reason and the original bytes.
func (r refused) judge(t *testing.T, line []byte, want string) {
	t.Helper()
	passed := []string{neighbours[0], string(line), neighbours[1]}
	if want != "passes" {
		passed = []string{neighbours[0], neighbours[1]}
	}
	r.holds(t, passed)
	if want == "passes" {
		if len(r.letters) > 0 {
			t.Errorf("refused as %s: %s", r.letters[0].Reason, r.letters[0].Detail)
		}
		return
	}
	if len(r.letters) != 1 {
		t.Fatalf("%d dead letters, want 1", len(r.letters))
	}
	l := &r.letters[0]
	if l.Reason != want || l.Detail == "" {
		t.Errorf("reason %q (%s), want %q", l.Reason, l.Detail, want)
	}
	if !bytes.Equal(l.Bytes(), line) {
		t.Errorf("the letter holds %.200q, want the original %.200q", l.Bytes(), line)
	}
	if n := r.status.Sources["in"].Outcomes["refused"]; n != 1 {
		t.Errorf("%d events refused, want 1", n)
	}
}

// holds wants lines in the sink, each once; those of different keys in any order.
func (r refused) holds(t *testing.T, want []string) {
	t.Helper()
	if !slices.Equal(slices.Sorted(slices.Values(r.lines)), slices.Sorted(slices.Values(want))) {
		t.Errorf("the sink holds %d lines, want %d:\n%.2000s", len(r.lines), len(want), strings.Join(r.lines, "\n"))
	}
}

// TestMalformed: what is malformed is dead-lettered with a stable reason and its
// original bytes, and costs nobody else's event (I1, I2).
func TestMalformed(t *testing.T) {
	golden, err := os.ReadFile("testdata/malformed/reasons.golden")
	must(t, err)
	files, err := filepath.Glob("testdata/malformed/*.json")
	must(t, err)
	lines := strings.Split(strings.TrimSpace(string(golden)), "\n")
	if len(files) != len(lines) {
		t.Errorf("%d files, and reasons.golden names %d", len(files), len(lines))
	}
	for _, line := range lines {
		name, want, _ := strings.Cut(line, "\t")
		t.Run(strings.TrimSuffix(name, ".json"), func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata/malformed", name))
			must(t, err)
			feed(t, "1MiB", between(data)).judge(t, data, want)
		})
	}
}

// sized is an event of so many bytes.
func sized(n int) []byte {
	head, tail := `{"specversion":"1.0","id":"big","source":"/s","type":"T","data":{"s":"`, `"}}`
	return []byte(head + strings.Repeat("x", n-len(head)-len(tail)) + tail)
}

// TestMalformedAtLimits makes what is too large to keep in a file.
func TestMalformedAtLimits(t *testing.T) {
	members := func(n int) []byte {
		b := []byte(`{"specversion":"1.0","id":"m","source":"/s","type":"T","data":{"m0":0`)
		for i := 1; i < n; i++ {
			b = fmt.Appendf(b, `,"m%d":0`, i)
		}
		return append(b, "}}"...)
	}
	attributes := func(n int) []byte {
		b := []byte(`{"specversion":"1.0","id":"m","source":"/s","type":"T"`)
		for i := range n {
			b = fmt.Appendf(b, `,"m%d":0`, i)
		}
		return append(b, '}')
	}
	nested := func(n int) []byte {
		return []byte(`{"specversion":"1.0","id":"n","source":"/s","type":"T","data":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`)
	}
	for _, c := range []struct {
		name, limit string
		line        []byte
		want        string
	}{
		{"size limit-1", "4KiB", sized(4<<10 - 1), "passes"},
		{"size limit", "4KiB", sized(4 << 10), "passes"},
		{"size limit+1", "4KiB", sized(4<<10 + 1), "too_large"},
		{"nested 20,000 deep", "1MiB", nested(20_000), "too_deep"},
		{"nested 20,000 deep and cut off", "1MiB", nested(20_000)[:15_000], "too_deep"},
		{"1,000,000 members of data", "16MiB", members(1_000_000), "passes"},
		{"1,000,000 attributes", "16MiB", attributes(1_000_000), "invalid_field"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := feed(t, c.limit, between(c.line))
			if c.want == "too_large" {
				r.judgeLarge(t, len(c.line), 4<<10)
				return
			}
			r.judge(t, c.line, c.want)
		})
	}
}

// judgeLarge wants the beginning of the event in its letter, and both sizes said.
func (r refused) judgeLarge(t *testing.T, size, limit int) {
	t.Helper()
	r.holds(t, neighbours[:])
	if len(r.letters) != 1 {
		t.Fatalf("%d dead letters, want 1", len(r.letters))
	}
	l := &r.letters[0]
	if l.Reason != "too_large" || !strings.Contains(l.Detail, fmt.Sprint(size)) || !strings.Contains(l.Detail, fmt.Sprint(limit)) {
		t.Errorf("reason %q: %q, which does not say %d and %d", l.Reason, l.Detail, size, limit)
	}
	if n := len(l.Bytes()); n > size || n < limit/2 || !bytes.HasPrefix(sized(size), l.Bytes()) {
		t.Errorf("the letter holds %d bytes of the event's %d, %.60q", n, size, l.Bytes())
	}
}

// TestHugeLine: a line of 100 MB is refused, its beginning kept, and memory for all
// of it is never asked for (I15).
func TestHugeLine(t *testing.T) {
	const size, limit = 100 << 20, 64 << 10
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "in.ndjson"), between(sized(size)), 0o600))
	yaml := strings.Replace(fmt.Sprintf(badInputYAML, "64KiB"), "/w/data", "./data", 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := refused{status: run(t, dir, yaml)}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > size/4 {
		t.Errorf("%d MB were allocated for a line of which %d KB may be kept", took>>20, limit>>10)
	}
	lines, err := faults.WalkLines(vfs.OS{}, filepath.Join(dir, "out.ndjson"))
	must(t, err)
	for _, l := range lines {
		r.lines = append(r.lines, string(l))
	}
	r.letters, err = faults.WalkLetters(vfs.OS{}, filepath.Join(dir, "data"), "dead")
	must(t, err)
	r.judgeLarge(t, size, limit)
}

// TestLineEnds: blank lines, \r\n and a last line without its end are no events' loss.
func TestLineEnds(t *testing.T) {
	a, b, c := cloudEvent(1, "T", "eu"), cloudEvent(2, "T", "us"), cloudEvent(3, "T", "eu")
	r := feed(t, "1MiB", []byte("\n \t\r\n"+a+"\r\n\n\n"+b+"\n\r\n"+c))
	r.holds(t, []string{a, b, c})
	if len(r.letters) > 0 {
		t.Errorf("%d dead letters, want none", len(r.letters))
	}
}
