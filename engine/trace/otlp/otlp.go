// Package otlp sends traces of events to a receiver of OpenTelemetry's protocol over
// HTTP.
//
// Promise: the engine never waits for the receiver. At most Config.Queue events wait to
// be sent; what comes beyond that is dropped and counted, and so is what the receiver
// refuses or does not take in time. An event's spans are sent together: the event
// itself, under the span that its traceparent names, and below it one for each step
// (receive, plug-ins, deliveries, commit).
//
// A program that embeds the engine links this package, and with it OpenTelemetry's,
// only if it sets engine.Config.Tracer to an Exporter.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	proto "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/weir-project/weir/engine/trace"
)

// Config is where traces go and which events are traced.
type Config struct {
	Endpoint string  // URL of the receiver, such as http://localhost:4318/v1/traces
	Ratio    float64 // of the events without a traceparent, 0 to 1
	// Parent says that a traceparent decides for its event; else Ratio does for all.
	Parent  bool
	Header  string        // "Name: value", sent with each request; "" = none
	Queue   int           // events that wait to be sent, default 2,048
	Timeout time.Duration // of a request, default 10 s
	Service string        // name of this service, default weir
	Version string
	Log     *slog.Logger // nil discards
}

// Validate says what is missing or out of range.
func (c *Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, errors.New("otlp: Config.Endpoint is no URL of a receiver"))
	}
	if !(c.Ratio >= 0 && c.Ratio <= 1) {
		errs = append(errs, fmt.Errorf("otlp: Config.Ratio is %v, not between 0 and 1", c.Ratio))
	}
	if c.Queue < 0 || c.Timeout < 0 {
		errs = append(errs, errors.New("otlp: a limit in Config is negative"))
	}
	return errors.Join(errs...)
}

// Sizes of what is sent at once.
const (
	batchSpans = 2048
	batchWait  = time.Second // how long the first event of a batch waits for others
	warnEvery  = time.Minute // between two words about what was dropped
)

// Exporter is a trace.Tracer. Its methods may be called from any goroutine.
type Exporter struct {
	cfg      Config
	below    uint64 // events whose hash is lower are traced
	queue    chan *trace.Event
	client   otlptrace.Client
	resource *resource.Resource
	spans    []*proto.Span // the loop's: to be sent

	sent, dropped, failed atomic.Uint64

	mu     sync.RWMutex // held for reading by Done, so that nobody sends to a queue that is closed
	closed bool
	work   sync.WaitGroup
	cancel context.CancelFunc // ends requests under way
	warned time.Time          // the loop's
}

// Start returns an exporter that works until Close.
func Start(cfg Config) (*Exporter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.fill()
	options := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(cfg.Endpoint), otlptracehttp.WithTimeout(cfg.Timeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: cfg.Timeout}),
	}
	if name, value, ok := strings.Cut(cfg.Header, ":"); ok {
		options = append(options, otlptracehttp.WithHeaders(map[string]string{strings.TrimSpace(name): strings.TrimSpace(value)}))
	}
	x := &Exporter{
		cfg: cfg, queue: make(chan *trace.Event, cfg.Queue), client: otlptracehttp.NewClient(options...), below: threshold(cfg.Ratio),
		resource: &resource.Resource{Attributes: []*common.KeyValue{text("service.name", cfg.Service), text("service.version", cfg.Version)}},
	}
	if err := x.client.Start(context.Background()); err != nil {
		return nil, fmt.Errorf("otlp: %w", err)
	}
	var ctx context.Context
	ctx, x.cancel = context.WithCancel(context.Background())
	x.work.Go(func() { x.loop(ctx) })
	return x, nil
}

func (c *Config) fill() {
	if c.Queue == 0 {
		c.Queue = 2048
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Service == "" {
		c.Service = "weir"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// threshold is below which hash an event is traced, so that a part of all is.
func threshold(ratio float64) uint64 {
	if ratio >= 1 {
		return 1<<64 - 1
	}
	return uint64(ratio * (1 << 63) * 2)
}

// Sample goes by the sampled flag of the traceparent where there is one, else by the
// ratio.
func (x *Exporter) Sample(parent []byte, hash uint64) bool {
	const flagsAt, length = 54, 55 // the last digit of the flags, of version 00
	if x.cfg.Parent && len(parent) >= length {
		switch c := parent[flagsAt]; {
		case c >= '0' && c <= '9':
			return c&1 == 1
		case c >= 'a' && c <= 'f':
			return (c-'a'+10)&1 == 1
		}
	}
	return hash < x.below || x.below == 1<<64-1
}

// Done queues an event, or drops it where the queue is full.
func (x *Exporter) Done(e *trace.Event) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		x.dropped.Add(1)
		return
	}
	select {
	case x.queue <- e:
	default:
		x.dropped.Add(1)
	}
}

// scope names who made the spans.
var scope = &common.InstrumentationScope{Name: "github.com/weir-project/weir"}

// Stats may be called at any time.
func (x *Exporter) Stats() trace.Stats {
	return trace.Stats{Sent: x.sent.Load(), Dropped: x.dropped.Load(), Failed: x.failed.Load(), Queued: len(x.queue), Queue: cap(x.queue)}
}

// loop sends batches until the queue is closed and empty.
func (x *Exporter) loop(ctx context.Context) {
	maker := newMaker()
	timer := time.NewTimer(batchWait)
	timer.Stop()
	for e := range x.queue {
		x.spans = maker.appendSpans(x.spans, e)
		timer.Reset(batchWait)
		for full := false; !full && len(x.spans) < batchSpans; {
			select {
			case e, ok := <-x.queue:
				if full = !ok; ok {
					x.spans = maker.appendSpans(x.spans, e)
				}
			case <-timer.C:
				full = true
			}
		}
		timer.Stop()
		x.send(ctx)
	}
}

// send exports what was collected, once: the client retries by itself.
func (x *Exporter) send(ctx context.Context) {
	n := uint64(len(x.spans))
	err := x.client.UploadTraces(ctx, []*proto.ResourceSpans{{
		Resource: x.resource, ScopeSpans: []*proto.ScopeSpans{{Scope: scope, Spans: x.spans}},
	}})
	clear(x.spans)
	x.spans = x.spans[:0]
	if err == nil {
		x.sent.Add(n)
		return
	}
	x.failed.Add(n)
	if now := time.Now(); now.Sub(x.warned) > warnEvery {
		x.warned = now
		x.cfg.Log.Warn("traces are not taken", "endpoint", x.cfg.Endpoint, "spans", x.failed.Load(), "events dropped", x.dropped.Load(), "error", err)
	}
}

// Close sends what waits, as long as ctx allows, and ends.
func (x *Exporter) Close(ctx context.Context) error {
	x.mu.Lock()
	if !x.closed {
		x.closed = true
		close(x.queue)
	}
	x.mu.Unlock()
	defer context.AfterFunc(ctx, x.cancel)()
	x.work.Wait()
	x.cancel()
	return x.client.Stop(context.WithoutCancel(ctx))
}
