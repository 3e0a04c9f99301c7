package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	embedding "github.com/weir-project/weir/engine/program"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/plugins/wasm"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden files anew")

// wd is this package's folder; tests work elsewhere.
var wd = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}()

// outcome is what a command line did.
type outcome struct {
	code      int
	out, diag string
}

// weir runs a command line in the working directory.
func weir(in string, args ...string) outcome {
	return weirWith(nil, in, args...)
}

func weirWith(change func(*program), in string, args ...string) outcome {
	var out, diag bytes.Buffer
	p := &program{
		transports: []transports.Transport{file.New(), local.New(), memory.New(), embedding.New()},
		hosts:      []plugins.Host{wasm.New(wasm.Config{})},
		in:         strings.NewReader(in), out: &out, diag: &diag,
		env:     func(string) (string, bool) { return "", false },
		signals: func(chan<- os.Signal) func() { return func() {} },
		hangups: func(chan<- os.Signal) func() { return func() {} },
		exit:    func(int) {},
	}
	if change != nil {
		change(p)
	}
	return outcome{code: p.run(args), out: out.String(), diag: diag.String()}
}

const goodConfig = `version: 1
node: {lanes: 1}
sources: {orders: {file: {path: orders.ndjson}}}
routes: {big: {when: {data: {total: [{numeric: [">", 50]}]}}, to: [kitchen, audit]}}
unmatched: [audit]
sinks:
  kitchen: {local: {queue: kitchen}}
  audit: {file: {path: out/audit.ndjson}}
`

const orders = `{"specversion":"1.0","id":"1","source":"/s","type":"Order","data":{"total":10}}
{"specversion":"1.0","id":"2","source":"/s","type":"Order","data":{"total":60}}
{"specversion":"1.0","id":"2","source":"/s","type":"Order","data":{"total":60}}
{"specversion":"1.0","id":"3","source":"/s","type":"Order","data":{"total":99}}
{"broken":
`

// folder is a new working directory with these files.
func folder(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// changing are the parts of outputs that differ between runs and machines.
var changing = []struct {
	form *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`Ran for \S+\.`), "Ran for TIME."},
	{regexp.MustCompile(`new, [0-9,]+ a second`), "new, N a second"},
	{regexp.MustCompile(`"(seconds|per_second)": [0-9.e+-]+`), `"$1": N`},
	{regexp.MustCompile(`20\d\d-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`(queue|topic)( +\S+ +\d+ +\d+) +[0-9,]+`), "$1$2 BYTES"},
	{regexp.MustCompile(`"bytes": \d+`), `"bytes": N`},
	{regexp.MustCompile(`20\d\d-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?`), "TIME"},
	{regexp.MustCompile(`partition \S+,`), "partition P,"},
	{regexp.MustCompile(`for \S+ more once`), "for D more once"},
	{regexp.MustCompile(`"partition":"[^"]+"`), `"partition":"P"`},
	{regexp.MustCompile(`"partition": "[^"]+"`), `"partition": "P"`},
	{regexp.MustCompile(`"(key_hash|identity|digest)": "[0-9a-f]+"`), `"$1": "H"`},
	{regexp.MustCompile(`"(key_hash|identity|digest)":"[0-9a-f]+"`), `"$1":"H"`},
	{regexp.MustCompile(`"(record|entry)":( ?)\d+`), `"$1":${2}N`},
	{regexp.MustCompile(`[0-9a-f]{32}`), "STAMPED"},
}

func TestCommands(t *testing.T) {
	bad := strings.Replace(goodConfig, "kitchen, audit]}}", "kichen]}}", 1) + "journl: {}\n"
	twoEnds := strings.Replace(goodConfig, "{queue: kitchen}", "{queue: kitchen, topic: kitchen}", 1)
	tests := []struct {
		name   string
		config string
		steps  [][]string
		codes  []int
	}{
		{"run", goodConfig, [][]string{
			{"check"},
			{"run"},
			{"queue", "list"},
			{"queue", "receive", "kitchen", "--max", "1", "--ack=false"},
			{"queue", "receive", "kitchen"},
			{"queue", "receive", "kitchen"},
			{"run", "--json"},
		}, []int{0, 0, 0, 0, 0, 0, 0}},
		{"journal", goodConfig, [][]string{
			{"journal"},
			{"run"},
			{"journal"},
			{"journal", "--outcome", "refused,duplicate", "--oldest"},
			{"journal", "--id", "2", "--limit", "1", "--json"},
			{"journal", "--id", "gone"},
			{"journal", "--route", "big", "--since", "1h", "--until", "2020-01-01"},
			{"journal", "--outcome", "ded", "--since", "yesterday"},
		}, []int{3, 0, 0, 0, 0, 0, 2, 2}},
		{"explain", goodConfig, [][]string{
			{"explain"},
			{"explain", "--event", "orders.ndjson"},
			{"run"},
			{"explain", "--id", "2"},
			{"explain", "--id", "gone"},
			{"explain", "--event", "orders.ndjson"},
			{"explain", "--id", "1", "--json"},
			{"explain", "--event", "orders.ndjson", "--source", "gone"},
			{"explain", "--event", "nowhere.ndjson"},
		}, []int{2, 0, 0, 0, 1, 0, 0, 2, 2}},
		{"mistakes", bad, [][]string{{"check"}, {"check", "--json"}, {"run"}, {"queue", "list"}}, []int{2, 2, 2, 2}},
		{"combination", twoEnds, [][]string{{"check"}}, []int{2}},
		{"missing-file", strings.Replace(goodConfig, "orders.ndjson", "gone.ndjson", 1), [][]string{{"check"}, {"check", "--json"}, {"run"}, {"check", "--connect"}}, []int{0, 0, 3, 0}},
		{"flags", goodConfig, [][]string{
			{"check", "--node.lanes", "many"}, {"check", "--node.lanes=2"}, {"check", "-c", "gone.yaml", "--json"},
		}, []int{2, 0, 2}},
		{"usage", goodConfig, [][]string{
			{"rnu"},
			{"queue"},
			{"queue", "shift"},
			{"check", "--jsn"},
			{"check", "more"},
			{"queue", "receive"},
			{"rnu", "--json"},
			{"queue", "receive", "gone"},
			{"queue", "receive", "x", "--topic"},
			{"plugin", "pack", "x.wasm"},
			{"plugin", "inspect", "gone.wasm"},
		}, []int{2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
		{"queue", goodConfig, [][]string{
			{"queue", "list"},
			{"queue", "send", "q", "orders.ndjson"},
			{"queue", "send", "q", "orders.ndjson", "--raw", "--json"},
			{"queue", "receive", "q", "--max", "2", "--json"},
			{"queue", "list", "--json"},
			{"queue", "send", "news", "--topic"},
			{"queue", "receive", "news", "--consumer", "me", "--meta"},
			{"queue", "receive", "news", "--consumer", "me"},
			{"queue", "receive", "news", "--consumer", "you"},
			{"queue", "list"},
		}, []int{0, 2, 0, 0, 0, 0, 0, 0, 0, 0}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			golden, err := filepath.Abs(filepath.Join("testdata", test.name+".golden"))
			if err != nil {
				t.Fatal(err)
			}
			folder(t, map[string]string{"weir.yaml": test.config, "orders.ndjson": orders})
			var all strings.Builder
			for i, args := range test.steps {
				got := weir("{\"n\":1}\n\n{\"n\":2}\n", args...)
				if got.code != test.codes[i] {
					t.Errorf("%v exits with %d, want %d\n%s%s", args, got.code, test.codes[i], got.out, got.diag)
				}
				all.WriteString("$ weir " + strings.Join(args, " ") + "\n" + got.out + got.diag)
			}
			compare(t, golden, all.String())
		})
	}
}

func compare(t *testing.T, golden, got string) {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	got = strings.ReplaceAll(got, wd, "DIR")
	for _, c := range changing {
		got = c.form.ReplaceAllString(got, c.with)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestEnvelope holds every command to one envelope on standard output.
func TestEnvelope(t *testing.T) {
	folder(t, map[string]string{"weir.yaml": goodConfig, "orders.ndjson": orders, "m.wasm": "\x00asm\x01\x00\x00\x00"})
	for line, code := range map[string]int{
		"check": 0, "run": 0, "schema": 0, "version": 0, "queue list": 0, "plugin inspect m.wasm": 1,
		"plugin pack m.wasm --manifest gone": 2, "queue": 2, "run --node.lanes x": 2,
	} {
		got := weir("", append(strings.Fields(line), "--json")...)
		var e envelope
		d := json.NewDecoder(strings.NewReader(got.out))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil || d.More() {
			t.Errorf("weir %s prints no single envelope: %v\n%s", line, err, got.out)
			continue
		}
		if got.code != code || e.OK != (code == 0) || (code >= 2) != (len(e.Errors) > 0) {
			t.Errorf("weir %s exits with %d, want %d: %+v", line, got.code, code, e)
		}
	}
}

// TestSignals stops a run that would go on for ever (I1: what is in flight is settled first).
func TestSignals(t *testing.T) {
	following := strings.Replace(goodConfig, "path: orders.ndjson", "path: orders.ndjson, follow: true", 1)
	folder(t, map[string]string{"weir.yaml": following, "orders.ndjson": orders})
	got := weirWith(func(p *program) {
		p.signals = func(c chan<- os.Signal) func() {
			c <- syscall.SIGTERM
			return func() {}
		}
	}, "", "run")
	if got.code != exitFine || !strings.Contains(got.diag, "terminated: stopping") {
		t.Errorf("a signal ends in %d:\n%s%s", got.code, got.out, got.diag)
	}
}

// TestSecondSignal quits at once, but for one that is the first one's echo: timeout(1)
// sends each signal to the process and to its group.
func TestSecondSignal(t *testing.T) {
	for _, test := range []struct {
		name  string
		later time.Duration
		quits bool
	}{
		{"an echo", echoTime / 2, false},
		{"at once", 0, false},
		{"a second one", echoTime + time.Millisecond, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left := make(chan int, 1)
				var signals chan<- os.Signal
				p := &program{diag: &bytes.Buffer{}, exit: func(code int) { left <- code }}
				p.signals = func(c chan<- os.Signal) func() { signals = c; return func() {} }
				end := p.watchSignals(func() {}, 0)
				signals <- syscall.SIGINT
				synctest.Wait()
				<-time.After(test.later)
				signals <- syscall.SIGINT
				<-time.After(echoTime)
				synctest.Wait()
				if quits := len(left) > 0; quits != test.quits {
					t.Errorf("quits is %v, want %v", quits, test.quits)
				}
				if test.quits && <-left != exitEnvironment {
					t.Error("the second signal leaves with another code")
				}
				end()
			})
		})
	}
}

// TestOnce ends sources that would wait for more.
func TestOnce(t *testing.T) {
	following := strings.Replace(goodConfig, "path: orders.ndjson", "path: orders.ndjson, follow: true", 1)
	following = strings.Replace(following, "sources: {", "sources: {again: {local: {queue: todo}}, ", 1)
	folder(t, map[string]string{"weir.yaml": following, "orders.ndjson": orders})
	if got := weir("{\"specversion\":\"1.0\",\"id\":\"9\",\"source\":\"/q\",\"type\":\"x\"}\n", "queue", "send", "todo"); got.code != 0 {
		t.Fatal(got)
	}
	got := weir("", "run", "--once", "--json")
	var e struct{ Result summary }
	if err := json.Unmarshal([]byte(got.out), &e); err != nil || got.code != 0 || e.Result.Events != 6 {
		t.Errorf("run --once exits with %d and settles %d events, want 6: %v\n%s%s", got.code, e.Result.Events, err, got.out, got.diag)
	}
}

func TestSummary(t *testing.T) {
	var out bytes.Buffer
	summary{
		Seconds: 1.5, Events: 1234567, Before: 12, PerSecond: 823044.6, InFlight: 3,
		Outcomes:    map[string]uint64{"delivered": 1234560, "unmatched": 5, "novel": 2},
		DeadLetters: map[string]uint64{"invalid_json": 4, "conflict": 1},
		Routes:      []routeCount{{"a", 1}, {"b", 1000}},
		Parked:      map[string]uint64{"kitchen": 7},
		next:        []string{"weir queue list"},
	}.print(&out)
	golden, err := filepath.Abs("testdata/summary.golden")
	if err != nil {
		t.Fatal(err)
	}
	compareExact(t, golden, out.String())
}

func compareExact(t *testing.T, golden, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestColours(t *testing.T) {
	p := &program{diag: &bytes.Buffer{}, env: func(string) (string, bool) { return "", false }}
	if got := p.paint(red, "x"); got != "x" {
		t.Errorf("colours go to what is no terminal: %q", got)
	}
}
