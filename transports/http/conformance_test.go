package http

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	nethttp "net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/transporttest"
)

// TestConformance sends from the sink to the source. The sink is the one that
// remembers: what was not answered it sends again.
func TestConformance(t *testing.T) {
	const nothing = "whoever sends remembers; the engine's kill cycles are in engine/faults"
	lacks := transporttest.Lacking(nothing, transporttest.Crash, transporttest.Kill)
	lacks[transporttest.Lease] = "a request is held until it is answered, and is not given to anybody else"
	lacks[transporttest.Group] = "one source has a path"
	lacks[transporttest.Moving] = "an address is where it is"
	transporttest.Run(t, transporttest.Factory{
		Name:          "http",
		Transport:     func() transports.Transport { return New() },
		Place:         conformancePlace,
		Carries:       transporttest.Carries{Keys: true},
		Lacks:         lacks,
		Answered:      true,
		Classes:       classTable(),
		Golden:        "../transporttest/testdata/matrix.golden",
		ClassesGolden: "testdata/classes.golden",
	})
}

// classTable is what each answer and each failure means.
func classTable() (table []transporttest.Class) {
	for status := 200; status < 600; status++ {
		if text := nethttp.StatusText(status); text != "" {
			table = append(table, transporttest.Class{Cause: fmt.Sprintf("%d %s", status, text), Class: classOf(status)})
		}
	}
	broken := errors.New("broken")
	return append(
		table,
		transporttest.Class{Cause: "no connection", Class: classOfError(broken, false)},
		transporttest.Class{Cause: "the connection broke, or no answer came, after the request was sent", Class: classOfError(broken, true)},
		transporttest.Class{Cause: "the certificate is of an unknown authority", Class: classOfError(fmt.Errorf("handshake: %w", x509.UnknownAuthorityError{}), false)},
		transporttest.Class{Cause: "the certificate is for another name", Class: classOfError(fmt.Errorf("handshake: %w", x509.HostnameError{Certificate: &x509.Certificate{}}), false)},
		transporttest.Class{Cause: "the certificate has expired", Class: classOfError(fmt.Errorf("handshake: %w", x509.CertificateInvalidError{}), false)},
	)
}

func conformancePlace(t *testing.T, _ transports.Transport, _ string) transporttest.Place {
	t.Helper()
	address := transporttest.FreeAddress(t)
	sinkAt := func(at string) transports.Settings {
		return transports.Settings{"url": "http://" + at + "/", "key_header": "X-Key", "timeout": 2 * time.Second, "connect_timeout": time.Second}
	}
	r := newRelay(t, address)
	door, authorityFile := openDoor(t)
	guarded := func(token string) transports.Settings {
		return transports.Settings{"url": "https://" + door + "/", "token": token, "tls_ca": authorityFile}
	}
	return transporttest.Place{
		Source: transports.Settings{"listen": address, "key_header": "X-Key"},
		Sink:   sinkAt(r.address),
		Refuse: func(match func([]byte) bool) { r.refuse.Store(&match) },
		Network: &transporttest.Network{
			Target: address, HTTP: true,
			Via: func(at string) (source, sink transports.Settings) {
				return transports.Settings{"listen": address, "key_header": "X-Key"}, sinkAt(at)
			},
		},
		Logins: []transporttest.Login{
			{Name: "token", Source: transports.Settings{"listen": address, "tokens": []string{"right"}}, Sink: withToken(sinkAt(address), "right"), Works: true},
			{Name: "wrong token", Sink: guarded("wrong")},
			{Name: "no token", Sink: guarded("")},
			{Name: "unknown authority", Sink: transports.Settings{"url": "https://" + door + "/", "token": "right"}},
			{Name: "another name", Sink: with(guarded("right"), "tls_server_name", "other.test")},
		},
	}
}

func with(s transports.Settings, name string, value any) transports.Settings {
	s[name] = value
	return s
}

func withToken(s transports.Settings, token string) transports.Settings {
	return with(s, "token", token)
}

// relay passes requests on, but for those that a case wants refused.
type relay struct {
	address string
	refuse  atomic.Pointer[func([]byte) bool]
}

func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	r := &relay{}
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})
	pass.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	pass.Transport = &nethttp.Transport{}
	s := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, q *nethttp.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return // the client broke off
		}
		if match := r.refuse.Load(); match != nil && *match != nil && (*match)(body) {
			w.WriteHeader(nethttp.StatusInternalServerError)
			return
		}
		q.Body = io.NopCloser(bytes.NewReader(body))
		pass.ServeHTTP(w, q)
	}))
	t.Cleanup(func() {
		s.Close()
		pass.Transport.(*nethttp.Transport).CloseIdleConnections()
	})
	r.address = s.Listener.Addr().String()
	return r
}

// openDoor listens with TLS and a token for as long as the test runs.
func openDoor(t *testing.T) (address, authorityFile string) {
	t.Helper()
	a := newAuthority(t, "door")
	a.issue("server", 2)
	tr := New()
	s, err := tr.NewSource(testEnv(t, "door"), settings(sourceOptions(), transports.Settings{
		"listen": "127.0.0.1:0", "tokens": []string{"right"}, "tls_cert": a.path("server.pem"), "tls_key": a.path("server.key"),
	}))
	must(t, err)
	must(t, s.Open(t.Context(), nil, nil))
	t.Cleanup(func() { must(t, s.Close(context.Background())) })
	return tr.Addr("door"), a.path("ca.pem")
}
