// Package local measures the durable local queue: how many events a second go
// through it where each publish is synced before its ack and each consumer's
// ack is synced too, and how long an event takes from publish to ack at half
// of that rate. The yardstick is a bare sync of the same disk.
package local

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/bench/report"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/local"
)

// The workload.
const (
	eventBytes   = 300
	publishers   = 4
	publishBatch = 128
	consumeBatch = 500
	keys         = 10_000
	maxBacklog   = 64 << 10 // events published and not acked; then publishers wait
	warmEvents   = 600_000  // published before latency is measured: three files of the queue
)

// The bars.
const (
	barRate    = 200_000                // events a second, where a bare sync takes at most barSync
	barSync    = 500 * time.Microsecond // median
	barLatency = 2 * time.Millisecond   // p99 from publish to ack, plus two syncs
)

// Run measures in a folder of its own below dir, which must be on a real disk.
// quick takes about a third of the time.
func Run(dir string, quick bool) (lines []report.Line, err error) {
	if err := report.RefuseMemory(dir); err != nil {
		return nil, err
	}
	place, err := os.MkdirTemp(dir, "weir-bench-local-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(place)) }()
	seconds := 6 * time.Second
	if quick {
		seconds = 2 * time.Second
	}
	bare := &bareSync{every: time.Millisecond}
	if err := bare.measure(place, seconds/6); err != nil {
		return nil, err
	}
	// The disk is shared: the middle of three runs stands for the rate.
	rates := make([]float64, 3)
	for i := range rates {
		if rates[i], err = throughput(filepath.Join(place, fmt.Sprint("max", i)), seconds/3); err != nil {
			return nil, err
		}
	}
	slices.Sort(rates)
	rate := rates[1]
	lats := make([]latencies, 3)
	for i := range lats {
		// The room that the run before gave back is told to the disk for a while: the
		// bare sync has that too, and the queue is measured after it.
		if err = bare.measure(place, seconds/6); err != nil {
			return nil, err
		}
		if lats[i], err = latency(filepath.Join(place, fmt.Sprint("latency", i)), rate/2, seconds/3); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(lats, func(a, b latencies) int { return cmp.Compare(a.p99, b.p99) })
	lat := lats[1]
	if err := bare.measure(place, seconds/6); err != nil {
		return nil, err
	}
	return judge(bare.times(), rate, lat), nil
}

// judge holds the figures against their bars. The bar of the rate holds where
// a bare sync is fast enough; on a slower disk the figure is for the record.
func judge(bare syncTimes, rate float64, lat latencies) []report.Line {
	sync, tail := bare.median, bare.p99
	most := report.Line{Name: "published, consumed, acked", Figure: rate, Unit: "events/s", Of: report.Figure, Bar: barRate, AtLeast: true, Note: "each ack after its sync"}
	if sync > barSync {
		most.Of = report.Nothing
		most.Note = fmt.Sprintf("the bar of %d holds where a bare sync takes at most %v", barRate, barSync)
	}
	return []report.Line{
		{Name: "bare write and sync, median", Figure: micros(sync), Unit: "µs"},
		{Name: "bare write and sync, p99", Figure: micros(tail), Unit: "µs"},
		most,
		{Name: "publish to ack at half of it, p50", Figure: micros(lat.p50), Unit: "µs", Note: fmt.Sprintf("offered %.0f events/s, reached %.0f", lat.offered, lat.reached)},
		{Name: "publish to ack at half of it, p99", Figure: micros(lat.p99), Unit: "µs", Yardstick: micros(tail), Of: report.Figure, Bar: micros(barLatency + 2*tail), Note: "bar: 2 ms and two bare syncs at their p99"},
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

type syncTimes struct{ median, p99 time.Duration }

// bareSync writes a page and syncs it at a steady pace, as the queue's writer does
// at half of its rate: a disk's tail shows over time, not in one burst.
type bareSync struct {
	every time.Duration
	took  []time.Duration
}

func (b *bareSync) measure(dir string, length time.Duration) error {
	f, err := vfs.OS{}.Create(filepath.Join(dir, "bare"))
	if err != nil {
		return err
	}
	page := make([]byte, 4096)
	began := time.Now()
	for due := time.Duration(0); due < length; due += b.every {
		time.Sleep(due - time.Since(began))
		start := time.Now()
		if _, err := f.Write(page); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := f.Sync(); err != nil {
			return errors.Join(err, f.Close())
		}
		b.took = append(b.took, time.Since(start))
	}
	return f.Close()
}

func (b *bareSync) times() syncTimes {
	slices.Sort(b.took)
	return syncTimes{b.took[len(b.took)/2], b.took[len(b.took)*99/100]}
}

// flow is one run of publishers and a consumer.
type flow struct {
	queue     *local.Queue
	consumer  *local.Consumer
	start     time.Time
	published atomic.Int64
	acked     atomic.Int64
	moved     chan struct{} // takes a token when something was acked
	took      []int64       // ns from publish to ack, one an event, where asked for
}

func newFlow(dir string) (*flow, error) {
	q, err := local.OpenQueue(vfs.OS{}, dir, "bench")
	if err != nil {
		return nil, err
	}
	c, err := q.Consumer("", false)
	if err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return &flow{queue: q, consumer: c, start: time.Now(), moved: make(chan struct{}, publishers)}, nil
}

func (f *flow) close() error { return errors.Join(f.consumer.Close(), f.queue.Close()) }

// batch fills entries whose data begins with the time they were due.
type batch struct {
	entries []transports.Entry
	data    []byte
	next    int
}

func newBatch(publisher int) *batch {
	b := &batch{entries: make([]transports.Entry, publishBatch), data: make([]byte, publishBatch*eventBytes), next: publisher}
	for i := range b.data {
		b.data[i] = 'a' + byte(i%26)
	}
	for i := range b.entries {
		b.entries[i].Data = b.data[i*eventBytes : (i+1)*eventBytes]
		b.entries[i].ID = fmt.Sprintf("bench/%d/%d", publisher, i)
	}
	return b
}

var keyNames = func() [][]byte {
	names := make([][]byte, keys)
	for i := range names {
		names[i] = fmt.Appendf(nil, "key-%05d", i)
	}
	return names
}()

func (b *batch) stamp(due time.Duration) []transports.Entry {
	for i := range b.entries {
		binary.LittleEndian.PutUint64(b.entries[i].Data, uint64(due))
		b.next = (b.next + 7919) % keys
		b.entries[i].Key = keyNames[b.next]
	}
	return b.entries
}

// consume acks until it has had everything that done says was published.
func (f *flow) consume(ctx context.Context, measure bool) error {
	for {
		got, err := f.consumer.Receive(ctx, consumeBatch, time.Second)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if len(got) == 0 {
			continue
		}
		if err := f.consumer.Ack(got...); err != nil {
			return err
		}
		if measure {
			now := int64(time.Since(f.start))
			for i := range got {
				f.took = append(f.took, now-int64(binary.LittleEndian.Uint64(got[i].Data)))
			}
		}
		f.acked.Add(int64(len(got)))
		select {
		case f.moved <- struct{}{}:
		default:
		}
	}
}

// run starts the publishers and the consumer and waits until all is acked.
func (f *flow) run(measure bool, publish func(number int) error) (took time.Duration, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	consumed := make(chan error, 1)
	go func() { consumed <- f.consume(ctx, measure) }()
	errs := make([]error, publishers)
	var wg sync.WaitGroup
	f.start = time.Now()
	for i := range publishers {
		wg.Go(func() { errs[i] = publish(i) })
	}
	wg.Wait()
	for errors.Join(errs...) == nil && f.acked.Load() < f.published.Load() {
		select {
		case <-f.moved:
		case err := <-consumed:
			return 0, err
		}
	}
	took = time.Since(f.start)
	cancel()
	return took, errors.Join(append(errs, <-consumed)...)
}

func throughput(dir string, length time.Duration) (rate float64, err error) {
	f, err := newFlow(dir)
	if err != nil {
		return 0, err
	}
	took, err := f.flood(func() bool { return time.Since(f.start) < length })
	return float64(f.acked.Load()) / took.Seconds(), errors.Join(err, f.close())
}

// flood publishes as fast as the queue takes it while more says so.
func (f *flow) flood(more func() bool) (took time.Duration, err error) {
	return f.run(false, func(number int) error {
		b := newBatch(number)
		for more() {
			for f.published.Load()-f.acked.Load() > maxBacklog {
				<-f.moved
			}
			if err := f.queue.Send(context.Background(), b.stamp(0)...); err != nil {
				return err
			}
			f.published.Add(publishBatch)
		}
		return nil
	})
}

type latencies struct {
	offered, reached float64
	p50, p99         time.Duration
}

// latency offers a steady load, whether or not the queue keeps up: a batch that
// is sent late counts from when it was due. The queue has been in use before: its
// files are written over, as they are from its third on.
func latency(dir string, rate float64, length time.Duration) (latencies, error) {
	f, err := newFlow(dir)
	if err != nil {
		return latencies{}, err
	}
	if _, err := f.flood(func() bool { return f.published.Load() < warmEvents }); err != nil {
		return latencies{}, errors.Join(err, f.close())
	}
	every := time.Duration(float64(publishers*publishBatch) / rate * float64(time.Second))
	took, err := f.run(true, func(number int) error {
		b := newBatch(number)
		for due := every * time.Duration(number) / publishers; due < length; due += every {
			time.Sleep(due - time.Since(f.start))
			if err := f.queue.Send(context.Background(), b.stamp(due)...); err != nil {
				return err
			}
			f.published.Add(publishBatch)
		}
		return nil
	})
	err = errors.Join(err, f.close())
	if err != nil || len(f.took) == 0 {
		return latencies{}, errors.Join(err, errors.New("nothing was consumed"))
	}
	slices.Sort(f.took)
	return latencies{
		offered: rate, reached: float64(len(f.took)) / took.Seconds(),
		p50: time.Duration(f.took[len(f.took)/2]), p99: time.Duration(f.took[len(f.took)*99/100]),
	}, nil
}
