// Package pipeline measures the whole of Weir on one job: a file of events, from
// which repeats are dropped and a selection goes to another file, with durable
// dedup, positions and journal. The weir program runs as a child on a fresh data
// folder, from its start to its exit; the yardstick is a plain loop that does
// the same with nothing durable. Both must write the same lines.
package pipeline

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/weir-project/weir/bench/report"
	"github.com/weir-project/weir/bench/workload"
	"github.com/weir-project/weir/bench/yardstick"
)

// The bars.
const (
	barPattern = 0.6 // of the yardstick's wall time
	barWASM    = 0.7
	barMemory  = 1.2 // of ten times the events to the events
)

// wasmFilter is the guest that selects what the pattern does, below the
// module's folder.
const wasmFilter = "examples/plugins/service-rust/service-rust.wasm"

const (
	runLimit = 10 * time.Minute
	// memoryIDs is a window that even the smaller run fills, so that its growth
	// does not count.
	memoryIDs = 200_000
)

// run is one configuration to measure.
type run struct {
	root, weir, place string
	events            string
	wasm              bool
	maxIDs            int
	observer          *observer // nil = nobody looks
}

// usage is what a run took.
type usage struct {
	wall      time.Duration
	processor time.Duration // of all its threads
	memory    float64       // peak resident bytes
	lines     lineSet
}

// Run measures.
func Run(o report.Options) (lines []report.Line, err error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	place, err := os.MkdirTemp(o.Dir, "pipeline-")
	if err != nil {
		return nil, fmt.Errorf("bench pipeline: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(place)) }()
	weir := filepath.Join(place, "weir")
	o.Printf("pipeline: building weir")
	if err := build(root, weir); err != nil {
		return nil, err
	}
	const n = 1_000_000
	o.Printf("pipeline: %d events", n)
	events, err := workload.File(o.Dir, o.Seed, n)
	if err != nil {
		return nil, err
	}
	all, err := os.ReadFile(events) // also warms the system's cache for both sides
	if err != nil {
		return nil, fmt.Errorf("bench pipeline: %w", err)
	}
	anchor := report.AnchorLine(all)
	anchor.Note = fmt.Sprintf("%d events of %d bytes", n, len(all)/n)
	lines = append(lines, anchor)
	all = nil

	r := run{root: root, weir: weir, place: place, events: events, maxIDs: 2_000_000}
	for _, c := range []struct {
		name string
		wasm bool
		bar  float64
	}{{"pattern", false, barPattern}, {"wasm", true, barWASM}} {
		if !o.Wants(c.name) {
			continue
		}
		r.wasm = c.wasm
		l, err := r.compare(o, c.name, c.bar)
		if err != nil {
			return lines, err
		}
		lines = append(lines, l...)
	}
	if o.Wants("memory") && !o.Quick {
		l, err := r.memory(o, n)
		if err != nil {
			return lines, err
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// compare measures one configuration beside the yardstick.
func (r run) compare(o report.Options, name string, bar float64) ([]report.Line, error) {
	var peak []float64
	weir := func() (float64, error) {
		u, err := r.once()
		if err != nil {
			return 0, err
		}
		want, err := r.yardstickLines()
		if err != nil {
			return 0, err
		}
		if u.lines != want {
			return 0, fmt.Errorf("bench pipeline: %s: weir wrote %v, the yardstick %v", name, u.lines, want)
		}
		peak = append(peak, u.memory)
		o.Printf("pipeline: %s: weir %v, %.0f MB", name, u.wall.Round(time.Millisecond), u.memory/1e6)
		return u.wall.Seconds(), nil
	}
	plain := func() (float64, error) {
		res, err := yardstick.Child(r.events, r.yardstickOut())
		if err != nil {
			return 0, err
		}
		o.Printf("pipeline: %s: yardstick %v", name, res.Wall.Round(time.Millisecond))
		return res.Wall.Seconds(), nil
	}
	if _, err := plain(); err != nil { // the lines to compare with, and a warm cache
		return nil, err
	}
	p, err := report.Interleave(o.Pairs(), weir, plain)
	if err != nil {
		return nil, err
	}
	return []report.Line{
		{Name: name, Figure: p.A, Unit: "s", Yardstick: p.B, Ratio: p.Ratio, Of: report.Ratio, Bar: bar, Note: p.Spread()},
		{Name: name + ", peak memory", Figure: report.Median(peak) / 1e6, Unit: "MB"},
	}, nil
}

// memory measures whether ten times the events need more memory.
func (r run) memory(o report.Options, n int) (report.Line, error) {
	r.wasm, r.maxIDs = false, memoryIDs
	peaks := make([]float64, 2)
	for i, k := range []int{n, 10 * n} {
		events, err := workload.File(o.Dir, o.Seed, k)
		if err != nil {
			return report.Line{}, err
		}
		r.events = events
		u, err := r.once()
		if err != nil {
			return report.Line{}, err
		}
		o.Printf("pipeline: memory: %d events, %v, %.0f MB", k, u.wall.Round(time.Millisecond), u.memory/1e6)
		peaks[i] = u.memory
	}
	return report.Line{
		Name: "memory", Figure: peaks[1] / 1e6, Unit: "MB", Yardstick: peaks[0] / 1e6, Ratio: peaks[1] / peaks[0],
		Of: report.Ratio, Bar: barMemory, Note: fmt.Sprintf("peak at %d events beside %d", 10*n, n),
	}, nil
}

func (r run) yardstickOut() string { return filepath.Join(r.place, "yardstick.ndjson") }

func (r run) yardstickLines() (lineSet, error) { return readLines(r.yardstickOut()) }

// once runs weir on a fresh folder.
func (r run) once() (u usage, err error) {
	dir, err := os.MkdirTemp(r.place, "run-")
	if err != nil {
		return u, fmt.Errorf("bench pipeline: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := filepath.Join(dir, "out.ndjson")
	file := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(file, r.configuration(dir, out), 0o600); err != nil {
		return u, fmt.Errorf("bench pipeline: %w", err)
	}
	var said bytes.Buffer
	cmd := exec.Command(r.weir, "run", "-c", file)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &said, &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return u, fmt.Errorf("bench pipeline: %w", err)
	}
	memory := watchMemory(cmd.Process.Pid)
	if r.observer != nil {
		defer r.observer.scrape(filepath.Join(dir, "data"))()
	}
	stop := time.AfterFunc(runLimit, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	u.wall, u.memory = time.Since(start), memory()
	u.processor = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if !stop.Stop() {
		return u, fmt.Errorf("bench pipeline: weir did not end within %v", runLimit)
	}
	if err != nil {
		return u, fmt.Errorf("bench pipeline: weir run: %w\n%s", err, last(said.Bytes(), 4000))
	}
	u.lines, err = readLines(out)
	return u, err
}

func last(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// configuration selects by a pattern or by the guest, which say the same.
func (r run) configuration(dir, out string) []byte {
	types := strings.Join(workload.Wanted.Types, ", ")
	service := workload.Wanted.Service
	var b bytes.Buffer
	fmt.Fprintf(&b, "version: 1\nnode:\n  data: %q\n  log: {level: warn}\n  limits: {in_flight: 50_000}\n", filepath.Join(dir, "data"))
	if r.observer != nil {
		fmt.Fprintf(&b, "  trace: {endpoint: %q, ratio: %v}\n", r.observer.receiver.URL+"/v1/traces", traceRatio)
	}
	fmt.Fprintf(&b, "sources:\n  events:\n    file: {path: %q}\n    codec: cloudevents\n", r.events)
	fmt.Fprintf(&b, "    dedup: {window: 1h, max_ids: %d}\n", r.maxIDs)
	if r.wasm {
		fmt.Fprintf(&b, "plugins:\n  service: {wasm: %q, config: {types: [%s], service_info: [%s]}}\n",
			filepath.Join(r.root, filepath.FromSlash(wasmFilter)), types, service)
		b.WriteString("routes:\n  wanted: {filter: [service], to: [out]}\n")
	} else {
		fmt.Fprintf(&b, "routes:\n  wanted:\n    when: {type: [%s], data: {service_info: [%s]}}\n    to: [out]\n", types, service)
	}
	fmt.Fprintf(&b, "sinks:\n  out: {file: {path: %q}}\n", out)
	return b.Bytes()
}

// build makes the program as releases are made: static.
func build(root, out string) error {
	cmd := exec.Command("go", "build", "-o", out, "./cmd/weir")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("bench pipeline: build weir: %w\n%s", err, b)
	}
	return nil
}

func moduleRoot() (string, error) {
	b, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("bench pipeline: find the module: %w", err)
	}
	file := strings.TrimSpace(string(b))
	if filepath.Base(file) != "go.mod" {
		return "", errors.New("bench pipeline: run it in the module's folder")
	}
	return filepath.Dir(file), nil
}

// lineSet tells multisets of lines apart without regard to their order.
type lineSet struct {
	Count  int
	Hi, Lo uint64 // sum of the lines' 128-bit hashes
}

func readLines(name string) (lineSet, error) {
	f, err := os.Open(name)
	if err != nil {
		return lineSet{}, fmt.Errorf("bench pipeline: %w", err)
	}
	defer f.Close()
	var s lineSet
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			h := xxh3.Hash128(line)
			var carry uint64
			s.Lo, carry = bits.Add64(s.Lo, h.Lo, 0)
			s.Hi, _ = bits.Add64(s.Hi, h.Hi, carry)
			s.Count++
		}
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return lineSet{}, fmt.Errorf("bench pipeline: %s: %w", name, err)
		}
	}
}
