package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/bench/report"
	"github.com/weir-project/weir/bench/workload"
	"github.com/weir-project/weir/engine/admin"
)

// Observing is metrics that are scraped thirty times as often as is usual, and traces
// of one event in a hundred, sent to a receiver that takes them. The journal is part of
// every run: it is the commit log.
const (
	scrapeEvery = 500 * time.Millisecond
	traceRatio  = 0.01
	barObserve  = 1.05 // of the processor time without
)

// observer looks at a run.
type observer struct {
	receiver *httptest.Server
	traces   atomic.Int64 // requests with spans that came
	scrapes  atomic.Int64 // metrics that were read to the end
}

func newObserver() *observer {
	o := &observer{}
	o.receiver = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err == nil && n > 0 {
			o.traces.Add(1)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	return o
}

// scrape reads the metrics of the instance on a data folder again and again; the
// function it returns ends that.
func (o *observer) scrape(data string) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return admin.DialSocket(ctx, data) }}
	client := &http.Client{Transport: t}
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(scrapeEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if err := get(ctx, client); err == nil {
				o.scrapes.Add(1)
			}
		}
	})
	return func() {
		cancel()
		wait.Wait()
		t.CloseIdleConnections()
	}
}

func get(ctx context.Context, client *http.Client) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weir/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && !strings.Contains(string(text), "weir_source_received_total") {
		err = errors.New("no metrics")
	}
	return err
}

// Observe measures what observing costs: the pipeline with and without, in turn, by
// the processor time of the program, start and end included. Beside it the same
// without and without, which shows what is noise.
func Observe(o report.Options) (lines []report.Line, err error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	place, err := os.MkdirTemp(o.Dir, "observe-")
	if err != nil {
		return nil, fmt.Errorf("bench observe: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(place)) }()
	weir := filepath.Join(place, "weir")
	o.Printf("observe: building weir")
	if err := build(root, weir); err != nil {
		return nil, err
	}
	n := 1_000_000
	if o.Quick {
		n = 300_000
	}
	events, err := workload.File(o.Dir, o.Seed, n)
	if err != nil {
		return nil, err
	}
	bare := run{root: root, weir: weir, place: place, events: events, maxIDs: 2_000_000}
	watched := bare
	watched.observer = newObserver()
	defer watched.observer.receiver.Close()
	measure := func(name string, r run) func() (float64, error) {
		return func() (float64, error) {
			u, err := r.once()
			if err != nil {
				return 0, err
			}
			o.Printf("observe: %s: %v of processor time, %v in all", name, u.processor.Round(time.Millisecond), u.wall.Round(time.Millisecond))
			return u.processor.Seconds(), nil
		}
	}
	if _, err := measure("warm", bare)(); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		name string
		with run
		bar  float64
	}{{"noise", bare, 0}, {"observed", watched, barObserve}} {
		if !o.Wants(c.name) {
			continue
		}
		p, err := report.Interleave(2*o.Pairs()-1, measure(c.name, c.with), measure("bare", bare))
		if err != nil {
			return lines, err
		}
		l := report.Line{Name: c.name, Figure: p.A, Unit: "s", Yardstick: p.B, Ratio: p.Ratio, Bar: c.bar, Note: "processor time; " + p.Spread()}
		if c.bar > 0 {
			l.Of = report.Ratio
			scrapes, traces := watched.observer.scrapes.Load(), watched.observer.traces.Load()
			l.Note += fmt.Sprintf("; %d scrapes, %d requests with traces", scrapes, traces)
			if scrapes == 0 || traces == 0 {
				return lines, fmt.Errorf("bench observe: nothing was observed: %s", l.Note)
			}
		}
		lines = append(lines, l)
	}
	return lines, nil
}
