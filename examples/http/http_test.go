package http_test

import (
	"context"
	"io"
	nethttp "net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/http"
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

// folder is a copy of the example that listens on an address of its own.
func folder(t *testing.T, address string) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("weir.yaml")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "weir.yaml"), []byte(strings.ReplaceAll(string(text), "127.0.0.1:8080", address)), 0o600))
	return dir
}

// run runs the example until the test stops it, and returns how.
func run(t *testing.T, dir string) (stop func() engine.Status) {
	t.Helper()
	web := http.New()
	eng, err := engine.New(engine.Config{File: filepath.Join(dir, "weir.yaml"), Transports: []transports.Transport{web, file.New(), local.New()}})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- eng.Run(ctx) }()
	until(t, "it listens", func() bool { return web.Addr("orders") != "" && web.Addr("kitchen") != "" })
	return func() engine.Status {
		cancel()
		must(t, <-done)
		return eng.Status()
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

func post(t *testing.T, client *nethttp.Client, url, token, body string) (int, string) {
	t.Helper()
	r, err := nethttp.NewRequest(nethttp.MethodPost, url, strings.NewReader(body))
	must(t, err)
	r.Header.Set("Content-Type", "application/cloudevents-batch+json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := client.Do(r)
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, strings.TrimSpace(string(text))
}

func lines(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil
	}
	must(t, err)
	list := strings.Split(strings.TrimSpace(string(text)), "\n")
	slices.Sort(list)
	return list
}

// TestExample does what the example's page says: through a webhook and back, each event
// once (I1, I5), the refused one told and kept.
func TestExample(t *testing.T) {
	defer goleak.VerifyNone(t)
	address := transporttest.FreeAddress(t)
	dir := folder(t, address)
	client := &nethttp.Client{Transport: &nethttp.Transport{}}
	defer client.CloseIdleConnections()
	orders, err := os.ReadFile("orders.json")
	must(t, err)
	stop := run(t, dir)

	const answer = `{"accepted":3,"refused":[{"index":2,"reason":"invalid_field","detail":"event: source is missing"}]}`
	for range 2 {
		if status, body := post(t, client, "http://"+address+"/orders", "let-me-in", string(orders)); status != 207 || body != answer {
			t.Errorf("%d %s, want 207 %s", status, body, answer)
		}
	}
	for path, token := range map[string]string{"/orders": "let-me-inn", "/kitchen": "let-me-in"} {
		if status, body := post(t, client, "http://"+address+path, token, string(orders)); status != 401 {
			t.Errorf("I13: %s: %d %s", path, status, body)
		}
	}
	cooked := filepath.Join(dir, "run/cooked.ndjson")
	until(t, "the kitchen has both orders", func() bool { return len(lines(t, cooked)) == 2 })
	status := stop()

	want := []string{
		`{"specversion":"1.0","id":"o-1-created","source":"/shop","type":"OrderCreated","datacontenttype":"application/json","data":{"order_id":"o-1","service":"delivery","dish":"ramen"}}`,
		`{"specversion":"1.0","id":"o-4-created","source":"/shop","type":"OrderCreated","datacontenttype":"application/json","data":{"order_id":"o-4","service":"delivery","dish":"dosa – extra spicy"}}`,
	}
	for i, line := range lines(t, cooked) {
		if got := withoutStamp(line); got != want[i] {
			t.Errorf("line %d of the kitchen:\n%s\nwant\n%s", i, got, want[i])
		}
	}
	if rest := lines(t, filepath.Join(dir, "run/rest.ndjson")); len(rest) != 1 || !strings.Contains(rest[0], "o-2-created") {
		t.Errorf("unmatched: %q", rest)
	}
	outcomes := map[string]uint64{}
	for _, s := range status.Sources {
		for name, n := range s.Outcomes {
			outcomes[name] += n
		}
	}
	if outcomes["delivered"] != 4 || outcomes["duplicate"] != 3 || outcomes["unmatched"] != 1 || outcomes["refused"] != 2 {
		t.Errorf("outcomes %v", outcomes)
	}
}

// withoutStamp takes out the time of processing, which differs from run to run.
func withoutStamp(line string) string {
	before, rest, found := strings.Cut(line, `,"processedtime":"`)
	if !found {
		return line
	}
	_, after, _ := strings.Cut(rest, `"`)
	return before + after
}
