package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// TestExplainPage: what docs/explain.md shows is what the commands print.
func TestExplainPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "explain.md"))
	if err != nil {
		t.Fatal(err)
	}
	var config, events string
	var sessions []string
	for _, m := range fence.FindAllStringSubmatch(string(page), -1) {
		switch {
		case m[1] == "yaml" && config == "":
			config = m[2]
		case m[1] == "json":
			events = m[2]
		case m[1] == "":
			sessions = append(sessions, m[2])
		}
	}
	folder(t, map[string]string{"weir.yaml": config, "orders.ndjson": events})
	if o := weir("", "run"); o.code != 0 {
		t.Fatalf("run: %s", o.diag)
	}
	for _, s := range sessions {
		command, want, _ := strings.Cut(s, "\n")
		args := strings.Fields(strings.TrimPrefix(command, "$ weir "))
		o := weir("", args...)
		got := masked(o.out)
		if want = masked(want); !strings.HasPrefix(got, want) {
			t.Errorf("%s prints\n%s\nthe page has\n%s", command, got, want)
		}
	}
	if len(sessions) < 3 {
		t.Errorf("only %d outputs on the page", len(sessions))
	}
}

func masked(text string) string {
	for _, c := range changing {
		text = c.form.ReplaceAllString(text, c.with)
	}
	return text
}

// TestJournalExplainAndTapOfARunningInstance: the commands ask over the socket.
func TestJournalExplainAndTapOfARunningInstance(t *testing.T) {
	folder(t, map[string]string{
		"weir.yaml":     strings.Replace(goodConfig, "{path: orders.ndjson}", "{path: orders.ndjson, follow: true}", 1),
		"orders.ndjson": orders, "one.json": "{\"specversion\":\"1.0\",\"id\":\"7\",\n\"source\":\"/s\",\"type\":\"Order\",\"data\":{\"total\":70}}\n",
	})
	stop := make(chan os.Signal, 1)
	done := make(chan outcome, 1)
	go func() {
		done <- weirWith(func(p *program) {
			p.signals = func(c chan<- os.Signal) func() {
				go func() {
					if s, ok := <-stop; ok {
						c <- s
					}
				}()
				return func() {}
			}
		}, "", "run")
	}()
	waitFor(t, func() bool { return strings.Contains(weir("", "journal", "--id", "3").out, "delivered") })
	if o := weir("", "explain", "--event", "one.json", "--json"); o.code != 0 || !strings.Contains(o.out, `"live": true`) || !strings.Contains(o.out, `"outcome": "delivered"`) {
		t.Errorf("explain: %d\n%s%s", o.code, o.out, o.diag)
	}
	if o := weir("", "explain", "--id", "gone"); o.code != 1 || !strings.Contains(o.out, "does not know gone") {
		t.Errorf("explain gone: %d\n%s%s", o.code, o.out, o.diag)
	}
	if o := weir("", "tap", "gone"); o.code != exitUsage || !strings.Contains(o.diag, `no route "gone"; weir status lists`) {
		t.Errorf("tap gone: %d\n%s%s", o.code, o.out, o.diag)
	}
	if o := weir("", "explain", "--event", "one.json", "--source", "gone"); o.code != exitUsage || !strings.Contains(o.diag, "there are: orders") {
		t.Errorf("explain of no source: %d\n%s%s", o.code, o.out, o.diag)
	}
	tapped := make(chan outcome, 1)
	go func() { tapped <- weir("", "tap", "big", "--limit", "1") }()
	n := 100
	waitFor(t, func() bool { // until the tap has begun
		n++
		f, err := os.OpenFile("orders.ndjson", os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		line, _ := json.Marshal(map[string]any{"specversion": "1.0", "id": time.Now().String(), "source": "/s", "type": "Order", "data": map[string]int{"total": n}})
		if _, err := f.Write(append(bytes.TrimSuffix(line, []byte("\n")), '\n')); err != nil {
			t.Fatal(err)
		}
		select {
		case o := <-tapped:
			if o.code != 0 || !strings.Contains(o.out, "big > kitchen, audit") || !strings.Contains(o.out, `"data":{"total":`) {
				t.Errorf("tap: %d\n%s%s", o.code, o.out, o.diag)
			}
			return true
		default:
			return false
		}
	})
	stop <- os.Interrupt
	if o := <-done; o.code != 0 {
		t.Errorf("run: %d\n%s", o.code, o.diag)
	}
	if o := weir("", "tap"); o.code != 3 || !strings.Contains(o.diag, "weir run") {
		t.Errorf("tap of nothing: %d %s", o.code, o.diag)
	}
}

// waitFor asks until it is so, for at most two minutes.
func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
	for !so() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it did not come to be")
		}
	}
}
