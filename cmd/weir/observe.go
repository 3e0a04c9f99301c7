package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/admin"
	"github.com/weir-project/weir/engine/trace/otlp"
)

// What is left of the API and of traces when a run has ended has so long.
const (
	adminDrain = 2 * time.Second
	traceDrain = 5 * time.Second
)

// serveAdmin opens the API of an engine; the function it returns closes it.
func (p *program) serveAdmin(eng *engine.Engine, log *slog.Logger, traces *otlp.Exporter) (end func() error, err error) {
	cfg := admin.Config{Engine: eng, Version: version, Log: log}
	if traces != nil {
		cfg.Traces = traces.Stats
	}
	s, err := admin.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), adminDrain)
		defer cancel()
		return s.Close(ctx)
	}, nil
}

// startTraces makes the engine's tracer where the configuration wants traces; nil = it
// does not.
func startTraces(cfg *engine.Config) (*otlp.Exporter, error) {
	t := &cfg.Plan.Node.Trace
	if t.Endpoint == "" {
		return nil, nil
	}
	x, err := otlp.Start(otlp.Config{
		Endpoint: t.Endpoint, Ratio: t.Ratio, Parent: t.Parent, Header: t.Header, Queue: t.Queue, Timeout: t.Timeout,
		Service: t.Service, Version: version, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	cfg.Tracer = x
	return x, nil
}

// endTraces sends what waits, if the receiver takes it soon.
func endTraces(x *otlp.Exporter) error {
	if x == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), traceDrain)
	defer cancel()
	return x.Close(ctx)
}
