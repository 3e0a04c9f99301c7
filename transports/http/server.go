package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	nethttp "net/http"
	"sync"
	"sync/atomic"
	"time"
)

// server listens on one address for the sources that share it.
type server struct {
	place    place
	owner    string // the source that opened it, for errors
	listener net.Listener
	http     *nethttp.Server
	ended    chan struct{} // closed when it does not serve any more
	err      error         // why it ended; read after ended

	mu      sync.RWMutex // guards all
	since   time.Time
	closing bool // its last source is gone
	sources map[string]*source
	silent  map[net.Conn]struct{} // connections that have not sent a request yet
}

// attach gives a source its place on the server of its address, and starts that where
// it is the first.
func (t *Transport) attach(ctx context.Context, s *source) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sources[s.env.Name] != nil {
		return fmt.Errorf("a source %s is open already", s.env.Name)
	}
	sv := t.servers[s.cfg.listen]
	if sv == nil {
		var err error
		if sv, err = listen(ctx, s.cfg.place, s.env.Name, s.env.Log); err != nil {
			return err
		}
		t.servers[s.cfg.listen] = sv
	}
	if err := sv.add(s); err != nil {
		return err
	}
	t.sources[s.env.Name] = s
	s.server = sv
	return nil
}

// detach takes a source off its server. The last one stops it, within ctx.
func (t *Transport) detach(ctx context.Context, s *source) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sources, s.env.Name)
	sv := s.server
	if left := sv.remove(s); left > 0 {
		return nil
	}
	delete(t.servers, s.cfg.listen)
	return sv.stop(ctx)
}

func listen(ctx context.Context, p place, owner string, log *slog.Logger) (*server, error) {
	sv := &server{place: p, owner: owner, since: time.Now(), ended: make(chan struct{}), sources: map[string]*source{}, silent: map[net.Conn]struct{}{}}
	var config *tls.Config
	if p.tls.used() {
		files, err := openTLS(p.tls, log)
		if err != nil {
			return nil, err
		}
		config = files.serverConfig()
	}
	bound, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.listen)
	if err != nil {
		return nil, err
	}
	sv.listener = &limited{Listener: bound, slots: make(chan struct{}, p.connections), closing: make(chan struct{})}
	sv.http = &nethttp.Server{
		Handler: sv, TLSConfig: config,
		ReadHeaderTimeout: p.headerTimeout, IdleTimeout: p.idleTimeout, MaxHeaderBytes: p.maxHeader,
		ConnState: sv.noteSilent,
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelDebug), // bad handshakes and the like: clients' faults
	}
	go func() {
		defer close(sv.ended)
		serve := sv.http.Serve
		if config != nil {
			serve = func(l net.Listener) error { return sv.http.ServeTLS(l, "", "") }
		}
		if err := serve(sv.listener); !errors.Is(err, nethttp.ErrServerClosed) {
			sv.err = err
			log.Error("http: the server ended", "listen", p.listen, "error", err)
		}
	}()
	log.Info("listening", "address", sv.addr(), "tls", config != nil)
	return sv, nil
}

func (sv *server) add(s *source) error {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if other := sv.sources[s.cfg.path]; other != nil {
		return fmt.Errorf("the source %s has %s%s already", other.env.Name, s.cfg.listen, s.cfg.path)
	}
	if s.cfg.place != sv.place {
		return fmt.Errorf("the source %s listens on %s with other settings of TLS, connections, headers or timeouts; they must be the same", sv.owner, s.cfg.listen)
	}
	sv.sources[s.cfg.path] = s
	return nil
}

func (sv *server) remove(s *source) (left int) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	delete(sv.sources, s.cfg.path)
	sv.closing = len(sv.sources) == 0
	return len(sv.sources)
}

func (sv *server) addr() string { return sv.listener.Addr().String() }

// noteSilent knows the connections that stop must close by itself.
func (sv *server) noteSilent(c net.Conn, state nethttp.ConnState) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if state == nethttp.StateNew {
		sv.silent[c] = struct{}{}
		return
	}
	delete(sv.silent, c)
}

// stop waits for the requests under way, whose sources have answered them by now.
func (sv *server) stop(ctx context.Context) error {
	sv.mu.RLock()
	for c := range sv.silent {
		_ = c.Close() // Shutdown would wait some seconds for each to say something
	}
	sv.mu.RUnlock()
	err := sv.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests are still under way: %w", err), sv.http.Close())
	}
	<-sv.ended
	return errors.Join(err, sv.err)
}

// ServeHTTP gives a request to the source of its path.
func (sv *server) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	sv.mu.RLock()
	s, closing, young := sv.sources[r.URL.Path], sv.closing, time.Since(sv.since) < settling
	sv.mu.RUnlock()
	switch {
	case s != nil:
		s.serve(w, r)
	case closing:
		refuse(w, stopping())
	case young:
		refuse(w, &problem{status: nethttp.StatusServiceUnavailable, text: "no source listens on this path yet", after: pauseHint})
	default:
		refuse(w, &problem{status: nethttp.StatusNotFound, text: "no source listens on this path"})
	}
}

// settling is how long after its start a server takes an unknown path for one whose
// source is about to open: a client must not give up for good on a restart.
const settling = 5 * time.Second

// limited is a listener with a limit of connections; further ones wait in the
// operating system's queue.
type limited struct {
	net.Listener
	slots   chan struct{}
	closing chan struct{}
	once    sync.Once
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closing:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotConn{Conn: c, slots: l.slots}, nil
}

// Close implements net.Listener.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closing) })
	return l.Listener.Close()
}

// slotConn gives its slot back when it is closed.
type slotConn struct {
	net.Conn
	slots  chan struct{}
	closed atomic.Bool
}

// Close implements net.Conn.
func (c *slotConn) Close() error {
	if !c.closed.Swap(true) {
		<-c.slots
	}
	return c.Conn.Close()
}
