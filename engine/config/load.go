package config

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weir-project/weir/transports"
)

// Options say where a configuration comes from and what it may name.
type Options struct {
	// File is the path of the configuration, ending in .json where it is JSON.
	// Mistakes name it as it stands here.
	File string
	// Data, where not nil, is the text of File, which is then not read.
	Data []byte
	// Tree, where not nil, is the configuration itself, instead of File and Data.
	Tree Tree
	// Env looks up a variable of the environment; nil = os.LookupEnv.
	Env func(name string) (value string, set bool)
	// Environ lists the environment as NAME=value, so that misspelt settings of
	// the node are found; nil = os.Environ, or nothing where Env is set.
	Environ func() []string
	// Flags override settings of the node, such as node.lanes = 2.
	Flags map[string]string
	// Transports are those that sources and sinks may name.
	Transports []transports.Transport
	// Hosts are the names of the plug-in hosts that there are, such as wasm.
	Hosts []string
	// Files is how included files, ${file:...} and plug-ins are found; nil = the
	// operating system.
	Files Files
}

// Files is a look at the disk. Names are paths of the operating system.
type Files interface {
	ReadFile(name string) ([]byte, error)
	Stat(name string) (fs.FileInfo, error)
	Glob(pattern string) ([]string, error)
}

type osFiles struct{}

func (osFiles) ReadFile(name string) ([]byte, error)  { return os.ReadFile(name) }
func (osFiles) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }
func (osFiles) Glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }

// file is a configuration while it is read: the plan as far as it is known,
// and what must be checked once all of it is.
type file struct {
	*findings
	refs       *refs
	files      Files
	name       string // as Options.File
	dir        string
	flags      map[string]string
	environ    func() []string
	transports []transports.Transport
	hosts      []string

	plan                            Plan
	version                         int
	include                         []*node
	included                        bool // an included file is at hand
	defined                         map[string]place
	uses                            []use
	uncertain                       map[string]bool // sorts of things of which a definition was passed over, since its name was there twice
	deadLettersOn, deadLettersWrong bool            // wrong: reported already, so that no default stands in
}

// Load reads, checks and completes a configuration. The error is an *Errors
// with every mistake found; where a file is no YAML or JSON at all, that is the
// only one about it.
func Load(o Options) (*Plan, error) {
	if o.Tree != nil {
		var err error
		if o.Data, err = o.Tree.text(); err != nil {
			return nil, err
		}
		o.File = "program.json"
	}
	f, err := newFile(o)
	if err != nil {
		return nil, err
	}
	f.read(o)
	if o.Tree != nil {
		f.mistakes, f.warnings = withoutPlaces(f.mistakes, o.File), withoutPlaces(f.warnings, o.File)
		clear(f.places)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	f.plan.Warnings = sortMistakes(f.warnings)
	f.plan.places = f.places
	f.plan.secrets = f.secrets
	if err := f.plan.digest(); err != nil {
		return nil, fmt.Errorf("digest of the configuration: %w", err)
	}
	plan := f.plan
	return &plan, nil
}

func newFile(o Options) (*file, error) {
	f := &file{
		findings:   &findings{places: map[string]place{}},
		files:      o.Files,
		name:       cmp.Or(o.File, "weir.yaml"),
		flags:      o.Flags,
		transports: o.Transports,
		hosts:      o.Hosts,
		defined:    map[string]place{},
		uncertain:  map[string]bool{},
	}
	if f.files == nil {
		f.files = osFiles{}
	}
	full, err := filepath.Abs(f.name)
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", f.name, err)
	}
	f.dir = filepath.Dir(full)
	f.plan.Dir = f.dir
	f.plan.DeadLetters.Sink = *newSink(DeadLettersName)
	f.deadLettersOn = true
	f.plan.Files.Names = []string{full}
	f.refs = &refs{findings: f.findings, dir: f.dir, env: o.Env, readFile: f.readValue}
	f.literal = o.Tree != nil
	f.environ = o.Environ
	if f.refs.env == nil {
		f.refs.env = os.LookupEnv
		if f.environ == nil {
			f.environ = os.Environ
		}
	}
	return f, nil
}

// readValue reads a file that a value stands in.
func (f *file) readValue(name string) ([]byte, error) {
	f.plan.Files.Names = append(f.plan.Files.Names, name)
	return f.files.ReadFile(name)
}

// read reads the file and those that it includes, then checks what refers to what.
func (f *file) read(o Options) {
	data := o.Data
	if data == nil {
		var err error
		if data, err = f.files.ReadFile(f.name); err != nil {
			f.add(place{file: f.name}, "", fmt.Sprintf("cannot be read: %v", cause(err)), "")
			return
		}
	}
	root := f.parse(f.name, data)
	if root == nil {
		return
	}
	f.noteTwice(root)
	f.reader().read(f.findings, root, "")
	if root.get("node") == nil {
		f.readNode(&node{at: root.at, kind: mapping}, "node")
	}
	if f.version == 0 && root.kind == mapping && root.get("version") == nil {
		f.add(root.at, "", "version is missing", "begin the file with: version: 1")
	}
	f.readIncluded()
	f.readRegistered()
	f.sort()
	f.complete(root)
	f.check(root)
}

// noteTwice remembers of which sections there are two in a file.
func (f *file) noteTwice(root *node) {
	for section, what := range map[string]string{"sources": "source", "plugins": "plug-in", "sinks": "sink"} {
		if slices.Contains(root.twice, section) {
			f.uncertain[what] = true
		}
	}
}

// parse makes nodes of a file's text, nil where that cannot be.
func (f *file) parse(name string, data []byte) *node {
	if len(data) > maxFile {
		f.add(place{file: name}, "", fmt.Sprintf("larger than %s", formatSize(maxFile)), "")
		return nil
	}
	data = []byte(strings.TrimPrefix(string(data), "\ufeff"))
	if strings.EqualFold(filepath.Ext(name), ".json") {
		return readJSON(f.refs, name, data)
	}
	return readYAML(f.refs, name, data)
}

// maxIncluded bounds how many files one configuration is made of.
const maxIncluded = 1000

// readIncluded reads the files that include names, in sorted order for each pattern.
func (f *file) readIncluded() {
	f.included = true
	seen := map[string]bool{filepath.Join(f.dir, filepath.Base(f.name)): true}
	for _, n := range f.include {
		for _, full := range f.expand(n) {
			if seen[full] {
				continue
			}
			seen[full] = true
			if len(seen) > maxIncluded {
				f.add(n.at, "include", fmt.Sprintf("more than %d files", maxIncluded), "")
				return
			}
			f.readPart(n, full)
		}
	}
}

// expand lists the files of one pattern, as absolute paths.
func (f *file) expand(n *node) []string {
	pattern := absolute(f.dir, n.text)
	f.plan.Files.Patterns = append(f.plan.Files.Patterns, pattern)
	found, err := f.files.Glob(pattern)
	switch {
	case err != nil:
		f.add(n.at, "include", fmt.Sprintf("%s is not a pattern of file names", n.what()), "* ? and [a-z] stand for other characters")
	case len(found) == 0 && strings.ContainsAny(n.text, "*?["):
		f.warn(n.at, "include", fmt.Sprintf("no file matches %s", n.what()), "")
	case len(found) == 0:
		f.add(n.at, "include", fmt.Sprintf("no file %s", n.what()), "")
	}
	return slices.Sorted(slices.Values(found))
}

// readPart reads one included file.
func (f *file) readPart(n *node, full string) {
	data, err := f.files.ReadFile(full)
	shown := full
	if rel, relErr := filepath.Rel(f.dir, full); relErr == nil {
		shown = filepath.Join(filepath.Dir(f.name), rel)
	}
	if err != nil {
		f.add(n.at, "include", fmt.Sprintf("%s cannot be read: %v", shown, cause(err)), "")
		return
	}
	if root := f.parse(shown, data); root != nil {
		f.noteTwice(root)
		f.partReader().read(f.findings, root, "")
	}
}

// sort brings lists into the order of names.
func (f *file) sort() {
	p := &f.plan
	slices.SortFunc(p.Sources, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(p.Plugins, func(a, b Plugin) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(p.Routes, func(a, b Route) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(p.Sinks, func(a, b Sink) int { return cmp.Compare(a.Name, b.Name) })
}
