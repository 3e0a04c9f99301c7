package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	nethttp "net/http"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// sink sends entries as requests.
type sink struct {
	env   transports.Env
	cfg   sinkConfig
	certs *certificates // nil without files

	mu     sync.Mutex // guards what follows
	client *nethttp.Client
	number int // of the certificates that client has
	closed bool
}

func newSink(env transports.Env, cfg sinkConfig) *sink { return &sink{env: env, cfg: cfg} }

// Codec implements transports.Encoded: what is not sent as it is must be a CloudEvent.
func (s *sink) Codec() []string {
	if s.cfg.mode == modeOriginal {
		return nil
	}
	return []string{"cloudevents"}
}

// Limits implements transports.Sink. Writes end when their last request has, so they
// hold no more than some rounds of requests.
func (s *sink) Limits() transports.Limits {
	if s.cfg.mode == modeBatch {
		return transports.Limits{Entries: maxEvents, Bytes: s.cfg.batchBytes, KeyedFailure: true}
	}
	return transports.Limits{Entries: 8 * s.cfg.concurrency, KeyedFailure: true}
}

// Open implements transports.Sink. It connects to nothing: the receiver may come later.
func (s *sink) Open(context.Context) error {
	if s.cfg.tls.cert != "" || s.cfg.tls.ca != "" {
		certs, err := openTLS(s.cfg.tls, s.env.Log)
		if err != nil {
			return fmt.Errorf("http sink %s: open: %w", s.env.Name, err)
		}
		s.certs = certs
	}
	_, err := s.current()
	return err
}

// current is the client for the certificates as they stand now.
func (s *sink) current() (*nethttp.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("http sink %s: %w", s.env.Name, transports.ErrClosed)
	}
	config := &tls.Config{MinVersion: s.cfg.tls.minVersion, ServerName: s.cfg.serverName}
	number := 0
	if s.certs != nil {
		number = s.certs.configure(config)
	}
	if s.client != nil && number == s.number {
		return s.client, nil
	}
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	dialer := &net.Dialer{Timeout: s.cfg.connectTimeout}
	s.number = number
	s.client = &nethttp.Client{
		Transport: &nethttp.Transport{
			Proxy: nethttp.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: config,
			TLSHandshakeTimeout: s.cfg.connectTimeout, ForceAttemptHTTP2: true,
			MaxIdleConns: maxIdleConns, MaxIdleConnsPerHost: s.cfg.concurrency, MaxConnsPerHost: s.cfg.concurrency,
			IdleConnTimeout: idleLimit, ExpectContinueTimeout: time.Second,
			MaxResponseHeaderBytes: maxAnswer, DisableCompression: true,
		},
		// Another address is not what the configuration allows.
		CheckRedirect: func(*nethttp.Request, []*nethttp.Request) error { return nethttp.ErrUseLastResponse },
	}
	return s.client, nil
}

// Write implements transports.Sink.
func (s *sink) Write(ctx context.Context, batch []transports.Entry, results []transports.Result) {
	client, err := s.current()
	if err != nil {
		for i := range results {
			results[i] = transports.Result{Class: transports.Retry, Err: err}
		}
		return
	}
	w := &writing{sink: s, client: client, batch: batch, results: results}
	if s.cfg.mode == modeBatch {
		w.together(ctx)
		return
	}
	w.each(ctx)
}

// writing is one Write.
type writing struct {
	sink    *sink
	client  *nethttp.Client
	batch   []transports.Entry
	results []transports.Result

	mu   sync.Mutex // guards halt
	halt *transports.Result
}

// each sends every entry in a request of its own, those of one key in order.
func (w *writing) each(ctx context.Context) {
	chains := chainsOf(w.batch)
	next := make(chan []int)
	var workers sync.WaitGroup
	for range min(w.sink.cfg.concurrency, len(chains)) {
		workers.Go(func() {
			for chain := range next {
				w.chain(ctx, chain)
			}
		})
	}
	for _, chain := range chains {
		next <- chain
	}
	close(next)
	workers.Wait()
}

// chainsOf groups a batch's entries by key, each group in order.
func chainsOf(batch []transports.Entry) [][]int {
	var chains [][]int
	byKey := make(map[string]int, len(batch))
	for i := range batch {
		if batch[i].Key == nil {
			chains = append(chains, []int{i})
			continue
		}
		at, ok := byKey[string(batch[i].Key)]
		if !ok {
			at = len(chains)
			byKey[string(batch[i].Key)] = at
			chains = append(chains, nil)
		}
		chains[at] = append(chains[at], i)
	}
	return chains
}

var errEarlier = errors.New("an earlier event of its key was not delivered")

// chain sends the entries of one key, until one is not taken.
func (w *writing) chain(ctx context.Context, chain []int) {
	for n, i := range chain {
		if halt := w.halted(); halt != nil {
			w.results[i] = *halt
			continue
		}
		r := w.one(ctx, i)
		w.results[i] = r
		if r.Class == transports.OK {
			continue
		}
		w.stop(&r)
		for _, later := range chain[n+1:] {
			w.results[later] = transports.Result{Class: transports.Retry, Err: errEarlier}
		}
		return
	}
}

// one sends one entry.
func (w *writing) one(ctx context.Context, i int) transports.Result {
	e := &w.batch[i]
	to, err := w.sink.cfg.destination(e)
	if err != nil {
		return transports.Result{Class: transports.Poison, Err: err}
	}
	header, body, err := w.sink.render(e)
	if err != nil {
		return transports.Result{Class: transports.Poison, Err: err}
	}
	if name := w.sink.cfg.orderHeader; name != "" && e.Key != nil {
		header.Set(name, headerText(string(e.Key)))
	}
	return w.sink.send(ctx, w.client, to, header, body, e.ID)
}

// stop notes a failure that is the receiver's as a whole: what is not sent yet would
// meet the same, and only make it worse.
func (w *writing) stop(r *transports.Result) {
	var halt transports.Result
	switch r.Class {
	case transports.Throttled, transports.Fatal:
		halt = *r
	case transports.Unknown: // what was not sent is known
		halt = transports.Result{Class: transports.Retry, Err: r.Err}
	case transports.Retry:
		if !errors.Is(r.Err, errUnreachable) {
			return
		}
		halt = *r
	default:
		return
	}
	halt.Err = fmt.Errorf("not sent: %w", r.Err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.halt == nil {
		w.halt = &halt
	}
}

func (w *writing) halted() *transports.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.halt
}

// Flush implements transports.Sink. Write holds nothing back.
func (*sink) Flush(context.Context) error { return nil }

// Close implements transports.Sink.
func (s *sink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	return nil
}
