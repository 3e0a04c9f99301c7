package config

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad holds Load to its promise for any text: no panic, and every mistake
// has a place inside the file; or else a plan that has what an engine needs.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/bad/*.json", "testdata/example/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text, strings.HasSuffix(file, ".json"))
		}
	}
	for _, text := range accepted {
		f.Add([]byte(text), false)
	}
	f.Add([]byte(strings.Repeat("[", 5000)), false)
	f.Add([]byte(strings.Repeat("[", 5000)), true)
	f.Add([]byte(strings.Repeat("- ", 5000)), false)
	f.Add([]byte(strings.Repeat("? ", 5000)), false)
	f.Add([]byte(strings.Repeat("!!str ", 500)), false)
	f.Add([]byte("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n"), false)
	f.Fuzz(func(t *testing.T, text []byte, isJSON bool) {
		o := testOptions("", map[string]string{"N": "7"})
		o.Data = append([]byte{}, text...) // not nil
		o.Files = nothing{}
		if isJSON {
			o.File = "weir.json"
		}
		plan, err := Load(o)
		if err == nil {
			checkPlan(t, plan)
			return
		}
		var all *Errors
		if !errors.As(err, &all) || len(all.Mistakes) == 0 {
			t.Fatalf("an error that is no list of mistakes: %v", err)
		}
		lines := strings.Count(string(text), "\n") + 1
		for _, m := range all.Mistakes {
			if m.File != o.File || m.Line < 1 || m.Line > lines+1 || m.Column < 1 || m.Error == "" {
				t.Fatalf("a mistake without its place: %+v", m)
			}
		}
	})
}

// nothing is a disk without files.
type nothing struct{}

func (nothing) ReadFile(string) ([]byte, error)  { return nil, os.ErrNotExist }
func (nothing) Stat(string) (os.FileInfo, error) { return nil, os.ErrNotExist }
func (nothing) Glob(p string) ([]string, error) {
	return filepath.Glob(filepath.Join("testdata/none", p))
}

func checkPlan(t *testing.T, p *Plan) {
	t.Helper()
	if len(p.Sources) == 0 || p.Digest == "" || p.Node.Limits.Event <= 0 || p.Node.Limits.InFlight <= 0 {
		t.Fatalf("a plan that cannot run: %+v", p)
	}
	for _, s := range p.Sources {
		if s.Transport == "" || s.Settings == nil || len(s.Codec) == 0 {
			t.Fatalf("a source that cannot be opened: %+v", s)
		}
	}
	for _, r := range p.Routes {
		if len(r.To) == 0 && r.Switch == nil {
			t.Fatalf("a route that does nothing: %+v", r)
		}
		for _, name := range r.To {
			if p.Sink(name) == nil {
				t.Fatalf("a route to nowhere: %+v", r)
			}
		}
		if r.When != nil && !json.Valid(r.When) {
			t.Fatalf("a pattern that is no JSON: %s", r.When)
		}
	}
}
