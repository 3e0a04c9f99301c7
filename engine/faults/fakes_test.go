package faults_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
)

// remote is a transport of one sink that stands outside the commit: its answers are
// the test's, and it remembers what arrived.
type remote struct {
	name   string
	limits transports.Limits
	// answer says what becomes of an entry; nil = it arrives. It is called with mu held.
	answer func(e *transports.Entry) transports.Result

	mu      sync.Mutex
	arrived []faults.Delivered
}

func (r *remote) Name() string { return r.name }

func (r *remote) Options() (source, sink []transports.Option) {
	return nil, []transports.Option{{Name: "to", Type: transports.String, Doc: "The sink's name."}}
}

func (r *remote) NewSource(transports.Env, transports.Settings) (transports.Source, error) {
	return nil, errors.New("there are no such sources")
}

func (r *remote) NewSink(transports.Env, transports.Settings) (transports.Sink, error) {
	return (*remoteSink)(r), nil
}

func (r *remote) delivered() []faults.Delivered {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]faults.Delivered(nil), r.arrived...)
}

type remoteSink remote

func (s *remoteSink) Limits() transports.Limits   { return s.limits }
func (s *remoteSink) Open(context.Context) error  { return nil }
func (s *remoteSink) Flush(context.Context) error { return nil }
func (s *remoteSink) Close(context.Context) error { return nil }

func (s *remoteSink) Write(_ context.Context, batch []transports.Entry, results []transports.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	failed := map[string]bool{}
	for i := range batch {
		e := &batch[i]
		if s.limits.KeyedFailure && failed[string(e.Key)] {
			results[i] = transports.Result{Class: transports.Retry, Err: errors.New("an earlier entry of the key failed")}
			continue
		}
		if s.answer != nil {
			results[i] = s.answer(e)
		}
		if results[i].Class != transports.OK {
			failed[string(e.Key)] = true
			continue
		}
		s.arrived = append(s.arrived, faults.Delivered{Sink: s.name, Route: e.Route, Data: bytes.Clone(e.Data)})
	}
}

// away is the answer of a sink that is down.
func away(*transports.Entry) transports.Result {
	return transports.Result{Class: transports.Retry, Err: errors.New("connection refused")}
}

// flaky is a plug-in host whose filters say yes but fail on the first attempts at
// an event.
type flaky struct {
	mu       sync.Mutex
	failures map[string]int // attempts at an event's id that still fail
}

func (*flaky) Name() string                { return "flaky" }
func (*flaky) Close(context.Context) error { return nil }
func (h *flaky) Load(context.Context, plugins.Spec) (plugins.Plugin, error) {
	return (*flakyPlugin)(h), nil
}

type flakyPlugin flaky

func (*flakyPlugin) Manifest() plugins.Manifest {
	return plugins.Manifest{Name: "flaky", Version: "1.0.0", Kind: plugins.Filter, Fields: []string{"id"}}
}
func (*flakyPlugin) Digest() string              { return "00" }
func (*flakyPlugin) Close(context.Context) error { return nil }
func (p *flakyPlugin) Instance(context.Context) (plugins.Instance, error) {
	return (*flakyInstance)(p), nil
}

type flakyInstance flaky

func (*flakyInstance) Reason(int) string           { return "" }
func (*flakyInstance) Close(context.Context) error { return nil }

func (in *flakyInstance) Filter(_ context.Context, batch *plugins.Batch, answers []uint32) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	b, n := batch.Bytes(), batch.Len()
	var err error
	for i := range n {
		slot := b[16+8*i:]
		from := 16 + 8*n + int(binary.LittleEndian.Uint32(slot))
		id := string(b[from : from+int(binary.LittleEndian.Uint32(slot[4:])&0xffffff)])
		answers[i] = 1
		if in.failures[id] > 0 {
			in.failures[id]--
			err = errors.New("not yet")
		}
	}
	return err
}
