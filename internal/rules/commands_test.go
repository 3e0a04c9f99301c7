package rules_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/plugins/wasm"
)

// commandLimit is for one command of a page.
const commandLimit = 2 * time.Minute

// workplace is a copy of what the pages' commands need, with the program built,
// so that they run as they stand and leave nothing in the tree.
func workplace(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: the pages' commands are for a POSIX shell")
	}
	dir := t.TempDir()
	shell(t, root, fmt.Sprintf("CGO_ENABLED=0 go build -o %q ./cmd/weir", filepath.Join(dir, "bin/weir")))
	for _, name := range []string{"examples", "sdk"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "examples/quickstart/run")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shell runs a command line and returns what it printed.
func shell(t *testing.T, dir, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", line)
	cmd.Dir = dir
	var diag strings.Builder
	cmd.Stderr = &diag
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", line, err, out, diag.String())
	}
	return string(out)
}

// makeRun is what `make run` does after it has built the program.
const makeRun = "rm -rf examples/quickstart/run && bin/weir run -c examples/quickstart/weir.yaml"

// TestMakeRunIsWhatIsTested keeps makeRun true.
func TestMakeRunIsWhatIsTested(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		if os.Getenv("WEIR_REQUIRE") == "all" {
			t.Fatal("WEIR_REQUIRE=all: make is not installed")
		}
		t.Skip("SKIPPED: make is not installed")
	}
	lines := shell(t, root, "make -n run")
	for _, want := range append(strings.Split(makeRun, " && "), "CGO_ENABLED=0 go build -o bin/weir ./cmd/weir") {
		if !strings.Contains(lines, want) {
			t.Errorf("make run does not do %q:\n%s", want, lines)
		}
	}
}

// TestCommandsOfTheDocs runs every command of the pages, page by page.
func TestCommandsOfTheDocs(t *testing.T) {
	dir := workplace(t)
	count := 0
	for _, page := range []string{"README.md", "docs/plugins.md", "docs/testing.md", "docs/concepts.md", "docs/configuration.md", "docs/event-formats.md", "docs/delivery-guarantees.md", "examples/quickstart/README.md", "examples/saga/README.md"} {
		for _, b := range blocks(page, documents(t)[page]) {
			if b.language != "sh" {
				continue
			}
			for line := range strings.Lines(b.text) {
				line, _, _ = strings.Cut(line, " #")
				switch line = strings.TrimSpace(line); line {
				case "", "make test":
					continue
				case "make run":
					line = makeRun
				}
				count++
				shell(t, dir, line)
			}
		}
	}
	if count < 6 {
		t.Errorf("only %d commands", count)
	}
}

var (
	took     = regexp.MustCompile(`Ran for [^ ]+\.`)
	rate     = regexp.MustCompile(`new, [0-9,]+ a second`)
	inRecord = regexp.MustCompile(`(?s)^(.*?)\nNext\n`)
)

// TestReadmeShowsWhatIsPrinted compares the pasted summary with a run, but for
// the times.
func TestReadmeShowsWhatIsPrinted(t *testing.T) {
	masked := func(s string) string {
		return strings.TrimSpace(rate.ReplaceAllString(took.ReplaceAllString(s, "Ran for T."), "new, N a second"))
	}
	var shown string
	for _, b := range blocks("README.md", documents(t)["README.md"]) {
		if b.language == "text" {
			shown = b.text
		}
	}
	m := inRecord.FindStringSubmatch(shell(t, workplace(t), makeRun))
	if m == nil || masked(shown) != masked(m[1]) {
		t.Errorf("README.md shows\n%s\nbut it prints\n%s", shown, m)
	}
}

// TestTheFirstFilter builds the filter of docs/plugins.md and runs its samples,
// as every load does.
func TestTheFirstFilter(t *testing.T) {
	dir := workplace(t)
	const page = "docs/plugins.md"
	folder := filepath.Join(dir, "examples/plugins/large")
	files := map[string]string{
		"go.mod": "module large\n\ngo 1.24\n\nrequire github.com/weir-project/weir/sdk/go v0.0.0\n\nreplace github.com/weir-project/weir/sdk/go => ../../../sdk/go\n",
	}
	for _, b := range blocks(page, documents(t)[page]) {
		switch b.language {
		case "go":
			files["main.go"] = b.text
		case "json":
			files["manifest.json"] = b.text
		}
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shell(t, dir, "sdk/go/build.sh examples/plugins/large large.wasm")
	host := wasm.New(wasm.Config{})
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	p, err := host.Load(ctx, plugins.Spec{Name: "large", Path: filepath.Join(dir, "large.wasm"), Config: json.RawMessage(`{"min":250}`)})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(p.Manifest().Samples); got != 2 {
		t.Errorf("%d samples, want 2", got)
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
}
