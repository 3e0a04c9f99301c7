package otlp

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	proto "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/trace"
)

// kinds are the spans' kinds by what a step is.
var kinds = map[trace.Kind]proto.Span_SpanKind{
	trace.Receive: proto.Span_SPAN_KIND_INTERNAL,
	trace.Plugin:  proto.Span_SPAN_KIND_INTERNAL,
	trace.Deliver: proto.Span_SPAN_KIND_PRODUCER,
	trace.Commit:  proto.Span_SPAN_KIND_INTERNAL,
}

// places is what a step's name is of.
var places = map[trace.Kind]string{trace.Plugin: "weir.plugin", trace.Deliver: "weir.sink"}

// unhappy are the outcomes that are errors to who looks at traces.
var unhappy = map[string]bool{"dead": true, "refused": true, "conflict": true, "nacked": true, "failed": true}

// maxKnown bounds the attributes that are kept to be used again.
const maxKnown = 1024

// maker makes spans. Attributes that come again and again, such as names of sinks,
// are made once; nobody changes them. It belongs to one goroutine.
type maker struct {
	known map[[2]string]*common.KeyValue
	once  *common.KeyValue // one attempt
}

func newMaker() *maker {
	return &maker{known: map[[2]string]*common.KeyValue{}, once: attempts(1)}
}

// often is an attribute of few values.
func (m *maker) often(key, value string) *common.KeyValue {
	at := [2]string{key, value}
	a := m.known[at]
	if a == nil {
		if a = text(key, value); len(m.known) < maxKnown {
			m.known[at] = a
		}
	}
	return a
}

// appendSpans appends the spans of an event: its own first, then one a step below it.
func (m *maker) appendSpans(list []*proto.Span, e *trace.Event) []*proto.Span {
	own := &proto.Span{
		Name: "weir " + e.Source, Kind: proto.Span_SPAN_KIND_CONSUMER, SpanId: newID(8),
		StartTimeUnixNano: nano(e.Received), EndTimeUnixNano: nano(e.Ended), Status: statusOf(e.Outcome, e.Reason),
	}
	own.TraceId, own.ParentSpanId = parentOf(e.Parent)
	own.Attributes = append(make([]*common.KeyValue, 0, 6),
		m.often("weir.source", e.Source), text("weir.event.id", e.ID), m.often("weir.outcome", e.Outcome))
	if e.Partition != "" {
		own.Attributes = append(own.Attributes, m.often("weir.partition", e.Partition))
	}
	if len(e.Routes) > 0 {
		routes := &common.ArrayValue{}
		for _, r := range e.Routes {
			routes.Values = append(routes.Values, &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: r}})
		}
		own.Attributes = append(own.Attributes, &common.KeyValue{Key: "weir.routes", Value: &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: routes}}})
	}
	if e.Reason != "" {
		own.Attributes = append(own.Attributes, text("weir.reason", e.Reason))
	}
	list = append(list, own)
	for i := range e.Steps {
		list = append(list, m.step(own, &e.Steps[i]))
	}
	return list
}

func (m *maker) step(own *proto.Span, s *trace.Step) *proto.Span {
	span := &proto.Span{
		Name: string(s.Kind), Kind: kinds[s.Kind], TraceId: own.TraceId, ParentSpanId: own.SpanId, SpanId: newID(8),
		StartTimeUnixNano: nano(s.Began), EndTimeUnixNano: nano(s.Ended), Status: statusOf(s.Outcome, s.Reason),
	}
	if s.Name != "" {
		span.Name += " " + s.Name
		span.Attributes = append(span.Attributes, m.often(places[s.Kind], s.Name))
	}
	if s.Kind == trace.Deliver {
		tried := m.once
		if s.Attempts != 1 {
			tried = attempts(s.Attempts)
		}
		span.Attributes = append(span.Attributes, tried)
	}
	if s.Outcome != "" {
		span.Attributes = append(span.Attributes, m.often("weir.outcome", s.Outcome))
	}
	if s.Reason != "" {
		span.Attributes = append(span.Attributes, text("weir.reason", s.Reason))
	}
	return span
}

func statusOf(outcome, reason string) *proto.Status {
	if !unhappy[outcome] {
		return nil
	}
	return &proto.Status{Code: proto.Status_STATUS_CODE_ERROR, Message: valid(reason)}
}

// parentOf takes a traceparent apart. Without one a trace begins here.
func parentOf(traceparent string) (traceID, spanID []byte) {
	if !event.ValidTraceParent(traceparent) {
		return newID(16), nil
	}
	traceID, err := hex.DecodeString(traceparent[3:35])
	if err != nil {
		return newID(16), nil
	}
	if spanID, err = hex.DecodeString(traceparent[36:52]); err != nil {
		return newID(16), nil
	}
	return traceID, spanID
}

// newID makes an id of 8 or 16 bytes, which is never all zero.
func newID(size int) []byte {
	id := make([]byte, 0, 16)
	id = binary.BigEndian.AppendUint64(id, rand.Uint64()|1)
	id = binary.BigEndian.AppendUint64(id, rand.Uint64())
	return id[:size]
}

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: valid(value)}}}
}

func attempts(n int) *common.KeyValue {
	return &common.KeyValue{Key: "weir.attempts", Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(n)}}}
}

func nano(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

// valid makes what a plug-in or a broker said fit for the protocol, which takes UTF-8 only.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
