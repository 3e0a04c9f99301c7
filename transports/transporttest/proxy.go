package transporttest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Mode is how a Proxy treats what goes through it.
type Mode uint8

// Modes of a proxy. Those from ServerError on are for HTTP without TLS.
const (
	Healthy     Mode = iota
	Refuse           // connections are refused
	Reset            // connections are reset in the middle of what they carry
	BlackHole        // connections are taken, and nothing comes back
	Trickle          // a byte at a time
	Throttle         // some KiB a second
	LoseReply        // requests get through, the connection ends before the reply
	ServerError      // 503 to every request
	TooMany          // 429 with Retry-After to every request
	HalfFail         // 500 to every other request
	modes
)

const firstHTTP = ServerError

var modeNames = [modes]string{"healthy", "refuse", "reset mid-frame", "black hole", "trickle", "throttle", "reply lost", "server error", "too many requests", "every other request fails"}

// String is the mode in words.
func (m Mode) String() string {
	if m < modes {
		return modeNames[m]
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// Sizes of a proxy.
const (
	resetAfter    = 40 // bytes of a connection that get through before a reset
	trickleEvery  = 2 * time.Millisecond
	throttleEvery = 50 * time.Millisecond
	throttleBytes = 4 << 10 // each throttleEvery
	maxProxied    = 1024    // connections at once; more are closed
	dialLimit     = 5 * time.Second
)

// Proxy stands between a client and a server and fails as told. Its methods may
// be called from any goroutine; those that count may be called on nil.
type Proxy struct {
	target, address string
	mode            atomic.Uint32
	connections     atomic.Uint64
	requests        atomic.Uint64
	turn            atomic.Uint64 // for HalfFail
	wait            sync.WaitGroup
	modeMu          sync.Mutex // one change of mode at a time

	mu       sync.Mutex // guards all below
	listener net.Listener
	open     map[net.Conn]Mode // in which each began
	closed   bool
}

// NewProxy listens on a port of its own on the loopback interface and passes
// all on to target, host:port.
func NewProxy(target string) (*Proxy, error) {
	p := &Proxy{target: target, open: map[net.Conn]Mode{}}
	l, err := listenFree()
	if err != nil {
		return nil, fmt.Errorf("fault proxy: %w", err)
	}
	if err := p.serveOn(l); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Proxy) listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("fault proxy: %w", err)
	}
	return p.serveOn(l)
}

// serveOn accepts connections in the background, unless the proxy is closed.
func (p *Proxy) serveOn(l net.Listener) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.Join(net.ErrClosed, l.Close())
	}
	p.listener, p.address = l, l.Addr().String()
	p.wait.Go(func() { p.accept(l) })
	return nil
}

// Address is where clients find the proxy, host:port.
func (p *Proxy) Address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

// Connections counts those that were ever accepted.
func (p *Proxy) Connections() uint64 {
	if p == nil {
		return 0
	}
	return p.connections.Load()
}

// Requests counts the pieces in which clients sent something: about one a request.
func (p *Proxy) Requests() uint64 {
	if p == nil {
		return 0
	}
	return p.requests.Load()
}

// Set changes the mode and ends the connections that there are.
func (p *Proxy) Set(m Mode) error {
	p.modeMu.Lock()
	defer p.modeMu.Unlock()
	before := Mode(p.mode.Swap(uint32(m)))
	var err error
	if m == Refuse && before != Refuse {
		p.mu.Lock()
		err = p.listener.Close()
		p.mu.Unlock()
	}
	p.drop()
	if before == Refuse && m != Refuse {
		err = p.listen(p.Address())
	}
	return err
}

// drop resets all connections, but for those that went into a black hole: what is
// lost there never hears that it is over.
func (p *Proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, began := range p.open {
		if began != BlackHole || p.closed {
			reset(c)
		}
	}
}

// reset ends a connection without the other side's leave.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // only how it ends
	}
	_ = c.Close()
}

// Close ends the proxy and waits for its goroutines.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	err := p.listener.Close()
	p.mu.Unlock()
	p.drop()
	p.wait.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// fault is the mode as a Fault.
func (p *Proxy) fault(m Mode) Fault {
	return Fault{
		Name:  m.String(),
		Begin: func() error { return p.Set(m) },
		End:   func() error { return p.Set(Healthy) },
	}
}

func (p *Proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return // closed
		}
		p.connections.Add(1)
		mode := Mode(p.mode.Load())
		if !p.keep(client, mode) {
			reset(client)
			continue
		}
		p.wait.Go(func() {
			defer p.forget(client)
			p.serve(client, mode)
		})
	}
}

func (p *Proxy) keep(c net.Conn, began Mode) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.open) >= maxProxied {
		return false
	}
	p.open[c] = began
	return true
}

func (p *Proxy) forget(c net.Conn) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	_ = c.Close() // it may be closed already
}

// serve carries one connection in the mode in which it began.
func (p *Proxy) serve(client net.Conn, m Mode) {
	switch m {
	case BlackHole:
		_, _ = io.Copy(io.Discard, client) // until it is dropped
		return
	case ServerError, TooMany, HalfFail:
		p.answer(client, m)
		return
	}
	server, ok := p.dial()
	if !ok {
		reset(client)
		return
	}
	defer p.forget(server)
	var wait sync.WaitGroup
	wait.Go(func() { p.carry(server, client, m, true) })
	p.carry(client, server, m, false)
	wait.Wait()
}

func (p *Proxy) dial() (net.Conn, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return nil, false
	}
	if !p.keep(server, Healthy) {
		reset(server)
		return nil, false
	}
	return server, true
}

// carry copies one direction. When it ends, so does the connection.
func (p *Proxy) carry(to, from net.Conn, m Mode, request bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 32<<10)
	switch m {
	case Trickle:
		buffer = buffer[:1]
	case Throttle:
		buffer = buffer[:throttleBytes]
	}
	total := 0
	for {
		n, err := from.Read(buffer)
		if n > 0 && request {
			p.requests.Add(1)
		}
		if n > 0 && m == LoseReply && !request {
			reset(to)
			return
		}
		if m == Reset && total+n > resetAfter {
			_, _ = to.Write(buffer[:max(0, resetAfter-total)])
			reset(to)
			reset(from)
			return
		}
		total += n
		if _, writeErr := to.Write(buffer[:n]); writeErr != nil || err != nil {
			return
		}
		switch m {
		case Trickle:
			pause(trickleEvery)
		case Throttle:
			pause(throttleEvery)
		}
	}
}

// answer speaks HTTP with the client itself.
func (p *Proxy) answer(client net.Conn, m Mode) {
	in := bufio.NewReader(client)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		p.requests.Add(1)
		if m == HalfFail && p.turn.Add(1)%2 == 0 {
			if p.pass(client, req) != nil {
				return
			}
			continue
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		status := map[Mode]int{ServerError: http.StatusServiceUnavailable, TooMany: http.StatusTooManyRequests, HalfFail: http.StatusInternalServerError}[m]
		retry := ""
		if m == TooMany {
			retry = "Retry-After: 1\r\n"
		}
		if _, err := fmt.Fprintf(client, "HTTP/1.1 %d %s\r\n%sContent-Length: 0\r\n\r\n", status, http.StatusText(status), retry); err != nil {
			return
		}
	}
}

// pass carries one request to the server and its reply back.
func (p *Proxy) pass(client net.Conn, req *http.Request) error {
	server, ok := p.dial()
	if !ok {
		return net.ErrClosed
	}
	defer p.forget(server)
	if err := req.Write(server); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(server), req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.Write(client)
}
