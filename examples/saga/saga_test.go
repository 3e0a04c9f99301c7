package saga_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

var update = flag.Bool("update", false, "write the golden files anew")

// outcomes are those of the 11 events that come in, and of the 13 that follow.
var outcomes = map[string]map[string]uint64{
	"orders":   {"delivered": 4, "duplicate": 1, "unmatched": 1},
	"receipts": {"delivered": 2, "duplicate": 1, "unmatched": 1, "discarded": 1},
	"derived":  {"delivered": 13},
}

// folder copies the example, so that each run has fresh data.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "events"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"weir.yaml", "events/orders.ndjson", "events/receipts.ndjson"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func run(t *testing.T, dir string) engine.Status {
	t.Helper()
	eng, err := engine.New(engine.Config{
		File:       filepath.Join(dir, "weir.yaml"),
		Transports: []transports.Transport{file.New(), local.New()},
		Now:        func() time.Time { return time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := eng.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return eng.Status()
}

// TestSaga runs the example and compares every sink with its golden file: each order
// is captured once, whatever came twice (I5), and what follows from it is in order
// (I7), under the same ids each time (I9). A second run does nothing again.
func TestSaga(t *testing.T) {
	dir := folder(t)
	status := run(t, dir)
	for name, want := range outcomes {
		if got := status.Sources[name].Outcomes; !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	compare(t, dir)

	status = run(t, dir)
	for name, s := range status.Sources {
		if len(s.Outcomes) != 0 {
			t.Errorf("the second run: %s has %v, want nothing", name, s.Outcomes)
		}
	}
	compare(t, dir)
}

func compare(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"story", "unmatched"} {
		data, err := os.ReadFile(filepath.Join(dir, "run", name+".ndjson"))
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
		if name == "story" {
			inOrder(t, lines)
		}
		golden(t, name, lines)
	}
	for _, name := range []string{"couriers", "payments", "dead"} {
		golden(t, name, entries(t, filepath.Join(dir, "run", "weir-data"), name))
	}
}

// steps is how far an order is at an event.
var steps = map[string]int{"OrderAccepted": 1, "ArrangeDelivery": 2, "OrderDeliveryArranged": 3, "CapturePayment": 4}

// inOrder wants the steps of each order one after the other.
func inOrder(t *testing.T, lines [][]byte) {
	t.Helper()
	last := map[string]int{}
	for _, line := range lines {
		var e struct {
			Type   string `json:"detail-type"`
			Detail struct {
				Data struct {
					Order string `json:"order_id"`
				}
			}
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		order, step := e.Detail.Data.Order, steps[e.Type]
		if order == "" {
			continue // a receipt
		}
		if step <= last[order] {
			t.Errorf("order %s: %s came after step %d", order, e.Type, last[order])
		}
		last[order] = step
	}
	if want := map[string]int{"o-1": 4, "o-2": 4, "o-3": 4, "o-4": 1}; !maps.Equal(last, want) {
		t.Errorf("the orders came to %v, want %v", last, want)
	}
}

// entries reads a queue without taking anything off it.
func entries(t *testing.T, data, name string) [][]byte {
	t.Helper()
	q, err := local.OpenQueueWith(local.QueueConfig{Data: data, Kind: local.QueueKind, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	c, err := q.Consumer("", true)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Receive(context.Background(), 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]byte
	for _, d := range got {
		lines = append(lines, d.Data)
	}
	return lines
}

// golden compares lines without regard to order: orders have none between them.
func golden(t *testing.T, name string, lines [][]byte) {
	t.Helper()
	var text []string
	for _, line := range lines {
		text = append(text, string(line)+"\n")
	}
	slices.Sort(text)
	got := strings.Join(text, "")
	path := filepath.Join("testdata", name+".ndjson")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: have\n%s\nwant\n%s", name, got, want)
	}
}
