package faults_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/transports/transporttest"
)

// webYAML takes events by HTTP and gives each to a file and a webhook. Nothing is
// parked, so an event whose request was answered has been at the webhook for good.
const webYAML = `
version: 1
node: {data: ./data}
sources:
  in: {http: {listen: ADDRESS}, key: data.key}
routes:
  all: {when: {type: [T]}, to: [out, hook]}
sinks:
  out: {file: {path: out.ndjson}}
  hook: {http: {url: "RECEIVER", concurrency: 4}, retry: {park_after: 1h, max_age: 2h}}
`

const (
	webClients = 4
	webBatch   = 20 // events a request holds at most
	webPause   = 2 * time.Millisecond
)

// web is what stands around the engine: clients that send until they are answered,
// and a receiver.
type web struct {
	t       *testing.T
	ledger  *faults.Ledger
	address string
	client  *http.Client
	failing atomic.Bool // the receiver says 500 now and then

	mu       sync.Mutex // guards what follows
	random   *rand.Rand
	answered map[string]bool   // events whose request was answered
	ids      map[string]string // by event: the idempotency key it came with
	came     []faults.Delivered
	repeats  int
	wrong    []string
}

func newWeb(t *testing.T, seed uint64) (*web, *httptest.Server) {
	t.Helper()
	w := &web{
		t: t, ledger: faults.NewLedger(seed), address: transporttest.FreeAddress(t), random: rand.New(rand.NewPCG(seed, 5)),
		client:   &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second},
		answered: map[string]bool{}, ids: map[string]string{},
	}
	receiver := httptest.NewServer(w)
	t.Cleanup(func() {
		receiver.Close()
		w.client.CloseIdleConnections()
	})
	return w, receiver
}

// ServeHTTP is the receiver. What comes after its request was answered was not in flight.
func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the engine was killed in the middle
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, rest, _ := strings.Cut(string(body), `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	key := r.Header.Get("Idempotency-Key")
	before, again := w.ids[id]
	switch {
	case again && before != key:
		w.wrong = append(w.wrong, fmt.Sprintf("%s came as %s and as %s", id, before, key))
	case again && w.answered[id]:
		w.wrong = append(w.wrong, id+" came again after its request was answered")
	}
	if w.failing.Load() && w.random.IntN(50) == 0 {
		rw.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.ids[id] = key
	if again {
		w.repeats++
	}
	w.came = append(w.came, faults.Delivered{Sink: "hook", Data: body})
}

// run sends batches of a client's own keys, one after the other, until ctx is done and
// the last one was answered.
func (w *web) run(ctx context.Context, number int, seed uint64) {
	random := rand.New(rand.NewPCG(seed, uint64(number)))
	for ctx.Err() == nil {
		var list []faults.Event
		for range 1 + random.IntN(webBatch) {
			list = append(list, w.ledger.Issue(fmt.Sprintf("c%d-%d", number, random.IntN(3)), "T", "out", "hook"))
		}
		w.send(list)
	}
}

// send repeats a request until it is answered.
func (w *web) send(list []faults.Event) {
	body := []byte{'['}
	for i := range list {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, list[i].Data...)
	}
	body = append(body, ']')
	for deadline := time.Now().Add(patience); !w.try(body); time.Sleep(webPause) {
		if time.Now().After(deadline) {
			w.t.Errorf("a request of %d events was not answered within %v; the first is %s", len(list), patience, list[0].ID)
			return
		}
	}
	w.ledger.Oblige(list...)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range list {
		w.answered[list[i].ID] = true
	}
}

func (w *web) try(body []byte) bool {
	r, err := w.client.Post("http://"+w.address+"/", "application/cloudevents-batch+json", bytes.NewReader(body))
	if err != nil {
		return false // killed, or not there yet
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	switch r.StatusCode {
	case http.StatusOK:
		return true
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		w.t.Errorf("answer %s: %s", r.Status, text)
	}
	return false
}

// TestHTTPKillCycles kills the real binary while clients post and a webhook receives:
// what was answered is not lost (I1, I3), stands once in the file (I5), comes in order
// (I7), and is repeated at the webhook only as long as its request was under way, with
// the same id.
func TestHTTPKillCycles(t *testing.T) {
	cycles := *killCycles
	if testing.Short() {
		cycles = min(cycles, 5)
	}
	seed := seedOf(t)
	w, receiver := newWeb(t, seed)
	f := newFolder(t, strings.NewReplacer("ADDRESS", w.address, "RECEIVER", receiver.URL).Replace(webYAML))
	w.failing.Store(true)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for i := range webClients {
		clients.Go(func() { w.run(ctx, i, seed) })
	}
	random := rand.New(rand.NewPCG(seed, 6))
	for range cycles {
		run := f.start(fmt.Sprintf("--node.lanes=%d", 1+random.IntN(8)), "--node.log.level=error")
		select {
		case <-time.After(time.Duration(5+random.IntN(496)) * time.Millisecond):
		case <-run.ended:
			t.Fatalf("it ended by itself with exit code %d\n%s", run.code(), &run.stderr)
		}
		run.kill()
	}
	run := f.start("--node.lanes=2")
	fresh := w.ledger.Issue("fresh", "T", "out", "hook")
	w.send([]faults.Event{fresh})
	f.awaitText("out.ndjson", fresh.ID) // I16
	stop()
	clients.Wait()
	if code := run.stop(t); code != 0 {
		t.Fatalf("exit code %d after SIGTERM\n%s", code, &run.stderr)
	}
	found, err := faults.Collect(f.places(map[string]string{"out": "out.ndjson"}, nil))
	must(t, err)
	found.Delivered = append(found.Delivered, w.came...)
	must(t, w.ledger.Check(found, "hook").Err())
	for _, line := range w.wrong[:min(len(w.wrong), 8)] {
		t.Errorf("I5: %s", line)
	}
	if most := (cycles + 1) * webClients * webBatch; w.repeats > most {
		t.Errorf("%d repeats at the webhook, more than the %d that can have been in flight", w.repeats, most)
	}
	if len(found.Dead) > 0 {
		t.Errorf("%d dead letters, and no event was bad: %v", len(found.Dead), found.Dead[0])
	}
	t.Logf("%d cycles: %d events answered, %d deliveries, %d of them repeats at the webhook", cycles, w.ledger.Obliged(), len(found.Delivered), w.repeats)
}
