package hub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	web "github.com/weir-project/weir/transports/http"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/transporttest"
)

const patience = 2 * time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v until %s", patience, what)
		}
	}
}

// service is a receiver of webhooks, which may be offline.
type service struct {
	*httptest.Server
	offline atomic.Bool

	mu   sync.Mutex
	came []map[string]any
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event map[string]any
		if s.offline.Load() || json.NewDecoder(r.Body).Decode(&event) != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.came = append(s.came, event)
	}))
	t.Cleanup(s.Close)
	return s
}

// names lists what came as name and order.
func (s *service) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, e := range s.came {
		list = append(list, fmt.Sprint(e["name"], " ", e["payload"].(map[string]any)["order"]))
	}
	return list
}

// catalogue is the registry.
type catalogue struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[func(http.ResponseWriter)]
}

func newCatalogue(t *testing.T) *catalogue {
	t.Helper()
	c := &catalogue{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		(*c.answer.Load())(w)
		c.asked.Add(1)
	}))
	t.Cleanup(c.Close)
	return c
}

// say makes the registry answer so from now on, and waits until it was asked.
func (c *catalogue) say(t *testing.T, status int, body string) {
	t.Helper()
	answer := func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // Weir may have heard enough
	}
	c.answer.Store(&answer)
	asked := c.asked.Load()
	until(t, "the registry was asked", func() bool { return c.asked.Load() > asked+1 })
}

// hub is the example at work.
type hub struct {
	t       *testing.T
	dir     string
	address string
	client  *http.Client
	engine  *engine.Engine
	stop    func()
	orders  int
}

func (h *hub) start() {
	h.t.Helper()
	transport := web.New()
	eng, err := engine.New(engine.Config{File: filepath.Join(h.dir, "weir.yaml"), Transports: []transports.Transport{transport, file.New(), local.New()}})
	must(h.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- eng.Run(ctx) }()
	h.engine = eng
	h.stop = func() {
		cancel()
		must(h.t, <-done)
	}
	until(h.t, "it listens", func() bool { return transport.Addr("hub") != "" })
}

// post sends an event of the next order, or of the last one.
func (h *hub) post(name string) string {
	h.t.Helper()
	h.orders++
	order := fmt.Sprintf("o-%d", h.orders)
	body := fmt.Sprintf(`{"request_id":"r-%d","source":"shop","name":%q,"timestamp":"2026-03-02T12:00:00Z","payload":{"order":%q}}`, h.orders, name, order)
	if status, text := h.send(body); status != http.StatusOK {
		h.t.Fatalf("%d %s", status, text)
	}
	return name + " " + order
}

func (h *hub) send(body string) (int, string) {
	h.t.Helper()
	answer, err := h.client.Post("http://"+h.address+"/events", "application/json", strings.NewReader(body))
	must(h.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(h.t, err)
	return answer.StatusCode, string(text)
}

// has says whether the running configuration has a sink.
func (h *hub) has(sink string) bool {
	for _, s := range h.engine.Plan().Sinks {
		if s.Name == sink {
			return true
		}
	}
	return false
}

// sameEvents says that each event of want came once. Each is of an order of its own,
// and orders have no order between them.
func sameEvents(got, want []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)))
}

// TestExample: services register while events flow, one is offline for a while, the
// registry fails in every way: each gets what it asked for, once and in order (I1, I5,
// I7), and no bad list replaces a good one (I14).
func TestExample(t *testing.T) {
	before := goleak.IgnoreCurrent()
	defer goleak.VerifyNone(t, before)
	registry, kitchen, billing := newCatalogue(t), newService(t), newService(t)
	h := &hub{t: t, dir: t.TempDir(), address: transporttest.FreeAddress(t), client: &http.Client{Transport: &http.Transport{}}}
	defer h.client.CloseIdleConnections()
	defer func() { registry.Close(); kitchen.Close(); billing.Close() }()
	t.Setenv("REGISTRY", registry.URL)
	t.Setenv("KITCHEN", kitchen.URL)
	t.Setenv("BILLING", billing.URL)
	text, err := os.ReadFile("weir.yaml")
	must(t, err)
	yaml := strings.NewReplacer("127.0.0.1:8080", h.address, "every: 5s", "every: 1s").Replace(string(text))
	must(t, os.WriteFile(filepath.Join(h.dir, "weir.yaml"), []byte(yaml), 0o600))
	services, err := os.ReadFile("services.json")
	must(t, err)

	one := func(w http.ResponseWriter) {
		_, _ = io.WriteString(w, `[{"name":"kitchen","queue":["order:created"]}]`)
	}
	registry.answer.Store(&one)
	h.start()
	until(t, "the kitchen has a queue", func() bool { return h.has("hub.kitchen.queue") })
	var cook, bill []string
	cook = append(cook, h.post("order:created"))
	h.post("order:cancelled") // nobody wants it yet
	until(t, "the kitchen has its order", func() bool { return sameEvents(kitchen.names(), cook) })
	if status, text := h.send(`{"request_id":"r-0","source":"shop","name":"order:created","timestamp":"yesterday","payload":{}}`); status != http.StatusBadRequest || !strings.Contains(text, "time") {
		t.Errorf("no time: %d %s", status, text)
	}

	// Billing registers, and is offline.
	billing.offline.Store(true)
	registry.say(t, http.StatusOK, string(services))
	until(t, "billing has a queue", func() bool { return h.has("hub.billing.queue") && h.has("hub.billing.topic") })
	both := func(name string) {
		event := h.post(name)
		cook, bill = append(cook, event), append(bill, event)
	}
	both("order:created")
	both("order:cancelled")
	bill = append(bill, h.post("order:paid"))
	until(t, "the kitchen goes on", func() bool { return sameEvents(kitchen.names(), cook) })

	// The registry fails: the last good list stays.
	generation := h.engine.Status().Generation
	registry.say(t, http.StatusInternalServerError, "out of order")
	registry.say(t, http.StatusOK, `[{"name":"kitchen","queue":["order:`)
	registry.say(t, http.StatusOK, `[{"name":"../dead","queue":["*"]}]`)
	registry.say(t, http.StatusOK, `[{"name":"dead","queue":["*"]}]`) // the queue of dead letters
	registry.say(t, http.StatusOK, "["+strings.Repeat(" ", 2<<20)+"]")
	registry.say(t, http.StatusOK, `[]`)
	if got := h.engine.Status().Generation; got != generation || !h.has("hub.billing.queue") || h.has("hub.dead.queue") {
		t.Errorf("I14: generation %d, want %d", got, generation)
	}
	both("order:created")

	// Also across a restart, with the registry still out of order.
	h.stop()
	h.start()
	both("order:created")
	if n := len(billing.names()); n > 0 {
		t.Errorf("%d events came to a service that is offline", n)
	}
	billing.offline.Store(false)
	until(t, "billing has its orders", func() bool { return len(billing.names()) >= len(bill) })
	until(t, "the kitchen has its orders", func() bool { return len(kitchen.names()) >= len(cook) })
	h.stop()

	for _, s := range []struct {
		name string
		got  []string
		want []string
	}{{"kitchen", kitchen.names(), cook}, {"billing", billing.names(), bill}} {
		if !sameEvents(s.got, s.want) {
			t.Errorf("%s got %q, want %q", s.name, s.got, s.want)
		}
	}
	for _, e := range append(kitchen.came, billing.came...) {
		if e["id"] == nil || e["processed_timestamp"] == nil || e["request_id"] == nil {
			t.Errorf("an event without id, processed_timestamp or request_id: %v", e)
		}
	}
}
