package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/admin"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/transports"
)

const testToken = "a token of the tests"

// instance is an engine that stands still, but for a source that receives 100 events
// each time it is looked at.
type instance struct {
	plan   *config.Plan
	status engine.Status
	looks  uint64
}

func (i *instance) Plan() *config.Plan { return i.plan }

func (i *instance) Status() engine.Status {
	i.looks++
	st := i.status
	st.Sources = map[string]flow.SourceStatus{"orders": {Received: 100 * i.looks, Outcomes: map[string]uint64{"delivered": 90 * i.looks}, InFlight: 10, Measures: &transports.Measures{Lag: 1234}}}
	return st
}

// running serves an instance whose clock goes a second with each look.
func running(t *testing.T, endpoints ...admin.Endpoint) (*instance, *admin.Server) {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	i := &instance{
		plan: &config.Plan{
			Node:    config.Node{Data: t.TempDir(), Admin: config.Admin{Token: testToken}, Limits: config.Limits{Event: 1 << 20, InFlight: 1000, InFlightBytes: 1 << 20}},
			Sources: []config.Source{{Name: "orders", Transport: "file"}}, Routes: []config.Route{{Name: "all"}}, Sinks: []config.Sink{{Name: "kitchen", Transport: "http"}},
		},
		status: engine.Status{
			Phase: flow.Running, Generation: 2, Epoch: 1, InFlight: 500, Lanes: []flow.LaneStatus{{Chunks: 512, MaxChunks: 1024, Records: 1, MaxRecords: 24}},
			Routes: map[string]uint64{"all": 7}, DeadLetters: map[string]uint64{"invalid_json": 3},
			Sinks: map[string]flow.SinkStatus{"kitchen": {Room: -1, Delivered: 5, Parked: 2, ParkLimit: 10, Dispatch: dispatch.Stats{
				Down: true, Waiting: 4, Failed: dispatch.Failure{At: at, Class: transports.Retry, Reason: "connection refused"},
			}}},
			Waits: []flow.Wait{{What: "sink kitchen", For: "its other side", Why: "retry: connection refused", Since: at}},
		},
	}
	clock := func() time.Time { at = at.Add(time.Second); return at }
	s, err := admin.New(admin.Config{Engine: i, Version: "1.2.3", Now: clock, Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	return i, s
}

func started(t *testing.T, s *admin.Server) {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestStatusAndTop holds what they print, for people and for programs.
func TestStatusAndTop(t *testing.T) {
	golden, err := filepath.Abs("testdata/status.golden")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, line := range []string{"status", "top --count 2 --every 10ms", "top --json --every 10ms", "status --json"} {
		i, s := running(t)
		started(t, s)
		args := append(strings.Fields(line), "--data", i.plan.Node.Data)
		got := weir("", args...)
		if got.code != 0 {
			t.Errorf("%s exits with %d: %s", line, got.code, got.diag)
		}
		all.WriteString("$ weir " + line + "\n" + strings.ReplaceAll(got.out+got.diag, i.plan.Node.Data, "DATA"))
	}
	compare(t, golden, all.String())
}

// TestStatusOfAFailure: a script sees it by the exit code.
func TestStatusOfAFailure(t *testing.T) {
	i, s := running(t)
	i.status.Failure = errors.New("write log: disk full")
	started(t, s)
	if got := weir("", "status", "--data", i.plan.Node.Data); got.code != 1 || !strings.Contains(got.out, "FAILING: write log: disk full") {
		t.Errorf("exits with %d: %s", got.code, got.out)
	}
}

func TestNoInstance(t *testing.T) {
	folder(t, map[string]string{"weir.yaml": goodConfig})
	for _, line := range []string{"status", "top", "status --data gone", "top --json"} {
		got := weir("", strings.Fields(line)...)
		if got.code != 3 || !strings.Contains(got.out+got.diag, "no engine runs on this data folder") {
			t.Errorf("%s exits with %d: %s%s", line, got.code, got.out, got.diag)
		}
	}
	for _, line := range []string{"status --url x", "status --url http://127.0.0.1:1", "top --every 1ms", "top --count -1", "status --url ftp://a", "status --url http://u:p@a"} {
		if got := weir("", strings.Fields(line)...); got.code != 2 {
			t.Errorf("%s exits with %d: %s", line, got.code, got.diag)
		}
	}
}

// TestStatusOverTCP: the token comes from the environment and goes nowhere else.
func TestStatusOverTCP(t *testing.T) {
	i, s := running(t)
	i.plan.Node.Admin.Listen = "127.0.0.1:0"
	started(t, s)
	at := "http://" + s.Addr()
	with := func(token string) func(*program) {
		return func(p *program) {
			p.env = func(name string) (string, bool) { return token, name == tokenVariable }
		}
	}
	if got := weirWith(with(testToken), "", "status", "--url", at); got.code != 0 || !strings.Contains(got.out, "weir 1.2.3, running") {
		t.Errorf("exits with %d: %s%s", got.code, got.out, got.diag)
	}
	if got := weirWith(with("wrong"), "", "status", "--url", at); got.code != 3 || !strings.Contains(got.diag, "the token is wrong") {
		t.Errorf("a wrong token exits with %d: %s%s", got.code, got.out, got.diag)
	}
}

// TestClient holds what the other commands stand on: answers, mistakes, streams.
func TestClient(t *testing.T) {
	mistakes := &config.Errors{Mistakes: []config.Mistake{{File: "weir.yaml", Line: 2, Column: 3, Error: "no"}, {File: "weir.yaml", Line: 4, Error: "neither"}}}
	i, s := running(t,
		admin.Endpoint{Method: http.MethodPost, Path: "/v1/twice", Body: admin.JSON, Query: []string{"x"}, Answer: func(r *http.Request) (any, error) {
			var n int
			err := admin.Decode(r, &n)
			return []any{2 * n, r.URL.Query().Get("x")}, err
		}},
		admin.Endpoint{Method: http.MethodPost, Path: "/v1/mistakes", Answer: func(*http.Request) (any, error) { return nil, mistakes }},
		admin.Endpoint{Method: http.MethodGet, Path: "/v1/lines", Stream: func(_ *http.Request, send func(any) error) error {
			return errors.Join(send(1), send(map[string]int{"errors": 2}), admin.Refuse(500, "the end"))
		}},
	)
	started(t, s)
	p := &program{env: os.LookupEnv, out: io.Discard, diag: io.Discard}
	c, err := p.connect(p.statusCommand(), &instanceFlags{data: i.plan.Node.Data})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	var got []any
	if err := c.post(ctx, "/v1/twice", url.Values{"x": {"a&b"}}, 21, &got); err != nil || got[0] != 42.0 || got[1] != "a&b" {
		t.Errorf("%v, %v", got, err)
	}
	var back *config.Errors
	if err := c.post(ctx, "/v1/mistakes", nil, nil, nil); !errors.As(err, &back) || len(back.Mistakes) != 2 || back.Mistakes[1].Line != 4 {
		t.Errorf("mistakes come back as %v", err)
	}
	if err := c.get(ctx, "/v1/gone", nil, nil); err == nil || !strings.Contains(err.Error(), "there is no") {
		t.Errorf("a path that is not there: %v", err)
	}
	var lines bytes.Buffer
	err = c.lines(ctx, "/v1/lines", nil, func(line []byte) error { lines.Write(line); return nil })
	if err == nil || err.Error() != "the end" || lines.String() != `1{"errors":2}` {
		t.Errorf("%s, %v", lines.Bytes(), err)
	}
}

// TestRunServesItsAPI: weir run is there for status while it runs.
func TestRunServesItsAPI(t *testing.T) {
	folder(t, map[string]string{"weir.yaml": strings.Replace(goodConfig, "{path: orders.ndjson}", "{path: orders.ndjson, follow: true}", 1), "orders.ndjson": orders})
	signals := make(chan chan<- os.Signal, 1)
	ended := make(chan outcome, 1)
	go func() {
		ended <- weirWith(func(p *program) {
			p.signals = func(c chan<- os.Signal) func() { signals <- c; return func() {} }
		}, "", "run")
	}()
	stop := <-signals
	var st struct{ Result admin.Status }
	for st.Result.Phase != "running" {
		got := weir("", "status", "--json")
		if err := json.Unmarshal([]byte(got.out), &st); err != nil && got.code == 0 {
			t.Fatal(err)
		}
		select {
		case got := <-ended:
			t.Fatalf("the run has ended: %s%s", got.out, got.diag)
		default:
		}
	}
	stop <- os.Interrupt
	if got := <-ended; got.code != 0 {
		t.Errorf("exits with %d: %s", got.code, got.diag)
	}
	if got := weir("", "status"); got.code != 3 {
		t.Errorf("after it has ended: %d %s", got.code, got.out)
	}
}

func TestFit(t *testing.T) {
	if got, want := fit("abcdef\näöü\nx\ny\n", 3, 4), "abc\x1b[K\r\näöü\x1b[K\r\nx\x1b[K\x1b[J"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
