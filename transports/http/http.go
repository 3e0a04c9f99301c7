package http

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// Limits that no setting changes; each is named in docs/http.md.
const (
	maxEvents     = 10_000              // events of one request
	maxQueued     = 256                 // requests that wait for the engine to take them
	receiveBytes  = 256 << 10           // data that one Receive gives; one request may be larger
	maxKeyBytes   = 256                 // of an Idempotency-Key
	leastReserved = 4 << 10             // of the buffer, by a request however small
	maxRefusals   = 1_000               // listed in one answer
	maxErrorText  = 512                 // bytes of a receiver's answer that an error quotes
	maxAnswer     = 64 << 10            // bytes of a receiver's answer that are read at all
	writeLimit    = 10 * time.Second    // for a client to take its answer
	tolerance     = 5 * time.Minute     // between a signature's timestamp and now
	pauseHint     = time.Second         // Retry-After where nothing better is known
	maxPause      = 24 * time.Hour      // the longest Retry-After that is believed
	certEvery     = time.Second         // between looks at certificate files
	maxIdleConns  = 1024                // kept by a sink
	idleLimit     = 30 * time.Second    // of a sink's connections: shorter than receivers' own, mostly
	defaultEvent  = 1 << 20             // where Env.MaxEvent is 0
	defaultListen = "127.0.0.1:8080"    //
	defaultHeader = "X-Signature-256"   //
	keyHeader     = "Idempotency-Key"   //
	webhookID     = "Webhook-Id"        //
	webhookTime   = "Webhook-Timestamp" //
	webhookSign   = "Webhook-Signature" //
)

// Transport makes sources, of which those with the same address share a server, and
// sinks. It is safe for concurrent use.
type Transport struct {
	mu      sync.Mutex         // guards both
	servers map[string]*server // by configured address
	sources map[string]*source // open ones, by name
}

// New returns a transport that listens nowhere yet.
func New() *Transport {
	return &Transport{servers: map[string]*server{}, sources: map[string]*source{}}
}

// Name implements transports.Transport.
func (*Transport) Name() string { return "http" }

// Options implements transports.Transport.
func (*Transport) Options() (source, sink []transports.Option) {
	return sourceOptions(), sinkOptions()
}

// NewSource implements transports.Transport.
func (t *Transport) NewSource(env transports.Env, settings transports.Settings) (transports.Source, error) {
	env = filled(env)
	cfg, err := readSource(env, settings)
	if err != nil {
		return nil, fmt.Errorf("http source %s: %w", env.Name, err)
	}
	return newSource(t, env, cfg), nil
}

// NewSink implements transports.Transport.
func (*Transport) NewSink(env transports.Env, settings transports.Settings) (transports.Sink, error) {
	env = filled(env)
	cfg, err := readSink(settings)
	if err != nil {
		return nil, fmt.Errorf("http sink %s: %w", env.Name, err)
	}
	return newSink(env, cfg), nil
}

func filled(env transports.Env) transports.Env {
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.MaxEvent == 0 {
		env.MaxEvent = defaultEvent
	}
	return env
}

// Addr is the address on which an open source listens, such as 127.0.0.1:8080, or "".
// With a configured port of 0 it tells which one it became.
func (t *Transport) Addr(source string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sources[source]
	if s == nil {
		return ""
	}
	return s.server.addr()
}
