package http

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	nethttp "net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// patience is what only a hang reaches, however busy the machine is.
const patience = time.Minute

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testEnv(t testing.TB, name string) transports.Env {
	return transports.Env{Name: name, BaseDir: t.TempDir(), FS: vfs.OS{}, Log: slog.New(slog.DiscardHandler), Now: time.Now, MaxEvent: 1 << 20}
}

// settings fills in defaults, as configuration does.
func settings(options []transports.Option, given transports.Settings) transports.Settings {
	all := transports.Settings{}
	for _, o := range options {
		if o.Default != nil {
			all[o.Name] = o.Default
		}
	}
	for name, v := range given {
		all[name] = v
	}
	return all
}

// bench is an open source and what is needed to be its engine and its client.
type bench struct {
	t         *testing.T
	transport *Transport
	source    *source
	client    *nethttp.Client
	url       string
}

func openBench(t *testing.T, given transports.Settings) *bench {
	t.Helper()
	all := transports.Settings{"listen": "127.0.0.1:0"}
	for name, v := range given {
		all[name] = v
	}
	b := &bench{t: t, transport: New()}
	made, err := b.transport.NewSource(testEnv(t, "in"), settings(sourceOptions(), all))
	must(t, err)
	b.source = made.(*source)
	must(t, b.source.Open(t.Context(), nil, nil))
	t.Cleanup(func() { must(t, b.source.Close(context.Background())) })
	b.client = &nethttp.Client{Transport: &nethttp.Transport{}, Timeout: patience}
	t.Cleanup(b.client.CloseIdleConnections)
	b.url = "http://" + b.transport.Addr("in") + b.source.cfg.path
	return b
}

// engine receives and settles until the test ends. judge, where not nil, says what is
// refused. It returns what was received.
func (b *bench) engine(judge func(transports.Delivery) []transports.Refusal) *received {
	got := &received{}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for {
			list, err := b.source.Receive(ctx, 512, time.Minute)
			if err != nil {
				return
			}
			for _, d := range list {
				got.add(d)
				s := transports.Settlement{ID: d.ID}
				if judge != nil {
					s.Refused = judge(d)
				}
				for _, err := range b.source.Settle(ctx, []transports.Settlement{s}) {
					if err != nil && !errors.Is(err, transports.ErrNotHeld) {
						b.t.Error(err)
					}
				}
			}
		}
	})
	b.t.Cleanup(func() { cancel(); done.Wait() })
	return got
}

// received is what came to an engine.
type received struct {
	mu   sync.Mutex
	list []transports.Delivery
}

func (r *received) add(d transports.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, d)
}

// events lists the data of all events, one by one.
func (r *received) events() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, d := range r.list {
		all = append(all, eventsOf(d)...)
	}
	return all
}

func eventsOf(d transports.Delivery) []string {
	if d.Ends == nil {
		return []string{string(d.Data)}
	}
	var all []string
	from := uint32(0)
	for _, end := range d.Ends {
		all = append(all, string(d.Data[from:end]))
		from = end
	}
	return all
}

// reply is an answer, read.
type reply struct {
	status int
	header nethttp.Header
	body   string
}

func (b *bench) post(body string, headers ...string) reply {
	b.t.Helper()
	r, err := b.tryPost(body, headers...)
	must(b.t, err)
	return r
}

// tryPost sends a request; headers are names and values in turn.
func (b *bench) tryPost(body string, headers ...string) (reply, error) {
	r, err := nethttp.NewRequest(nethttp.MethodPost, b.url, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header[nethttp.CanonicalHeaderKey(headers[i])] = append(r.Header[nethttp.CanonicalHeaderKey(headers[i])], headers[i+1])
	}
	return b.do(r)
}

func (b *bench) do(r *nethttp.Request) (reply, error) {
	answer, err := b.client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, string(bytes.TrimSpace(text))}, err
}

// receive takes deliveries until so many are there.
func (b *bench) receive(n int) []transports.Delivery {
	b.t.Helper()
	var all []transports.Delivery
	for deadline := time.Now().Add(patience); len(all) < n; {
		if time.Now().After(deadline) {
			b.t.Fatalf("%d of %d deliveries came", len(all), n)
		}
		list, err := b.source.Receive(b.t.Context(), n-len(all), 50*time.Millisecond)
		must(b.t, err)
		all = append(all, list...)
	}
	return all
}

// background posts and gives the answer on a channel.
func (b *bench) background(body string, headers ...string) <-chan reply {
	c := make(chan reply, 1)
	go func() {
		r, err := b.tryPost(body, headers...)
		if err != nil {
			r = reply{body: fmt.Sprint(err)}
		}
		c <- r
	}()
	return c
}

func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
	}
	panic("unreachable")
}

// until waits for something that other goroutines do.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}
