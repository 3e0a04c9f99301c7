// Package plugintest is the conformance run of plug-in hosts: what the engine
// relies on when it hands events to code of strangers. A host passes if guests
// that keep the contract work, and if whatever a hostile one does costs its own
// call and nothing else: no crash, no hang, no neighbour disturbed, memory and
// log bounded, and an error that says who did what (I11, I12).
package plugintest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/weir-project/weir/plugins"
)

// Stage is where a case must fail.
type Stage int

// Stages.
const (
	Works    Stage = iota // it must not fail
	FailLoad              // Host.Load must
	FailCall              // Instance.Filter must
	MayFail               // it may fail anywhere, but must be contained
)

// Case is a plug-in and what must become of it.
type Case struct {
	Name   string
	File   []byte
	Config string         // "" = none
	Limits plugins.Limits // zero = defaults
	Fails  Stage
	Says   []string // each must stand in the error
	// Check looks closer at a call that worked.
	Check func(t *testing.T, in plugins.Instance, answers []uint32)
}

// Modules are what a run loads.
type Modules struct {
	Plain []byte // keeps the contract, field "type", says yes to every event
	Cases []Case
}

const (
	events   = 64
	patience = 10 * time.Second // for a stage of a case, on a busy machine
	heapRoom = 192 << 20        // bytes that the whole run may leave behind
	maxLines = 1000             // log lines a case may write
)

// Run holds a host against the contract. It closes the host.
func Run(t *testing.T, host plugins.Host, modules Modules) {
	ctx := context.Background()
	lines := &counter{}
	r := &run{host: host, dir: t.TempDir(), log: slog.New(lines), lines: lines}
	plain, err := r.load(ctx, Case{Name: "plain", File: modules.Plain})
	if err != nil {
		t.Fatalf("the plain guest: %v", err)
	}
	neighbour, err := plain.Instance(ctx)
	if err != nil {
		t.Fatalf("the plain guest: %v", err)
	}
	t.Run("contract", func(t *testing.T) { contract(t, plain) })
	before := heap()
	for _, c := range modules.Cases {
		t.Run(c.Name, func(t *testing.T) {
			r.runCase(t, c)
			if err := filter(neighbour, events); err != nil {
				t.Fatalf("a neighbour is disturbed: %v", err)
			}
		})
	}
	if grown := heap() - before; grown > heapRoom {
		t.Errorf("the run left %d MiB on the heap", grown>>20)
	}
	if err := plain.Close(ctx); err == nil {
		t.Error("a plug-in closes while an instance is open")
	}
	if err := host.Close(ctx); err == nil {
		t.Error("the host closes while a plug-in is open")
	}
	for _, close := range []func(context.Context) error{neighbour.Close, plain.Close, host.Close} {
		if err := close(ctx); err != nil {
			t.Error(err)
		}
	}
}

type run struct {
	host  plugins.Host
	dir   string
	log   *slog.Logger
	lines *counter
	files int
}

func (r *run) load(ctx context.Context, c Case) (plugins.Plugin, error) {
	r.files++
	path := filepath.Join(r.dir, fmt.Sprintf("plugin-%d", r.files))
	if err := os.WriteFile(path, c.File, 0o700); err != nil {
		return nil, err
	}
	spec := plugins.Spec{Name: "subject", Path: path, Limits: c.Limits, Log: r.log}
	if c.Config != "" {
		spec.Config = []byte(c.Config)
	}
	return r.host.Load(ctx, spec)
}

func (r *run) runCase(t *testing.T, c Case) {
	ctx := context.Background()
	r.lines.n.Store(0)
	began := time.Now()
	plugin, err := r.load(ctx, c)
	if c.Fails == FailLoad || (c.Fails == MayFail && err != nil) {
		if err == nil {
			t.Fatal("it loads")
		}
		c.says(t, err)
		in(t, "load", began)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := plugin.Close(ctx); err != nil && c.Fails == Works {
			t.Error(err)
		}
	}()
	instance, err := plugin.Instance(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := instance.Close(ctx); err != nil && c.Fails == Works {
			t.Error(err)
		}
	}()
	in(t, "load", began)
	began = time.Now()
	answers := make([]uint32, events)
	err = filterInto(instance, answers)
	in(t, "call", began)
	if n := r.lines.n.Load(); n > maxLines {
		t.Errorf("%d log lines", n)
	}
	switch {
	case c.Fails == FailCall:
		if err == nil {
			t.Fatal("the call works")
		}
		c.says(t, err)
		spent(t, plugin, instance, c)
	case c.Fails == Works && err != nil:
		t.Fatal(err)
	case err == nil && c.Check != nil:
		c.Check(t, instance, answers)
	}
}

// spent checks that a failed instance refuses more work and that the plug-in
// gives another.
func spent(t *testing.T, plugin plugins.Plugin, failed plugins.Instance, c Case) {
	t.Helper()
	if err := filter(failed, 1); err == nil {
		t.Error("an instance works on after an error")
	}
	next, err := plugin.Instance(context.Background())
	if err != nil {
		t.Fatalf("no instance after a failure: %v", err)
	}
	if err := filter(next, events); err == nil {
		t.Error("the same batch works on another instance")
	} else {
		c.says(t, err)
	}
	_ = next.Close(context.Background()) // a guest may fail in its close, too
}

func (c Case) says(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	for _, want := range append([]string{"subject"}, c.Says...) {
		if !strings.Contains(text, want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if len(text) > 16<<10 || !utf8.ValidString(text) {
		t.Errorf("the error has %d bytes, UTF-8 %v", len(text), utf8.ValidString(text))
	}
}

func in(t *testing.T, what string, began time.Time) {
	t.Helper()
	if took := time.Since(began); took > patience {
		t.Errorf("%s took %v", what, took)
	}
}

func filter(in plugins.Instance, n int) error { return filterInto(in, make([]uint32, n)) }

func filterInto(in plugins.Instance, answers []uint32) error {
	var b plugins.Batch
	fill(&b, len(answers))
	return in.Filter(context.Background(), &b, answers)
}

func fill(b *plugins.Batch, n int) {
	b.SetSource(source{})
	b.Reset(1)
	for range n {
		b.Event()
		b.String([]byte("OrderCreated"), false)
	}
}

// source has a field "id" for each event, and as time its index in seconds.
type source struct{}

func (source) Field(event int, path string) ([]byte, bool) {
	return []byte(fmt.Sprintf("%q", fmt.Sprint("e", event))), path == "id"
}

func (source) Time(event int) int64 { return int64(event) * int64(time.Second) }

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// counter is a log that counts its lines.
type counter struct{ n atomic.Int64 }

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	if len(r.Message) > 4<<10 || !utf8.ValidString(r.Message) {
		c.n.Add(maxLines) // shows as a flood
	}
	c.n.Add(1)
	return nil
}

func (c *counter) WithAttrs([]slog.Attr) slog.Handler { return c }

func (c *counter) WithGroup(string) slog.Handler { return c }
