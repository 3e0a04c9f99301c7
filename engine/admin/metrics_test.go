package admin

import (
	"errors"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/measure"
	"github.com/weir-project/weir/engine/trace"
	"github.com/weir-project/weir/transports"
)

// busy is an engine with something of everything.
func busy(t *testing.T) *engineAt {
	t.Helper()
	e := newEngine(t)
	var h measure.Histogram
	h.Seconds()
	h.Observe(0.003, 9)
	h.Observe(2, 1)
	d := h.Read()
	at := time.Unix(1_700_000_000, 0)
	e.plan.Sources = []config.Source{{Name: "orders", Transport: "http", Dedup: &config.Dedup{MaxIDs: 100}}}
	e.plan.Plugins = []config.Plugin{{Name: "vip", Host: "wasm"}}
	e.plan.Routes = []config.Route{{Name: "eu"}, {Name: "us"}}
	e.plan.Sinks = []config.Sink{{Name: "kitchen", Transport: "http"}, {Name: "out", Transport: "file"}}
	e.status = flow.Status{
		Phase: flow.Running, Epoch: 3, Generation: 2, InFlight: 5, InFlightBytes: 500, LogBytes: 1000,
		Sources: map[string]flow.SourceStatus{"orders": {
			Received: 12, Before: 2, Outcomes: map[string]uint64{"delivered": 8, "duplicate": 2}, Window: 8, Evicted: 1, InFlight: 2,
			Bytes: 1200, Redelivered: 3, Acked: 4, Nacked: 5, LeaseLost: 6, Unsettled: 7, LastDurable: at, Latency: d, Settle: d,
			Measures: &transports.Measures{Lag: 77, Reconnects: 2, Throttled: 1},
		}},
		Sinks: map[string]flow.SinkStatus{
			"kitchen": {
				Room: -1, Delivered: 6, Parked: 2, ParkBytes: 20, ParkLimit: 1 << 30, Measures: &transports.Measures{Lag: -1, Reconnects: 4},
				Dispatch: dispatch.Stats{
					Delivered: 6, Parked: 2, Dead: 1, Results: map[string]uint64{"ok": 6, "retry": 9}, Down: true, Waiting: 3,
					Failed: dispatch.Failure{At: at, Class: transports.Retry, Reason: "connection refused"}, Write: d, Batch: d, Latency: d,
				},
			},
			"out": {Local: true, Delivered: 8, Room: 4096},
		},
		Routes: map[string]uint64{"eu": 6, "us": 2}, DeadLetters: map[string]uint64{"invalid_json": 1},
		Exports: map[string]flow.ExportStatus{"out": {Behind: 1, Exported: 2}},
		Commit:  commit.Stats{Queued: 1, Queue: 1024, Groups: 10, Tickets: 20, Write: d, Size: d, Snapshot: at},
		Lanes:   []flow.LaneStatus{{Chunks: 1, MaxChunks: 1024, Records: 2, MaxRecords: 24}},
		Plugins: map[string]flow.PluginStatus{"vip": {Version: "1.0.0", Digest: "abc", Events: 8, Passed: 7, Failed: 1, Traps: 1, Calls: d}},
		Waits:   []flow.Wait{{What: "sink kitchen", For: "its other side", Why: "retry: connection refused", Since: at}},
		Failure: errors.New("write log: disk full"),
	}
	return e
}

func scrape(t *testing.T, e *engineAt) string {
	t.Helper()
	s, err := New(Config{Engine: e, Version: "1.2.3", Traces: func() trace.Stats { return trace.Stats{Sent: 5, Dropped: 1, Queue: 10} }})
	if err != nil {
		t.Fatal(err)
	}
	w := &recorder{header: http.Header{}}
	r, err := http.NewRequest(http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Handler().ServeHTTP(w, r)
	if strings.Contains(w.String(), token) {
		t.Error("the metrics hold the token")
	}
	return w.String()
}

// TestMetricsSayWhatTheEngineSays looks at one sample of each kind.
func TestMetricsSayWhatTheEngineSays(t *testing.T) {
	text := scrape(t, busy(t))
	for _, line := range []string{
		`weir_build_info{version="1.2.3"} 1`,
		`weir_failing 1`,
		`weir_phase{phase="running"} 1`,
		`weir_phase{phase="draining"} 0`,
		`weir_waits{for="its other side"} 1`,
		`weir_in_flight_events 5`,
		`weir_limit_in_flight_events 10`,
		`weir_source_events_total{outcome="duplicate",source="orders"} 2`,
		`weir_source_latency_seconds_bucket{source="orders",le="0.0025"} 0`,
		`weir_source_latency_seconds_bucket{source="orders",le="0.005"} 9`,
		`weir_source_latency_seconds_bucket{source="orders",le="+Inf"} 10`,
		`weir_source_lag_events{source="orders"} 77`,
		`weir_sink_results_total{class="retry",sink="kitchen"} 9`,
		`weir_sink_room_bytes{sink="out"} 4096`,
		`weir_sink_delivered_total{sink="out"} 8`,
		`weir_dead_letters_total{reason="invalid_json"} 1`,
		`weir_plugin_info{digest="abc",plugin="vip",version="1.0.0"} 1`,
		`weir_limit_lane_records{lane="0"} 24`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("%s is not there", line)
		}
	}
	if strings.Contains(text, `weir_sink_dead_total{sink="out"}`) {
		t.Error("a local sink has counts of a dispatcher")
	}
}

var (
	typeForm = regexp.MustCompile(`(?m)^# TYPE (weir_\S+) (\S+)$`)
	rowForm  = regexp.MustCompile("(?m)^\\| `(weir_[a-z_]+)` \\| ([a-z]+) \\| ([a-z, ]*) ?\\| (.*) \\|$")
)

// TestMetricsAreDocumented: the page, the table in the code and the endpoint have the
// same names, types, labels and meanings.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, served, want []string
	for _, m := range rowForm.FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, strings.Join([]string{m[1], m[2], strings.TrimSpace(m[3]), m[4]}, "|"))
	}
	kinds := map[string]string{}
	for _, m := range metrics {
		want = append(want, strings.Join([]string{m.name, m.kind.String(), strings.Join(m.labels, ", "), m.help}, "|"))
		kinds[m.name] = m.kind.String()
	}
	if !slices.Equal(documented, want) {
		t.Errorf("docs/observability.md has\n%s\nwant\n%s", strings.Join(documented, "\n"), strings.ReplaceAll("| `"+strings.Join(want, " |\n| `")+" |", "|", " | "))
	}
	for _, m := range typeForm.FindAllStringSubmatch(scrape(t, busy(t)), -1) {
		served = append(served, m[1])
		if kinds[m[1]] != m[2] {
			t.Errorf("%s is a %s, want %s", m[1], m[2], kinds[m[1]])
		}
	}
	for _, m := range metrics {
		if !slices.Contains(served, m.name) {
			t.Errorf("%s is not served", m.name)
		}
	}
}

// TestRoutesInMetricsAreBounded: a million routes do not make a million series.
func TestRoutesInMetricsAreBounded(t *testing.T) {
	e := busy(t)
	e.plan.Routes = make([]config.Route, 5000)
	for i := range e.plan.Routes {
		e.plan.Routes[i].Name = "r" + strings.Repeat("x", i)
	}
	if n := strings.Count(scrape(t, e), "\nweir_route_events_total{"); n != maxRoutes {
		t.Errorf("%d series, want %d", n, maxRoutes)
	}
}
