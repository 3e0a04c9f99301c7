package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
)

// running is an engine at work with a server on its socket.
type running struct {
	t      *testing.T
	memory *memory.Transport
	http   *http.Client
}

func run(t *testing.T) *running {
	t.Helper()
	r := &running{t: t, memory: memory.New()}
	all := []transports.Transport{r.memory}
	data := t.TempDir()
	plan, err := config.Load(config.Options{File: "/weir.yaml", Transports: all, Data: fmt.Appendf(nil, `
version: 1
node: {data: %q, lanes: 1}
sources: {in: {memory: {queue: in}}}
routes: {big: {when: {data: {n: [{numeric: [">=", 5]}]}}, to: [out]}}
dead_letters: {memory: {queue: dead}}
sinks: {out: {memory: {queue: out}}}
`, data)})
	if err != nil {
		t.Fatal(err)
	}
	eng, err := engine.New(engine.Config{Plan: plan, Transports: all})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Engine: eng, Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- eng.Run(ctx) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return DialSocket(ctx, data) }}
	r.http = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		limit, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Close(limit); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *running) put(from, to int) {
	r.t.Helper()
	for i := from; i < to; i++ {
		e := fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"/s","type":"T","data":{"n":%d}}`, i, i)
		if err := r.memory.Queue("in").Put(transports.Entry{Data: []byte(e)}); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *running) get(path string, query url.Values) (int, string) {
	r.t.Helper()
	resp, err := r.http.Get("http://weir" + path + "?" + query.Encode())
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// lines waits until the journal has as many lines as are wanted.
func (r *running) lines(query url.Values, want int) (list []journal.Line) {
	r.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		status, text := r.get("/v1/journal", query)
		if status != http.StatusOK {
			r.t.Fatalf("%d: %s", status, text)
		}
		list = nil
		for line := range strings.Lines(text) {
			var l journal.Line
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				r.t.Fatalf("%s: %v", line, err)
			}
			list = append(list, l)
		}
		if len(list) == want {
			return list
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%v: %d lines, want %d: %s", query, len(list), want, text)
		}
	}
}

func TestJournalEndpoint(t *testing.T) {
	r := run(t)
	r.put(0, 10)
	r.lines(nil, 10)
	if list := r.lines(url.Values{"route": {"big"}, "oldest": {"true"}}, 5); list[0].ID != "e5" || list[0].Deliveries[0].Sink != "out" {
		t.Errorf("%+v", list[0])
	}
	r.lines(url.Values{"outcome": {"unmatched,refused"}, "limit": {"3"}}, 3)
	r.lines(url.Values{"id": {"e7"}, "since": {time.Now().Add(-time.Hour).Format(time.RFC3339)}}, 1)
	r.lines(url.Values{"until": {"2020-01-01T00:00:00Z"}}, 0)
	for name, q := range map[string]url.Values{
		"outcome": {"outcome": {"ded"}}, "limit": {"limit": {"many"}}, "since": {"since": {"1h"}}, "oldest": {"oldest": {"yes"}}, "unknown": {"ids": {"1"}}, "too many": {"limit": {"1000000"}},
	} {
		if status, text := r.get("/v1/journal", q); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}

func TestExplainEndpoint(t *testing.T) {
	r := run(t)
	r.put(5, 6)
	r.lines(nil, 1)
	post := func(body string) (int, Explained) {
		resp, err := r.http.Post("http://weir/v1/explain", JSON, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var x Explained
		if err := json.NewDecoder(resp.Body).Decode(&x); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, x
	}
	if status, x := post(`{"id":"e5"}`); status != http.StatusOK || !x.Found || len(x.Recorded) != 1 || x.Recorded[0].Outcome != "delivered" {
		t.Errorf("by id: %d %+v", status, x)
	}
	if status, x := post(`{"id":"gone"}`); status != http.StatusOK || x.Found {
		t.Errorf("unknown id: %d %+v", status, x)
	}
	event, _ := json.Marshal(engine.Query{Event: []byte(`{"specversion":"1.0","id":"new","source":"/s","type":"T","data":{"n":1}}`)})
	if status, x := post(string(event)); status != http.StatusOK || len(x.Events) != 1 || x.Events[0].Outcome != "unmatched" {
		t.Errorf("by bytes: %d %+v", status, x)
	}
	for _, bad := range []string{`{}`, `{"id":"e5","event":"e30=","source":"gone"}`, `{"ids":1}`, `[`} {
		if status, _ := post(bad); status != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, status)
		}
	}
}

// TestTapEndpoint streams what is settled, and frees its tap when the viewer goes.
func TestTapEndpoint(t *testing.T) {
	r := run(t)
	for _, q := range []url.Values{{"route": {"gone"}}, {"sample": {"x"}}, {"sample": {"-1"}}} {
		if status, text := r.get("/v1/tap", q); status != http.StatusBadRequest {
			t.Errorf("%v: %d %s", q, status, text)
		}
	}
	for round := range 20 { // more than there may be at once
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weir/v1/tap?route=big", nil)
		if err != nil {
			t.Fatal(err)
		}
		feeding := make(chan struct{})
		fed := make(chan struct{})
		go func() { // the answer begins with the first event
			defer close(fed)
			for n := 0; ; n++ {
				select {
				case <-feeding:
					return
				case <-time.After(5 * time.Millisecond):
					r.put(round*10_000+5+n, round*10_000+6+n)
				}
			}
		}()
		resp, err := r.http.Do(req)
		close(feeding)
		<-fed
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(resp.Body).ReadBytes('\n')
		var e flow.Tapped
		if err == nil {
			err = json.Unmarshal(line, &e)
		}
		if err != nil || e.Outcome != "delivered" || !bytes.Contains(e.Event, []byte(`"data":{"n":`)) {
			t.Fatalf("round %d: %v: %s", round, err, line)
		}
		cancel()
		resp.Body.Close()
	}
}
