package otlp

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"github.com/weir-project/weir/engine/trace"
)

// spans collects what ends; only the exporter's loop makes spans.
type spans struct{ list []sdk.ReadOnlySpan }

func (s *spans) OnStart(context.Context, sdk.ReadWriteSpan) {}
func (s *spans) OnEnd(span sdk.ReadOnlySpan)                { s.list = append(s.list, span) }
func (s *spans) Shutdown(context.Context) error             { return nil }
func (s *spans) ForceFlush(context.Context) error           { return nil }

// span makes the spans of an event.
func (x *Exporter) span(e *trace.Event) {
	tracer := x.provider.Tracer("github.com/weir-project/weir")
	ctx := context.Background()
	if e.Parent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": e.Parent})
	}
	attributes := []attribute.KeyValue{
		attribute.String("weir.source", e.Source), attribute.String("weir.event.id", e.ID), attribute.String("weir.outcome", e.Outcome),
	}
	if e.Partition != "" {
		attributes = append(attributes, attribute.String("weir.partition", e.Partition))
	}
	if len(e.Routes) > 0 {
		attributes = append(attributes, attribute.StringSlice("weir.routes", e.Routes))
	}
	if e.Reason != "" {
		attributes = append(attributes, attribute.String("weir.reason", e.Reason))
	}
	ctx, span := tracer.Start(ctx, "weir "+e.Source, at(e.Received), api.WithSpanKind(api.SpanKindConsumer), api.WithAttributes(attributes...))
	for i := range e.Steps {
		step(ctx, tracer, &e.Steps[i])
	}
	if e.Outcome == "dead" || e.Outcome == "refused" || e.Outcome == "conflict" || e.Outcome == "nacked" {
		span.SetStatus(codes.Error, e.Reason)
	}
	span.End(api.WithTimestamp(e.Ended))
}

func step(ctx context.Context, tracer api.Tracer, s *trace.Step) {
	name, kind := string(s.Kind), api.SpanKindInternal
	var attributes []attribute.KeyValue
	if s.Name != "" {
		name += " " + s.Name
		attributes = append(attributes, attribute.String("weir."+place[s.Kind], s.Name))
	}
	if s.Kind == trace.Deliver {
		kind = api.SpanKindProducer
		attributes = append(attributes, attribute.Int("weir.attempts", s.Attempts))
	}
	if s.Outcome != "" {
		attributes = append(attributes, attribute.String("weir.outcome", s.Outcome))
	}
	if s.Reason != "" {
		attributes = append(attributes, attribute.String("weir.reason", s.Reason))
	}
	_, span := tracer.Start(ctx, name, at(s.Began), api.WithSpanKind(kind), api.WithAttributes(attributes...))
	if s.Outcome == "failed" || s.Outcome == "dead" {
		span.SetStatus(codes.Error, s.Reason)
	}
	span.End(api.WithTimestamp(s.Ended))
}

// place is what a step's name is of.
var place = map[trace.Kind]string{trace.Plugin: "plugin", trace.Deliver: "sink"}

func at(t time.Time) api.SpanStartEventOption { return api.WithTimestamp(t) }
