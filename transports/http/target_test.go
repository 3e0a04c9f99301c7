package http

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/weir-project/weir/transports"
)

const shopURL = "https://h.test/shops/<data.a>/orders-<data.b>?who=<data.c>&fixed=1"

// rendered is shopURL with values, as the engine writes it.
func rendered(origin, a, b, c string) string {
	esc := func(s string) string { return string(transports.EscapeURL.Append(nil, []byte(s))) }
	return origin + "/shops/" + esc(a) + "/orders-" + esc(b) + "?who=" + esc(c) + "&fixed=1"
}

func sinkOf(t testing.TB, given transports.Settings) *sink {
	t.Helper()
	made, err := New().NewSink(testEnv(t, "out"), settings(sinkOptions(), given))
	must(t, err)
	return made.(*sink)
}

// TestTemplatesAreChecked: placeholders have places where no event can choose whom Weir
// calls; all else is refused before the first one comes.
func TestTemplatesAreChecked(t *testing.T) {
	const authority = "url: a placeholder may stand in the path and in the query"
	for _, c := range []struct{ url, header, want string }{
		{shopURL, "X-Who: a <data.x>", ""},
		{"https://h.test?who=<data.x>", "", ""},
		{"https://h.test/<data.x>/", "", ""},
		{"<data.x>", "", authority},
		{"<data.x>://h.test/", "", authority},
		{"https://<data.x>/", "", authority},
		{"https://<data.x>.h.test/", "", authority},
		{"https://h.test<data.x>/", "", authority},
		{"https://h.test:80<data.x>/", "", authority},
		{"https://<data.x>@h.test/", "", authority},
		{"https://h.test/<data.x>#y", "", "must not have a fragment"},
		{"https://h.test/<data.x>/../y", "", "holds .. and would lead out of the path"},
		{"https://h.test/<data.x>/%0a", "", "has a control character"},
		{"https://h.test/<data.x>/<<", "", "is %3C"},
		{"https://h.test/", "X-<data.x>: y", "never in its name"},
		{"https://h.test/", "Host: <data.x>", "Host is set by the sink itself"},
	} {
		set := transports.Settings{"url": c.url}
		if c.header != "" {
			set["headers"] = []string{c.header}
		}
		_, err := New().NewSink(testEnv(t, "out"), settings(sinkOptions(), set))
		checkSetting(t, set, err, c.want)
	}
}

// TestDestinations: what events make of a URL and of headers.
func TestDestinations(t *testing.T) {
	s := sinkOf(t, transports.Settings{"url": shopURL, "headers": []string{"X-Fixed: <<1>", "X-Who: by <data.c>"}})
	for _, c := range []struct{ a, b, c, want string }{
		{"eu", "7", "Ann", "https://h.test/shops/eu/orders-7?who=Ann&fixed=1"},
		{"e/u?#", "ä&=", "a+b c", "https://h.test/shops/e%2Fu%3F%23/orders-%C3%A4%26%3D?who=a%2Bb%20c&fixed=1"},
		{"...", "", "", "https://h.test/shops/.../orders-?who=&fixed=1"},
		{"", "7", "Ann", "url: segment 2 of the path is empty for this event"},
		{".", "7", "Ann", "url: segment 2 of the path is . and would be lost"},
		{"..", "7", "Ann", "url: segment 2 of the path holds .. and would lead out of the path"},
		{"x/../../admin", "7", "Ann", "url: segment 2 of the path holds .."},
		{`..\admin`, "7", "Ann", "url: segment 2 of the path holds .."},
		{"eu", "/../x", "Ann", "url: segment 3 of the path holds .."},
		{"eu", "7\n", "Ann", "url: segment 3 of the path has a control character"},
		{"eu", "7", "\x00", "url: the query has a control character"},
		{"eu", "7", "a\r\nX-Evil: 1", "url: the query has a control character"},
	} {
		header := "X-Who: by " + string(transports.EscapeHeader.Append(nil, []byte(c.c)))
		to, err := s.cfg.destination(&transports.Entry{Rendered: []string{rendered("https://h.test", c.a, c.b, c.c), "X-Fixed: <1>", header}})
		switch {
		case err != nil && !strings.HasPrefix(err.Error(), c.want), err == nil && to.url != c.want:
			t.Errorf("%q: %+v, %v, want %s", c, to, err, c.want)
		case err == nil && (to.headers.Get("X-Fixed") != "<1>" || "X-Who: "+to.headers.Get("X-Who") != strings.TrimSpace(header)):
			t.Errorf("%q: headers %q", c, to.headers)
		}
	}
	s = sinkOf(t, transports.Settings{"url": "https://h.test/", "headers": []string{"X-Who: <data.c>"}})
	for value, want := range map[string]string{
		"Ann": "Ann", "Zoë \"Z\" 5%": "Zo%C3%AB%20%22Z%22%205%25", "": "",
		"a\nb": "!", "a\r": "!", "\x00": "!", "\n": "!", "a\x7f": "!",
	} {
		line := "X-Who: " + string(transports.EscapeHeader.Append(nil, []byte(value)))
		to, err := s.cfg.destination(&transports.Entry{Rendered: []string{"https://h.test/", line}})
		if (err != nil) != (want == "!") || err == nil && to.headers.Get("X-Who") != want {
			t.Errorf("%q: %+v, %v, want %q", value, to, err, want)
		}
	}
	if _, err := s.cfg.destination(&transports.Entry{}); err == nil {
		t.Error("an entry without texts goes somewhere")
	}
}

// FuzzURL: whatever values an event has, the request goes to the configured host, to a
// path of as many segments and a query of the same names, and the values arrive as they are.
func FuzzURL(f *testing.F) {
	for _, seed := range [][3]string{{"eu", "7", "Ann"}, {"..", "/", "&x=1"}, {"%2e%2e", "\\", "#"}, {"", "\n", "ä;"}, {"@evil.test", ":80", "?"}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	s := sinkOf(f, transports.Settings{"url": shopURL})
	f.Fuzz(func(t *testing.T, a, b, c string) {
		to, err := s.cfg.destination(&transports.Entry{Rendered: []string{rendered("https://h.test", a, b, c)}})
		if err != nil {
			if clean := strings.Trim(a+b+c, "abcdefghijklmnopqrstuvwxyz0123456789"); clean == "" && a != "" {
				t.Errorf("%q %q %q: %v", a, b, c, err)
			}
			return
		}
		r, err := nethttp.NewRequest(nethttp.MethodPost, to.url, nil)
		must(t, err)
		segments := strings.Split(r.URL.EscapedPath(), "/")
		if r.URL.Host != "h.test" || r.URL.Scheme != "https" || r.URL.User != nil || r.URL.Fragment != "" || len(segments) != 4 {
			t.Fatalf("%q %q %q: %s", a, b, c, to.url)
		}
		gotA, errA := url.PathUnescape(segments[2])
		gotB, errB := url.PathUnescape(segments[3])
		query, errC := url.ParseQuery(r.URL.RawQuery)
		if errA != nil || errB != nil || errC != nil || gotA != a || gotB != "orders-"+b || query.Get("who") != c || query.Get("fixed") != "1" || len(query) != 2 {
			t.Errorf("%q %q %q: %s", a, b, c, to.url)
		}
		if strings.Contains(r.URL.Path, "/../") || strings.HasSuffix(r.URL.Path, "/..") || strings.ContainsAny(r.URL.Path+c, "\r\n\x00") {
			t.Errorf("%q %q %q: %q", a, b, c, r.URL.Path)
		}
	})
}

// FuzzHeader: a value is one line of printable ASCII, or is refused.
func FuzzHeader(f *testing.F) {
	for _, seed := range []string{"Ann", "Zoë", "a\r\nX: y", " ", "%", "\t", "\x7f"} {
		f.Add(seed)
	}
	s := sinkOf(f, transports.Settings{"url": "https://h.test/", "headers": []string{"X-Who: <data.c>"}})
	f.Fuzz(func(t *testing.T, value string) {
		line := "X-Who: " + string(transports.EscapeHeader.Append(nil, []byte(value)))
		to, err := s.cfg.destination(&transports.Entry{Rendered: []string{"https://h.test/", line}})
		if err != nil {
			return
		}
		got, err := url.PathUnescape(to.headers.Get("X-Who"))
		if err != nil || got != strings.Trim(value, "\t") || !isFieldValue(to.headers.Get("X-Who")) {
			t.Errorf("%q became %q", value, to.headers.Get("X-Who"))
		}
	})
}

// TestBatchesOfDestinations (I7): entries of different URLs are not in one request, those
// of one key are sent in order, and none after one that was not taken.
func TestBatchesOfDestinations(t *testing.T) {
	var mu sync.Mutex // guards paths
	var paths []string
	h := newHook(t, func(w nethttp.ResponseWriter, r *nethttp.Request, body string) {
		mu.Lock()
		defer mu.Unlock()
		paths = append(paths, r.URL.Path+body)
		if r.URL.Path == "/gone" {
			w.WriteHeader(nethttp.StatusNotFound)
		}
	})
	s := openTestSink(t, h.URL+"/<data.x>", transports.Settings{"mode": modeBatch})
	entry := func(id, key, at string) transports.Entry {
		return transports.Entry{ID: id, Key: []byte(key), Data: []byte(id), Rendered: []string{h.URL + "/" + at}}
	}
	results := writeAll(s, entry("1", "k", "a"), entry("2", "k", "b"), entry("3", "l", "a"), entry("4", "k", "a"),
		entry("5", "m", "gone"), entry("6", "m", "a"), entry("7", "l", ".."), entry("8", "l", "a"))
	want := []transports.Class{transports.OK, transports.OK, transports.OK, transports.OK, transports.Poison, transports.Retry, transports.Poison, transports.Retry}
	for i := range want {
		if results[i].Class != want[i] || (results[i].Err == nil) != (want[i] == transports.OK) {
			t.Errorf("entry %d: %v, want %v", i+1, results[i], want[i])
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if got := fmt.Sprint(paths); got != "[/a[1,3] /b[2] /a[4] /gone[5]]" {
		t.Errorf("I7: requests %s", got)
	}
}

// TestAddressOfAnEvent: a URL that an event made and that the receiver does not know
// costs this event; the same answer to a fixed URL stops the sink.
func TestAddressOfAnEvent(t *testing.T) {
	status := 0
	h := newHook(t, func(w nethttp.ResponseWriter, _ *nethttp.Request, _ string) { w.WriteHeader(status) })
	open := openTestSink(t, h.URL+"/<data.x>", nil)
	fixed := openTestSink(t, h.URL+"/x", nil)
	for code, want := range map[int]transports.Class{307: transports.Poison, 404: transports.Poison, 405: transports.Poison, 410: transports.Poison, 401: transports.Fatal, 403: transports.Fatal, 503: transports.Retry} {
		status = code
		if r := writeAll(open, transports.Entry{ID: "1", Rendered: []string{h.URL + "/y"}})[0]; r.Class != want {
			t.Errorf("%d: %v, want %v", code, r, want)
		}
		if r := writeAll(fixed, transports.Entry{ID: "1", Rendered: []string{h.URL + "/x"}})[0]; r.Class != classOf(code) {
			t.Errorf("%d: %v, want %v", code, r, classOf(code))
		}
	}
}

// secureHook is a receiver with the certificate that an authority issued as server.
func secureHook(t *testing.T, a *authority) *httptest.Server {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.path("server.pem"), a.path("server.key"))
	must(t, err)
	h := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) { t.Error("a request came") }))
	h.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	h.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	h.StartTLS()
	t.Cleanup(h.Close)
	return h
}

// TestProbe: a receiver is reached without a request.
func TestProbe(t *testing.T) {
	plain := newHook(t, nil)
	a := newAuthority(t, "a")
	a.issue("server", 2)
	door := secureHook(t, a)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, gone.Close())
	for _, c := range []struct {
		name string
		set  transports.Settings
		ok   bool
	}{
		{"plain", transports.Settings{"url": plain.URL + "/<data.x>"}, true},
		{"nobody listens", transports.Settings{"url": "http://" + gone.Addr().String()}, false},
		{"TLS", transports.Settings{"url": door.URL, "tls_ca": a.path("ca.pem")}, true},
		{"unknown authority", transports.Settings{"url": door.URL}, false},
		{"another name", transports.Settings{"url": door.URL, "tls_ca": a.path("ca.pem"), "tls_server_name": "other.test"}, false},
		{"no TLS there", transports.Settings{"url": "https" + strings.TrimPrefix(plain.URL, "http")}, false},
		{"no file of authorities", transports.Settings{"url": door.URL, "tls_ca": a.path("none.pem")}, false},
	} {
		if err := sinkOf(t, c.set).Probe(t.Context()); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sinkOf(t, transports.Settings{"url": plain.URL}).Probe(ctx); err == nil {
		t.Error("reached with a context that has ended")
	}
	if n := len(plain.bodies()); n > 0 {
		t.Errorf("%d requests", n)
	}
}
