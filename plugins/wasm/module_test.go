package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/plugins/plugintest"
)

const vipRust = "../../examples/plugins/vip-rust/vip-rust.wasm"

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestPackThenInspect(t *testing.T) {
	file := readFile(t, vipRust)
	text := []byte(`{ "name": "other", "version": "2", "kind": "filter", "fields": ["id"] }`)
	packed, err := Pack(file, text)
	if err != nil {
		t.Fatal(err)
	}
	info, err := Inspect(packed)
	if err != nil || len(info.Problems) > 0 {
		t.Fatal(err, info.Problems)
	}
	if m := info.Manifest; m.Name != "other" || m.Version != "2" || len(m.Samples) != 0 {
		t.Errorf("manifest %+v", m)
	}
	again, err := Pack(packed, text)
	if err != nil || !bytes.Equal(again, packed) {
		t.Errorf("packing twice changes the module (%v)", err)
	}
	names := map[string]string{}
	for _, e := range info.Exports {
		names[e.Name] = e.Type
	}
	if names["weir_filter"] != "(i32) -> i32" || names["weir_buf"] != "(i32, i32) -> i32" || info.MemoryMin == 0 {
		t.Errorf("exports %v, memory %d", names, info.MemoryMin)
	}
	if len(info.Imports) != 1 || info.Imports[0] != (Function{"weir1", "fail", "(i32, i32, i32, i32)"}) {
		t.Errorf("imports %v", info.Imports)
	}
}

func TestPackRefusesABadManifest(t *testing.T) {
	file := readFile(t, vipRust)
	if _, err := Pack(file, []byte(`{"name":"x"}`)); err == nil || !strings.Contains(err.Error(), "version") || !strings.Contains(err.Error(), "kind") {
		t.Errorf("got %v, want every mistake", err)
	}
	if _, err := Pack([]byte("no"), []byte(`{}`)); err == nil {
		t.Error("packs what is no module")
	}
}

func TestInspectListsEveryProblem(t *testing.T) {
	for _, c := range plugintest.Guests().Cases {
		if !strings.HasPrefix(c.Name, "import") && !strings.HasPrefix(c.Name, "export") && !strings.HasPrefix(c.Name, "forged") {
			continue
		}
		info, err := Inspect(c.File)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		all := strings.Join(info.Problems, "\n")
		for _, want := range c.Says {
			if !strings.Contains(all, want) {
				t.Errorf("%s: problems do not say %q: %s", c.Name, want, all)
			}
		}
	}
}

func TestLimitsNarrow(t *testing.T) {
	for _, c := range []struct {
		asked   plugins.ManifestLimits
		granted plugins.Limits
		want    limits
		refused bool
	}{
		{want: limits{memory: DefaultMemory}},
		{asked: plugins.ManifestLimits{Memory: 1 << 20, FuelPerCall: 9}, want: limits{memory: 1 << 20, fuel: 9}},
		{granted: plugins.Limits{Memory: 64 << 20, FuelPerCall: 1e9}, want: limits{memory: 64 << 20, fuel: 1e9}},
		{asked: plugins.ManifestLimits{Memory: 1 << 20, FuelPerCall: 9}, granted: plugins.Limits{Memory: 64 << 20, FuelPerCall: 1e9}, want: limits{memory: 1 << 20, fuel: 9}},
		{asked: plugins.ManifestLimits{Memory: 64 << 20}, refused: true},
		{asked: plugins.ManifestLimits{FuelPerCall: 1e9}, refused: true},
		{asked: plugins.ManifestLimits{FuelPerCall: 1e9}, granted: plugins.Limits{FuelPerCall: 2e9}, want: limits{memory: DefaultMemory, fuel: 1e9}},
		{granted: plugins.Limits{Memory: 2 << 30}, refused: true},
		{granted: plugins.Limits{Memory: -1}, refused: true},
		{granted: plugins.Limits{FuelPerCall: -1}, refused: true},
	} {
		got, err := settleLimits(&plugins.Manifest{Limits: &c.asked}, c.granted)
		if got != c.want || (err != nil) != c.refused {
			t.Errorf("asked %+v, granted %+v: %+v, %v", c.asked, c.granted, got, err)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "abc", 3}, {"kitten", "sitting", 3}, {"log", "lgo", 2}, {"same", "same", 0}, {"abc", "", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestCacheFolderMustBePrivate(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	load := func() error {
		h := New(Config{})
		p, err := h.Load(ctx, plugins.Spec{Name: "vip", Path: vipRust, Cache: dir})
		if err == nil {
			err = p.Close(ctx)
		}
		if e := h.Close(ctx); e != nil {
			t.Fatal(e)
		}
		return err
	}
	if err := load(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "wasm", "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no compiled code in the cache: %v %v", files, err)
	}
	if err := load(); err != nil {
		t.Fatalf("from the cache: %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, "wasm"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := load(); err == nil || !strings.Contains(err.Error(), "0700") {
		t.Fatalf("a folder that others may write: %v", err)
	}
}

// TestFuelledModulesAreValid rewrites what compilers made; the compiler's
// validator is the judge.
func TestFuelledModulesAreValid(t *testing.T) {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer r.Close(ctx)
	for _, name := range []string{"vip-rust", "service-rust", "vip-go"} {
		file := readFile(t, "../../examples/plugins/"+name+"/"+name+".wasm")
		m, err := parse(file)
		if err != nil {
			t.Fatal(err)
		}
		code, err := addFuel(m, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.CompileModule(ctx, code); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %d bytes, with fuel %d", name, len(file), len(code))
	}
}

// FuzzModule feeds bytes to everything that reads a module before the
// compiler does. What is accepted must be valid for the compiler if the
// original is, and the other way round.
func FuzzModule(f *testing.F) {
	for _, c := range plugintest.Guests().Cases {
		if len(c.File) < 4<<10 {
			f.Add(c.File)
		}
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	f.Cleanup(func() { r.Close(ctx) })
	f.Fuzz(func(t *testing.T, file []byte) {
		_, _ = Inspect(file)
		_, _ = Pack(file, []byte(`{"name":"x","version":"1","kind":"filter"}`))
		m, err := parse(file)
		if err != nil {
			return
		}
		code, err := addFuel(m, 1)
		if err != nil || checkMemory(m, DefaultMemory) != nil || len(checkContract(m, plugins.Filter)) > 0 {
			return
		}
		if _, err := r.CompileModule(ctx, file); err != nil {
			return
		}
		if _, err := r.CompileModule(ctx, code); err != nil {
			t.Fatalf("the module is valid, with fuel it is not: %v", err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	for _, name := range []string{"vip-rust", "service-rust", "vip-go"} {
		f.Add(readFile(f, "../../examples/plugins/"+name+"/manifest.json"))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseManifest(text)
		if err != nil {
			return
		}
		back, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseManifest(back); err != nil {
			t.Fatalf("written and read again: %v", err)
		}
	})
}

func writeFile(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}
