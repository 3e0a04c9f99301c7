package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// run writes the configuration and runs it to its end.
func run(t *testing.T, dir, yaml string) engine.Status {
	t.Helper()
	e := newEngine(t, dir, yaml)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := e.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return e.Status()
}

func newEngine(t *testing.T, dir, yaml string) *engine.Engine {
	t.Helper()
	name := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(name, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Config{
		File:       name,
		Transports: []transports.Transport{file.New(), local.New(), memory.New()},
		Log:        slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func cloudEvent(id int, eventType, region string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"e-%d","source":"/shop","type":%q,"time":"2026-01-02T03:04:05Z","data":{"n":%d,"region":%q}}`, id, eventType, id, region)
}

func TestFileToFile(t *testing.T) {
	dir := t.TempDir()
	var in, want bytes.Buffer
	for i := range 10_000 {
		region := []string{"eu", "us"}[i%2]
		line := cloudEvent(i, "OrderCreated", region)
		fmt.Fprintln(&in, line)
		if region == "eu" {
			fmt.Fprintln(&want, line)
		}
		if i%10 == 0 {
			fmt.Fprintln(&in, line) // a duplicate
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "in.ndjson"), in.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	yaml := `
version: 1
node: {data: ./data, lanes: 1}
sources:
  orders: {file: {path: in.ndjson}}
routes:
  eu: {when: {type: [OrderCreated], data: {region: [eu]}}, to: [out]}
sinks:
  out: {file: {path: out.ndjson}}
`
	st := run(t, dir, yaml)
	got, err := os.ReadFile(filepath.Join(dir, "out.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("out has %d bytes, want %d", len(got), want.Len())
	}
	o := st.Sources["orders"].Outcomes
	if o["delivered"] != 5000 || o["unmatched"] != 5000 || o["duplicate"] != 1000 {
		t.Errorf("outcomes %v", o)
	}
	// A second start finds everything settled.
	st = run(t, dir, yaml)
	again, _ := os.ReadFile(filepath.Join(dir, "out.ndjson"))
	if !bytes.Equal(again, got) {
		t.Errorf("second run: out has %d bytes, want %d", len(again), len(got))
	}
	if b := st.Sources["orders"].Before; b != 11_000 {
		t.Errorf("before = %d", b)
	}
}

func TestCloseWithoutRunFreesTheFolder(t *testing.T) {
	dir := t.TempDir()
	yaml := `
version: 1
node: {data: ./data}
sources:
  orders: {file: {path: in.ndjson}}
routes:
  all: {to: [out]}
sinks:
  out: {file: {path: out.ndjson}}
`
	if err := os.WriteFile(filepath.Join(dir, "in.ndjson"), []byte(cloudEvent(1, "T", "eu")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, dir, yaml)
	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if st := run(t, dir, yaml); st.Sources["orders"].Outcomes["delivered"] != 1 {
		t.Errorf("outcomes %v", st.Sources["orders"].Outcomes)
	}
}

func TestConfiguredVersionMustBeANumberOf32Bits(t *testing.T) {
	dir := t.TempDir()
	var in bytes.Buffer
	for i, rev := range []string{"1", "4294967295", "4294967296", `"2"`, "1.5", "null"} {
		fmt.Fprintf(&in, `{"specversion":"1.0","id":"e-%d","source":"/shop","type":"T","data":{"rev":%s}}`+"\n", i, rev)
	}
	if err := os.WriteFile(filepath.Join(dir, "in.ndjson"), in.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	st := run(t, dir, `
version: 1
node: {data: ./data}
sources:
  orders: {file: {path: in.ndjson}, dedup: {version: data.rev}}
routes:
  all: {to: [out]}
sinks:
  out: {file: {path: out.ndjson}}
`)
	if o := st.Sources["orders"].Outcomes; o["delivered"] != 3 || o["refused"] != 3 || st.DeadLetters["invalid_field"] != 3 {
		t.Errorf("outcomes %v, dead letters %v", o, st.DeadLetters)
	}
}
