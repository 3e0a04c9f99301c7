package rules_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/weir-project/weir"

// root is the folder of the module.
const root = "../.."

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath string
	Dir        string
	Standard   bool
	Export     string // file with its export data
	GoFiles    []string
	CgoFiles   []string
	Deps       []string // all, not only direct ones
	Module     *struct{ Path string }
}

// listed runs go list once for all tests: the module's packages and all that
// they stand on, without tests.
var listed = sync.OnceValues(func() (map[string]*goPackage, error) {
	cmd := exec.Command("go", "list", "-deps", "-export", "-json=ImportPath,Dir,Standard,Export,GoFiles,CgoFiles,Deps,Module", "./...")
	cmd.Dir = root
	var diag bytes.Buffer
	cmd.Stderr = &diag
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, diag.Bytes())
	}
	all := map[string]*goPackage{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &goPackage{}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		all[p.ImportPath] = p
	}
})

// packages returns what go list says, and the module's own packages in order.
func packages(t *testing.T) (all map[string]*goPackage, own []string) {
	t.Helper()
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	for name := range all {
		if within(name, module) {
			own = append(own, name)
		}
	}
	slices.Sort(own)
	if len(own) < 15 {
		t.Fatalf("go list found only %d packages of the module: %q", len(own), own)
	}
	return all, own
}

// within says whether a package is another one or lies below it.
func within(name, parent string) bool {
	return name == parent || strings.HasPrefix(name, parent+"/")
}

// ownDeps are the packages of this module that one stands on, by their path in it.
func ownDeps(p *goPackage) []string {
	var deps []string
	for _, d := range p.Deps {
		if within(d, module) {
			deps = append(deps, strings.TrimPrefix(d, module+"/"))
		}
	}
	return deps
}

// foreign says whether a package is neither of this module nor of the standard library.
func foreign(all map[string]*goPackage, name string) bool {
	p := all[name]
	return p != nil && !p.Standard && !within(name, module)
}

// TestEventStandsOnTheStandardLibrary: whoever only wants events takes nothing else along.
func TestEventStandsOnTheStandardLibrary(t *testing.T) {
	all, _ := packages(t)
	p := all[module+"/engine/event"]
	if p == nil {
		t.Fatal("there is no engine/event")
	}
	for _, d := range p.Deps {
		if !all[d].Standard {
			t.Errorf("engine/event stands on %s", d)
		}
	}
}

// allowed says what the packages below a folder may stand on within the module,
// besides themselves.
var allowed = []struct {
	folder string
	deps   []string
}{
	{"transports", []string{"transports", "engine/event", "engine/vfs", "engine/segment"}},
	{"plugins", []string{"plugins", "engine/event"}},
}

// TestImplementationsKnowTheirContractOnly: a transport knows no other one and
// nothing of routing; the same for plug-in hosts.
func TestImplementationsKnowTheirContractOnly(t *testing.T) {
	all, own := packages(t)
	for _, a := range allowed {
		seen := 0
		for _, name := range own {
			short := strings.TrimPrefix(name, module+"/")
			if !within(short, a.folder) {
				continue
			}
			seen++
			for _, d := range ownDeps(all[name]) {
				if !slices.Contains(a.deps, d) && !within(d, part(short)) {
					t.Errorf("%s stands on %s; it may stand on %q", short, d, a.deps)
				}
			}
		}
		if seen < 3 {
			t.Errorf("%d packages below %s", seen, a.folder)
		}
	}
}

// part is the transport or host that a package belongs to: transports/file of
// transports/file/inner. A root has none.
func part(short string) string {
	parts := strings.Split(short, "/")
	if len(parts) < 2 {
		return "-"
	}
	return path.Join(parts[0], parts[1])
}

// TestEngineKnowsContractsOnly: no package of the engine links a transport or a
// plug-in host; only programs do.
func TestEngineKnowsContractsOnly(t *testing.T) {
	all, own := packages(t)
	for _, name := range own {
		short := strings.TrimPrefix(name, module+"/")
		if !within(short, "engine") {
			continue
		}
		for _, d := range ownDeps(all[name]) {
			if strings.HasPrefix(d, "transports/") || strings.HasPrefix(d, "plugins/") {
				t.Errorf("%s stands on %s", short, d)
			}
		}
	}
}

// embedded is all that a program takes along which embeds the engine with files
// only. A broker's client has no business here.
var embedded = []string{
	"github.com/fsnotify/fsnotify",        // viper
	"github.com/go-viper/mapstructure/v2", // viper
	"github.com/goccy/go-yaml",
	"github.com/klauspost/compress",     // zstd of packed files
	"github.com/klauspost/cpuid/v2",     // xxh3
	"github.com/pelletier/go-toml/v2",   // viper
	"github.com/sagikazarmark/locafero", // viper
	"github.com/sourcegraph/conc",       // viper
	"github.com/spf13/afero",            // viper
	"github.com/spf13/cast",             // viper
	"github.com/spf13/pflag",            // viper
	"github.com/spf13/viper",
	"github.com/subosito/gotenv", // viper
	"github.com/zeebo/xxh3",
	"go.yaml.in/yaml/v3", // viper
	"golang.org/x/sys",
	"golang.org/x/text", // viper
}

func TestAnEmbeddedEngineIsLight(t *testing.T) {
	all, _ := packages(t)
	for _, name := range []string{module + "/engine", module + "/transports/file", module + "/examples/embed"} {
		if all[name] == nil {
			t.Fatalf("there is no %s", name)
		}
		for _, d := range all[name].Deps {
			if m := all[d].Module; foreign(all, d) && (m == nil || !slices.Contains(embedded, m.Path)) {
				t.Errorf("%s takes %s along", name, d)
			}
		}
	}
}

// TestNothingRegistersItself: a program lists what it wants, so there is no init.
func TestNothingRegistersItself(t *testing.T) {
	all, own := packages(t)
	files := 0
	for _, name := range own {
		p := all[name]
		// Also files for other platforms, which go list leaves out.
		list, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range list {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			files++
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range inits(t, file, text) {
				t.Errorf("%s: func init", at)
			}
		}
	}
	if files < 50 {
		t.Errorf("only %d files", files)
	}
}

// inits are the places of a file's init functions.
func inits(t *testing.T, name string, text []byte) (places []string) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			places = append(places, set.Position(fn.Pos()).String())
		}
	}
	return places
}

func TestInitsAreFound(t *testing.T) {
	text := "package p\n\ntype t struct{}\n\nfunc (t) init() {}\n\nfunc init() {}\n"
	if got := inits(t, "p.go", []byte(text)); len(got) != 1 || got[0] != "p.go:7:1" {
		t.Errorf("inits: %q", got)
	}
}

// TestNoForeignTypeIsExported: what other programs build on does not change
// when a dependency does.
func TestNoForeignTypeIsExported(t *testing.T) {
	all, own := packages(t)
	imp := importer.ForCompiler(token.NewFileSet(), "gc", func(name string) (io.ReadCloser, error) {
		if p := all[name]; p != nil && p.Export != "" {
			return os.Open(p.Export)
		}
		return nil, fmt.Errorf("no export data of %s", name)
	})
	checked := 0
	for _, name := range own {
		short := strings.TrimPrefix(name, module+"/")
		if !within(short, "engine") && !within(short, "transports") && !within(short, "plugins") && !within(short, "sdk") {
			continue
		}
		if p := all[name]; len(p.GoFiles) == 0 {
			continue
		}
		p, err := imp.Import(name)
		if err != nil {
			t.Fatal(err)
		}
		checked++
		for _, leak := range leaks(p, func(at string) bool { return foreign(all, at) }) {
			t.Errorf("%s exports %s", short, leak)
		}
	}
	if checked < 15 {
		t.Errorf("only %d packages were looked at", checked)
	}
}

// leaks lists what a package exports that has a foreign type in it.
func leaks(p *types.Package, foreign func(importPath string) bool) []string {
	w := walker{own: p, foreign: foreign, seen: map[types.Type]bool{}}
	for _, name := range p.Scope().Names() {
		o := p.Scope().Lookup(name)
		if !o.Exported() {
			continue
		}
		w.at = name
		if tn, ok := o.(*types.TypeName); ok && !tn.IsAlias() {
			w.declared(o.Type())
			continue
		}
		w.walk(o.Type())
	}
	slices.Sort(w.found)
	return slices.Compact(w.found)
}

// walker goes through types as far as a user of the package can reach.
type walker struct {
	own     *types.Package
	foreign func(string) bool
	seen    map[types.Type]bool
	at      string
	found   []string
}

// declared looks at a type declaration: what it is made of, and its methods.
func (w *walker) declared(t types.Type) {
	n, ok := t.(*types.Named)
	if !ok || w.seen[t] {
		return
	}
	w.seen[t] = true
	for i := range n.TypeParams().Len() {
		w.walk(n.TypeParams().At(i).Constraint())
	}
	w.walk(n.Underlying())
	for i := range n.NumMethods() {
		if m := n.Method(i); m.Exported() {
			w.walk(m.Type())
		}
	}
}

func (w *walker) walk(t types.Type) {
	switch t := t.(type) {
	case *types.Alias:
		w.walk(types.Unalias(t))
	case *types.Named:
		w.named(t)
	case *types.Pointer:
		w.walk(t.Elem())
	case *types.Slice:
		w.walk(t.Elem())
	case *types.Array:
		w.walk(t.Elem())
	case *types.Chan:
		w.walk(t.Elem())
	case *types.Map:
		w.walk(t.Key())
		w.walk(t.Elem())
	case *types.Signature:
		for i := range t.TypeParams().Len() {
			w.walk(t.TypeParams().At(i).Constraint())
		}
		w.walk(t.Params())
		w.walk(t.Results())
	case *types.Tuple:
		for i := range t.Len() {
			w.walk(t.At(i).Type())
		}
	case *types.Struct:
		for i := range t.NumFields() {
			// An embedded field lends its methods even where it is not exported.
			if f := t.Field(i); f.Exported() || f.Embedded() {
				w.walk(f.Type())
			}
		}
	case *types.Interface:
		for i := range t.NumExplicitMethods() {
			if m := t.ExplicitMethod(i); m.Exported() {
				w.walk(m.Type())
			}
		}
		for i := range t.NumEmbeddeds() {
			w.walk(t.EmbeddedType(i))
		}
	case *types.Union:
		for i := range t.Len() {
			w.walk(t.Term(i).Type())
		}
	}
}

func (w *walker) named(t *types.Named) {
	for i := range t.TypeArgs().Len() {
		w.walk(t.TypeArgs().At(i))
	}
	p := t.Obj().Pkg()
	switch {
	case p == nil: // error, comparable
	case w.foreign(p.Path()):
		w.found = append(w.found, w.at+" with "+t.String())
	case p == w.own && !t.Obj().Exported():
		w.declared(t.Origin()) // its methods can be called all the same
	}
}

// TestLeaksAreFound holds the walker against a package of every kind of leak.
func TestLeaksAreFound(t *testing.T) {
	const third = `package third
type T struct{}
type G[X any] struct{ X X }`
	const sample = `package sample
import "third"
type hidden struct{ T third.T }
func (hidden) Do(third.T) {}
type alsoHidden struct{ t third.T }
type Field struct{ T map[string][]*third.T }
type Private struct{ t third.T }
type Embeds struct{ third.T }
type Inner struct{ alsoHidden }
type Method struct{}
func (Method) Do() (third.T, error) { return third.T{}, nil }
func (Method) do(third.T) {}
type Face interface{ Do(chan third.T) }
type Alias = third.T
type Constraint[X interface{ ~[]third.T }] struct{}
type Plain struct{ N int; E error }
func Function(...third.T) {}
func Returns() hidden { return hidden{} }
func Nothing() alsoHidden { return alsoHidden{} }
var Variable third.G[int]
var Argument = map[string]func(third.T){}
var quiet third.T
`
	set := token.NewFileSet()
	check := func(name, text string, imp types.Importer) *types.Package {
		f, err := parser.ParseFile(set, name+".go", text, 0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := (&types.Config{Importer: imp}).Check(name, set, []*ast.File{f}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	dependency := check("third", third, nil)
	p := check("sample", sample, importerFunc(func(string) (*types.Package, error) { return dependency, nil }))
	var got []string
	for _, leak := range leaks(p, func(at string) bool { return at == "third" }) {
		name, _, _ := strings.Cut(leak, " ")
		got = append(got, name)
	}
	want := []string{"Alias", "Argument", "Constraint", "Embeds", "Face", "Field", "Function", "Method", "Returns", "Variable"}
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("leaks in %q, want %q", got, want)
	}
}

type importerFunc func(string) (*types.Package, error)

func (f importerFunc) Import(name string) (*types.Package, error) { return f(name) }

// TestOneSitting: these four tell the whole story, and are short enough for it.
func TestOneSitting(t *testing.T) {
	lines := 0
	for _, name := range []string{"engine/doc.go", "engine/flow/flow.go", "transports/transport.go", "plugins/plugin.go"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		lines += bytes.Count(text, []byte("\n"))
	}
	if lines >= 1000 {
		t.Errorf("%d lines, want fewer than 1,000", lines)
	}
}

// TestGuestsStandOnNothing: the kits for guests have no dependencies.
func TestGuestsStandOnNothing(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "sdk/go/go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("require")) {
		t.Errorf("sdk/go has dependencies:\n%s", text)
	}
}
