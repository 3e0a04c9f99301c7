// Package journal measures look-ups in a large journal: ten million events in a commit
// log on disk, asked for by id and by key, beside the same without
// indexes, where all of the log is read. A look-up
// begins with nothing in memory, as the command line does: the data folder is opened
// from outside, the end of the log is found, the indexes are read.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/weir-project/weir/bench/report"
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/vfs"
)

// The bars.
const (
	barLookUp = 0.25 // of the same without indexes, with ten million events
	barIndex  = 16   // per cent of the log, with a key beside each id
)

const (
	perRecord = 256    // events
	keys      = 50_000 // that events share
	lookUps   = 40     // a measurement
)

// Run measures.
func Run(o report.Options) ([]report.Line, error) {
	n := 10_000_000
	if o.Quick {
		n = 1_000_000
	}
	dir := filepath.Join(o.Dir, "journal")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, n: n, random: rand.New(rand.NewPCG(o.Seed, 7))}
	if err := b.fill(o); err != nil {
		return nil, err
	}
	lines, err := b.build(o)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		name  string
		query func() journal.Query
		want  func(int) bool
		of    report.Subject
	}{
		{"look-up by id", func() journal.Query { return journal.Query{ID: id(b.random.IntN(n))} }, func(k int) bool { return k == 1 }, report.Ratio},
		{"look-up of an id that is not there", func() journal.Query { return journal.Query{ID: id(n + b.random.IntN(n))} }, func(k int) bool { return k == 0 }, report.Ratio},
		{"newest lines of a key", func() journal.Query {
			return journal.Query{Key: key(b.random.IntN(keys)), Limit: 50}
		}, func(k int) bool { return k == min(50, n/keys) }, report.Nothing},
	} {
		if !o.Wants(c.name) {
			continue
		}
		p, err := report.Interleave(o.Pairs(),
			func() (float64, error) { return b.ask(c.query, c.want) },
			func() (float64, error) { return b.askWithout(c.query, c.want) })
		if err != nil {
			return lines, err
		}
		of := c.of
		if o.Quick {
			of = report.Nothing // a small log is read in no time
		}
		lines = append(lines, report.Line{
			Name: c.name, Figure: p.A, Unit: "ms", Yardstick: p.B, Ratio: p.Ratio, Of: of, Bar: barLookUp,
			Note: fmt.Sprintf("%d events, %s; yardstick: without indexes; %s", n, size(b.logBytes), p.Spread()),
		})
	}
	return lines, nil
}

type bench struct {
	dir      string
	n        int
	random   *rand.Rand
	logBytes int64
}

func id(i int) string  { return fmt.Sprintf("order-%08d-%04x", i, i*7919&0xffff) }
func key(i int) string { return fmt.Sprintf("customer-%d", i) }

// fill commits the events, as lanes would.
func (b *bench) fill(o report.Options) error {
	log, err := commit.Open(commit.Config{FS: vfs.OS{}, Dir: b.dir, SnapshotEvery: 1 << 50}, nil, func([]byte, time.Duration) error { return nil })
	if err != nil {
		return err
	}
	log.Start()
	start := time.Now()
	failed := make(chan error, 1)
	submit := func(record []byte) error {
		return log.Submit(context.Background(), &commit.Ticket{Record: record, Committed: func(err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		}})
	}
	err = submit(journal.AppendGeneration(nil, &journal.Generation{
		Epoch: 1, Number: 1, Routes: []string{"all"}, Sinks: []string{"out"}, Exits: []journal.Exit{{To: []uint32{0}}},
	}))
	for at := 0; at < b.n && err == nil; at += perRecord {
		err = submit(b.record(at))
	}
	err = errors.Join(err, log.Close(context.Background()))
	select {
	case e := <-failed:
		err = errors.Join(err, e)
	default:
	}
	b.logBytes = log.Size()
	o.Printf("journal: %d events written in %v, %s", b.n, time.Since(start).Round(time.Millisecond), size(b.logBytes))
	return err
}

func (b *bench) record(at int) []byte {
	w := journal.Writer{Bytes: make([]byte, 0, perRecord*100)}
	w.Begin(1, 1)
	w.Section(&journal.Section{Source: "orders", Partition: "p0", First: uint64(at), End: uint64(at + perRecord), Total: perRecord})
	routes := []uint32{0}
	for i := at; i < min(at+perRecord, b.n); i++ {
		h := xxh3.HashString128(id(i))
		w.Entry(&journal.Entry{
			Ordinal: uint64(i), Outcome: journal.Delivered, Identified: true, Hi: h.Hi, Lo: h.Lo, Claimed: true, Data: h.Hi ^ h.Lo,
			Key: xxh3.HashString(key(i % keys)), ID: []byte(id(i)), Routes: routes,
		})
	}
	w.End()
	return w.Bytes
}

// build makes the indexes and says how fast, and how large they are.
func (b *bench) build(o report.Options) ([]report.Line, error) {
	log, err := commit.Open(commit.Config{FS: vfs.OS{}, Dir: b.dir, SnapshotEvery: 1 << 50}, nil, func([]byte, time.Duration) error { return nil })
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(journal.Config{Store: log, FS: vfs.OS{}, Dir: b.dir})
	if err != nil {
		return nil, errors.Join(err, log.Close(context.Background()))
	}
	start := time.Now()
	err = j.Build(context.Background(), false)
	took := time.Since(start)
	if err := errors.Join(err, log.Close(context.Background())); err != nil {
		return nil, err
	}
	indexBytes, err := folderBytes(filepath.Join(b.dir, "journal"))
	if err != nil {
		return nil, err
	}
	o.Printf("journal: indexes built in %v, %s", took.Round(time.Millisecond), size(indexBytes))
	var lines []report.Line
	if o.Wants("index, building") {
		lines = append(lines, report.Line{Name: "index, building", Figure: float64(took.Nanoseconds()) / float64(b.n), Unit: "ns/event", Note: "without rests, one core; the engine rests 15 times as long as it works"})
	}
	if o.Wants("index, size") {
		lines = append(lines, report.Line{Name: "index, size", Figure: 100 * float64(indexBytes) / float64(b.logBytes), Unit: "% of log", Of: report.Figure, Bar: barIndex})
	}
	return lines, nil
}

func folderBytes(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// ask is the time of one look-up in milliseconds.
func (b *bench) ask(query func() journal.Query, want func(int) bool) (float64, error) {
	start := time.Now()
	for range lookUps {
		q, found := query(), 0
		err := b.look(q, func(*journal.Line) error { found++; return nil })
		if err != nil {
			return 0, err
		}
		if !want(found) {
			return 0, fmt.Errorf("%+v: %d lines", q, found)
		}
	}
	return time.Since(start).Seconds() * 1000 / lookUps, nil
}

// askWithout is ask without the indexes: all of the log is read.
func (b *bench) askWithout(query func() journal.Query, want func(int) bool) (ms float64, err error) {
	at := filepath.Join(b.dir, "journal")
	if err := os.Rename(at, at+".away"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.Rename(at+".away", at)) }()
	start, found := time.Now(), 0
	err = b.look(query(), func(*journal.Line) error { found++; return nil })
	if err == nil && !want(found) {
		err = fmt.Errorf("%d lines", found)
	}
	return time.Since(start).Seconds() * 1000, err
}

func (b *bench) look(q journal.Query, yield func(*journal.Line) error) (err error) {
	j, closeJournal, err := journal.Look(vfs.OS{}, b.dir, nil)
	if err != nil {
		return err
	}
	_, err = j.Find(context.Background(), q, yield)
	return errors.Join(err, closeJournal())
}

func size(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }
