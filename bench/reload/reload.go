// Package reload measures what a change of the configuration costs the events that flow
// meanwhile: an engine with durable positions and journal, a file and a local
// queue as sinks runs at full load while one configuration after the other is put to
// work; the yardstick is the same run without. Afterwards every event must stand in the
// sinks once.
package reload

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/weir-project/weir/bench/report"
	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

// barDelay is how much later, in milliseconds, an event may be at p99.9 than in the same
// run without reloads.
const barDelay = 5

// reloads of one run; five pairs make a thousand of each kind.
const (
	reloads      = 200
	reloadsQuick = 20
	runLimit     = 2 * time.Minute
	between      = 100 * time.Millisecond // from one reload to the next
)

// kinds of changes, each of which goes back and forth.
var kinds = []struct {
	name string
	yaml func(i int) string
}{
	{"routes", func(i int) string {
		return fmt.Sprintf("routes:\n  all: {when: {data: {pick: [true], order_id: [{numeric: ['<', %d]}]}}, to: [out, queue]}\n", 1_000_000+i%7) + sinks("")
	}},
	{"sinks come and go", func(i int) string {
		extra := ""
		if i%2 == 1 {
			extra = "  extra: {file: {path: extra.ndjson}}\n"
		}
		return "routes:\n  all: {when: {data: {pick: [true]}}, to: [out, queue]}\n" + sinks(extra)
	}},
	{"a local sink changes", func(i int) string {
		return "routes:\n  all: {when: {data: {pick: [true]}}, to: [out, queue]}\n" +
			fmt.Sprintf("sinks:\n  out: {file: {path: out.ndjson}}\n  queue: {local: {queue: q, max: %dGiB}}\n", 4+i%2)
	}},
}

func sinks(extra string) string {
	return "sinks:\n  out: {file: {path: out.ndjson}}\n  queue: {local: {queue: q}}\n" + extra
}

const head = "version: 1\nnode: {data: data, lanes: 2}\nsources: {in: {endless: {}, codec: cloudevents, dedup: false, key: data.order_id}}\n"

// Run measures.
func Run(o report.Options) (lines []report.Line, err error) {
	for _, k := range kinds {
		if !o.Wants(k.name) {
			continue
		}
		run := func(n int) func() (float64, error) {
			return func() (float64, error) {
				p999, err := once(o, n, func(i int) string { return head + k.yaml(i) })
				return float64(p999) / float64(time.Millisecond), err
			}
		}
		n := reloads
		if o.Quick {
			n = reloadsQuick
		}
		o.Printf("reload: %s", k.name)
		same, err := report.Interleave(o.Pairs(), run(-n), run(-n))
		if err != nil {
			return lines, err
		}
		pair, err := report.Interleave(o.Pairs(), run(n), run(-n))
		if err != nil {
			return lines, err
		}
		lines = append(lines, report.Line{
			Name: k.name + ", p99.9", Figure: pair.A - pair.B, Unit: "ms more",
			Of: report.Figure, Bar: barDelay,
			Note: fmt.Sprintf("%d reloads, 0 lost, 0 doubled; %.2f ms with, %.2f ms without, A/A %.2f and %.2f ms", n*o.Pairs(), pair.A, pair.B, same.A, same.B),
		})
	}
	return lines, nil
}

// once runs an engine at full load during n reloads, or as long as -n of them would
// take, and returns the p99.9 of the delays.
func once(o report.Options, n int, yaml func(i int) string) (p999 time.Duration, err error) {
	place, err := os.MkdirTemp(o.Dir, "reload-")
	if err != nil {
		return 0, fmt.Errorf("bench reload: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(place)) }()
	source := &endless{}
	all := []transports.Transport{source, file.New(), local.New()}
	at := 0
	load := func() (*config.Plan, error) {
		return config.Load(config.Options{File: filepath.Join(place, "weir.yaml"), Data: []byte(yaml(at)), Transports: all})
	}
	e, err := engine.New(engine.Config{Load: load, Transports: all})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	err = change(ctx, e, n, &at)
	source.end()
	if err = errors.Join(err, <-ended); err != nil {
		return 0, err
	}
	return source.quantile(0.999), check(place, source.given())
}

// change reloads again and again, or only waits as long.
func change(ctx context.Context, e *engine.Engine, n int, at *int) error {
	tick := time.NewTicker(between)
	defer tick.Stop()
	for e.Status().Sources["in"].Received == 0 && ctx.Err() == nil {
		<-tick.C
	}
	for range max(n, -n) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if n < 0 {
			continue
		}
		*at++
		if c, err := e.Reload(ctx); err != nil {
			return err
		} else if c.Unchanged {
			return errors.New("a reload found nothing to change")
		}
	}
	return nil
}

// check wants every picked event once in each sink.
func check(place string, events uint64) error {
	seen := make([]uint8, events)
	f, err := os.Open(filepath.Join(place, "out.ndjson"))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if err := note(seen, lines.Bytes(), 1); err != nil {
			return err
		}
	}
	if err := errors.Join(lines.Err(), queued(place, seen)); err != nil {
		return err
	}
	lost, doubled := 0, 0
	for n, s := range seen {
		want := uint8(0)
		if n%chunkEvents%picked == 0 {
			want = 1 | 1<<4
		}
		switch {
		case s == want:
		case s&0xf < want&0xf || s>>4 < want>>4:
			lost++
		default:
			doubled++
		}
	}
	if lost+doubled > 0 {
		return fmt.Errorf("%d events lost, %d doubled", lost, doubled)
	}
	return nil
}

func queued(place string, seen []uint8) error {
	q, err := local.OpenQueue(vfs.OS{}, filepath.Join(place, "data"), "q")
	if err != nil {
		return err
	}
	defer q.Close()
	c, err := q.Consumer("", true)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		list, err := c.Receive(context.Background(), 1000, time.Millisecond)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, d := range list {
			if err := note(seen, d.Data, 1<<4); err != nil {
				return err
			}
		}
		if err := c.Ack(list...); err != nil {
			return err
		}
	}
}

func note(seen []uint8, line []byte, in uint8) error {
	_, rest, _ := bytes.Cut(line, []byte(`"id":"`))
	n, err := strconv.ParseUint(string(rest[:min(idDigits, len(rest))]), 10, 64)
	if err != nil || n >= uint64(len(seen)) {
		return fmt.Errorf("a sink holds what no source gave: %s", line)
	}
	seen[n] += in
	return nil
}
