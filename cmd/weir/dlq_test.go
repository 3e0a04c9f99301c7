package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/admin"
	"github.com/weir-project/weir/engine/letters"
)

// unlike are the parts of what docs/dead-letters.md shows that differ between runs.
var unlike = []struct {
	form *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`20\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]+-[0-9a-f]+-[0-9a-f]{16}`), "PARTITION"},
	{regexp.MustCompile(`(?m)^\d+( +TIME)`), "N$1"},
	{regexp.MustCompile(`(number"?:? +)\d+`), "${1}N"},
	{regexp.MustCompile(`show \d+`), "show N"},
}

func unlikely(s string) string {
	for _, u := range unlike {
		s = u.form.ReplaceAllString(s, u.with)
	}
	return strings.TrimSpace(s)
}

// TestDeadLettersPage runs the commands of docs/dead-letters.md one after the other and
// compares what they print.
func TestDeadLettersPage(t *testing.T) {
	page := filepath.Join(wd, "..", "..", "docs", "dead-letters.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(wd, "..", "..", "examples"))); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "quickstart"))
	if err := os.RemoveAll("run"); err != nil {
		t.Fatal(err)
	}
	if got := weir("", "run"); got.code != 0 {
		t.Fatal(got)
	}
	shown := regexp.MustCompile("(?s)```text\n\\$ weir (.*?)\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(shown) < 8 {
		t.Fatalf("only %d commands", len(shown))
	}
	for _, m := range shown {
		args := strings.Fields(m[1])
		if args[1] == "show" {
			args[2] = strconv.FormatUint(lettersOf(t, "--id", "p-5")[0].Number, 10)
		}
		got := weir("", args...)
		if *update {
			text = bytes.Replace(text, []byte(m[0]), []byte("```text\n$ weir "+strings.Join(args, " ")+"\n"+got.out+"```"), 1)
			continue
		}
		if got.code != 0 || unlikely(got.out) != unlikely(m[2]) {
			t.Errorf("weir %s exits with %d and prints\n%s%s\nbut the page shows\n%s", m[1], got.code, got.out, got.diag, m[2])
		}
	}
	if *update {
		if err := os.WriteFile(page, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func lettersOf(t *testing.T, args ...string) []letters.Letter {
	t.Helper()
	got := weir("", append([]string{"dlq", "list", "--json"}, args...)...)
	var e struct{ Result []letters.Letter }
	if err := json.Unmarshal([]byte(got.out), &e); err != nil || got.code != 0 {
		t.Fatalf("%v\n%s%s", err, got.out, got.diag)
	}
	return e.Result
}

// TestDeadLettersOfARunningInstance: the same commands ask the instance, while it goes on.
func TestDeadLettersOfARunningInstance(t *testing.T) {
	following := strings.Replace(goodConfig, "path: orders.ndjson", "path: orders.ndjson, follow: true", 1)
	broken := orders
	for i := range 20 {
		broken += fmt.Sprintf("{\"broken\": %d\n", i)
	}
	folder(t, map[string]string{"weir.yaml": following, "orders.ndjson": broken})
	quit, done := make(chan os.Signal, 1), make(chan outcome, 1)
	go func() {
		done <- weirWith(func(p *program) {
			p.signals = func(c chan<- os.Signal) func() {
				go func() {
					if s, ok := <-quit; ok {
						c <- s
					}
				}()
				return func() {}
			}
		}, "", "run")
	}()
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			quit <- syscall.SIGTERM
			if got := <-done; got.code != 0 {
				t.Errorf("the instance ends in %d\n%s", got.code, got.diag)
			}
		}
	}
	defer stop()
	comesAbout(t, func() bool {
		c, err := admin.DialSocket(t.Context(), "weir-data")
		if err != nil {
			return false
		}
		c.Close()
		return len(lettersOf(t)) == 21
	})
	if got := lettersOf(t, "--limit", "5"); len(got) != 5 || got[0].Reason != "invalid_json" {
		t.Errorf("limit: %+v", got)
	}
	if got := weir("", "dlq", "redrive", "--rate", "0"); got.code != 0 || !strings.Contains(got.out, "21 dead letters") || !strings.Contains(got.out, "Nothing was done") {
		t.Errorf("a dry run: %v", got)
	}
	if got := weir("", "dlq", "redrive", "--rate", "50", "--yes"); got.code != 0 || !strings.Contains(got.out, "Redriven: 21.") {
		t.Errorf("redrive: %v", got)
	}
	comesAbout(t, func() bool { return len(lettersOf(t)) == 21 })
	for _, l := range lettersOf(t) {
		if l.Attempts != 2 {
			t.Errorf("after its redrive: %+v", l)
		}
	}
	first := strconv.FormatUint(lettersOf(t)[0].Number, 10)
	if got := weir("", "dlq", "drop", first, "--yes"); got.code != 0 || !strings.Contains(got.out, "Dropped: 1.") {
		t.Errorf("drop: %v", got)
	}
	if got := weir("", "dlq", "show", first); got.code != exitUsage || !strings.Contains(got.diag, "no dead letter "+first) {
		t.Errorf("a letter that is gone: %v", got)
	}
	if got := weir("", "dlq", "drop", "--limit", "7", "--yes"); got.code != 0 || !strings.Contains(got.out, "Dropped: 7.") {
		t.Errorf("drop with a limit: %v", got)
	}
	stop()
	if n := len(lettersOf(t)); n != 13 {
		t.Errorf("%d letters are left, want 13", n)
	}
}

// comesAbout waits for what another goroutine brings about.
func comesAbout(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); {
		if time.Now().After(end) {
			t.Fatal("it does not come about")
		}
		<-time.After(10 * time.Millisecond)
	}
}

// TestDeadLettersElsewhere: where they are not kept the commands say so.
func TestDeadLettersElsewhere(t *testing.T) {
	for setting, want := range map[string]string{
		"false":                       "dead_letters: false",
		"{file: {path: dead.ndjson}}": "which is no local queue",
	} {
		folder(t, map[string]string{"weir.yaml": "dead_letters: " + setting + "\n" + goodConfig, "orders.ndjson": orders})
		for _, command := range []string{"list", "redrive", "drop"} {
			if got := weir("", "dlq", command); got.code != exitUsage || !strings.Contains(got.diag, want) {
				t.Errorf("%s: dlq %s: %v", setting, command, got)
			}
		}
	}
	for _, line := range []string{"dlq list --since yesterday", "dlq list --limit -1", "dlq redrive --rate -5", "dlq show one", "dlq redrive --since 1h --until 2h"} {
		folder(t, map[string]string{"weir.yaml": goodConfig, "orders.ndjson": orders})
		if got := weir("", strings.Fields(line)...); got.code != exitUsage {
			t.Errorf("%s: %v", line, got)
		}
	}
}

// TestCutLetterStays: of an event that is too large only its first bytes are kept, so its
// letter cannot be redriven, and must not be replaced by one with a reason that is not its own.
func TestCutLetterStays(t *testing.T) {
	big := `{"specversion":"1.0","id":"big","source":"/s","type":"Order","data":"` + strings.Repeat("x", 3<<20) + "\"}\n"
	folder(t, map[string]string{
		"weir.yaml":     goodConfig,
		"orders.ndjson": big,
	})
	if got := weir("", "run"); got.code != 0 {
		t.Fatal(got)
	}
	before := lettersOf(t)
	if len(before) != 1 || before[0].Reason != "too_large" || before[0].Size < 3<<20 || len(before[0].Event()) != 1<<20 {
		t.Fatalf("letters %+v", before)
	}
	if got := weir("", "dlq", "show", "0"); got.code != 0 || !strings.Contains(got.out, "cannot be: only the first 1048576 of its 31") {
		t.Errorf("show: %d\n%s%s", got.code, got.out, got.diag)
	}
	if got := weir("", "dlq", "redrive", "--yes", "--node.limits.event", "8MiB"); got.code != exitNo || !strings.Contains(got.out, "Kept: 1.") {
		t.Errorf("redrive: %d\n%s%s", got.code, got.out, got.diag)
	}
	if after := lettersOf(t); len(after) != 1 || after[0].Number != before[0].Number {
		t.Errorf("letters after the redrive %+v", after)
	}
}
