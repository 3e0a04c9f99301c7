package http

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		must(t, os.WriteFile(name, []byte(got), 0o600))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s says\n%s\nand it became\n%s", name, want, got)
	}
}

// hook is a receiver of webhooks.
type hook struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seen
}

type seen struct {
	header nethttp.Header
	body   string
}

func newHook(t *testing.T, answer func(w nethttp.ResponseWriter, r *nethttp.Request, body string)) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client broke off
		}
		h.mu.Lock()
		h.seen = append(h.seen, seen{r.Header, string(body)})
		h.mu.Unlock()
		if answer != nil {
			answer(w, r, string(body))
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) bodies() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, s := range h.seen {
		all = append(all, s.body)
	}
	return all
}

func openTestSink(t *testing.T, url string, given transports.Settings) *sink {
	t.Helper()
	all := transports.Settings{"url": url}
	for name, v := range given {
		all[name] = v
	}
	made, err := New().NewSink(testEnv(t, "out"), settings(sinkOptions(), all))
	must(t, err)
	must(t, made.Open(t.Context()))
	t.Cleanup(func() { must(t, made.Close(context.Background())) })
	return made.(*sink)
}

func writeAll(s *sink, batch ...transports.Entry) []transports.Result {
	results := make([]transports.Result, len(batch))
	s.Write(context.Background(), batch, results)
	return results
}

// TestErrors pins what is said of answers; the table of classes is pinned by TestConformance.
func TestErrors(t *testing.T) {
	var b strings.Builder
	status, header := 200, nethttp.Header{}
	h := newHook(t, func(w nethttp.ResponseWriter, _ *nethttp.Request, _ string) {
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"error":"because"}`)) // a client that left sees nothing
	})
	s := openTestSink(t, h.URL, nil)
	text := func(r transports.Result) string {
		return strings.ReplaceAll(fmt.Sprintf("%v after %v: %v\n", r.Class, r.After, r.Err), h.URL, "http://receiver")
	}
	for _, c := range []struct {
		status int
		header nethttp.Header
	}{
		{204, nil},
		{302, nethttp.Header{"Location": {"http://169.254.169.254/latest"}}},
		{400, nil},
		{401, nil},
		{404, nil},
		{410, nil},
		{422, nil},
		{500, nil},
		{504, nil},
		{429, nil},
		{429, nethttp.Header{"Retry-After": {"7"}}},
		{429, nethttp.Header{"Retry-After": {"junk"}}},
		{429, nethttp.Header{"Retry-After": {"999999999"}}},
		{503, nil},
		{503, nethttp.Header{"Retry-After": {"7"}}},
	} {
		status, header = c.status, c.header
		b.WriteString(text(writeAll(s, transports.Entry{ID: "1", Data: []byte(`{}`)})[0]))
	}
	golden(t, "testdata/errors.golden", b.String())
}

// TestFailuresWithoutAnAnswer: whether the entry may have arrived decides.
func TestFailuresWithoutAnAnswer(t *testing.T) {
	release := make(chan struct{})
	slow := newHook(t, func(nethttp.ResponseWriter, *nethttp.Request, string) { <-release })
	defer close(release)
	reset := newHook(t, func(w nethttp.ResponseWriter, _ *nethttp.Request, _ string) {
		c, _, err := w.(nethttp.Hijacker).Hijack()
		if err == nil {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	})
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, gone.Close())
	secure := httptest.NewTLSServer(nethttp.NotFoundHandler())
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = nil
	for _, c := range []struct {
		name, url string
		set       transports.Settings
		want      transports.Class
	}{
		{"no answer in time", slow.URL, transports.Settings{"timeout": 50 * time.Millisecond}, transports.Unknown},
		{"connection lost after the request", reset.URL, nil, transports.Unknown},
		{"nobody listens", "http://" + gone.Addr().String(), nil, transports.Retry},
		{"no such host", "http://receiver.invalid/", nil, transports.Retry},
		{"unknown authority", secure.URL, nil, transports.Fatal},
		{"no TLS there", "https://" + strings.TrimPrefix(slow.URL, "http://"), nil, transports.Retry},
	} {
		s := openTestSink(t, c.url, c.set)
		r := writeAll(s, transports.Entry{ID: "1", Data: []byte(`{}`)})[0]
		if r.Class != c.want || r.Err == nil {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
	}
	if n := len(reset.bodies()); n != 1 {
		t.Errorf("%d requests for one attempt: the client repeats by itself", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	results := make([]transports.Result, 1)
	s := openTestSink(t, slow.URL, nil)
	s.Write(ctx, []transports.Entry{{ID: "1"}}, results)
	if results[0].Class != transports.Retry {
		t.Errorf("not sent: %v", results[0])
	}
	must(t, s.Close(t.Context()))
	if r := writeAll(s, transports.Entry{ID: "1"})[0]; r.Class != transports.Retry {
		t.Errorf("after Close: %v", r)
	}
}

// TestRedirectsAreNotFollowed: another address is not what the configuration allows.
func TestRedirectsAreNotFollowed(t *testing.T) {
	other := newHook(t, nil)
	h := newHook(t, func(w nethttp.ResponseWriter, r *nethttp.Request, _ string) {
		nethttp.Redirect(w, r, other.URL, nethttp.StatusTemporaryRedirect)
	})
	s := openTestSink(t, h.URL, nil)
	if r := writeAll(s, transports.Entry{ID: "1", Data: []byte(`{}`)})[0]; r.Class != transports.Fatal || !strings.Contains(r.Err.Error(), other.URL) {
		t.Errorf("%v", r)
	}
	if n := len(other.bodies()); n > 0 {
		t.Errorf("%d requests followed the redirect", n)
	}
}

// TestRequests: what a receiver sees in each mode.
func TestRequests(t *testing.T) {
	h := newHook(t, nil)
	one := `{"specversion":"1.0","id":"Ä 1","source":"/s","type":"t","time":"2026-01-02T03:04:05Z","n":7,"data":{"a":1}}`
	two := `{"specversion":"1.0","id":"2","source":"/s","type":"t","datacontenttype":"image/png","data_base64":"AQID"}`
	var b strings.Builder
	for _, mode := range []string{modeOriginal, modeStructured, modeBinary, modeBatch} {
		h.seen = nil
		s := openTestSink(t, h.URL, transports.Settings{"mode": mode, "token": "tok", "headers": []string{"X-Team: food"}, "signing_secrets": []string{"secret"}, "concurrency": int64(1)})
		s.env.Now = func() time.Time { return time.Unix(1760000000, 0) }
		for i, r := range writeAll(s, transports.Entry{ID: "Ä 1/route", Data: []byte(one)}, transports.Entry{ID: "2/route", Data: []byte(two)}) {
			if r.Class != transports.OK {
				t.Errorf("%s: entry %d: %v", mode, i, r)
			}
		}
		for _, got := range h.seen {
			fmt.Fprintf(&b, "%s\n", mode)
			names := make([]string, 0, len(got.header))
			for name := range got.header {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				fmt.Fprintf(&b, "  %s: %s\n", name, strings.Join(got.header[name], ", "))
			}
			fmt.Fprintf(&b, "  %q\n", got.body)
			v := &verifier{secrets: [][]byte{[]byte("secret")}, webhook: true}
			if err := v.verify(got.header, []byte(got.body), time.Unix(1760000000, 0)); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
		}
	}
	golden(t, "testdata/requests.golden", b.String())
	for mode, want := range map[string]int{modeOriginal: 0, modeStructured: 1, modeBinary: 1, modeBatch: 1} {
		if got := openTestSink(t, h.URL, transports.Settings{"mode": mode}).Codec(); len(got) != want {
			t.Errorf("%s needs the codec %q", mode, got)
		}
	}
	s := openTestSink(t, h.URL, transports.Settings{"mode": modeBinary})
	if r := writeAll(s, transports.Entry{ID: "1", Data: []byte(`{}`)})[0]; r.Class != transports.Poison {
		t.Errorf("no CloudEvent in binary mode: %v", r)
	}
}

// TestOrderOfKeys (I7): entries of a key are sent one after the other, and none after
// one that was not taken; others go on, at most so many at once.
func TestOrderOfKeys(t *testing.T) {
	var now, most atomic.Int64
	h := newHook(t, func(w nethttp.ResponseWriter, _ *nethttp.Request, body string) {
		n := now.Add(1)
		defer now.Add(-1)
		for {
			old := most.Load()
			if n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		if body == "b1" {
			w.WriteHeader(nethttp.StatusInternalServerError)
		}
	})
	s := openTestSink(t, h.URL, transports.Settings{"concurrency": int64(3)})
	var batch []transports.Entry
	for i := range 5 {
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			batch = append(batch, transports.Entry{ID: fmt.Sprint(key, i), Key: []byte(key), Data: []byte(fmt.Sprint(key, i))})
		}
	}
	for i, r := range writeAll(s, batch...) {
		want := transports.OK
		if key := batch[i].ID[0]; key == 'b' && batch[i].ID >= "b1" {
			want = transports.Retry
		}
		if r.Class != want || (r.Err == nil) != (want == transports.OK) {
			t.Errorf("%s: %v, want %v", batch[i].ID, r, want)
		}
	}
	if most.Load() > 3 {
		t.Errorf("%d requests at once", most.Load())
	}
	last := map[byte]string{}
	for _, body := range h.bodies() {
		if body < last[body[0]] {
			t.Errorf("I7: %s came after %s", body, last[body[0]])
		}
		last[body[0]] = body
	}
	if last['b'] != "b1" || last['a'] != "a4" {
		t.Errorf("the last of each key: %q", last)
	}
}

// TestOneAnswerForAll: a receiver that says no to everything is not asked for each entry.
func TestOneAnswerForAll(t *testing.T) {
	for status, want := range map[int]transports.Class{429: transports.Throttled, 401: transports.Fatal} {
		h := newHook(t, func(w nethttp.ResponseWriter, _ *nethttp.Request, _ string) { w.WriteHeader(status) })
		s := openTestSink(t, h.URL, transports.Settings{"concurrency": int64(1)})
		batch := make([]transports.Entry, 8)
		for i, r := range writeAll(s, batch...) {
			if r.Class != want {
				t.Errorf("entry %d: %v, want %v", i, r, want)
			}
		}
		if n := len(h.bodies()); n != 1 {
			t.Errorf("%d: %d requests", status, n)
		}
	}
}

// TestBatchWithOneBadEvent: only the event at fault dies.
func TestBatchWithOneBadEvent(t *testing.T) {
	h := newHook(t, func(w nethttp.ResponseWriter, _ *nethttp.Request, body string) {
		if strings.Contains(body, "bad") {
			w.WriteHeader(nethttp.StatusUnprocessableEntity)
		}
	})
	s := openTestSink(t, h.URL, transports.Settings{"mode": modeBatch})
	entry := func(id, key string) transports.Entry {
		return transports.Entry{ID: id, Key: []byte(key), Data: []byte(fmt.Sprintf("%q", id))}
	}
	results := writeAll(s, entry("1", "k"), entry("bad", "b"), entry("3", "b"), entry("4", "k"))
	want := []transports.Class{transports.OK, transports.Poison, transports.Retry, transports.OK}
	for i := range want {
		if results[i].Class != want[i] {
			t.Errorf("entry %d: %v, want %v", i, results[i], want[i])
		}
	}
	if got := h.bodies()[0]; !json.Valid([]byte(got)) || got != `["1","bad","3","4"]` {
		t.Errorf("%s", got)
	}
	h.seen = nil
	if r := writeAll(s, entry("1", "k"), entry("2", "l")); r[0].Class != transports.OK || len(h.bodies()) != 1 {
		t.Errorf("%v, %d requests", r, len(h.bodies()))
	}
}

// TestEndlessAnswer: of an answer that has no end some bytes are read, and the status counts.
func TestEndlessAnswer(t *testing.T) {
	h := newHook(t, func(w nethttp.ResponseWriter, r *nethttp.Request, _ string) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4<<10)); err != nil {
				return
			}
		}
	})
	s := openTestSink(t, h.URL, nil)
	if r := writeAll(s, transports.Entry{ID: "1", Data: []byte(`{}`)})[0]; r.Class != transports.OK {
		t.Errorf("%v", r)
	}
}

// TestStandardWebhooksVector is the example of the specification's own libraries.
func TestStandardWebhooksVector(t *testing.T) {
	secrets, err := readSecrets("s", []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
	must(t, err)
	h := nethttp.Header{}
	body := []byte(`{"test": 2432232314}`)
	at := time.Unix(1614265330, 0)
	sign(h, secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", body, at)
	if got, want := h.Get("webhook-signature"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"0": 0, "12": 12 * time.Second, "Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:00:00 GMT": 0, "Fri, 02 Jan 2099 03:00:00 GMT": maxPause,
	} {
		if got, ok := retryAfter(text, now); !ok || got != want {
			t.Errorf("%s: %v, %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "-1", "1.5", "soon"} {
		if got, ok := retryAfter(text, now); ok {
			t.Errorf("%q: %v", text, got)
		}
	}
}
