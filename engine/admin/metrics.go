package admin

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/measure"
)

// maxRoutes is how many routes have a count of their own in the metrics, by name;
// /status has all.
const maxRoutes = 1000

// maxScrapes is how many scrapes are served at once.
const maxScrapes = 4

// metric is one name of the metrics endpoint.
type metric struct {
	name, help string
	kind       kind
	labels     []string
}

type kind uint8

const (
	counter kind = iota
	gauge
	histogram
)

func (k kind) String() string { return [...]string{"counter", "gauge", "histogram"}[k] }

// metrics is every name, in the order of docs/observability.md.
var metrics = func() []metric {
	of := func(labels ...string) []string { return labels }
	return []metric{
		{"weir_build_info", "1; the version of the program.", gauge, of("version")},
		{"weir_start_time_seconds", "When the program started, in seconds since 1970.", gauge, nil},
		{"weir_phase", "1 for the phase that the engine is in.", gauge, of("phase")},
		{"weir_failing", "1 after a failed write or sync: nothing is acknowledged any more.", gauge, nil},
		{"weir_generation", "Number of the configuration that runs, since the start.", gauge, nil},
		{"weir_waits", "How many things wait for this.", gauge, of("for")},

		{"weir_in_flight_events", "Events taken from sources and not settled.", gauge, nil},
		{"weir_limit_in_flight_events", "node.limits.in_flight.", gauge, nil},
		{"weir_in_flight_bytes", "Bytes of events that are worked on.", gauge, nil},
		{"weir_limit_in_flight_bytes", "node.limits.in_flight_bytes.", gauge, nil},
		{"weir_limit_event_bytes", "node.limits.event.", gauge, nil},
		{"weir_lane_queue_chunks", "Chunks of events that wait for a lane.", gauge, of("lane")},
		{"weir_limit_lane_queue_chunks", "How many may.", gauge, of("lane")},
		{"weir_lane_records", "Records of a lane that are filled or wait for their sync.", gauge, of("lane")},
		{"weir_limit_lane_records", "How many may.", gauge, of("lane")},

		{"weir_source_received_total", "Events received, those settled before this start among them.", counter, of("source")},
		{"weir_source_received_bytes_total", "Bytes received.", counter, of("source")},
		{"weir_source_events_total", "Settled, durable events by outcome.", counter, of("source", "outcome")},
		{"weir_source_in_flight_events", "Events with the lanes and not durable.", gauge, of("source")},
		{"weir_source_latency_seconds", "From receipt until an event is delivered, parked or dead-lettered, and durable.", histogram, of("source")},
		{"weir_source_last_durable_timestamp_seconds", "When the last event was durable, in seconds since 1970.", gauge, of("source")},
		{"weir_source_acked_total", "Acknowledgements that the other side took, or moves of the position.", counter, of("source")},
		{"weir_source_nacked_total", "Deliveries given back.", counter, of("source")},
		{"weir_source_redelivered_total", "Deliveries that came again.", counter, of("source")},
		{"weir_source_lease_lost_total", "Acknowledgements that came too late.", counter, of("source")},
		{"weir_source_settle_failures_total", "Acknowledgements that failed otherwise.", counter, of("source")},
		{"weir_source_settle_seconds", "Duration of a call that acknowledges.", histogram, of("source")},
		{"weir_source_lag_events", "Events that wait at the other side, where it is known.", gauge, of("source")},
		{"weir_source_reconnects_total", "Connections made anew, where the transport counts them.", counter, of("source")},
		{"weir_source_throttled_total", "Requests turned away for the moment, where the transport counts them.", counter, of("source")},
		{"weir_source_ended", "1 when the source has ended.", gauge, of("source")},
		{"weir_dedup_ids", "Identities in the window.", gauge, of("source")},
		{"weir_limit_dedup_ids", "sources.*.dedup.max_ids.", gauge, of("source")},
		{"weir_dedup_evicted_total", "Identities that the count took from the window before their time.", counter, of("source")},

		{"weir_plugin_info", "1; the version of a plug-in that runs.", gauge, of("plugin", "version", "digest")},
		{"weir_plugin_events_total", "Events that a plug-in was asked about.", counter, of("plugin")},
		{"weir_plugin_passed_total", "Those that it said yes to.", counter, of("plugin")},
		{"weir_plugin_failed_total", "Those on which it failed.", counter, of("plugin")},
		{"weir_plugin_traps_total", "Calls that failed.", counter, of("plugin")},
		{"weir_plugin_call_seconds", "Duration of a call with a batch of events.", histogram, of("plugin")},

		{"weir_route_events_total", "Events that took a route; of the first 1,000 routes by name.", counter, of("route")},

		{"weir_sink_delivered_total", "Deliveries that arrived.", counter, of("sink")},
		{"weir_sink_dead_total", "Deliveries that became dead letters.", counter, of("sink")},
		{"weir_sink_parked_total", "Deliveries that were parked.", counter, of("sink")},
		{"weir_sink_results_total", "Entries of writes by class of result.", counter, of("sink", "class")},
		{"weir_sink_queue_deliveries", "Deliveries that wait in memory or are under way.", gauge, of("sink")},
		{"weir_sink_latency_seconds", "From the first offer of a delivery until it arrived, but for parked ones.", histogram, of("sink")},
		{"weir_sink_write_seconds", "Duration of a write.", histogram, of("sink")},
		{"weir_sink_batch_entries", "Entries of a write.", histogram, of("sink")},
		{"weir_sink_down", "1 while nothing arrives and only probes are sent.", gauge, of("sink")},
		{"weir_sink_fatal", "1 when a person must act.", gauge, of("sink")},
		{"weir_sink_parked_deliveries", "Deliveries in the park queue.", gauge, of("sink")},
		{"weir_sink_parked_bytes", "Their data.", gauge, of("sink")},
		{"weir_limit_sink_parked_bytes", "How much may be parked.", gauge, of("sink")},
		{"weir_sink_room_bytes", "What a local sink with a bound still takes.", gauge, of("sink")},
		{"weir_sink_reconnects_total", "Connections made anew, where the transport counts them.", counter, of("sink")},
		{"weir_sink_throttled_total", "Requests turned away for the moment, where the transport counts them.", counter, of("sink")},
		{"weir_dead_letters_total", "Dead letters by reason.", counter, of("reason")},

		{"weir_commit_records_total", "Records handed to the commit log.", counter, nil},
		{"weir_commit_queue_records", "Records that wait for the writer.", gauge, nil},
		{"weir_limit_commit_queue_records", "How many may.", gauge, nil},
		{"weir_commit_write_seconds", "From a group's first write to the end of its last sync.", histogram, nil},
		{"weir_commit_group_bytes", "Bytes of a group, those of local sinks among them.", histogram, nil},
		{"weir_commit_log_bytes", "Bytes of the commit log's segments.", gauge, nil},
		{"weir_commit_last_snapshot_timestamp_seconds", "When the last snapshot of this run ended, in seconds since 1970.", gauge, nil},

		{"weir_journal_export_behind_records", "Records of the commit log that a sink of journal.to has not got yet.", gauge, of("sink")},
		{"weir_journal_exported_total", "Lines of the journal that arrived there.", counter, of("sink")},
		{"weir_journal_export_lost_records_total", "Records that the journal let go before.", counter, of("sink")},
		{"weir_journal_export_refused_total", "Lines that the sink will never take.", counter, of("sink")},

		{"weir_trace_spans_total", "Spans that the receiver of traces took.", counter, nil},
		{"weir_trace_failed_spans_total", "Spans that it did not take.", counter, nil},
		{"weir_trace_dropped_events_total", "Traced events that found the queue full.", counter, nil},
		{"weir_trace_queue_events", "Traced events that wait to be sent.", gauge, nil},
		{"weir_limit_trace_queue_events", "node.trace.queue.", gauge, nil},

		{"weir_admin_refused_total", "Requests that were not admitted.", counter, nil},
		{"weir_admin_streams", "Streams that are open.", gauge, nil},
		{"weir_limit_admin_streams", "How many may be.", gauge, nil},
		{"weir_limit_admin_connections", "Connections by the socket, and as many by TCP.", gauge, nil},
	}
}()

// collector makes the metrics of one status.
type collector struct {
	server *Server
	descs  map[string]*prometheus.Desc
	kinds  map[string]kind
}

func newCollector(s *Server) *collector {
	c := &collector{server: s, descs: map[string]*prometheus.Desc{}, kinds: map[string]kind{}}
	for _, m := range metrics {
		c.descs[m.name], c.kinds[m.name] = prometheus.NewDesc(m.name, m.help, m.labels, nil), m.kind
	}
	return c
}

// metricsEndpoint serves the metrics of this engine, of the Go runtime and of the process.
func (s *Server) metricsEndpoint() Endpoint {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(s), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h := promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.HTTPErrorOnError,
		MaxRequestsInFlight: maxScrapes,
	})
	return Endpoint{Method: http.MethodGet, Path: "/metrics", Open: true, Raw: h.ServeHTTP}
}

// Describe lists all metrics.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect sends the metrics of this moment.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	p := &probe{collector: c, to: to}
	st, engine := c.server.Status(), c.server.cfg.Engine.Status()
	p.node(&st, &engine)
	for name, s := range engine.Sources {
		p.source(name, &s)
	}
	for _, s := range st.Sources {
		if s.Window != nil {
			p.set("weir_dedup_ids", float64(s.Window.Used), s.Name)
			p.set("weir_limit_dedup_ids", float64(s.Window.Max), s.Name)
			p.set("weir_dedup_evicted_total", float64(s.Evicted), s.Name)
		}
	}
	for name, s := range engine.Plugins {
		p.plugin(name, &s)
	}
	for _, r := range st.Routes[:min(len(st.Routes), maxRoutes)] {
		p.set("weir_route_events_total", float64(r.Events), r.Name)
	}
	for name, s := range engine.Sinks {
		p.sink(name, &s)
	}
	for reason, n := range engine.DeadLetters {
		p.set("weir_dead_letters_total", float64(n), reason)
	}
	p.commit(&engine)
	for name, x := range engine.Exports {
		p.set("weir_journal_export_behind_records", float64(x.Behind), name)
		p.set("weir_journal_exported_total", float64(x.Exported), name)
		p.set("weir_journal_export_lost_records_total", float64(x.Lost), name)
		p.set("weir_journal_export_refused_total", float64(x.Refused), name)
	}
	p.admin()
}

// probe sends metrics of one collection.
type probe struct {
	*collector
	to chan<- prometheus.Metric
}

func (p *probe) set(name string, v float64, labels ...string) {
	as := prometheus.GaugeValue
	if p.kinds[name] == counter {
		as = prometheus.CounterValue
	}
	p.send(prometheus.NewConstMetric(p.descs[name], as, v, labels...))
}

func (p *probe) flag(name string, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	p.set(name, v, labels...)
}

// spread sends a distribution. One that was never made has no bounds.
func (p *probe) spread(name string, d measure.Distribution, labels ...string) {
	if d.Bounds == nil {
		return
	}
	buckets, upTo := make(map[float64]uint64, len(d.Bounds)), uint64(0)
	for i, bound := range d.Bounds {
		upTo += d.Counts[i]
		buckets[bound] = upTo
	}
	p.send(prometheus.NewConstHistogram(p.descs[name], d.Count, d.Sum, buckets, labels...))
}

// send drops what cannot be shown, such as a label that is no UTF-8, in favour of the rest.
func (p *probe) send(m prometheus.Metric, err error) {
	if err != nil {
		p.server.cfg.Log.Debug("metric", "error", err)
		return
	}
	p.to <- m
}

func (p *probe) node(st *Status, engine *flow.Status) {
	p.set("weir_build_info", 1, st.Version)
	p.set("weir_start_time_seconds", float64(st.Started.UnixNano())/1e9)
	for phase := flow.Recovered; phase <= flow.Stopped; phase++ {
		p.flag("weir_phase", engine.Phase == phase, phase.String())
	}
	p.flag("weir_failing", engine.Failure != nil)
	p.set("weir_generation", float64(st.Generation.Number))
	waits := map[string]float64{}
	for _, w := range st.Waits {
		waits[w.For]++
	}
	for what, n := range waits {
		p.set("weir_waits", n, what)
	}
	p.set("weir_in_flight_events", float64(st.Node.InFlight.Used))
	p.set("weir_limit_in_flight_events", float64(st.Node.InFlight.Max))
	p.set("weir_in_flight_bytes", float64(st.Node.InFlightBytes.Used))
	p.set("weir_limit_in_flight_bytes", float64(st.Node.InFlightBytes.Max))
	p.set("weir_limit_event_bytes", float64(st.Node.MaxEvent))
	for i, l := range engine.Lanes {
		lane := strconv.Itoa(i)
		p.set("weir_lane_queue_chunks", float64(l.Chunks), lane)
		p.set("weir_limit_lane_queue_chunks", float64(l.MaxChunks), lane)
		p.set("weir_lane_records", float64(l.Records), lane)
		p.set("weir_limit_lane_records", float64(l.MaxRecords), lane)
	}
}

func (p *probe) source(name string, s *flow.SourceStatus) {
	p.set("weir_source_received_total", float64(s.Received), name)
	p.set("weir_source_received_bytes_total", float64(s.Bytes), name)
	for outcome, n := range s.Outcomes {
		p.set("weir_source_events_total", float64(n), name, outcome)
	}
	p.set("weir_source_in_flight_events", float64(s.InFlight), name)
	p.spread("weir_source_latency_seconds", s.Latency, name)
	if !s.LastDurable.IsZero() {
		p.set("weir_source_last_durable_timestamp_seconds", float64(s.LastDurable.UnixNano())/1e9, name)
	}
	p.set("weir_source_acked_total", float64(s.Acked), name)
	p.set("weir_source_nacked_total", float64(s.Nacked), name)
	p.set("weir_source_redelivered_total", float64(s.Redelivered), name)
	p.set("weir_source_lease_lost_total", float64(s.LeaseLost), name)
	p.set("weir_source_settle_failures_total", float64(s.Unsettled), name)
	p.spread("weir_source_settle_seconds", s.Settle, name)
	if m := s.Measures; m != nil {
		if m.Lag >= 0 {
			p.set("weir_source_lag_events", float64(m.Lag), name)
		}
		p.set("weir_source_reconnects_total", float64(m.Reconnects), name)
		p.set("weir_source_throttled_total", float64(m.Throttled), name)
	}
	p.flag("weir_source_ended", s.Ended, name)
}

func (p *probe) plugin(name string, s *flow.PluginStatus) {
	p.set("weir_plugin_info", 1, name, strings.ToValidUTF8(s.Version, "?"), s.Digest)
	p.set("weir_plugin_events_total", float64(s.Events), name)
	p.set("weir_plugin_passed_total", float64(s.Passed), name)
	p.set("weir_plugin_failed_total", float64(s.Failed), name)
	p.set("weir_plugin_traps_total", float64(s.Traps), name)
	p.spread("weir_plugin_call_seconds", s.Calls, name)
}

func (p *probe) sink(name string, s *flow.SinkStatus) {
	d := &s.Dispatch
	p.set("weir_sink_delivered_total", float64(s.Delivered), name)
	if s.Room >= 0 {
		p.set("weir_sink_room_bytes", float64(s.Room), name)
	}
	if m := s.Measures; m != nil {
		p.set("weir_sink_reconnects_total", float64(m.Reconnects), name)
		p.set("weir_sink_throttled_total", float64(m.Throttled), name)
	}
	if s.Local {
		return // it takes part in the commit: there are no writes of its own
	}
	p.set("weir_sink_dead_total", float64(d.Dead), name)
	p.set("weir_sink_parked_total", float64(d.Parked), name)
	for class, n := range d.Results {
		p.set("weir_sink_results_total", float64(n), name, class)
	}
	p.set("weir_sink_queue_deliveries", float64(d.Waiting), name)
	p.spread("weir_sink_latency_seconds", d.Latency, name)
	p.spread("weir_sink_write_seconds", d.Write, name)
	p.spread("weir_sink_batch_entries", d.Batch, name)
	p.flag("weir_sink_down", d.Down, name)
	p.flag("weir_sink_fatal", d.Fatal, name)
	p.set("weir_sink_parked_deliveries", float64(s.Parked), name)
	p.set("weir_sink_parked_bytes", float64(s.ParkBytes), name)
	p.set("weir_limit_sink_parked_bytes", float64(s.ParkLimit), name)
}

func (p *probe) commit(engine *flow.Status) {
	c := &engine.Commit
	p.set("weir_commit_records_total", float64(c.Tickets))
	p.set("weir_commit_queue_records", float64(c.Queued))
	p.set("weir_limit_commit_queue_records", float64(c.Queue))
	p.spread("weir_commit_write_seconds", c.Write)
	p.spread("weir_commit_group_bytes", c.Size)
	p.set("weir_commit_log_bytes", float64(engine.LogBytes))
	if !c.Snapshot.IsZero() {
		p.set("weir_commit_last_snapshot_timestamp_seconds", float64(c.Snapshot.UnixNano())/1e9)
	}
}

func (p *probe) admin() {
	if traces := p.server.cfg.Traces; traces != nil {
		st := traces()
		p.set("weir_trace_spans_total", float64(st.Sent))
		p.set("weir_trace_failed_spans_total", float64(st.Failed))
		p.set("weir_trace_dropped_events_total", float64(st.Dropped))
		p.set("weir_trace_queue_events", float64(st.Queued))
		p.set("weir_limit_trace_queue_events", float64(st.Queue))
	}
	p.set("weir_admin_refused_total", float64(p.server.refused.Load()))
	p.set("weir_admin_streams", float64(len(p.server.streams)))
	p.set("weir_limit_admin_streams", maxStreams)
	p.set("weir_limit_admin_connections", maxClients)
}
