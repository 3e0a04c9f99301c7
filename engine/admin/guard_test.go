package admin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "a token of the tests"

// engineAt is an engine that stands still.
type engineAt struct {
	status engine.Status
	plan   *config.Plan
}

func (e *engineAt) Status() engine.Status { return e.status }
func (e *engineAt) Plan() *config.Plan    { return e.plan }

func newEngine(t *testing.T) *engineAt {
	t.Helper()
	return &engineAt{
		status: engine.Status{Phase: flow.Running, Generation: 1},
		plan:   &config.Plan{Node: config.Node{Data: t.TempDir(), Admin: config.Admin{Token: token}, Limits: config.Limits{Event: 1 << 20, InFlight: 10, InFlightBytes: 1 << 20}}},
	}
}

// echo answers with the body that it was sent.
var echo = Endpoint{
	Method: http.MethodPost, Path: "/v1/echo", Body: JSON, Query: []string{"a", "b"}, Max: 1000,
	Answer: func(r *http.Request) (any, error) {
		v := struct{ N int }{}
		return &v, Decode(r, &v)
	},
}

// act changes something.
var act = Endpoint{
	Method: http.MethodPost, Path: "/v1/act",
	Answer: func(*http.Request) (any, error) { return "done", nil },
}

// start runs a server on the socket and on TCP and returns the address of the latter.
func start(t *testing.T, e *engineAt, extra ...Endpoint) (*Server, string) {
	t.Helper()
	e.plan.Node.Admin.Listen = "127.0.0.1:0"
	s, err := New(Config{Engine: e, Version: "1.2.3", Endpoints: append([]Endpoint{echo, act}, extra...)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, s.doors[1].listener.Addr().String()
}

// raw sends bytes as they are and returns the status and the text of the answer.
func raw(t *testing.T, network, at, request string) (int, string) {
	t.Helper()
	c, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestI13NobodyWithoutCredential is the matrix of what an attacker or a tricked
// browser sends over TCP.
func TestI13NobodyWithoutCredential(t *testing.T) {
	_, at := start(t, newEngine(t))
	port := at[strings.LastIndex(at, ":"):]
	const bearer = "Authorization: Bearer " + token
	const asJSON = "Content-Type: application/json"
	tests := []struct {
		name, line, host string
		headers          []string
		body             string
		want             int
		says             string
	}{
		{"status", "GET /status", at, []string{bearer}, "", 200, `"version": "1.2.3"`},
		{"lower-case scheme", "GET /status", at, []string{"Authorization: bearer " + token}, "", 200, ""},
		{"localhost", "GET /status", "localhost" + port, []string{bearer}, "", 200, ""},
		{"upper case", "GET /status", "LOCALHOST" + port, []string{bearer}, "", 200, ""},
		{"IPv6 loopback", "GET /status", "[::1]" + port, []string{bearer}, "", 200, ""},
		{"head", "HEAD /healthz", at, nil, "", 200, ""},
		{"health needs none", "GET /healthz", at, nil, "", 200, "ok"},
		{"readiness needs none", "GET /readyz", at, nil, "", 200, "ready"},
		{"post", "POST /v1/echo?a=1", at, []string{bearer, asJSON}, `{"N":7}`, 200, `"N": 7`},
		{"post with charset", "POST /v1/echo", at, []string{bearer, asJSON + "; charset=utf-8"}, `{"N":7}`, 200, `"N": 7`},
		{"empty body", "POST /v1/echo", at, []string{bearer, asJSON}, "", 200, `"N": 0`},

		{"no token", "GET /status", at, nil, "", 401, "token is needed"},
		{"wrong token", "GET /status", at, []string{bearer + "x"}, "", 401, "wrong"},
		{"part of the token", "GET /status", at, []string{"Authorization: Bearer a token of"}, "", 401, ""},
		{"empty token", "GET /status", at, []string{"Authorization: Bearer "}, "", 401, ""},
		{"other scheme", "GET /status", at, []string{"Authorization: Basic " + token}, "", 401, ""},
		{"two tokens", "GET /status", at, []string{bearer, "Authorization: Bearer x"}, "", 401, ""},
		{"token as parameter", "GET /status?token=" + "a%20token%20of%20the%20tests", at, nil, "", 401, ""},
		{"paths are not told", "GET /v1/gone", at, nil, "", 401, ""},
		{"methods are not told", "DELETE /status", at, nil, "", 401, ""},

		{"rebinding", "GET /healthz", "evil.example" + port, nil, "", 421, "this is not"},
		{"rebinding with token", "GET /status", "evil.example", []string{bearer}, "", 421, ""},
		{"absolute form", "GET http://evil.example/status", at, []string{bearer}, "", 421, ""},
		{"name that begins alike", "GET /status", "localhost.evil.example", []string{bearer}, "", 421, ""},
		{"other address", "GET /status", "10.0.0.1" + port, []string{bearer}, "", 421, ""},
		{"empty host", "GET /status", "", []string{bearer}, "", 421, ""},
		{"foreign origin", "GET /healthz", at, []string{"Origin: http://evil.example"}, "", 403, "another site"},
		{"null origin", "POST /v1/act", at, []string{bearer, asJSON, "Origin: null"}, "", 403, ""},
		{"origin of another port", "POST /v1/act", at, []string{bearer, asJSON, "Origin: http://127.0.0.1:1"}, "", 403, ""},
		{"origin of another scheme", "POST /v1/act", at, []string{bearer, asJSON, "Origin: https://" + at}, "", 403, ""},
		{"own origin", "POST /v1/act", at, []string{bearer, asJSON, "Origin: http://" + at}, "", 200, "done"},
		{"cross-site fetch", "GET /status", at, []string{bearer, "Sec-Fetch-Site: cross-site"}, "", 403, ""},
		{"same-site fetch", "GET /status", at, []string{bearer, "Sec-Fetch-Site: same-site"}, "", 403, ""},
		{"own fetch", "GET /status", at, []string{bearer, "Sec-Fetch-Site: same-origin"}, "", 200, ""},

		{"form", "POST /v1/act", at, []string{bearer, "Content-Type: application/x-www-form-urlencoded"}, "", 415, "Content-Type"},
		{"plain text", "POST /v1/echo", at, []string{bearer, "Content-Type: text/plain"}, `{"N":7}`, 415, ""},
		{"no type", "POST /v1/act", at, []string{bearer}, "", 415, ""},
		{"two types", "POST /v1/act", at, []string{bearer, asJSON, "Content-Type: text/plain"}, "", 415, ""},
		{"packed", "POST /v1/echo", at, []string{bearer, asJSON, "Content-Encoding: gzip"}, "x", 415, ""},
		{"other method", "DELETE /v1/act", at, []string{bearer}, "", 405, "POST"},
		{"get of an action", "GET /v1/act", at, []string{bearer}, "", 405, ""},
		{"method override", "GET /v1/act", at, []string{bearer, "X-HTTP-Method-Override: POST"}, "", 405, ""},
		{"connect", "CONNECT " + at, at, []string{bearer}, "", 404, ""},
		{"trace", "TRACE /status", at, []string{bearer}, "", 405, ""},
		{"body of a get", "GET /status", at, []string{bearer}, "x", 400, "no body"},
		{"body of an action", "POST /v1/act", at, []string{bearer, asJSON}, "{}", 400, "no body"},
		{"large body", "POST /v1/echo", at, []string{bearer, asJSON}, strings.Repeat("x", 1001), 413, "at most 1000"},
		{"unknown member", "POST /v1/echo", at, []string{bearer, asJSON}, `{"M":7}`, 400, "unknown field"},
		{"two values", "POST /v1/echo", at, []string{bearer, asJSON}, `{}{}`, 400, "more than one"},
		{"unknown parameter", "GET /status?x=1", at, []string{bearer}, "", 400, `unknown parameter`},
		{"parameter twice", "POST /v1/echo?a=1&a=2", at, []string{bearer, asJSON}, "", 400, "2 times"},
		{"bad query", "GET /status?%zz", at, []string{bearer}, "", 400, ""},
		{"long query", "POST /v1/echo?a=" + strings.Repeat("x", maxQuery), at, []string{bearer, asJSON}, "", 414, ""},

		{"root", "GET /", at, []string{bearer}, "", 404, ""},
		{"slash at the end", "GET /status/", at, []string{bearer}, "", 404, ""},
		{"two slashes", "GET //status", at, []string{bearer}, "", 404, ""},
		{"upwards", "GET /v1/../status", at, []string{bearer}, "", 404, ""},
		{"upwards without token", "GET /healthz/../status", at, nil, "", 401, ""},
		{"dot", "GET /./status", at, []string{bearer}, "", 404, ""},
		{"escaped letter", "GET /%73tatus", at, []string{bearer}, "", 404, ""},
		{"escaped slash", "GET /v1%2Fact", at, []string{bearer}, "", 404, ""},
		{"escaped slash without token", "GET /healthz%2F..%2Fstatus", at, nil, "", 401, ""},
		{"escaped zero", "GET /status%00", at, []string{bearer}, "", 404, ""},
		{"parameter of the path", "GET /status;/healthz", at, []string{bearer}, "", 404, ""},
		{"backslash", `GET /v1\act`, at, []string{bearer}, "", 404, ""},
		{"capitals", "GET /STATUS", at, []string{bearer}, "", 404, ""},
		{"file", "GET /etc/passwd", at, []string{bearer}, "", 404, ""},
		{"star", "OPTIONS *", at, []string{bearer}, "", 404, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request := test.line + " HTTP/1.1\r\nHost: " + test.host + "\r\nConnection: close\r\n"
			for _, h := range test.headers {
				request += h + "\r\n"
			}
			if test.body != "" {
				request += fmt.Sprintf("Content-Length: %d\r\n", len(test.body))
			}
			status, text := raw(t, "tcp", at, request+"\r\n"+test.body)
			if status != test.want || !strings.Contains(text, test.says) {
				t.Errorf("answer %d %s\nwant %d with %q", status, text, test.want, test.says)
			}
			if strings.Contains(text, token) {
				t.Errorf("the answer holds the token: %s", text)
			}
		})
	}
}

// TestI13OldTokenIsRefused: a new token takes effect at once.
func TestI13OldTokenIsRefused(t *testing.T) {
	e := newEngine(t)
	_, at := start(t, e)
	ask := func(with string) int {
		status, _ := raw(t, "tcp", at, "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "+with+"\r\n\r\n")
		return status
	}
	if got := ask(token); got != 200 {
		t.Errorf("the token: %d", got)
	}
	next := *e.plan
	next.Node.Admin.Token = "a new token of the tests"
	e.plan = &next
	if got := ask(token); got != 401 {
		t.Errorf("the old token: %d", got)
	}
	if got := ask("a new token of the tests"); got != 200 {
		t.Errorf("the new token: %d", got)
	}
}

// TestHugeBodyIsNotRead: a client that sends a gigabyte is cut off, with a length and
// without.
func TestHugeBodyIsNotRead(t *testing.T) {
	_, at := start(t, newEngine(t))
	for _, length := range []string{"Content-Length: 1073741824", "Transfer-Encoding: chunked"} {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /v1/echo HTTP/1.1\r\nHost: localhost\r\n%s\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n\r\n", length, token)
		sent := 0
		block := bytes.Repeat([]byte(" "), 64<<10)
		if strings.HasPrefix(length, "T") {
			block = append([]byte("10000\r\n"), append(block, "\r\n"...)...)
		}
		for err == nil && sent < 1<<30 {
			var n int
			n, err = c.Write(block)
			sent += n
		}
		if err == nil {
			t.Errorf("%s: all of it was taken", length)
		}
		if sent > 64<<20 {
			t.Errorf("%s: %d bytes were taken", length, sent)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stayed open", length)
		}
		c.Close()
	}
}

// TestHandlerAsksForCredentials: mounted in another program's server it is not open.
func TestHandlerAsksForCredentials(t *testing.T) {
	e := newEngine(t)
	e.plan.Node.Admin.Token = ""
	ask := func(cfg Config, path string) int {
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w := &recorder{header: http.Header{}}
		r, err := http.NewRequest(http.MethodGet, "http://any.example"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		http.StripPrefix("/weir", s.Handler()).ServeHTTP(w, r)
		return w.status
	}
	if got := ask(Config{Engine: e}, "/weir/status"); got != 403 {
		t.Errorf("without a token: %d", got)
	}
	if got := ask(Config{Engine: e}, "/weir/healthz"); got != 200 {
		t.Errorf("health: %d", got)
	}
	if got := ask(Config{Engine: e, Authorize: func(*http.Request) bool { return true }}, "/weir/status"); got != 200 {
		t.Errorf("authorized: %d", got)
	}
	if got := ask(Config{Engine: e, Authorize: func(*http.Request) bool { return false }}, "/weir/status"); got != 401 {
		t.Errorf("not authorized: %d", got)
	}
}

type recorder struct {
	header http.Header
	status int
	bytes.Buffer
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }

func TestSocket(t *testing.T) {
	e := newEngine(t)
	s, _ := start(t, e)
	path := filepath.Join(e.plan.Node.Data, SocketName)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	status, text := raw(t, "unix", path, "GET /status HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n")
	if status != 200 || strings.Contains(text, token) {
		t.Errorf("by the socket: %d %s", status, text)
	}
	if status, _ := raw(t, "unix", path, "GET /status HTTP/1.1\r\nHost: weir\r\nConnection: close\r\nOrigin: http://evil.example\r\n\r\n"); status != 403 {
		t.Errorf("a browser by the socket: %d", status)
	}
	second, err := New(Config{Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(); !errors.Is(err, ErrRunning) {
		t.Errorf("a second server: %v, want ErrRunning", err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := DialSocket(context.Background(), e.plan.Node.Data); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dial: %v, want ErrNotRunning", err)
	}
}

// TestStaleSocketIsReplaced: what a killed process left does not keep the next one out,
// and what is no socket is not removed.
func TestStaleSocketIsReplaced(t *testing.T) {
	e := newEngine(t)
	path := filepath.Join(e.plan.Node.Data, SocketName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := DialSocket(context.Background(), e.plan.Node.Data); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dial: %v, want ErrNotRunning", err)
	}
	s, _ := start(t, e)
	if status, _ := raw(t, "unix", path, "GET /healthz HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n"); status != 200 {
		t.Errorf("answer %d", status)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = New(Config{Engine: e}); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in its place: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file: %q, %v", b, err)
	}
}

// TestLongPathOfTheDataFolder: a socket's path is bounded by the system, a data
// folder's is not.
func TestLongPathOfTheDataFolder(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("SKIPPED: no /proc/self/fd")
	}
	e := newEngine(t)
	e.plan.Node.Data = filepath.Join(e.plan.Node.Data, strings.Repeat("long", 40))
	if err := os.Mkdir(e.plan.Node.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	s, _ := start(t, e)
	c, err := DialSocket(context.Background(), e.plan.Node.Data)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(e.plan.Node.Data, SocketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestStream(t *testing.T) {
	var list []Endpoint
	began := make(chan struct{})
	for name, run := range map[string]func(r *http.Request, send func(any) error) error{
		"two":     func(_ *http.Request, send func(any) error) error { return errors.Join(send(1), send("b")) },
		"none":    func(*http.Request, func(any) error) error { return nil },
		"refused": func(*http.Request, func(any) error) error { return Refuse(404, "no such route") },
		"broken": func(_ *http.Request, send func(any) error) error {
			return errors.Join(send(1), errors.New("the log is gone"))
		},
		"endless": func(r *http.Request, send func(any) error) error {
			if err := send("begin"); err != nil {
				return err
			}
			close(began)
			<-r.Context().Done()
			return r.Context().Err()
		},
	} {
		list = append(list, Endpoint{Method: http.MethodGet, Path: "/v1/" + name, Stream: run})
	}
	s, at := start(t, newEngine(t), list...)
	ask := func(name string) (int, string) {
		return raw(t, "tcp", at, "GET /v1/"+name+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	}
	for name, want := range map[string]string{"two": "1\n\"b\"\n", "none": "", "broken": "1\n{\"errors\":[{\"error\":\"the log is gone\"}]}\n"} {
		if status, text := ask(name); status != 200 || text != want {
			t.Errorf("%s: %d %q, want %q", name, status, text, want)
		}
	}
	if status, text := ask("refused"); status != 404 || !strings.Contains(text, "no such route") {
		t.Errorf("refused: %d %s", status, text)
	}
	if status, _ := raw(t, "tcp", at, "HEAD /v1/endless HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "+token+"\r\n\r\n"); status != 405 {
		t.Errorf("head of a stream: %d", status)
	}
	ended := make(chan string)
	go func() {
		_, text := ask("endless")
		ended <- text
	}()
	<-began
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if text := <-ended; text != "\"begin\"\n" {
		t.Errorf("endless: %q", text)
	}
}
