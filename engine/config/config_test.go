package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
)

var update = flag.Bool("update", false, "write the golden files anew")

// described is a transport of which only the description is used here.
type described struct {
	name         string
	source, sink []transports.Option
}

func (d described) Name() string { return d.name }

func (d described) Options() (source, sink []transports.Option) { return d.source, d.sink }

func (d described) NewSource(transports.Env, transports.Settings) (transports.Source, error) {
	return nil, errors.ErrUnsupported
}

func (d described) NewSink(transports.Env, transports.Settings) (transports.Sink, error) {
	return nil, errors.ErrUnsupported
}

// testTransports have options of every type.
func testTransports() []transports.Transport {
	queue := []transports.Option{
		{Name: "queue", Type: transports.String, Doc: "Name of a queue."},
		{Name: "topic", Type: transports.String, Doc: "Name of a topic."},
		{Name: "consumer", Type: transports.String, Doc: "Reader of a topic."},
		{Name: "keep", Type: transports.Duration, Default: time.Hour, Doc: "Retention."},
	}
	return []transports.Transport{
		described{
			"file",
			[]transports.Option{
				{Name: "path", Type: transports.String, Required: true, Path: true, Doc: "The file."},
				{Name: "format", Type: transports.String, Default: "auto", Enum: []string{"auto", "ndjson", "array"}, Doc: "How events stand in it."},
				{Name: "follow", Type: transports.Bool, Doc: "Wait for more."},
			},
			[]transports.Option{
				{Name: "path", Type: transports.String, Required: true, Path: true, Doc: "The file."},
				{Name: "rotate_size", Type: transports.Size, Default: int64(64 << 20), Doc: "Size of a file."},
			},
		},
		described{"local", queue, queue},
		described{"memory", []transports.Option{}, []transports.Option{}},
		described{"webhook", nil, []transports.Option{
			{Name: "url", Type: transports.String, Required: true, Template: true, Doc: "Where to."},
			{Name: "secret", Type: transports.String, Secret: true, Doc: "Signs requests."},
			{Name: "headers", Type: transports.Strings, Template: true, Doc: "Further headers."},
			{Name: "retries", Type: transports.Int, Default: int64(3), Doc: "At once."},
			{Name: "timeout", Type: transports.Duration, Default: 5 * time.Second, Doc: "Of one request."},
		}},
	}
}

// testOptions loads a text as if it stood in testdata/example/weir.yaml.
func testOptions(text string, env map[string]string) Options {
	return Options{
		File:       "testdata/example/weir.yaml",
		Data:       []byte(text),
		Env:        func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		Transports: testTransports(),
		Hosts:      []string{"wasm"},
	}
}

const minimal = `version: 1
sources: {in: {memory: {}}}
sinks: {out: {memory: {}}}
routes: {all: {to: out}}
`

func mustLoad(t *testing.T, o Options) *Plan {
	t.Helper()
	p, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExampleOfTheSpecification(t *testing.T) {
	o := testOptions("", nil)
	o.Data = nil
	p := mustLoad(t, o)
	dir, err := filepath.Abs("testdata/example")
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
			t.Errorf("%s is %#v, want %#v", what, got, want)
		}
	}
	check("node", p.Node, Node{
		Data:   filepath.Join(dir, "weir-data"),
		Limits: Limits{Event: 1 << 20, InFlight: 10_000, InFlightBytes: 64 << 20, Disk: 20 << 30},
		Trace:  Trace{Ratio: 0.01, Parent: true, Queue: 2048, Timeout: 10 * time.Second, Service: "weir"},
		Log:    Log{Level: "info", Format: "text"},
	})
	orders := p.Source("orders")
	check("transport", orders.Transport, "file")
	check("path", orders.Settings.String("path"), filepath.Join(dir, "orders.ndjson"))
	check("default of an option", orders.Settings.String("format"), "auto")
	check("zone", orders.Missing.Zone, time.UTC)
	check("missing source", orders.Missing.Source, "/shop/orders")
	check("key", orders.Key, "data.order_id")
	check("dedup", *orders.Dedup, Dedup{Window: 10 * time.Minute, MaxIDs: 2_000_000, OnConflict: "dead_letter"})
	check("expire", orders.Expire, Expire{On: true, After: 24 * time.Hour})
	uploads := p.Source("uploads")
	check("codec", uploads.Codec, []string{"s3"})
	check("dedup by id", *uploads.Dedup, Dedup{Window: 10 * time.Minute, MaxIDs: 2_000_000, OnConflict: "duplicate", ID: []string{"subject"}})
	vip := p.Plugin("vip")
	check("plug-in config", string(vip.Config), `{"min_total":100}`)
	check("plug-in path", vip.Path, filepath.Join(dir, "plugins", "vip.wasm"))
	check("routes", len(p.Routes), 2)
	check("included route", p.Routes[0].Switch, &Switch{
		Plugin: "region", Outputs: []Output{{"eu", []string{"kitchen"}}, {"us", []string{"kitchen"}}}, Else: []string{"audit"},
	})
	check("numbers keep their text", string(p.Routes[0].When), `{"type":[{"prefix":"Order"}],"data":{"total":[{"numeric":[">=",1e3]}]}}`)
	check("from", p.Routes[1].From, []string{"orders"})
	check("pattern", string(p.Routes[1].When), `{"type":["OrderCreated"],"data":{"service_info":["delivery"]}}`)
	check("unmatched", p.Unmatched, []string{"audit"})
	kitchen := p.Sink("kitchen")
	check("retry", kitchen.Retry, Retry{time.Second, time.Hour, "wait", DefaultBackoffMin, DefaultBackoffMax})
	check("batch", kitchen.Batch, Batch{500, 5 * time.Millisecond})
	check("dead letters", p.DeadLetters.Sink.Settings.String("queue"), "dead")
	check("dead letters are kept", p.DeadLetters.Keep, 14*24*time.Hour)
	check("journal", p.Journal, Journal{Keep: 7 * 24 * time.Hour, Max: 10 << 30, To: []string{}})
	check("warnings", p.Warnings, []Mistake(nil))
}

// TestMistakes compares every file under testdata/bad with its list of mistakes (I14).
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		if ext := filepath.Ext(file); ext != ".yaml" && ext != ".json" {
			continue
		}
		seen++
		t.Run(filepath.Base(file), func(t *testing.T) {
			o := testOptions("", map[string]string{"SECRET": "hunter2", "WEIR_NODE_LANES": lanesOf(file)})
			o.File, o.Data = file, nil
			_, err := Load(o)
			var all *Errors
			if !errors.As(err, &all) {
				t.Fatalf("no mistakes found: %v", err)
			}
			for _, m := range all.Mistakes {
				if m.File == "" || m.Error == "" || (m.Line == 0 && !strings.HasPrefix(m.File, "WEIR_")) {
					t.Errorf("a mistake without its place: %+v", m)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is printed:\n%v", err)
			}
			golden := file + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if got := err.Error() + "\n"; got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
	if seen < 10 {
		t.Errorf("only %d files of mistakes", seen)
	}
}

// lanesOf gives one of the bad files a bad environment.
func lanesOf(file string) string {
	if strings.Contains(file, "node") {
		return "many"
	}
	return ""
}

func TestLayersOfTheNode(t *testing.T) {
	text := minimal + "node: {lanes: 2, log: {level: debug}, limits: {event: 2MiB}}\n"
	env := map[string]string{"WEIR_NODE_LANES": "3", "WEIR_NODE_LOG_FORMAT": "json", "WEIR_NODE_LIMITS_EVENT": ""}
	o := testOptions(text, env)
	o.Flags = map[string]string{"node.lanes": "4"}
	got := mustLoad(t, o).Node
	if got.Lanes != 4 || got.Log != (Log{"debug", "json"}) || got.Limits.Event != 2<<20 || got.Limits.InFlight != DefaultInFlight {
		t.Errorf("layers give %+v", got)
	}
	o.Flags = nil
	if got := mustLoad(t, o).Node.Lanes; got != 3 {
		t.Errorf("the environment gives %d lanes, want 3", got)
	}
	o.Flags = map[string]string{"node.lane": "4", "node.log.level": "loud"}
	_, err := Load(o)
	want := "--node.lane: no such setting (did you mean \"node.lanes\"?)\n" +
		"--node.log.level: node.log.level: \"loud\" is not one of debug, info, warn, error"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestReferences(t *testing.T) {
	env := map[string]string{"N": "8", "NAME": "out", "EMPTY": "", "DIGITS": "0123", "DOLLAR": "${N}"}
	text := `version: 1
node: {lanes: "${N}", admin: {listen: "127.0.0.1:1", token: "a-long-token-${DIGITS}b"}}
sources:
  in:
    memory: {}
    missing: {source: "/${EMPTY:-fallback}/${DOLLAR}/$$/$x/${file:ref.txt}"}
plugins:
  p:
    wasm: plugins/vip.wasm
    config:
      plain: ${N}
      quoted: "${N}"
      dollars: $$${N}
sinks: {out: {webhook: {url: "http://x", secret: "${DIGITS}"}}}
routes: {all: {filter: p, to: ["${NAME}"], when: {data: {n: ["${N}", 1]}}}}
`
	text = strings.Replace(text, `lanes: "${N}"`, "lanes: 8", 1)
	text = strings.Replace(text, "/${DOLLAR}/", "/", 1)
	o := testOptions(text, env)
	o.Files = overlay{filepath.Join(mustAbs(t, "testdata/example"), "ref.txt"): "from-file\r\n"}
	p := mustLoad(t, o)
	got := []string{
		p.Node.Admin.Token, p.Sources[0].Missing.Source, string(p.Plugins[0].Config),
		p.Sinks[0].Settings.String("secret"), string(p.Routes[0].When), p.Routes[0].To[0],
	}
	want := []string{
		"a-long-token-0123b", "/fallback/$/$x/from-file", `{"plain":8,"quoted":"8","dollars":"$8"}`,
		"0123", `{"data":{"n":["8",1]}}`, "out",
	}
	if !slices.Equal(got, want) {
		t.Errorf("references give %q, want %q", got, want)
	}
}

// overlay is the operating system's files with some more.
type overlay map[string]string

func (o overlay) ReadFile(name string) ([]byte, error) {
	if text, ok := o[name]; ok {
		return []byte(text), nil
	}
	return os.ReadFile(name)
}

func (o overlay) Stat(name string) (os.FileInfo, error) { return os.Stat(name) }
func (o overlay) Glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return full
}

func TestJSONIsAConfigurationToo(t *testing.T) {
	yaml := mustLoad(t, testOptions(minimal, nil))
	o := testOptions("{\n\t\"version\": 1,\n\t\"sources\": {\"in\":{\"memory\":{}}},\"sinks\":{\"out\":{\"memory\":{}}},\n\t\"routes\": {\"all\":{\"to\":\"out\"}}}", nil)
	o.File = "testdata/example/weir.json"
	if got := mustLoad(t, o); got.Digest != yaml.Digest {
		t.Errorf("the same configuration in JSON has digest %s, in YAML %s", got.Digest, yaml.Digest)
	}
	o.Data = []byte("{\n\t\"version\": 1,\n\t\"sources\": {\"in\": {\"memory\": {\"x\": 1}}}}")
	_, err := Load(o)
	if err == nil || !strings.HasPrefix(err.Error(), `testdata/example/weir.json:3:32: sources.in.memory.x: unknown key`) {
		t.Errorf("mistake in JSON: %v", err)
	}
}

func TestDigest(t *testing.T) {
	base := mustLoad(t, testOptions(minimal, nil))
	same := []string{
		"# comment\n" + minimal,
		strings.Replace(minimal, "to: out", "from: [in], to: [out]", 1),
		minimal + "node: {lanes: 0}\n",
		minimal + "dead_letters: {local: {queue: dead}, keep: 336h, max: 5120MiB}\n",
	}
	for _, text := range same {
		if got := mustLoad(t, testOptions(text, nil)).Digest; got != base.Digest {
			t.Errorf("another digest for a configuration that means the same:\n%s", text)
		}
	}
	other := []string{
		minimal + "node: {lanes: 1}\n",
		minimal + "unmatched: out\n",
		minimal + "journal: {keep: 8d}\n",
		minimal + "dead_letters: false\n",
		strings.Replace(minimal, "in: {memory: {}", "in: {memory: {}, missing: {zone: UTC}", 1),
		strings.Replace(minimal, "in: {memory: {}", "in: {memory: {}, missing: {zone: Europe/Berlin}", 1),
		strings.Replace(minimal, "in: {memory: {}", "in: {memory: {}, dedup: false", 1),
		strings.Replace(minimal, "in: {memory: {}", "in: {memory: {}, expire: true", 1),
		strings.Replace(minimal, "out: {memory: {}", "out: {memory: {}, codec: cloudevents", 1),
		strings.Replace(minimal, "{to: out}", "{to: out, when: {type: [x]}}", 1),
	}
	seen := map[string]string{base.Digest: minimal}
	for _, text := range other {
		got := mustLoad(t, testOptions(text, nil)).Digest
		if before, ok := seen[got]; ok {
			t.Errorf("one digest for two configurations:\n%s\nand\n%s", before, text)
		}
		seen[got] = text
	}
}

func TestWarnings(t *testing.T) {
	text := strings.Replace(minimal, "sinks: {", "sinks: {idle: {memory: {}}, ", 1) +
		"plugins: {lazy: {wasm: plugins/vip.wasm}}\ninclude: [none/*.yaml]\n"
	p := mustLoad(t, testOptions(text, nil))
	var got []string
	for _, w := range p.Warnings {
		got = append(got, w.String())
	}
	want := []string{
		"testdata/example/weir.yaml:3:9: sinks.idle: no route uses this sink",
		"testdata/example/weir.yaml:5:11: plugins.lazy: no route uses this plug-in",
		`testdata/example/weir.yaml:6:11: include: no file matches "none/*.yaml"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPlaceOfLaterMistakes(t *testing.T) {
	p := mustLoad(t, testOptions(strings.Replace(minimal, "{to: out}", "{\n  to: out}", 1), nil))
	for path, want := range map[string]string{
		"routes.all.to":      "testdata/example/weir.yaml:5:7: routes.all.to: x",
		"routes.all.to.deep": "testdata/example/weir.yaml:5:7: routes.all.to.deep: x",
		"sources.in.memory":  "testdata/example/weir.yaml:2:24: sources.in.memory: x",
	} {
		if got := p.Mistake(path, "x", "").String(); got != want {
			t.Errorf("Mistake(%s) is %s, want %s", path, got, want)
		}
	}
}
