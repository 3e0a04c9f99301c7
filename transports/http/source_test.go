package http

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	nethttp "net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/transporttest"
)

func packed(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text)) // into memory
	_ = w.Close()
	return b.String()
}

// TestFraming: which events a body holds, by its headers, and what is said of those
// that hold none.
func TestFraming(t *testing.T) {
	const one = `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`
	for _, c := range []struct {
		name    string
		headers []string
		body    string
		status  int
		want    []string // events, or a part of the error
	}{
		{"structured", []string{"content-type", "application/cloudevents+json; charset=UTF-8"}, one, 200, []string{one}},
		{"structured with odd spaces", []string{"content-type", "application/cloudevents+json"}, " " + one + "\n", 200, []string{" " + one + "\n"}},
		{"batch", []string{"content-type", "application/cloudevents-batch+json"}, "[" + one + " , " + one + "]", 200, []string{one, one}},
		{"empty batch", []string{"content-type", "application/cloudevents-batch+json"}, " [ ] ", 200, nil},
		{"batch that is none", []string{"content-type", "application/cloudevents-batch+json"}, one, 400, []string{"byte 0: an array must begin here"}},
		{"batch without an end", []string{"content-type", "application/cloudevents-batch+json"}, "[" + one, 400, []string{"the array has no end"}},
		{"batch with text after it", []string{"content-type", "application/cloudevents-batch+json"}, "[" + one + "]x", 400, []string{"text after the array"}},
		{"json", []string{"content-type", "application/json"}, `{"a":1}`, 200, []string{`{"a":1}`}},
		{"json array", []string{"content-type", "application/json"}, ` [{"a":1}, {"b":"]"},3]`, 200, []string{`{"a":1}`, `{"b":"]"}`, "3"}},
		{"any +json", []string{"content-type", "application/vnd.shop+json"}, `{"a":1}`, 200, []string{`{"a":1}`}},
		{"no content type", nil, `{"a":1}`, 200, []string{`{"a":1}`}},
		{"configured type", []string{"content-type", "text/plain; charset=utf-8"}, `{"a":1}`, 200, []string{`{"a":1}`}},
		{"lines", []string{"content-type", "application/x-ndjson"}, "{\"a\":1}\r\n\n  \n{\"b\":2}", 200, []string{`{"a":1}`, `{"b":2}`}},
		{"packed", []string{"content-type", "application/json", "content-encoding", "gzip"}, packed(`{"a":1}`), 200, []string{`{"a":1}`}},
		{"packed badly", []string{"content-type", "application/json", "content-encoding", "gzip"}, `{"a":1}`, 400, []string{"unpack"}},
		{"packed bomb", []string{"content-type", "application/json", "content-encoding", "gzip"}, packed(strings.Repeat(" ", 9<<20)), 413, []string{"the body has more than 8388608 bytes"}},
		{"packed otherwise", []string{"content-encoding", "br"}, `{}`, 415, []string{`the content encoding \"br\" is not known`}},
		{"empty", []string{"content-type", "application/json"}, " ", 400, []string{"the body is empty"}},
		{"form", []string{"content-type", "application/x-www-form-urlencoded"}, "a=b", 415, []string{"application/x-www-form-urlencoded", "application/cloudevents+json"}},
		{"avro", []string{"content-type", "application/cloudevents+avro", "ce-specversion", "1.0"}, "x", 415, []string{"application/cloudevents+avro"}},
		{"charset", []string{"content-type", "application/json; charset=latin1"}, "{}", 415, []string{"latin1"}},
		{"no media type", []string{"content-type", "//"}, "{}", 415, []string{"no media type"}},
		{"large event", []string{"content-type", "application/json"}, `"` + strings.Repeat("x", 1<<20) + `"`, 413, []string{"an event of 1048578 bytes, at most 1048576 are allowed"}},
		{"large body", []string{"content-type", "application/x-ndjson"}, strings.Repeat("x", 9<<20), 413, []string{"the body has more than 8388608 bytes"}},
		{"many events", []string{"content-type", "application/x-ndjson"}, strings.Repeat("1\n", maxEvents+1), 413, []string{"10001 events, at most 10000 are allowed"}},
		{"long key", []string{"idempotency-key", strings.Repeat("k", 300)}, "{}", 400, []string{"Idempotency-Key has 300 bytes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := openBench(t, transports.Settings{"content_types": []string{"text/plain"}})
			got := b.engine(nil)
			r := b.post(c.body, c.headers...)
			if r.status != c.status {
				t.Fatalf("status %d: %s, want %d", r.status, r.body, c.status)
			}
			if c.status == 200 {
				if !slices.Equal(got.events(), c.want) || !strings.Contains(r.body, fmt.Sprintf(`"accepted":%d`, len(c.want))) {
					t.Errorf("events %q, answer %s, want %q", got.events(), r.body, c.want)
				}
				return
			}
			for _, part := range c.want {
				if !strings.Contains(r.body, part) {
					t.Errorf("answer %s, want %q in it", r.body, part)
				}
			}
			if len(got.events()) > 0 {
				t.Errorf("I2: refused, and events came: %q", got.events())
			}
		})
	}
}

// TestRefusedEvents: an answer lists the events that the engine refused (and only they
// are), so that a client knows what of a batch was taken.
func TestRefusedEvents(t *testing.T) {
	b := openBench(t, nil)
	b.engine(func(d transports.Delivery) (list []transports.Refusal) {
		for i, e := range eventsOf(d) {
			if strings.Contains(e, "bad") {
				list = append(list, transports.Refusal{Event: i, Reason: "invalid_field", Detail: "because of " + e})
			}
		}
		return list
	})
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{`["a","b"]`, 200, `{"accepted":2}`},
		{`["a","bad","c"]`, 207, `{"accepted":2,"refused":[{"index":1,"reason":"invalid_field","detail":"because of \"bad\""}]}`},
		{`["bad"]`, 400, `{"accepted":0,"refused":[{"index":0,"reason":"invalid_field","detail":"because of \"bad\""}]}`},
		{`"bad"`, 400, `{"accepted":0,"refused":[{"index":0,"reason":"invalid_field","detail":"because of \"bad\""}]}`},
	} {
		if r := b.post(c.body); r.status != c.status || r.body != c.want {
			t.Errorf("%s: %d %s, want %d %s", c.body, r.status, r.body, c.status, c.want)
		}
	}
	r := b.post("[" + strings.Repeat(`"bad",`, 2000) + `"good"]`)
	if r.status != 207 || strings.Count(r.body, "index") != maxRefusals || !strings.Contains(r.body, `"more_refused":1000`) || !strings.Contains(r.body, `"accepted":1`) {
		t.Errorf("%d, %d refusals, %.80s", r.status, strings.Count(r.body, "index"), r.body)
	}
}

// TestAnswerComesAfterTheSettlement (I3).
func TestAnswerComesAfterTheSettlement(t *testing.T) {
	b := openBench(t, nil)
	answer := b.background(`{"a":1}`)
	d := b.receive(1)[0]
	select {
	case r := <-answer:
		t.Fatalf("I3: answered before the settlement: %d %s", r.status, r.body)
	case <-time.After(100 * time.Millisecond):
	}
	must(t, errors.Join(b.source.Settle(t.Context(), []transports.Settlement{{ID: d.ID}})...))
	if r := await(t, answer, "an answer"); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if err := errors.Join(b.source.Settle(t.Context(), []transports.Settlement{{ID: d.ID}})...); !errors.Is(err, transports.ErrNotHeld) {
		t.Errorf("settled twice: %v", err)
	}
}

// TestAccept answers when the engine has the events, before they are settled.
func TestAccept(t *testing.T) {
	b := openBench(t, transports.Settings{"answer": "accept"})
	if !b.source.Capabilities().Lossy {
		t.Error("a source that answers early does not say that it may lose events")
	}
	answer := b.background(`[1,2]`)
	d := b.receive(1)[0]
	if r := await(t, answer, "an answer"); r.status != 202 || r.body != `{"accepted":2}` {
		t.Errorf("%d %s", r.status, r.body)
	}
	must(t, errors.Join(b.source.Settle(t.Context(), []transports.Settlement{{ID: d.ID}})...))
	if b.source.buffered != 0 {
		t.Errorf("I15: %d bytes are still counted", b.source.buffered)
	}
}

// TestNoRoom: while the engine takes nothing, requests are refused with 429, and
// nothing is held for them.
func TestNoRoom(t *testing.T) {
	b := openBench(t, transports.Settings{"wait": 10 * time.Millisecond})
	var waiting []<-chan reply
	for range maxQueued {
		waiting = append(waiting, b.background(`1`))
	}
	until(t, "a full queue", func() bool { return len(b.source.queue) == maxQueued })
	r := b.post(`1`)
	if r.status != 429 || r.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s, Retry-After %q", r.status, r.body, r.header.Get("Retry-After"))
	}
	b.engine(nil)
	for _, c := range waiting {
		if r := await(t, c, "an answer"); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	if r := b.post(`1`); r.status != 200 {
		t.Errorf("with room again: %d %s", r.status, r.body)
	}
}

// TestBuffer: bodies under way are bounded in bytes (I15).
func TestBuffer(t *testing.T) {
	b := openBench(t, transports.Settings{"max_body": int64(1 << 20), "buffer": int64(1 << 20)})
	big := `"` + strings.Repeat("x", 1<<19) + `"`
	first := b.background(big)
	held := b.receive(1)
	second := b.background(big)
	if r := await(t, second, "an answer"); r.status != 429 || !strings.Contains(r.body, "buffer") {
		t.Errorf("%d %s", r.status, r.body)
	}
	must(t, errors.Join(b.source.Settle(t.Context(), []transports.Settlement{{ID: held[0].ID}})...))
	if r := await(t, first, "an answer"); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	b.engine(nil)
	if r := b.post(big); r.status != 200 || b.source.buffered != 0 {
		t.Errorf("%d %s, %d bytes counted", r.status, r.body, b.source.buffered)
	}
}

func TestRate(t *testing.T) {
	b := openBench(t, transports.Settings{"rate": int64(1), "burst": int64(2)})
	b.engine(nil)
	var got []int
	for range 3 {
		got = append(got, b.post(`1`).status)
	}
	if !slices.Equal(got, []int{200, 200, 429}) {
		t.Errorf("%v", got)
	}
}

// TestCredentials: who may send.
func TestCredentials(t *testing.T) {
	now := time.Now()
	secret := []byte("s3cr3t")
	encoded := "whsec_" + base64.StdEncoding.EncodeToString(secret)
	body := `{"a":1}`
	stamp := fmt.Sprint(now.Unix())
	webhook := func(id, stamp, body string) string {
		return "v1," + base64.StdEncoding.EncodeToString(webhookMAC(secret, id, stamp, []byte(body)))
	}
	tokens := transports.Settings{"tokens": []string{"old", "new"}}
	hmacs := transports.Settings{"signature": "body", "secrets": []string{"other", "s3cr3t"}, "signature_header": "X-Hub-Signature-256"}
	sha512s := transports.Settings{"signature": "body", "secrets": []string{"s3cr3t"}, "signature_algorithm": "sha512"}
	webhooks := transports.Settings{"signature": "webhook", "secrets": []string{encoded}}
	for _, c := range []struct {
		name    string
		set     transports.Settings
		headers []string
		status  int
	}{
		{"token", tokens, []string{"authorization", "Bearer new"}, 200},
		{"older token", tokens, []string{"authorization", "bearer old"}, 200},
		{"wrong token", tokens, []string{"authorization", "Bearer nex"}, 401},
		{"no token", tokens, nil, 401},
		{"other scheme", tokens, []string{"authorization", "Basic new"}, 401},
		{"hex", hmacs, []string{"x-hub-signature-256", "sha256=" + hex.EncodeToString(mac("sha256", secret, []byte(body)))}, 200},
		{"base64", hmacs, []string{"x-hub-signature-256", base64.StdEncoding.EncodeToString(mac("sha256", secret, []byte(body)))}, 200},
		{"of another body", hmacs, []string{"x-hub-signature-256", hex.EncodeToString(mac("sha256", secret, []byte(`{"a":2}`)))}, 401},
		{"with another secret", hmacs, []string{"x-hub-signature-256", hex.EncodeToString(mac("sha256", []byte("guess"), []byte(body)))}, 401},
		{"unsigned", hmacs, nil, 401},
		{"empty", hmacs, []string{"x-hub-signature-256", "sha256="}, 401},
		{"sha512", sha512s, []string{defaultHeader, hex.EncodeToString(mac("sha512", secret, []byte(body)))}, 200},
		{"webhook", webhooks, []string{webhookID, "m1", webhookTime, stamp, webhookSign, "v1,AAAA v2,xyz " + webhook("m1", stamp, body)}, 200},
		{"webhook of another id", webhooks, []string{webhookID, "m2", webhookTime, stamp, webhookSign, webhook("m1", stamp, body)}, 401},
		{"webhook of another time", webhooks, []string{webhookID, "m1", webhookTime, fmt.Sprint(now.Unix() - 1), webhookSign, webhook("m1", stamp, body)}, 401},
		{"old webhook", webhooks, []string{webhookID, "m1", webhookTime, fmt.Sprint(now.Unix() - 900), webhookSign, webhook("m1", fmt.Sprint(now.Unix()-900), body)}, 401},
		{"unsigned webhook", webhooks, nil, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := openBench(t, c.set)
			got := b.engine(nil)
			r := b.post(body, c.headers...)
			if r.status != c.status {
				t.Errorf("%d %s, want %d", r.status, r.body, c.status)
			}
			if (len(got.events()) == 1) != (c.status == 200) {
				t.Errorf("I13: %d events came", len(got.events()))
			}
			for _, s := range []string{"s3cr3t", "old", "new"} {
				if strings.Contains(r.body, s) {
					t.Errorf("the answer tells a secret: %s", r.body)
				}
			}
		})
	}
}

// TestKeys: a request that comes again while it is in flight waits with the first, and
// gives the engine nothing new; ids come from the key.
func TestKeys(t *testing.T) {
	b := openBench(t, nil)
	first := b.background(`{"a":1}`, "idempotency-key", "k1")
	d := b.receive(1)[0]
	if d.ID != "key/k1" || d.Partition != partitionKeys || d.Ordinal != 0x6ab9f1eb8f7d3388 {
		t.Errorf("id %q, partition %q, ordinal %#x", d.ID, d.Partition, d.Ordinal)
	}
	if r := b.post(`{"a":2}`, "idempotency-key", "k1"); r.status != 422 {
		t.Errorf("another body: %d %s", r.status, r.body)
	}
	second := b.background(`{"a":1}`, "idempotency-key", "k1")
	select {
	case r := <-second:
		t.Fatalf("answered while the first is in flight: %d %s", r.status, r.body)
	case <-time.After(50 * time.Millisecond):
	}
	must(t, errors.Join(b.source.Settle(t.Context(), []transports.Settlement{{ID: d.ID}})...))
	if r := await(t, first, "the first answer"); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := await(t, second, "the second answer"); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if list, err := b.source.Receive(t.Context(), 10, 0); err != nil || len(list) > 0 {
		t.Errorf("the repeat came to the engine: %d, %v", len(list), err)
	}
	if b.source.buffered != 0 {
		t.Errorf("I15: %d bytes are still counted", b.source.buffered)
	}
	one, two := b.background(`1`), b.background(`1`)
	list := b.receive(2)
	if list[0].ID == list[1].ID || list[0].Ordinal == list[1].Ordinal || !strings.HasPrefix(list[0].Partition, partitionRequests) {
		t.Errorf("%+v and %+v", list[0], list[1])
	}
	if other := openBench(t, nil); other.source.start == b.source.start {
		t.Errorf("two starts have one name: %s", other.source.start)
	}
	must(t, b.source.Close(t.Context()))
	if r := await(t, one, "an answer"); r.status != 503 {
		t.Errorf("%d %s", r.status, r.body)
	}
	await(t, two, "an answer")
}

// TestStop: what waits is told to come again when the engine stops asking; what it has
// is settled; and once it asks again, it goes on.
func TestStop(t *testing.T) {
	b := openBench(t, nil)
	inFlight := b.background(`1`)
	d := b.receive(1)[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.source.Receive(ctx, 1, time.Minute); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if r := b.post(`2`); r.status != 503 || r.header.Get("Retry-After") == "" {
		t.Errorf("while stopping: %d %s", r.status, r.body)
	}
	must(t, errors.Join(b.source.Settle(t.Context(), []transports.Settlement{{ID: d.ID}})...))
	if r := await(t, inFlight, "an answer"); r.status != 200 {
		t.Errorf("in flight: %d %s", r.status, r.body)
	}
	if list, err := b.source.Receive(t.Context(), 1, 0); err != nil || len(list) > 0 {
		t.Errorf("%d, %v", len(list), err)
	}
	got := b.engine(nil)
	if r := b.post(`3`); r.status != 200 || !slices.Equal(got.events(), []string{"3"}) {
		t.Errorf("after the pause: %d %s, %q", r.status, r.body, got.events())
	}
}

// TestSlowClients: neither a header nor a body that trickles holds a connection for ever.
func TestSlowClients(t *testing.T) {
	b := openBench(t, transports.Settings{"header_timeout": 100 * time.Millisecond, "body_timeout": 100 * time.Millisecond, "idle_timeout": 100 * time.Millisecond})
	b.engine(nil)
	for name, text := range map[string]string{
		"header": "POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"body":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"idle":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1",
	} {
		c, err := net.Dial("tcp", b.transport.Addr("in"))
		must(t, err)
		_, err = c.Write([]byte(text))
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(patience)))
		answer, err := nethttp.ReadResponse(bufio.NewReader(c), nil)
		switch {
		case name == "header" && err == nil && answer.StatusCode != 408: // closed, or told
			t.Errorf("%s: %v", name, answer.Status)
		case name == "body" && (err != nil || answer.StatusCode != 408):
			t.Errorf("%s: %v, %v", name, answer, err)
		case name == "idle" && (err != nil || answer.StatusCode != 200):
			t.Errorf("%s: %v, %v", name, answer, err)
		}
		if answer != nil {
			_ = answer.Body.Close()
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: the connection stays: %v", name, err)
		}
		_ = c.Close()
	}
	if b.source.buffered != 0 {
		t.Errorf("I15: %d bytes are still counted", b.source.buffered)
	}
}

// TestConnections: no more than so many at once; the next one waits its turn.
func TestConnections(t *testing.T) {
	b := openBench(t, transports.Settings{"max_connections": int64(1)})
	b.engine(nil)
	hog, err := net.Dial("tcp", b.transport.Addr("in"))
	must(t, err)
	_, err = hog.Write([]byte("POST / HTTP/1.1\r\n"))
	must(t, err)
	answer := b.background(`1`)
	select {
	case r := <-answer:
		t.Fatalf("a second connection was served: %d %s", r.status, r.body)
	case <-time.After(100 * time.Millisecond):
	}
	must(t, hog.Close())
	if r := await(t, answer, "an answer"); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// TestHeaders: their size and number are bounded.
func TestHeaders(t *testing.T) {
	b := openBench(t, transports.Settings{"max_headers": int64(10), "max_header_bytes": int64(4 << 10)})
	b.engine(nil)
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("x-%d", i), "v")
	}
	if r := b.post(`1`, many...); r.status != 431 {
		t.Errorf("many: %d %s", r.status, r.body)
	}
	// The server answers while the client still writes, so the connection may break first.
	if r, err := b.tryPost(`1`, "x-long", strings.Repeat("v", 16<<10)); err == nil && r.status != 431 {
		t.Errorf("long: %d %s", r.status, r.body)
	}
	r, err := nethttp.NewRequest(nethttp.MethodGet, b.url, nil)
	must(t, err)
	if got, err := b.do(r); err != nil || got.status != 405 || got.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d, %v", got.status, err)
	}
	b.url += "elsewhere"
	if r := b.post(`1`); r.status != 503 || r.header.Get("Retry-After") == "" {
		t.Errorf("other path, just after the start: %d %s", r.status, r.body)
	}
	grown(b.source.server)
	if r := b.post(`1`); r.status != 404 {
		t.Errorf("other path: %d %s", r.status, r.body)
	}
}

// grown makes a server one that has listened for long.
func grown(sv *server) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	sv.since = sv.since.Add(-settling)
}

// TestCommitTimeout: a client is not held for ever; what it sent goes on.
func TestCommitTimeout(t *testing.T) {
	b := openBench(t, transports.Settings{"commit_timeout": 50 * time.Millisecond})
	answer := b.background(`1`)
	d := b.receive(1)[0]
	if r := await(t, answer, "an answer"); r.status != 504 {
		t.Errorf("%d %s", r.status, r.body)
	}
	must(t, errors.Join(b.source.Settle(t.Context(), []transports.Settlement{{ID: d.ID}})...))
}

// TestSharedAddress: sources with one address share a server, each with its path, as
// long as they agree on how to listen.
func TestSharedAddress(t *testing.T) {
	tr := New()
	listen := transporttest.FreeAddress(t)
	open := func(name string, given transports.Settings) (transports.Source, error) {
		given["listen"] = listen
		s, err := tr.NewSource(testEnv(t, name), settings(sourceOptions(), given))
		must(t, err)
		return s, s.Open(t.Context(), nil, nil)
	}
	a, err := open("a", transports.Settings{"path": "/a"})
	must(t, err)
	b, err := open("b", transports.Settings{"path": "/b"})
	must(t, err)
	if _, err := open("c", transports.Settings{"path": "/b"}); err == nil || !strings.Contains(err.Error(), "the source b has") {
		t.Errorf("same path: %v", err)
	}
	if _, err := open("d", transports.Settings{"path": "/d", "max_connections": int64(5)}); err == nil || !strings.Contains(err.Error(), "must be the same") {
		t.Errorf("other settings: %v", err)
	}
	must(t, a.Close(t.Context()))
	grown(b.(*source).server)
	client := &nethttp.Client{Transport: &nethttp.Transport{DisableKeepAlives: true}}
	for path, want := range map[string]int{"/a": 404, "/b": 405} {
		answer, err := client.Get("http://" + listen + path)
		must(t, err)
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, answer.Status, want)
		}
	}
	must(t, b.Close(t.Context()))
	if _, err := client.Get("http://" + listen + "/b"); err == nil {
		t.Error("it still listens after the last source was closed")
	}
	again, err := open("a", transports.Settings{"path": "/a"})
	must(t, err)
	must(t, again.Close(t.Context()))
}
