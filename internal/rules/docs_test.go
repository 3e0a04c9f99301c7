package rules_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/program"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/http"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// linked are the transports of the program weir.
func linked() []transports.Transport {
	return []transports.Transport{file.New(), http.New(), local.New(), memory.New(), program.New()}
}

// documents are the project's own pages by name.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	var names []string
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*/*.md", "sdk/*.md", "sdk/*/*.md", "transports/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		short, err := filepath.Rel(root, name)
		if err != nil {
			t.Fatal(err)
		}
		pages[filepath.ToSlash(short)] = string(text)
	}
	if len(pages) < 10 {
		t.Fatalf("only %d pages", len(pages))
	}
	return pages
}

// block is a fenced piece of a page.
type block struct {
	page     string
	line     int // where its text begins
	language string
	text     string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

func blocks(page, text string) (list []block) {
	var open *block
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &block{page: page, line: i + 2, language: strings.TrimSpace(fence)}
		case isFence:
			list = append(list, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return list
}

// anyFile finds every plug-in that a page names.
type anyFile struct{}

func (anyFile) ReadFile(name string) ([]byte, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
func (anyFile) Stat(string) (fs.FileInfo, error) { return os.Stat("docs_test.go") }
func (anyFile) Glob(string) ([]string, error)    { return nil, nil }

func load(text string) (*config.Plan, error) {
	return config.Load(config.Options{
		File: "weir.yaml", Data: []byte(text), Transports: linked(), Hosts: []string{"wasm"}, Files: anyFile{},
		Env: func(string) (string, bool) { return "", false },
	})
}

// TestConfigurationsOfTheDocs: whatever a page shows as a whole configuration is one.
func TestConfigurationsOfTheDocs(t *testing.T) {
	count := 0
	for page, text := range documents(t) {
		for _, b := range blocks(page, text) {
			if b.language != "yaml" || !strings.HasPrefix(b.text, "version: 1") {
				continue
			}
			count++
			if _, err := load(b.text); err != nil {
				t.Errorf("%v: %v", b, err)
			}
		}
	}
	if count < 5 {
		t.Errorf("only %d configurations", count)
	}
}

// TestTestsOfTheDocs: whatever a page shows as a file of tests is one.
func TestTestsOfTheDocs(t *testing.T) {
	count := 0
	for page, text := range documents(t) {
		for _, b := range blocks(page, text) {
			if b.language != "yaml" || !strings.HasPrefix(b.text, "# orders_test.yaml") {
				continue
			}
			count++
			if _, err := config.ParseTests("orders_test.yaml", []byte(b.text)); err != nil {
				t.Errorf("%v: %v", b, err)
			}
		}
	}
	if count == 0 {
		t.Error("there are none")
	}
}

// TestJSONOfTheDocs: a block of JSON holds a JSON value a line, or one in all.
func TestJSONOfTheDocs(t *testing.T) {
	for page, text := range documents(t) {
		for _, b := range blocks(page, text) {
			if b.language != "json" || json.Valid([]byte(b.text)) {
				continue
			}
			for i, line := range strings.Split(strings.TrimSpace(b.text), "\n") {
				if !json.Valid([]byte(line)) {
					t.Errorf("%s:%d: no JSON: %s", b.page, b.line+i, line)
				}
			}
		}
	}
}

// row is a key as docs/configuration.md has it.
type row struct{ kind, byDefault, limits string }

var rowForm = regexp.MustCompile("(?m)^\\| `([a-z_.*]+)` \\|([^|]*)\\|([^|]*)\\|([^|]*)\\|")

func documented(t *testing.T) map[string]row {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]row{}
	for _, m := range rowForm.FindAllStringSubmatch(string(text), -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("%s stands twice", m[1])
		}
		rows[m[1]] = row{strings.TrimSpace(m[2]), strings.Trim(strings.TrimSpace(m[3]), "`"), strings.TrimSpace(m[4])}
	}
	return rows
}

// node is a part of the JSON Schema.
type node map[string]any

// leaves collects the settings of a schema by path; a name of the user's is *.
func leaves(n node, path string, out map[string]node) {
	inner := false
	for _, part := range append([]any{map[string]any(n)}, list(n["anyOf"])...) {
		p := node(part.(map[string]any))
		if properties, ok := p["properties"].(map[string]any); ok {
			inner = true
			for name, v := range properties {
				leaves(v.(map[string]any), strings.TrimPrefix(path+"."+name, "."), out)
			}
		}
		if named, ok := p["additionalProperties"].(map[string]any); ok && path != "routes.*.to.outputs" {
			inner = true
			leaves(named, path+".*", out)
		}
	}
	if !inner || path == "routes.*.to" {
		out[path] = n
	}
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// settings are the leaves of the program's schema. A transport of the dead
// letters has the keys of a sink.
func settings(t *testing.T) map[string]node {
	t.Helper()
	var schema node
	if err := json.Unmarshal(config.Schema(linked(), []string{"wasm"}), &schema); err != nil {
		t.Fatal(err)
	}
	all := map[string]node{}
	leaves(schema, "", all)
	for path := range all {
		if strings.HasPrefix(path, "dead_letters.") && strings.Count(path, ".") > 1 {
			if all["sinks.*."+strings.TrimPrefix(path, "dead_letters.")] == nil {
				t.Errorf("%s is no key of a sink", path)
			}
			delete(all, path)
		}
	}
	return all
}

var (
	defaultOf = regexp.MustCompile(`[Dd]efault ([0-9a-zA-Z_./]+[0-9a-zA-Z])`)
	rangeForm = regexp.MustCompile(`^([0-9]+[A-Za-z]*) to ([0-9]+[A-Za-z]*)$`)
)

// TestEveryKeyIsDocumented holds docs/configuration.md against the schema: the
// same keys, types, defaults and choices.
func TestEveryKeyIsDocumented(t *testing.T) {
	rows, keys := documented(t), settings(t)
	for path := range keys {
		if _, ok := rows[path]; !ok {
			t.Errorf("%s is not in docs/configuration.md", path)
		}
	}
	nodes := map[string]string{}
	for _, s := range config.NodeSettings() {
		nodes[s.Path] = s.Default
	}
	for path, r := range rows {
		n, ok := keys[path]
		if !ok {
			t.Errorf("docs/configuration.md has %s, which is no key", path)
			continue
		}
		if want := kind(n); want != "" && r.kind != want && !(want == "text" && r.kind == "path") {
			t.Errorf("%s: type %q, want %q", path, r.kind, want)
		}
		want, known := nodes[path]
		if v, ok := n["default"]; ok {
			want, known = fmt.Sprint(v), true
		} else if m := defaultOf.FindStringSubmatch(fmt.Sprint(n["description"])); m != nil && !known && m[1] != "all" && m[1] != "the" {
			want, known = m[1], true
		}
		if known && r.byDefault != want {
			t.Errorf("%s: default %q, want %q", path, r.byDefault, want)
		}
	}
}

// kind is the word for a setting's type, "" where the schema does not tell.
func kind(n node) string {
	if v, ok := n["const"]; ok {
		return fmt.Sprint(v)
	}
	for _, part := range append([]any{map[string]any(n)}, list(n["anyOf"])...) {
		p := part.(map[string]any)
		switch {
		case p["enum"] != nil:
			var words []string
			for _, w := range list(p["enum"]) {
				words = append(words, fmt.Sprint(w))
			}
			return strings.Join(words, ", ")
		case p["type"] == "array":
			return "list"
		case p["type"] == "boolean":
			return "bool"
		case strings.Contains(fmt.Sprint(p["pattern"]), "KMGT"):
			return "size"
		case strings.Contains(fmt.Sprint(p["pattern"]), "µs"):
			return "duration"
		case p["pattern"] == `^-?[1-9][0-9_]*$`:
			return "int"
		}
	}
	if n["type"] == "string" {
		return "text"
	}
	return ""
}

// TestDocumentedLimits tries each limit that the page gives as a range: its ends
// are taken, what lies past them is refused.
func TestDocumentedLimits(t *testing.T) {
	tried := 0
	for path, r := range documented(t) {
		m := rangeForm.FindStringSubmatch(r.limits)
		if m == nil {
			continue
		}
		tried++
		if !takes(t, path, m[1]) || !takes(t, path, m[2]) {
			t.Errorf("%s does not take %s", path, r.limits)
		}
		below, above := past(t, r.kind, m[1], -1), past(t, r.kind, m[2], 1)
		if below != "" && takes(t, path, below) {
			t.Errorf("%s takes %s, below %s", path, below, m[1])
		}
		if takes(t, path, above) {
			t.Errorf("%s takes %s, above %s", path, above, m[2])
		}
	}
	if tried < 15 {
		t.Errorf("only %d limits were tried", tried)
	}
}

// takes says whether the configuration takes a value at a path.
func takes(t *testing.T, path, value string) bool {
	t.Helper()
	text := "version: 1\n"
	names := strings.Split(path, ".")
	for i, name := range names {
		if name == "*" {
			name = "x"
		}
		text += strings.Repeat("  ", i) + name + ":"
		if i == len(names)-1 {
			text += " " + value
		}
		text += "\n"
	}
	_, err := load(text)
	var mistakes *config.Errors
	if err == nil {
		return true
	}
	if !asErrors(err, &mistakes) {
		t.Fatal(err)
	}
	at := strings.ReplaceAll(path, "*", "x")
	return !slices.ContainsFunc(mistakes.Mistakes, func(m config.Mistake) bool { return m.Path == at })
}

func asErrors(err error, to **config.Errors) bool {
	e, ok := err.(*config.Errors)
	*to = e
	return ok
}

// past is the value next to the end of a range, "" where there is none.
func past(t *testing.T, kind, end string, step int) string {
	t.Helper()
	if kind == "duration" {
		if days, ok := strings.CutSuffix(end, "d"); ok {
			n, err := strconv.Atoi(days)
			if err != nil {
				t.Fatal(err)
			}
			if step < 0 {
				t.Fatalf("%s: no range begins with days", end)
			}
			return fmt.Sprintf("%dd1ns", n)
		}
		d, err := time.ParseDuration(end)
		if err != nil {
			t.Fatal(err)
		}
		if d += time.Duration(step); d < 0 {
			return ""
		}
		return d.String()
	}
	units := map[string]int{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
	digits := strings.TrimRight(end, "BKMGTi")
	n, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	if n = n*units[strings.TrimPrefix(end, digits)] + step; n < 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// TestSettingsWithoutEffect keeps the page honest: what it says has no effect
// is read by nothing outside of the configuration's own package, and the other
// way round.
func TestSettingsWithoutEffect(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	for path, use := range map[string]string{
		"node.limits.disk":      ".Limits.Disk",
		"node.admin.listen":     ".Admin.Listen",
		"node.admin.token":      ".Admin.Token",
		"dead_letters.keep":     ".DeadLetters.Keep",
		"dead_letters.max":      ".DeadLetters.Max",
		"journal.keep":          ".Journal.Keep",
		"journal.max":           ".Journal.Max",
		"journal.to":            ".Journal.To",
		"node.limits.in_flight": "limits.InFlight",
		"node.lanes":            "Node.Lanes",
	} {
		used := uses(t, use)
		says := false
		for _, line := range strings.Split(string(text), "\n") {
			says = says || strings.HasPrefix(line, "| `"+path+"`") && strings.Contains(line, "*no effect in this version*")
		}
		if used == says {
			t.Errorf("%s: the page says that it has no effect: %v; the code uses it: %v", path, says, used)
		}
	}
}

// uses says whether code of the engine or the program holds a text.
func uses(t *testing.T, text string) bool {
	t.Helper()
	all, own := packages(t)
	for _, name := range own {
		short := strings.TrimPrefix(name, module+"/")
		if short == "engine/config" || !within(short, "engine") && !within(short, "cmd") {
			continue
		}
		for _, f := range all[name].GoFiles {
			code, err := os.ReadFile(filepath.Join(all[name].Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(code, []byte(text)) {
				return true
			}
		}
	}
	return false
}

var linkForm = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)

// TestLinksOfTheDocs: every relative link leads somewhere.
func TestLinksOfTheDocs(t *testing.T) {
	count := 0
	for page, text := range documents(t) {
		for _, m := range linkForm.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			count++
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %s leads nowhere", page, m[1])
			}
		}
	}
	if count < 10 {
		t.Errorf("only %d links", count)
	}
}

// TestGoOfTheDocs: what pages show of the examples' code stands there, line by line.
func TestGoOfTheDocs(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"examples/spool/*.go", "examples/embed/*.go"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	count := 0
	for _, page := range []string{"docs/writing-a-transport.md", "docs/embedding.md"} {
		for _, b := range blocks(page, documents(t)[page]) {
			if b.language != "go" {
				continue
			}
			count++
			if !strings.Contains(code.String(), b.text) {
				t.Errorf("%v: the examples do not have this code", b)
			}
		}
	}
	if count < 8 {
		t.Errorf("only %d pieces of code", count)
	}
}
