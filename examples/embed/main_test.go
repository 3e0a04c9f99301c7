package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/examples/spool"
	"github.com/weir-project/weir/transports"
)

// lines collects what is printed and tells of each line.
type lines struct {
	mu   sync.Mutex // guards all
	list []string
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, strings.TrimSpace(string(p)))
	l.more <- struct{}{}
	return len(p), nil
}

// TestRun books at the counter and through a partner's folder.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	partner(t, filepath.Join(dir, "partners"),
		`{"specversion":"1.0","id":"p-1","source":"/partner","type":"Booked","data":{"car":"bus"}}`,
		`{"specversion":"1.0","id":"p-2","source":"/partner","type":"Booked","data":{"bikes":2}}`)
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	out := &lines{more: make(chan struct{}, 100)}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, dir, out) }()
	for range 4 {
		<-out.more
	}
	stop() // what is in flight is settled first
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	slices.Sort(out.list)
	want := []string{"b-1 gets a limousine", "b-2 gets a van", "b-3 gets a limousine", "p-1 gets a bus"}
	if !slices.Equal(out.list, want) {
		t.Errorf("printed %q, want %q", out.list, want)
	}
	for folder, want := range map[string]int{"archive": 5, "dead": 1, "partners": 0} {
		files, err := filepath.Glob(filepath.Join(dir, folder, "*.json"))
		if err != nil || len(files) != want {
			t.Errorf("%d files in %s (%v), want %d", len(files), folder, err, want)
		}
	}
}

// partner puts events into the folder.
func partner(t *testing.T, folder string, events ...string) {
	t.Helper()
	sink, err := spool.New().NewSink(transports.Env{
		Name: "partner", FS: vfs.OS{}, Log: slog.New(slog.DiscardHandler), Now: time.Now, MaxEvent: 1 << 20,
	}, transports.Settings{"path": folder})
	if err == nil {
		err = os.MkdirAll(folder, 0o700)
	}
	if err == nil {
		err = sink.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	var batch []transports.Entry
	for _, e := range events {
		batch = append(batch, transports.Entry{Data: []byte(e)})
	}
	results := make([]transports.Result, len(batch))
	sink.Write(t.Context(), batch, results)
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}
