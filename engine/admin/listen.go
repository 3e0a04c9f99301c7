package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/config"
)

// SocketName is the unix socket in the data folder.
const SocketName = "admin.sock"

// maxSocketPath is what every system takes as a socket's path, in bytes.
const maxSocketPath = 103

// probeTime is how long a socket that is there may take to say that somebody listens.
const probeTime = 2 * time.Second

// Errors that a caller acts on.
var (
	// ErrRunning: an engine answers on the socket of this data folder.
	ErrRunning = errors.New("an engine runs on this data folder")
	// ErrNotRunning: no engine answers on the socket of this data folder.
	ErrNotRunning = errors.New("no engine runs on this data folder")
)

// door is a listener with the server behind it.
type door struct {
	listener net.Listener
	server   *http.Server
}

// open serves a listener until Close.
func (s *Server) open(in *entrance, l net.Listener) {
	d := &door{listener: l, server: &http.Server{
		Handler:                      s.guard(in),
		ReadHeaderTimeout:            headerTime,
		ReadTimeout:                  readTime,
		WriteTimeout:                 writeTime,
		IdleTimeout:                  idleTime,
		MaxHeaderBytes:               maxHeaders,
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return s.life },
		ErrorLog:                     log.New(quiet{s.cfg.Log}, "", 0),
	}}
	s.mu.Lock()
	s.doors = append(s.doors, d)
	s.mu.Unlock()
	s.work.Go(func() {
		if err := d.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("admin API has stopped", "address", l.Addr().String(), "error", err)
		}
	})
}

func (d *door) close(ctx context.Context) error {
	err := d.server.Shutdown(ctx)
	if err == nil {
		return nil
	}
	// Out of time: connections under way are cut.
	if err := d.server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// quiet is where net/http complains about clients: for who looks for it.
type quiet struct{ log *slog.Logger }

func (q quiet) Write(line []byte) (int, error) {
	q.log.Debug("admin API", "note", strings.TrimSpace(string(line)))
	return len(line), nil
}

// listenSocket makes the socket of a data folder. The folder's lock is held by the
// engine, so that nobody else does the same at once.
func listenSocket(data string) (net.Listener, error) {
	path := filepath.Join(data, SocketName)
	if err := clearSocket(data, path); err != nil {
		return nil, err
	}
	at, folder, err := reachable(data)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", at)
	if err == nil {
		if err = os.Chmod(path, 0o600); err != nil {
			err = errors.Join(err, l.Close())
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), folder.Close())
	}
	return limit(&socket{Listener: l, folder: folder}, maxClients), nil
}

// clearSocket removes what a process left that is dead. What answers is left alone,
// and so is what is no socket.
func clearSocket(data, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is there and is no socket: remove it", path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	c, err := DialSocket(ctx, data)
	if err == nil {
		return errors.Join(fmt.Errorf("%s: %w", path, ErrRunning), c.Close())
	}
	if !errors.Is(err, ErrNotRunning) {
		return err
	}
	return os.Remove(path)
}

// DialSocket connects to the engine that runs on a data folder; ErrNotRunning where
// none does.
func DialSocket(ctx context.Context, data string) (net.Conn, error) {
	at, folder, err := reachable(data)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", data, ErrNotRunning)
	}
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", at)
	if isRefused(err) || errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", data, ErrNotRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", filepath.Join(data, SocketName), cause(err))
	}
	return c, nil
}

// cause leaves out the address, which may be one by way of /proc.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// nothing is what need not be closed.
type nothing struct{}

func (nothing) Close() error { return nil }

// reachable is a path of the socket that the system takes, however long the data
// folder's is: on Linux by way of the open folder, which must stay open meanwhile.
func reachable(data string) (path string, folder io.Closer, err error) {
	if path = filepath.Join(data, SocketName); len(path) <= maxSocketPath {
		return path, nothing{}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("socket %s: the path has %d bytes, at most %d are possible: choose a shorter node.data", path, len(path), maxSocketPath)
	}
	f, err := os.Open(data)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), SocketName), f, nil
}

// socket is a unix listener with the folder by which it is reached. Its file goes
// with it.
type socket struct {
	net.Listener
	folder io.Closer
	once   sync.Once
	err    error
}

func (s *socket) Close() error {
	s.once.Do(func() { s.err = errors.Join(s.Listener.Close(), s.folder.Close()) })
	return s.err
}

// listenTCP listens as the configuration says, and returns the names of the server.
func listenTCP(a *config.Admin, log *slog.Logger) (net.Listener, []string, error) {
	host, _, err := net.SplitHostPort(a.Listen)
	if err != nil {
		return nil, nil, err
	}
	local := isLoopback(host)
	switch {
	case a.Token == "":
		return nil, nil, fmt.Errorf("listen %s: a token is needed", a.Listen)
	case !local && a.TLS.Cert == "":
		return nil, nil, fmt.Errorf("listen %s: not a loopback address, so TLS is needed", a.Listen)
	}
	names := []string{hostOf(host)}
	if local {
		names = append(names, "localhost", "127.0.0.1", "::1")
	}
	for _, h := range a.Hosts {
		names = append(names, hostOf(h))
	}
	var secure *tls.Config
	if a.TLS.Cert != "" {
		c, err := newCertificate(&a.TLS, log)
		if err != nil {
			return nil, nil, err
		}
		names = append(names, c.names()...)
		secure = c.config()
	}
	l, err := net.Listen("tcp", a.Listen)
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	l = limit(l, maxClients)
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	return l, slices.Compact(names), nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// limit bounds the connections of a listener: what comes beyond that waits in the
// system's queue.
func limit(l net.Listener, most int) net.Listener {
	return &limited{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{})}
}

type limited struct {
	net.Listener
	places chan struct{} // holds one element for each connection
	closed chan struct{}
	once   sync.Once
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &placed{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// placed is a connection that counts.
type placed struct {
	net.Conn
	leave func()
}

func (p *placed) Close() error {
	defer p.leave()
	return p.Conn.Close()
}
