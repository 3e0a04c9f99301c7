package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
)

// shared is a buffer that a program writes while a test reads.
type shared struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// until asks again and again whether something is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(2 * time.Minute)
	for !so() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it does not happen: " + what)
		}
	}
}

// TestReloadOfARunningInstance: by command, by SIGHUP, and because a file took another
// one's place; what is wrong changes nothing (I14), and a rollback needs no right file.
func TestReloadOfARunningInstance(t *testing.T) {
	const config = `version: 1
include: [routes/*.yaml]
sources: {orders: {file: {path: orders.ndjson, follow: true}}}
sinks: {out: {file: {path: out.ndjson}}}
`
	route := func(name string) string {
		return fmt.Sprintf("routes: {%s: {when: {type: [%s]}, to: [out]}}\n", name, name)
	}
	folder(t, map[string]string{"weir.yaml": config, "orders.ndjson": ""})
	save := func(name, text string) {
		t.Helper()
		// As editors do it: a whole new file takes the place.
		if err := os.WriteFile("next", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename("next", filepath.Join("routes", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("routes", 0o700); err != nil {
		t.Fatal(err)
	}
	save("a.yaml", route("a"))
	var diag shared
	var stop, hangup chan<- os.Signal
	ready := make(chan struct{}, 2)
	ended := make(chan outcome, 1)
	go func() {
		ended <- weirWith(func(p *program) {
			p.diag = &diag
			p.signals = func(c chan<- os.Signal) func() { stop = c; ready <- struct{}{}; return func() {} }
			p.hangups = func(c chan<- os.Signal) func() { hangup = c; ready <- struct{}{}; return func() {} }
		}, "", "run", "--watch")
	}()
	<-ready
	<-ready
	until(t, "it runs", func() bool {
		return weir("", "status").code == exitFine && strings.Contains(weir("", "status").out, "running")
	})

	change := func(args ...string) (c engine.Change) {
		t.Helper()
		got := weir("", append(args, "--json")...)
		var e struct{ Result engine.Change }
		if err := json.Unmarshal([]byte(got.out), &e); err != nil || got.code != exitFine {
			t.Fatalf("weir %v exits with %d: %s%s", args, got.code, got.out, got.diag)
		}
		return e.Result
	}
	if c := change("reload"); !c.Unchanged || c.Generation != 1 {
		t.Errorf("a reload of the same configuration: %+v", c)
	}
	generation := func() uint64 { return change("reload").Generation }
	save("b.yaml", route("b"))
	until(t, "a new included file is put to work", func() bool { return strings.Contains(diag.String(), "generation=2") })
	save("b.yaml", "routes: {b: {to: [outt]}}")
	until(t, "a wrong file is told", func() bool { return strings.Contains(diag.String(), `no sink \"outt\"`) })
	if got := weir("", "reload"); got.code != exitUsage || !strings.Contains(got.diag, `routes/b.yaml:1:`) {
		t.Errorf("a wrong configuration exits with %d: %s", got.code, got.diag)
	}
	if got := weir("", "rollback"); got.code != exitUsage || !strings.Contains(got.diag, "--data") {
		t.Errorf("a rollback with a wrong file exits with %d: %s", got.code, got.diag)
	}
	if c := change("rollback", "--data", "weir-data"); strings.Join(c.Routes.Removed, " ") != "b" {
		t.Errorf("the rollback did %+v", c)
	}
	save("b.yaml", route("c"))
	hangup <- syscall.SIGHUP
	until(t, "SIGHUP reloads", func() bool { return strings.Contains(diag.String(), "SIGHUP") })
	if n := generation(); n < 4 {
		t.Errorf("generation %d runs", n)
	}
	stop <- syscall.SIGTERM
	if got := <-ended; got.code != exitFine {
		t.Errorf("the run exits with %d: %s", got.code, diag.String())
	}
}
