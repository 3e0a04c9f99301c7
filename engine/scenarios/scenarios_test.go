package scenarios_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

var (
	update   = flag.Bool("update", false, "write the want sections anew")
	seedFlag = flag.Uint64("seed", 1, "seed of what a power cut leaves")
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestScenarios runs every file of testdata.
func TestScenarios(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	must(t, err)
	if len(paths) == 0 {
		t.Fatal("no scenarios")
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a := readArchive(t, path)
			// A bubble that its goroutines outlive fails, so every scenario looks for leaks.
			synctest.Test(t, func(t *testing.T) { newWorld(t, a).play() })
			if *update && !t.Failed() {
				a.write(t, path)
			}
		})
	}
}

// world is one scenario at work.
type world struct {
	t         *testing.T
	a         *archive
	mem       *vfs.Mem
	memory    *memory.Transport
	remote    *remote
	host      host
	unordered map[string]bool

	plan   *config.Plan
	engine *engine.Engine
	cancel context.CancelFunc
	done   chan error
	err    error         // of the last run
	status engine.Status // of the last run
	cuts   uint64
	began  time.Time
	held   string // what the steps "holds" saw
	put    []put  // what the steps "put" did

	yaml     string // the section that a reload reads
	reloaded string // what reloads answered
}

func newWorld(t *testing.T, a *archive) *world {
	w := &world{
		t: t, a: a, mem: vfs.NewMem(), memory: memory.New(), remote: newRemote(),
		host: host{files: map[string]string{}}, unordered: map[string]bool{},
		began: time.Now(),
	}
	must(t, w.mem.MkdirAll("/w"))
	for _, s := range a.sections {
		switch {
		case strings.HasSuffix(s.name, ".fake"):
			w.host.files["/w/"+s.name] = s.text
		case !strings.HasPrefix(s.name, "weir.yaml") && s.name != "script" && !strings.HasPrefix(s.name, "want/"):
			w.append(s.name, s.text)
		}
	}
	must(t, w.mem.SyncDir("/"))
	must(t, w.mem.SyncDir("/w"))
	return w
}

func (w *world) append(name, text string) {
	f, err := w.mem.Append("/w/" + name)
	must(w.t, err)
	_, err = io.WriteString(f, text)
	must(w.t, errors.Join(err, f.Sync(), f.Close()))
}

// play runs the script, then compares.
func (w *world) play() {
	script, ok := w.a.get("script")
	if !ok {
		script = "start\nfinish\n"
	}
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		w.step(line, verb, rest)
		if w.t.Failed() {
			break
		}
	}
	if w.engine != nil {
		w.stop()
	}
	if _, expected := w.a.get("want/error"); !expected && w.err != nil {
		w.t.Errorf("the engine failed: %v", w.err)
	}
	w.compareAll()
	w.examineAll()
}

func (w *world) step(line, verb, rest string) {
	first, second, _ := strings.Cut(rest, " ")
	switch verb {
	case "put":
		e := transports.Entry{}
		if key, ok := strings.CutPrefix(second, "key="); ok {
			key, second, _ = strings.Cut(key, " ")
			e.Key = []byte(key)
		}
		e.Data = []byte(second)
		w.put = append(w.put, put{first, e})
		must(w.t, w.memory.Queue(first).Put(e))
	case "end":
		w.memory.Queue(first).End()
	case "answer":
		words := strings.Fields(second)
		w.remote.sink(first).answer(words[0], words[1:])
	case "append":
		w.append(first, second+"\n")
	case "take":
		_, err := w.memory.Queue(rest).Take(w.t.Context(), 1, 0)
		must(w.t, err)
	case "holds":
		for _, e := range w.memory.Queue(rest).Entries() {
			w.held += fmt.Sprintf("+%v %s\n", time.Since(w.began).Round(time.Millisecond), e.Data)
		}
		w.held += "--\n"
	case "file":
		text, ok := w.a.get(second)
		if !ok {
			w.t.Fatalf("script: no section %s", second)
		}
		w.host.files["/w/"+first] = text
	case "reload":
		if rest != "" {
			w.yaml = rest
		}
		w.reload(line, w.engine.Reload)
	case "config":
		w.yaml = rest
	case "rollback":
		w.reload(line, w.engine.Rollback)
	case "unordered":
		w.unordered[rest] = true
	case "start":
		w.start()
	case "wait":
		d, err := time.ParseDuration(rest)
		must(w.t, err)
		time.Sleep(d) // virtual: what an idle bubble waits for comes at once
		synctest.Wait()
	case "finish":
		w.ended(<-w.done)
	case "stop":
		w.stop()
	case "crash":
		w.crash()
	default:
		w.t.Fatalf("script: no such step: %s", line)
	}
}

func (w *world) start() {
	all := []transports.Transport{file.New(), local.New(), w.memory, w.remote}
	load := func() (*config.Plan, error) {
		files := fstest.MapFS{}
		for name, code := range w.host.files {
			files[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(code)}
		}
		yaml, _ := w.a.get(cmp.Or(w.yaml, "weir.yaml"))
		return config.Load(config.Options{
			File: "/w/weir.yaml", Data: []byte(yaml), Transports: all, Hosts: []string{"fake"}, Files: looker{files},
		})
	}
	var err error
	w.plan, err = load()
	must(w.t, err)
	w.engine, err = engine.New(engine.Config{
		Plan: w.plan, Load: load, Transports: all, Plugins: []plugins.Host{w.host}, FS: w.mem, DrainLimit: 2 * time.Second,
		ChunkBytes: 4 << 10, Seed: 1, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
	must(w.t, err)
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	w.done = make(chan error, 1)
	go func() { w.done <- w.engine.Run(ctx) }()
}

// reload notes what a reload did, or why it did nothing.
func (w *world) reload(line string, do func(context.Context) (engine.Change, error)) {
	c, err := do(context.Background())
	w.reloaded += line + ": "
	if err != nil {
		w.reloaded += err.Error() + "\n"
		return
	}
	w.plan = w.engine.Plan()
	w.reloaded += fmt.Sprintf("generation %d", c.Generation)
	if c.Unchanged {
		w.reloaded += " unchanged"
	}
	for _, part := range []struct {
		what string
		n    engine.Names
	}{{"sources", c.Sources}, {"plugins", c.Plugins}, {"routes", c.Routes}, {"sinks", c.Sinks}} {
		for i, names := range [][]string{part.n.Added, part.n.Changed, part.n.Removed} {
			if len(names) > 0 {
				w.reloaded += fmt.Sprintf(" %s%c%s", part.what, "+~-"[i], strings.Join(names, ","))
			}
		}
	}
	if c.Draining > 0 {
		w.reloaded += fmt.Sprintf(" draining=%d", c.Draining)
	}
	w.reloaded += "\n"
}

// looker finds plug-ins for the configuration.
type looker struct{ fs fstest.MapFS }

func (l looker) ReadFile(name string) ([]byte, error) {
	return l.fs.ReadFile(strings.TrimPrefix(name, "/"))
}

func (l looker) Stat(name string) (fs.FileInfo, error) {
	return l.fs.Stat(strings.TrimPrefix(name, "/"))
}

func (l looker) Glob(pattern string) ([]string, error) {
	return l.fs.Glob(strings.TrimPrefix(pattern, "/"))
}

func (w *world) ended(err error) {
	w.cancel()
	w.err, w.status = err, w.engine.Status()
	w.engine = nil
}

func (w *world) stop() {
	w.cancel()
	w.ended(<-w.done)
}

// crash keeps what a power cut would leave now; the engine then ends on a disk that
// nobody sees any more.
func (w *world) crash() {
	w.cuts++
	left := w.mem.Crash(*seedFlag + w.cuts)
	w.stop()
	w.mem, w.err = left, nil
}

// compareAll holds every want section against what is.
func (w *world) compareAll() {
	for _, s := range w.a.sections {
		name, ok := strings.CutPrefix(s.name, "want/")
		if !ok {
			continue
		}
		got, want := w.actual(name), s.text
		if *update {
			if w.unordered[name] {
				got = sortLines(got)
			}
			w.a.set(s.name, got)
			continue
		}
		if w.unordered[name] {
			got, want = sortLines(got), sortLines(want)
		}
		if got != want {
			w.t.Errorf("%s is\n%s\nwant\n%s", s.name, got, want)
		}
	}
}

// tail is the last n lines.
func tail(text string, n int) string {
	lines := slices.Collect(strings.Lines(text))
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

func sortLines(text string) string {
	lines := slices.Collect(strings.Lines(text))
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func (w *world) actual(name string) string {
	switch name {
	case "dead":
		return w.deadLetters()
	case "journal":
		return w.journal()
	case "journal.tail":
		return tail(w.journal(), 5)
	case "holds":
		return w.held
	case "reloads":
		return w.reloaded
	case "status":
		return statusText(w.status)
	case "error":
		return fmt.Sprintln(w.err)
	}
	if sink, ok := strings.CutSuffix(name, ".log"); ok {
		return joinLines(w.remote.sink(sink).log)
	}
	p := w.plan.Sink(name)
	if p == nil {
		w.t.Fatalf("want/%s: no such sink", name)
	}
	return joinLines(w.contents(p))
}

func joinLines(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// contents is what a sink holds.
func (w *world) contents(p *config.Sink) (lines []string) {
	switch p.Transport {
	case "remote":
		return w.remote.sink(p.Name).arrived
	case "memory":
		for _, e := range w.memory.Queue(p.Settings.String("queue")).Entries() {
			lines = append(lines, string(e.Data))
		}
		return lines
	case "local":
		return w.queue(p.Settings.String("queue"))
	}
	f, err := w.mem.Open(p.Settings.String("path"))
	must(w.t, err)
	defer f.Close()
	size, err := f.Size()
	must(w.t, err)
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	must(w.t, err)
	for line := range bytes.Lines(data) {
		lines = append(lines, string(bytes.TrimSuffix(line, []byte("\n"))))
	}
	return lines
}

func (w *world) queue(name string) (lines []string) {
	q, err := local.OpenQueue(w.mem, "/w/data", name)
	must(w.t, err)
	defer q.Close()
	c, err := q.Consumer("", true)
	must(w.t, err)
	defer c.Close()
	for {
		list, err := c.Receive(context.Background(), 1000, time.Millisecond)
		must(w.t, err)
		if len(list) == 0 {
			return lines
		}
		for _, d := range list {
			lines = append(lines, string(d.Data))
		}
	}
}

// deadLetters are shortened to what the scenario is about.
func (w *world) deadLetters() string {
	dead := w.plan.DeadLetters.Sink
	if dead.Transport == "" {
		return ""
	}
	var b strings.Builder
	for _, line := range w.contents(&dead) {
		var letter struct {
			ID   string
			Data struct {
				Reason, Detail, Source, Route, Sink, Original string
				EventID                                       string `json:"event_id"`
				OriginalBase64                                string `json:"original_base64"`
				Rendered                                      *string
				Attempts                                      int
			}
		}
		must(w.t, json.Unmarshal([]byte(line), &letter))
		d := letter.Data
		fmt.Fprintf(&b, "%s: %s: %s", letter.ID, d.Reason, d.Detail)
		for _, part := range []struct{ name, text string }{{"source", d.Source}, {"event", d.EventID}, {"route", d.Route}, {"sink", d.Sink}} {
			if part.text != "" {
				fmt.Fprintf(&b, " %s=%s", part.name, part.text)
			}
		}
		if d.Attempts > 0 {
			fmt.Fprintf(&b, " attempts=%d", d.Attempts)
		}
		if d.Rendered != nil && *d.Rendered != d.Original {
			fmt.Fprintf(&b, " rendered=%s", *d.Rendered)
		}
		fmt.Fprintf(&b, " original=%.60s\n", d.Original+d.OriginalBase64)
	}
	return b.String()
}

// journal reads the commit log back.
func (w *world) journal() string {
	var b strings.Builder
	var g *journal.Generation
	names := map[[2]uint64]*journal.Generation{}
	name := func(names []string, i uint32) string {
		if i == journal.NoRoute {
			return "-"
		}
		return names[i]
	}
	v := journal.Visitor{
		Generation: func(x *journal.Generation) error {
			key := [2]uint64{x.Epoch, x.Number}
			if names[key] == nil {
				switch names[key] = x; {
				case x.Number > 1:
					fmt.Fprintf(&b, "generation %d\n", x.Number)
				case x.Epoch > 1:
					fmt.Fprintf(&b, "start %d\n", x.Epoch)
				}
			}
			return nil
		},
		Settled: func(epoch, generation uint64, s *journal.Section, e *journal.Entry) error {
			g = names[[2]uint64{epoch, generation}]
			fmt.Fprintf(&b, "%s %s: %v", s.Source, e.ID, e.Outcome)
			if e.Reason != "" {
				fmt.Fprintf(&b, " (%s)", e.Reason)
			}
			for _, route := range e.Routes {
				fmt.Fprintf(&b, " %s", g.Routes[route])
			}
			if e.HasVersion {
				fmt.Fprintf(&b, " version=%d", e.Version)
			}
			for _, n := range e.Notes {
				fmt.Fprintf(&b, "; %s>%s %v", name(g.Routes, n.Route), name(g.Sinks, n.Sink), n.Outcome)
				if n.Attempts > 0 {
					fmt.Fprintf(&b, " attempts=%d", n.Attempts)
				}
				if n.Reason != "" {
					fmt.Fprintf(&b, " (%s)", n.Reason)
				}
			}
			b.WriteString("\n")
			return nil
		},
		Redelivered: func(_ uint64, sink string, r *journal.Redelivery) error {
			fmt.Fprintf(&b, "parked at %s, entry %d: %v attempts=%d", sink, r.Ordinal, r.Outcome, r.Attempts)
			if r.Reason != "" {
				fmt.Fprintf(&b, " (%s)", r.Reason)
			}
			b.WriteString("\n")
			return nil
		},
	}
	l, err := commit.Open(commit.Config{FS: w.mem, Dir: "/w/data"}, nil, func(record []byte, _ time.Duration) error {
		return journal.Read(record, &v)
	})
	must(w.t, err)
	must(w.t, l.Close(context.Background()))
	return b.String()
}

func statusText(st engine.Status) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(st.Sources)) {
		s := st.Sources[name]
		fmt.Fprintf(&b, "source %s: received=%d", name, s.Received)
		if s.Before > 0 {
			fmt.Fprintf(&b, " before=%d", s.Before)
		}
		for _, o := range slices.Sorted(maps.Keys(s.Outcomes)) {
			fmt.Fprintf(&b, " %s=%d", o, s.Outcomes[o])
		}
		if s.Evicted > 0 {
			fmt.Fprintf(&b, " evicted=%d", s.Evicted)
		}
		b.WriteString("\n")
	}
	for _, name := range slices.Sorted(maps.Keys(st.Sinks)) {
		s := st.Sinks[name]
		if s.Local {
			continue
		}
		d := s.Dispatch
		fmt.Fprintf(&b, "sink %s: delivered=%d parked=%d dead=%d waiting=%d\n", name, d.Delivered, d.Parked, d.Dead, s.Parked)
	}
	for _, name := range slices.Sorted(maps.Keys(st.Routes)) {
		fmt.Fprintf(&b, "route %s: %d\n", name, st.Routes[name])
	}
	for _, name := range slices.Sorted(maps.Keys(st.DeadLetters)) {
		fmt.Fprintf(&b, "dead letters, %s: %d\n", name, st.DeadLetters[name])
	}
	if st.InFlight > 0 {
		fmt.Fprintf(&b, "in flight: %d\n", st.InFlight)
	}
	return b.String()
}
