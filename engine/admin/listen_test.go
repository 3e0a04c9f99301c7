package admin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine/config"
)

// issue writes a certificate for a name, signed by itself, and its key.
func issue(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(text)
	return p
}

// TestTLS: plain text is not understood, old versions and strangers are refused, and
// the certificate's names are names of the server.
func TestTLS(t *testing.T) {
	e := newEngine(t)
	dir := t.TempDir()
	cert, key := issue(t, dir, "weir.example")
	clientCert, clientKey := issue(t, dir, "client")
	e.plan.Node.Admin.TLS = config.AdminTLS{Cert: cert, Key: key, ClientCA: clientCert}
	_, at := start(t, e)
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(c *tls.Config) (int, error) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
		defer client.CloseIdleConnections()
		r, err := http.NewRequest(http.MethodGet, "https://"+at+"/status", nil)
		if err != nil {
			return 0, err
		}
		r.Host = "weir.example"
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Origin", "https://weir.example")
		resp, err := client.Do(r)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	known := &tls.Config{RootCAs: pool(t, cert), Certificates: []tls.Certificate{pair}}
	if status, err := ask(known); status != 200 || err != nil {
		t.Errorf("with a client's certificate: %d, %v", status, err)
	}
	if status, err := ask(&tls.Config{RootCAs: pool(t, cert)}); err == nil {
		t.Errorf("without a client's certificate: %d", status)
	}
	old := known.Clone()
	old.MaxVersion = tls.VersionTLS11
	if status, err := ask(old); err == nil {
		t.Errorf("TLS 1.1: %d", status)
	}
	if status, _ := raw(t, "tcp", at, "GET /healthz HTTP/1.1\r\nHost: weir.example\r\n\r\n"); status != 400 {
		t.Errorf("plain text: %d", status)
	}
}

// TestCertificateIsReadAgain: a new certificate is used, and half of one is not.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := issue(t, dir, "a")
	c, err := newCertificate(&config.AdminTLS{Cert: cert, Key: key}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	again := func() *tls.Certificate {
		c.looked = time.Time{}
		got, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if again() != first {
		t.Error("it was read again without need")
	}
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	if err := errors.Join(os.WriteFile(cert, []byte("half"), 0o600), os.Chtimes(cert, later, later)); err != nil {
		t.Fatal(err)
	}
	if again() != first {
		t.Error("half a certificate is used")
	}
	later = later.Add(time.Hour)
	if err := errors.Join(os.WriteFile(cert, text, 0o600), os.Chtimes(cert, later, later)); err != nil {
		t.Fatal(err)
	}
	if again() == first {
		t.Error("the new certificate is not used")
	}
	if _, err := newCertificate(&config.AdminTLS{Cert: cert, Key: key, ClientCA: key}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a client authority without certificate is taken")
	}
}

// TestI13PublicAddressNeedsTLS, whatever the configuration's own check has let through.
func TestI13PublicAddressNeedsTLS(t *testing.T) {
	for _, a := range []config.Admin{
		{Listen: "0.0.0.0:0", Token: token}, {Listen: ":0", Token: token}, {Listen: "127.0.0.1:0"}, {Listen: "[::]:0", Token: token}, {Listen: "nonsense", Token: token},
	} {
		if l, _, err := listenTCP(&a, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%+v listens", a)
			l.Close()
		}
	}
}

// pipes is a listener of connections that exist in memory only.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestSlowlorisIsCutOff: a client that sends its headers, or its body, a byte at a time
// holds its place for as long as the limits say and no longer.
func TestSlowlorisIsCutOff(t *testing.T) {
	for name, test := range map[string]struct {
		begin string
		limit time.Duration
	}{
		"headers": {"GET /status HTTP/1.1\r\nHost: x\r\nX: ", headerTime},
		"body":    {"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n", readTime},
		"idle":    {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", idleTime},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			synctest.Test(t, func(t *testing.T) {
				s, err := New(Config{Engine: e, Endpoints: []Endpoint{echo}})
				if err != nil {
					t.Fatal(err)
				}
				p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
				s.open(&entrance{socket: true}, limit(p, 1))
				client, server := net.Pipe()
				p.conns <- server
				began := time.Now()
				go io.Copy(io.Discard, client)
				if _, err := io.WriteString(client, test.begin); err != nil {
					t.Fatal(err)
				}
				for err = nil; err == nil && name != "idle"; {
					time.Sleep(time.Second) // of the bubble: the client's own pace
					_, err = client.Write([]byte("x"))
				}
				// The place is free for the next client once the first was cut off.
				next, other := net.Pipe()
				p.conns <- other
				if took := time.Since(began); took > test.limit+2*time.Second {
					t.Errorf("it held its place for %v, at most %v are allowed", took, test.limit)
				}
				next.Close()
				client.Close()
				if err := s.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestStreamsAreBounded: one more than there may be is refused at once.
func TestStreamsAreBounded(t *testing.T) {
	began := make(chan struct{})
	hold := Endpoint{Method: http.MethodGet, Path: "/v1/hold", Stream: func(r *http.Request, send func(any) error) error {
		began <- struct{}{}
		<-r.Context().Done()
		return nil
	}}
	s, err := New(Config{Engine: newEngine(t), Endpoints: []Endpoint{hold}, Authorize: func(*http.Request) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	for range maxStreams {
		go func() {
			s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/hold", nil))
			ended <- struct{}{}
		}()
		<-began
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/hold", nil))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %d %s", w.Code, w.Body)
	}
	cancel()
	for range maxStreams {
		<-ended
	}
}

// FuzzGuard: whatever a client sends over TCP without the token, it gets no answer that
// needs one, and the server does not fall over.
func FuzzGuard(f *testing.F) {
	for _, seed := range []string{
		"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET //status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n",
		"POST /v1/echo?a=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		"GET /healthz/..%2fstatus HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n",
		"POST /v1/act HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	e := &engineAt{plan: &config.Plan{Node: config.Node{Admin: config.Admin{Token: token}}}}
	s, err := New(Config{Engine: e, Endpoints: []Endpoint{echo, act}})
	if err != nil {
		f.Fatal(err)
	}
	h := s.guard(&entrance{names: []string{"localhost"}})
	f.Fuzz(func(t *testing.T, request []byte) {
		if bytes.Contains(request, []byte(token)) {
			t.Skip()
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		open := r.URL.Path == "/healthz" || r.URL.Path == "/readyz" || r.URL.Path == "/metrics"
		if w.Code == 200 && !open || strings.Contains(w.Body.String(), token) {
			t.Errorf("%q is answered with %d %s", request, w.Code, w.Body)
		}
	})
}
