package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// someFiles is a disk of which a test says what is on it.
type someFiles map[string]string

func (s someFiles) ReadFile(name string) ([]byte, error) {
	if text, ok := s[name]; ok {
		return []byte(text), nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (s someFiles) Stat(name string) (fs.FileInfo, error) {
	if text, ok := s[name]; ok {
		return fstest.MapFS{"x": {Data: []byte(text)}}.Stat("x")
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

func (someFiles) Glob(string) ([]string, error) { return nil, nil }

const hubText = minimal + `registry: {url: "https://registry.test/services", from: [in], token: "${TOKEN}"}
`

// TestRegistry: the last good list in the data folder is a part of the configuration.
func TestRegistry(t *testing.T) {
	dir, err := filepath.Abs("testdata/example")
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "weir-data", "registry.json")
	load := func(text, registered string) (*Plan, error) {
		o := testOptions(text, map[string]string{"TOKEN": "t0k3n", "HOME": "/home/me"})
		files := someFiles{}
		if registered != "" {
			files[list] = registered
		}
		o.Files = files
		return Load(o)
	}
	plan, err := load(hubText, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range plan.Warnings {
		t.Errorf("warned: %s", w)
	}
	want := Registry{
		URL: "https://registry.test/services", Every: 30 * time.Second, Timeout: 10 * time.Second, Token: "t0k3n",
		Max: 1 << 20, From: []string{"in"}, Codec: []string{"eventhub"},
	}
	if got := plan.Registry; got.URL != want.URL || got.Every != want.Every || got.Timeout != want.Timeout || got.Token != want.Token || got.Max != want.Max ||
		!slices.Equal(got.From, want.From) || !slices.Equal(got.Codec, want.Codec) {
		t.Errorf("%+v, want %+v", got, want)
	}
	const registered = `{"version":1,"sinks":{"hub.a.queue":{"local":{"queue":"a"},"codec":["eventhub"]}},
		"routes":{"hub.a.queue":{"from":["in"],"when":{"type":["$${HOME}"]},"to":["hub.a.queue"]}}}`
	with, err := load(hubText, registered)
	if err != nil {
		t.Fatal(err)
	}
	if len(with.Sinks) != 2 || len(with.Routes) != 2 || with.Digest == plan.Digest {
		t.Errorf("%d sinks, %d routes", len(with.Sinks), len(with.Routes))
	}
	for _, r := range with.Routes {
		if strings.Contains(string(r.When), "/home/me") {
			t.Errorf("a registry read the environment: %s", r.When)
		}
	}
	if without, err := load(minimal, registered); err != nil || len(without.Sinks) != 1 {
		t.Errorf("without a registry its list counts: %v", err)
	}
	_, err = load(hubText, `{"sinks":{"out":{"local":{"queue":"a"}}}}`)
	var mistakes *Errors
	if !errors.As(err, &mistakes) || !strings.Contains(err.Error(), "registry.json:1") || !strings.Contains(err.Error(), "defined twice") {
		t.Errorf("a name that is taken: %v", err)
	}
	for text, want := range map[string]string{
		`registry: {url: "ftp://x/", from: [in]}`:                       "registry.url: is no address",
		`registry: {url: "https://u:p@x/", from: [in]}`:                 "registry.url: is no address",
		`registry: {from: [in]}`:                                        "url is missing",
		`registry: {url: "https://x/"}`:                                 "from is missing",
		`registry: {url: "https://x/", from: [inn]}`:                    `no source "inn"`,
		`registry: {url: "https://x/", from: [in], token: open}`:        "a secret stands in the file",
		`registry: {url: "https://x/", from: [in], codec: s3}`:          "registry.codec",
		`registry: {url: "https://x/", from: [in], every: 1ms}`:         "registry.every",
		`registry: {url: "https://x/", from: [in], "service names": 1}`: "unknown key",
	} {
		if _, err := load(minimal+text+"\n", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestSourcesOfTheRegistry: routes that come with the registry's list take them.
func TestSourcesOfTheRegistry(t *testing.T) {
	untaken := strings.NewReplacer("in: {memory: {}}", "in: {memory: {}}, other: {memory: {}}", "{to: out}", "{from: [other], to: out}")
	for text, want := range map[string]int{minimal: 1, hubText: 0} {
		plan := mustLoad(t, testOptions(untaken.Replace(text), map[string]string{"TOKEN": "t0k3n", "HOME": "/home/me"}))
		if len(plan.Warnings) != want {
			t.Errorf("%d warnings, want %d: %v\n%s", len(plan.Warnings), want, plan.Warnings, untaken.Replace(text))
		}
	}
}
