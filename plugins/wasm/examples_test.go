package wasm_test

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/plugins/wasm"
)

// TestExamples runs the checked-in guests; their samples run at load.
func TestExamples(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		name, config string
		totals       bool
		want         []uint32
	}{
		{"service-rust", "", false, []uint32{1, 0, 0, 0, 0, 1, 0, 0}},
		{"service-rust", `{"types":["OrderShipped"],"service_info":["delivery","pickup"]}`, false, []uint32{0, 0, 1, 0, 0, 0, 1, 0}},
		{"vip-rust", "", true, []uint32{0, 1, 1, 0, 1, 1, 0, 0}},
		{"vip-go", "", true, []uint32{0, 1, 1, 0, 1, 1, 0, 0}},
		{"vip-rust", `{"min_total":99.5,"type_prefix":"Cart"}`, true, []uint32{0, 0, 0, 1, 0, 0, 0, 1}},
		{"vip-go", `{"min_total":99.5,"type_prefix":"Cart"}`, true, []uint32{0, 0, 0, 1, 0, 0, 0, 1}},
	} {
		in := instance(t, load(t, h, plugins.Spec{Name: c.name, Path: example(c.name), Config: []byte(c.config)}))
		var b plugins.Batch
		fill(&b, len(c.want), c.totals)
		got := make([]uint32, len(c.want))
		if err := in.Filter(context.Background(), &b, got); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s %s: answers %v, want %v", c.name, c.config, got, c.want)
				break
			}
		}
		// What else the process allocates meanwhile is counted too, so the least of some
		// measurements tells.
		least := math.Inf(1)
		for try := 0; try < 20 && least > 0; try++ {
			least = min(least, testing.AllocsPerRun(50, func() {
				if err := in.Filter(context.Background(), &b, got); err != nil {
					t.Fatal(err)
				}
			}))
		}
		if least != 0 {
			t.Errorf("%s: %v allocations a batch", c.name, least)
		}
	}
}

func TestExamplesRefuseABadConfiguration(t *testing.T) {
	h := newHost(t)
	for name, config := range map[string]string{"vip-rust": `{"min_total":"x"}`, "vip-go": `{"min_total":"x"}`, "service-rust": `{"types":[1]}`} {
		_, err := h.Load(context.Background(), plugins.Spec{Name: name, Path: example(name), Config: []byte(config)})
		if err == nil || !strings.Contains(err.Error(), "must be") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLargeBatch makes the guests' buffers grow.
func TestLargeBatch(t *testing.T) {
	h := newHost(t)
	for _, name := range []string{"vip-rust", "vip-go"} {
		in := instance(t, load(t, h, plugins.Spec{Name: name, Path: example(name)}))
		var b plugins.Batch
		text := append([]byte("Order"), bytes.Repeat([]byte("x"), 100<<10)...)
		for range 3 {
			b.Reset(2)
			for range 20 {
				b.Event()
				b.String(text, false)
				b.Number([]byte("100"))
			}
			answers := make([]uint32, 20)
			if err := in.Filter(context.Background(), &b, answers); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if answers[0] != 1 || answers[19] != 1 {
				t.Fatalf("%s: %v", name, answers)
			}
		}
	}
}

// TestErrorsNameTheCause: an error says which plug-in and why.
func TestErrorsNameTheCause(t *testing.T) {
	var log bytes.Buffer
	_, err := newHost(t).Load(context.Background(), plugins.Spec{
		Name: "gone", Path: filepath.Join(t.TempDir(), "none.wasm"), Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err == nil || !strings.Contains(err.Error(), `"gone"`) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

// TestExamplesRebuild builds each example with the toolchain of this machine
// and compares the bytes with those checked in. Where the toolchain is
// missing it is skipped, or fails with WEIR_REQUIRE=all.
func TestExamplesRebuild(t *testing.T) {
	for _, c := range []struct {
		name, script, toolchain string
		present                 func() bool
	}{
		{"vip-rust", "sdk/rust/build.sh", "Rust for wasm32 (apt-get install rustc-web rust-web-src lld-19, and cargo)", debianRust},
		{"service-rust", "sdk/rust/build.sh", "Rust for wasm32 (apt-get install rustc-web rust-web-src lld-19, and cargo)", debianRust},
		{"vip-go", "sdk/go/build.sh", "Go " + goVersion, sameGo},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() {
				t.Skipf("SKIPPED: rebuilding %s takes a while (-short)", c.name)
			}
			if !c.present() {
				if os.Getenv("WEIR_REQUIRE") == "all" {
					t.Fatalf("WEIR_REQUIRE=all: no toolchain: %s", c.toolchain)
				}
				t.Skipf("SKIPPED: %s is not rebuilt: no toolchain: %s", c.name, c.toolchain)
			}
			root, err := filepath.Abs("../..")
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "built.wasm")
			cmd := exec.Command(filepath.Join(root, c.script), filepath.Join(root, "examples/plugins", c.name), out)
			cmd.Env = append(os.Environ(), "CARGO_TARGET_DIR="+t.TempDir())
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			built, checkedIn := read(t, out), read(t, example(c.name))
			if !bytes.Equal(built, checkedIn) {
				t.Errorf("the checked-in module (%d bytes) is not what its source gives (%d bytes): build it anew with %s",
					len(checkedIn), len(built), c.script)
			}
			if bytes.Contains(built, []byte(root)) {
				t.Error("the module names the folder that it was built in")
			}
		})
	}
}

// The compilers that the checked-in modules were built with.
const (
	goVersion   = "go1.26.8"
	rustVersion = "rustc 1.96.0 "
)

func debianRust() bool {
	if _, err := exec.LookPath("cargo"); err != nil {
		return false
	}
	if _, err := exec.LookPath("wasm-ld-19"); err != nil {
		return false
	}
	version, err := exec.Command("/usr/bin/rustc", "--version").Output()
	_, noSource := os.Stat("/usr/lib/rustlib/src")
	return err == nil && noSource == nil && strings.HasPrefix(string(version), rustVersion)
}

func sameGo() bool {
	version, err := exec.Command("go", "env", "GOVERSION").Output()
	return err == nil && strings.TrimSpace(string(version)) == goVersion
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPackMatchesTheSDK holds the Go SDK's own packing against Pack.
func TestPackMatchesTheSDK(t *testing.T) {
	file := read(t, example("vip-go"))
	manifest := read(t, filepath.Join(examples, "vip-go", "manifest.json"))
	packed, err := wasm.Pack(file, manifest)
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := wasm.Inspect(file)
	b, err2 := wasm.Inspect(packed)
	if err1 != nil || err2 != nil || a.Manifest == nil || b.Manifest == nil || a.Manifest.Name != b.Manifest.Name || len(a.Problems)+len(b.Problems) > 0 {
		t.Errorf("%+v\n%+v\n%v %v", a, b, err1, err2)
	}
}
