package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/poison"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

const poisonYAML = `
version: 1
node: {data: data, lanes: 3}
sources:
  in: {file: {path: in.ndjson}, key: data.key}
plugins:
  deadly: {deadly: deadly.bin}
routes:
  all: {filter: [deadly], to: [out]}
sinks:
  out: {file: {path: out.ndjson}}
`

// deadly is a host of plug-ins that take the process down on certain events: what a
// mistake in a host, or in a program that embeds the engine, may do.
type deadly struct{}

func (deadly) Name() string                { return "deadly" }
func (deadly) Close(context.Context) error { return nil }
func (d deadly) Load(context.Context, plugins.Spec) (plugins.Plugin, error) {
	return deadlyPlugin{}, nil
}

type deadlyPlugin struct{}

func (deadlyPlugin) Manifest() plugins.Manifest {
	return plugins.Manifest{Name: "deadly", Version: "1.0.0", Kind: plugins.Filter, Fields: []string{"data.deadly"}}
}
func (deadlyPlugin) Digest() string              { return strings.Repeat("d", 64) }
func (deadlyPlugin) Close(context.Context) error { return nil }
func (deadlyPlugin) Instance(context.Context) (plugins.Instance, error) {
	return deadlyInstance{}, nil
}

type deadlyInstance struct{}

func (deadlyInstance) Reason(int) string           { return "" }
func (deadlyInstance) Close(context.Context) error { return nil }
func (deadlyInstance) Filter(_ context.Context, b *plugins.Batch, answers []uint32) error {
	for i := range answers {
		answers[i] = 1
	}
	if strings.Contains(string(b.Bytes()), "bring it down") {
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		if err := self.Kill(); err != nil { // like a crash: nothing is closed
			return err
		}
		select {}
	}
	return nil
}

// poisonChild, in the environment, makes the test a process that runs the engine in a
// folder until all is settled.
const poisonChild = "WEIR_TEST_POISON_FOLDER"

// TestPoisonProcess is that process.
func TestPoisonProcess(t *testing.T) {
	dir := os.Getenv(poisonChild)
	if dir == "" {
		t.Skip("it is started by TestI17AnEventThatKillsTheProcess")
	}
	t.Chdir(dir)
	e, err := engine.New(engine.Config{
		File: "weir.yaml", Transports: []transports.Transport{file.New(), local.New()}, Plugins: []plugins.Host{deadly{}}, ChunkBytes: 16 << 10,
	})
	must(t, err)
	must(t, e.Run(t.Context()))
}

// TestI17AnEventThatKillsTheProcess: after as many crashes as it takes, the process
// gets through: the events at fault are in the dead letters, everything else arrived once.
func TestI17AnEventThatKillsTheProcess(t *testing.T) {
	if _, ok := any(vfs.OS{}).(vfs.Mapper); !ok {
		skip(t, "shared mappings")
	}
	dir, seed := t.TempDir(), seedOf(t)
	l := faults.NewLedger(seed)
	var in []byte
	var bad []string
	for i := range 3000 {
		e := l.Issue(fmt.Sprint("k", i%40), "T", "out")
		line := e.Data
		if i == 700 || i == 2500 {
			line = []byte(strings.Replace(string(line), `"data":{`, `"data":{"deadly":"bring it down",`, 1))
			bad = append(bad, e.ID)
		}
		in = append(append(in, line...), '\n')
	}
	must(t, os.WriteFile(filepath.Join(dir, "in.ndjson"), in, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "weir.yaml"), []byte(poisonYAML), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "deadly.bin"), nil, 0o600))
	crashes := 0
	for ; ; crashes++ {
		if crashes > len(bad)*poison.Strikes {
			t.Fatalf("it still dies after %d crashes", crashes)
		}
		cmd := exec.Command(os.Args[0], "-test.run", "^TestPoisonProcess$", "-test.timeout", "1m")
		cmd.Env = append(os.Environ(), poisonChild+"="+dir)
		out, err := cmd.CombinedOutput()
		if err == nil {
			break
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Exited() {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if crashes < poison.Strikes {
		t.Errorf("it died %d times only", crashes)
	}
	checkPoisoned(t, dir, bad)
}

// checkPoisoned looks at what came out of 3,000 events.
func checkPoisoned(t *testing.T, dir string, bad []string) {
	t.Helper()
	lines, err := faults.WalkLines(vfs.OS{}, filepath.Join(dir, "out.ndjson"))
	must(t, err)
	seen := map[string]int{}
	for _, line := range lines {
		var e struct{ ID string }
		must(t, json.Unmarshal(line, &e))
		seen[e.ID]++
	}
	letters, err := faults.WalkLetters(vfs.OS{}, filepath.Join(dir, "data"), "dead")
	must(t, err)
	var dead []string
	for _, w := range letters {
		if w.Reason != "poison" {
			t.Errorf("dead letter %+v", w)
		}
		dead = append(dead, w.EventID)
	}
	slices.Sort(dead)
	slices.Sort(bad)
	if !slices.Equal(dead, bad) {
		t.Errorf("dead letters of %v, want of %v", dead, bad)
	}
	if len(seen) != 3000-len(bad) || len(lines) != len(seen) {
		t.Errorf("%d events arrived, %d in all; want %d, each once", len(seen), len(lines), 3000-len(bad))
	}
	for _, id := range bad {
		if seen[id] > 0 {
			t.Errorf("the event %s arrived", id)
		}
	}
	outcomes, err := faults.WalkJournal(vfs.OS{}, filepath.Join(dir, "data"))
	must(t, err)
	if len(outcomes) != 3000 {
		t.Errorf("the journal tells of %d events", len(outcomes))
	}
}
