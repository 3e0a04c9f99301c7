package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is an OTLP receiver over HTTP in this process.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex // guards what follows
	spans   []*tracepb.Span
	service string
	headers http.Header
}

// newReceiver answers with status to every request, once gate is closed.
func newReceiver(t *testing.T, status int, gate <-chan struct{}) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body) // only then the server sees a client go
		if err != nil {
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		if gate != nil {
			select {
			case <-gate:
			case <-req.Context().Done():
				return
			}
		}
		if status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		if err := r.take(req); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) take(req *http.Request) error {
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var m collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(text, &m); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = req.Header
	for _, rs := range m.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				r.service = a.Value.GetStringValue()
			}
		}
		for _, ss := range rs.ScopeSpans {
			r.spans = append(r.spans, ss.Spans...)
		}
	}
	return nil
}

func started(t *testing.T, cfg Config) *Exporter {
	t.Helper()
	x, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func attributesOf(s *tracepb.Span) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes {
		switch {
		case a.Value.GetStringValue() != "":
			all[a.Key] = a.Value.GetStringValue()
		case a.Value.GetArrayValue() != nil:
			for _, v := range a.Value.GetArrayValue().Values {
				all[a.Key] += v.GetStringValue() + ";"
			}
		default:
			all[a.Key] = fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return all
}

// TestAnEventsSpans: one for the event, under the producer's, and one a step below it.
func TestAnEventsSpans(t *testing.T) {
	r := newReceiver(t, http.StatusOK, nil)
	x := started(t, Config{Endpoint: r.URL + "/v1/traces", Ratio: 1, Header: "Api-Key: k", Service: "orders"})
	began := time.Unix(1_700_000_000, 0)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	x.Done(&trace.Event{
		Parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ID: "e-1", Source: "in", Partition: "3", Routes: []string{"eu", "all"},
		Outcome: "dead", Reason: "poison: no", Received: at(0), Ended: at(9),
		Steps: []trace.Step{
			{Kind: trace.Receive, Began: at(0), Ended: at(1)},
			{Kind: trace.Plugin, Name: "vip", Began: at(1), Ended: at(2), Outcome: "yes", Reason: "large"},
			{Kind: trace.Deliver, Name: "kitchen", Began: at(2), Ended: at(8), Outcome: "dead", Reason: "poison: no", Attempts: 3},
			{Kind: trace.Commit, Began: at(8), Ended: at(9)},
		},
	})
	if err := x.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(r.spans) != 5 || r.service != "orders" || r.headers.Get("Api-Key") != "k" {
		t.Fatalf("%d spans of %q, header %q", len(r.spans), r.service, r.headers.Get("Api-Key"))
	}
	root := r.spans[slices.IndexFunc(r.spans, func(s *tracepb.Span) bool { return s.Name == "weir in" })]
	if hex.EncodeToString(root.TraceId) != "0af7651916cd43dd8448eb211c80319c" || hex.EncodeToString(root.ParentSpanId) != "b7ad6b7169203331" {
		t.Errorf("trace %x, parent %x", root.TraceId, root.ParentSpanId)
	}
	if root.Kind != tracepb.Span_SPAN_KIND_CONSUMER || root.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("kind %v, status %v", root.Kind, root.Status)
	}
	if root.StartTimeUnixNano != uint64(at(0).UnixNano()) || root.EndTimeUnixNano != uint64(at(9).UnixNano()) {
		t.Errorf("from %d to %d", root.StartTimeUnixNano, root.EndTimeUnixNano)
	}
	a := attributesOf(root)
	if a["weir.event.id"] != "e-1" || a["weir.source"] != "in" || a["weir.partition"] != "3" || a["weir.routes"] != "eu;all;" || a["weir.outcome"] != "dead" || a["weir.reason"] != "poison: no" {
		t.Errorf("attributes %v", a)
	}
	var names []string
	for _, s := range r.spans {
		if s == root {
			continue
		}
		names = append(names, s.Name)
		if string(s.ParentSpanId) != string(root.SpanId) || string(s.TraceId) != string(root.TraceId) {
			t.Errorf("%s is not below the event", s.Name)
		}
		if s.Name == "deliver kitchen" {
			if a := attributesOf(s); s.Kind != tracepb.Span_SPAN_KIND_PRODUCER || a["weir.sink"] != "kitchen" || a["weir.attempts"] != "3" {
				t.Errorf("%s: kind %v, attributes %v", s.Name, s.Kind, a)
			}
		}
	}
	if want := []string{"receive", "plugin vip", "deliver kitchen", "commit"}; !slices.Equal(names, want) {
		t.Errorf("spans %q, want %q", names, want)
	}
	if st := x.Stats(); st.Sent != 5 || st.Failed+st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
}

// TestAFullQueueDrops: a receiver that hangs holds nobody up, and nothing is lost in
// silence.
func TestAFullQueueDrops(t *testing.T) {
	gate := make(chan struct{})
	r := newReceiver(t, http.StatusOK, gate)
	x := started(t, Config{Endpoint: r.URL, Ratio: 1, Queue: 8})
	const events = 5000
	for i := range events {
		x.Done(&trace.Event{ID: fmt.Sprint(i), Received: time.Now(), Ended: time.Now()})
	}
	close(gate)
	if err := x.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	x.Done(&trace.Event{ID: "late"})
	st := x.Stats()
	if st.Dropped == 0 || st.Sent+st.Dropped != events+1 || int(st.Sent) != len(r.spans) {
		t.Errorf("%+v, %d arrived", st, len(r.spans))
	}
}

// TestARefusalIsCounted, and one that never answers ends with Close.
func TestARefusalIsCounted(t *testing.T) {
	r := newReceiver(t, http.StatusBadRequest, nil)
	x := started(t, Config{Endpoint: r.URL, Ratio: 1})
	x.Done(&trace.Event{ID: "1"})
	if err := x.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if st := x.Stats(); st.Failed != 1 || st.Sent != 0 {
		t.Errorf("refused: %+v", st)
	}
	never := newReceiver(t, http.StatusOK, make(chan struct{}))
	x = started(t, Config{Endpoint: never.URL, Ratio: 1})
	x.Done(&trace.Event{ID: "1"})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := x.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if st := x.Stats(); st.Failed != 1 {
		t.Errorf("never answered: %+v", st)
	}
}

// TestSampling: a traceparent decides for its event, else the part that is asked for.
func TestSampling(t *testing.T) {
	x := &Exporter{cfg: Config{Parent: true}, below: threshold(0)}
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
	for flags, want := range map[string]bool{"0": false, "1": true, "2": false, "3": true, "e": false, "f": true} {
		if got := x.Sample([]byte(parent+flags), 0); got != want {
			t.Errorf("flags %s: %v", flags, got)
		}
	}
	x.cfg.Parent = false
	if x.Sample([]byte(parent+"1"), 0) {
		t.Error("parent: false, and yet it decides")
	}
	rapid.Check(t, func(t *rapid.T) {
		ratio := rapid.Float64Range(0, 1).Draw(t, "ratio")
		x := &Exporter{below: threshold(ratio)}
		n, hash := 0, rapid.Uint64().Draw(t, "hash")
		for range 4096 {
			hash += 0x9e3779b97f4a7c15 // spreads evenly
			if x.Sample(nil, hash) {
				n++
			}
		}
		if got := float64(n) / 4096; got < ratio-0.01 || got > ratio+0.01 {
			t.Fatalf("%v of the events, want %v", got, ratio)
		}
	})
}

func TestValidate(t *testing.T) {
	for _, c := range []Config{{}, {Endpoint: "localhost:4318"}, {Endpoint: "http://a", Ratio: 2}, {Endpoint: "http://a", Queue: -1}} {
		if _, err := Start(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
