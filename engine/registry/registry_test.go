package registry

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestParse: what is refused, with its place and reason.
func TestParse(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat(`"a",`, MaxEvents+1), ",")
	var services []string
	for i := range MaxServices + 1 {
		services = append(services, fmt.Sprintf(`{"name":"s%d"}`, i))
	}
	for _, c := range []struct{ body, want string }{
		{`[]`, ""},
		{` [{"name":"kitchen","queue":["order:created","order:*","*"],"topic":null,"owner":{"team":7}}]`, ""},
		{``, "no JSON array"},
		{`{"name":"kitchen"}`, "no JSON array"},
		{`null`, "no JSON array"},
		{`<html>`, "no JSON array"},
		{`[{"name":"kitchen"}`, "unexpected end"},
		{`[{"name":"kitchen"}] x`, "invalid character"},
		{`[{"name":7}]`, "cannot unmarshal number"},
		{`[{"name":"kitchen","queue":"order:created"}]`, "cannot unmarshal string"},
		{`[{"queue":["a:b"]}]`, `service 0: name ""`},
		{`[{"name":"../dead"}]`, `service 0: name "../dead": letters`},
		{`[{"name":".x"}]`, `service 0: name ".x"`},
		{`[{"name":"` + strings.Repeat("x", 49) + `"}]`, "at most 48"},
		{`[{"name":"a"},{"name":"a"}]`, `service 1: name "a" is that of service 0 already`},
		{`[{"name":"a","queue":["x",""]}]`, "service 0: queue[1]: a name of 0 bytes"},
		{`[{"name":"a","topic":["` + strings.Repeat("x", MaxName+1) + `"]}]`, "service 0: topic[0]: a name of 257 bytes"},
		{`[{"name":"a","topic":["a**"]}]`, "service 0: topic[0]"},
		{`[{"name":"a","queue":[` + many + `]}]`, "service 0: queue: 257 names of events"},
		{`[` + strings.Join(services, ",") + `]`, "401 services, at most 400"},
	} {
		_, err := Parse([]byte(c.body))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.80s: %v, want %q", c.body, err, c.want)
		}
	}
	_, err := Parse([]byte(`[{"name":"?","queue":[""]},{"name":"b","topic":["**"]}]`))
	if n := strings.Count(fmt.Sprint(err), "\n") + 1; n != 3 {
		t.Errorf("%d mistakes are told, want all 3: %v", n, err)
	}
}

// TestDocument pins what a list becomes. The order of the list does not count.
func TestDocument(t *testing.T) {
	list, err := Parse([]byte(`[
		{"name":"kitchen","queue":["order:created","order:*","order:created"],"topic":["menu:changed"]},
		{"name":"audit","topic":["*","${HOME}:$x","back\\slash*"]},
		{"name":"idle"}]`))
	if err != nil {
		t.Fatal(err)
	}
	got := Document(list, []string{"hub"}, []string{"eventhub"})
	const name = "testdata/document.golden"
	if *update {
		if err := os.WriteFile(name, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s says\n%s\nand it became\n%s", name, want, got)
	}
	list[0], list[1] = list[1], list[0]
	if again := Document(list, []string{"hub"}, []string{"eventhub"}); string(again) != string(got) {
		t.Error("the order of the list counts")
	}
}

// FuzzParse: whatever a registry says, a list that is taken makes a document that is
// JSON and holds no reference.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`[]`, `[{"name":"a","queue":["a:b","*","a*b"]}]`, `[{"name":"a","topic":["$","${X}"]}]`, `[{"name":"a","queue":["\\*"]}]`, `[null]`, `{"a":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := Parse(body)
		if err != nil {
			return
		}
		text := Document(list, []string{"hub"}, []string{"eventhub"})
		if !json.Valid(text) || strings.Contains(strings.ReplaceAll(string(text), "$$", ""), "$") {
			t.Errorf("%s makes %s", body, text)
		}
	})
}

// TestFetch: what a client makes of answers, right and wrong.
func TestFetch(t *testing.T) {
	var asked, modified atomic.Int64
	answer := atomic.Pointer[http.HandlerFunc]{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		(*answer.Load())(w, r)
	}))
	defer server.Close()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer other.Close()
	say := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body)) // the client may have heard enough
		}
	}
	tagged := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("ETag", `"v1"`)
		if r.Header.Get("If-None-Match") == `"v1"` {
			modified.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write([]byte(`[{"name":"a","queue":["x:y"]}]`)) // the client may have gone
	})
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat(" ", 1024))); err != nil {
				return
			}
		}
	})
	silent := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := NewClient()
	defer c.Close()
	request := Request{URL: server.URL, Token: "secret", Timeout: 300 * time.Millisecond, Max: 64 << 10}
	for _, step := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // a part of the error
	}{
		{"error", say(500, "out of order"), "500 Internal Server Error: out of order"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }, "302 Found"},
		{"malformed", say(200, `[{"name":`), "is refused"},
		{"null", say(200, `null`), "is refused"},
		{"not modified, though nothing was accepted", say(304, ""), "304 Not Modified"},
		{"huge", say(200, "["+strings.Repeat(" ", 65<<10)+"]"), "more than 65536 bytes"},
		{"endless", endless, "more than 65536 bytes"},
		{"silent", silent, "deadline exceeded"},
		{"right", tagged, ""},
	} {
		answer.Store(&step.answer)
		list, err := c.Fetch(t.Context(), request)
		if step.want == "" && (err != nil || len(list) != 1) || step.want != "" && (err == nil || !strings.Contains(err.Error(), step.want)) {
			t.Errorf("%s: %v, %v, want %q", step.name, list, err, step.want)
		}
	}
	// A list that was not accepted comes again; one that was does not.
	if list, err := c.Fetch(t.Context(), request); err != nil || len(list) != 1 || modified.Load() != 0 {
		t.Errorf("not accepted: %v, %v, %d", list, err, modified.Load())
	}
	c.Accept()
	if list, err := c.Fetch(t.Context(), request); err != nil || list != nil || modified.Load() != 1 {
		t.Errorf("accepted: %v, %v, %d", list, err, modified.Load())
	}
	if _, err := c.Fetch(t.Context(), Request{URL: server.URL, Timeout: time.Second, Max: 1 << 10}); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without the token: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := asked.Load()
	if _, err := c.Fetch(ctx, request); err == nil || asked.Load() != before {
		t.Errorf("cancelled: %v", err)
	}
}
