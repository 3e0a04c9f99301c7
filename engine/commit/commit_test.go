package commit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sink is a staged sink on a segment log.
type sink struct{ log *segment.Log }

func openSink(fsys vfs.FS, dir string) (*sink, error) {
	l, err := segment.Open(segment.Config{FS: fsys, Dir: dir, SegmentBytes: 400})
	return &sink{log: l}, err
}

func (s *sink) Frame(dst []byte, e *transports.Entry) []byte { return segment.Frame(dst, e.Data) }
func (s *sink) Append(framed []byte, count int) error        { return s.log.Append(framed, count) }
func (s *sink) Sync() (transports.Mark, error)               { return transports.Mark(s.log.End()), s.log.Sync() }
func (s *sink) Publish(m transports.Mark) error              { s.log.Publish(segment.Mark(m)); return nil }
func (s *sink) Restore(m transports.Mark) error              { return s.log.Restore(segment.Mark(m)) }

// entries reads what is published.
func (s *sink) entries() (out []string, err error) {
	r, err := s.log.Reader(0)
	if err != nil {
		return nil, err
	}
	for {
		e, _, err := r.Next()
		if errors.Is(err, segment.ErrCaughtUp) {
			return out, r.Close()
		}
		if err != nil {
			return out, errors.Join(err, r.Close())
		}
		out = append(out, string(e))
	}
}

// table holds the numbers of the tickets that were committed.
type table struct {
	mu  sync.Mutex
	has map[int]bool
}

func newTable() *table { return &table{has: map[int]bool{}} }

func (s *table) Name() string { return "numbers" }

func (s *table) set(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.has[n] = true
}

func (s *table) Snapshot(yield func([]byte) error) error {
	s.mu.Lock()
	var all []int
	for n := range s.has {
		all = append(all, n)
	}
	s.mu.Unlock()
	slices.Sort(all)
	for chunk := range slices.Chunk(all, 5) {
		if err := yield([]byte(strings.Trim(fmt.Sprint(chunk), "[]"))); err != nil {
			return err
		}
	}
	return nil
}

func (s *table) Load(slice []byte) error {
	for field := range strings.FieldsSeq(string(slice)) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		s.set(n)
	}
	return nil
}

// node is a commit log with two staged sinks and a table, as a data path has.
type node struct {
	log      *Log
	a, b     *sink
	idA, idB int
	table    *table
	times    []time.Duration
}

func (n *node) close() error {
	var err error
	if n.log != nil {
		err = n.log.Close(context.Background())
	}
	for _, s := range []*sink{n.a, n.b} {
		if s != nil && s.log != nil {
			err = errors.Join(err, s.log.Close())
		}
	}
	return err
}

func openNode(fsys vfs.FS) (n *node, err error) {
	n = &node{table: newTable()}
	defer func() {
		if err != nil {
			_ = n.close() // the process dies of err
		}
	}()
	if n.a, err = openSink(fsys, "sinks/a"); err != nil {
		return n, err
	}
	if n.b, err = openSink(fsys, "sinks/b"); err != nil {
		return n, err
	}
	cfg := Config{FS: fsys, Dir: "data", SegmentBytes: 300, SnapshotEvery: 200, GroupBytes: 120}
	n.log, err = Open(cfg, []Table{n.table}, func(record []byte, at time.Duration) error {
		number, err := strconv.Atoi(string(record))
		n.table.set(number)
		n.times = append(n.times, at)
		return err
	})
	if err != nil {
		return n, err
	}
	if n.idA, err = n.log.Stage("a", n.a); err != nil {
		return n, err
	}
	if n.idB, err = n.log.Stage("b", n.b); err != nil {
		return n, err
	}
	n.log.Start()
	return n, nil
}

// entriesOf is what ticket number i writes to the sinks.
func entriesOf(i int) (a, b []string) {
	for j := range i * 7 % 3 {
		a = append(a, fmt.Sprintf("%d.a.%d", i, j))
	}
	for j := range i * 5 % 4 {
		b = append(b, fmt.Sprintf("%d.b.%d %s", i, j, strings.Repeat("z", i)))
	}
	return a, b
}

func (n *node) ticket(i int, committed func(err error)) *Ticket {
	t := &Ticket{Record: []byte(strconv.Itoa(i))}
	a, b := entriesOf(i)
	for id, entries := range map[int][]string{n.idA: a, n.idB: b} {
		run := StagedRun{Stage: id, Count: len(entries)}
		for _, e := range entries {
			run.Framed = segment.Frame(run.Framed, []byte(e))
		}
		t.Stages = append(t.Stages, run)
	}
	t.Committed = func(err error) {
		if err == nil {
			n.table.set(i)
		}
		committed(err)
	}
	return t
}

// outcome is what the submitter was told.
type outcome struct {
	submitted, committed int
	err                  error
}

// work submits tickets in bursts of 1 to 4 and checks what it is told.
func work(fsys vfs.FS, tickets int) (out outcome) {
	n, err := openNode(fsys)
	if err != nil {
		out.err = err
		return out
	}
	told := 0
	var wrong error
	for i := 0; i < tickets && out.err == nil; {
		var burst sync.WaitGroup
		for range min(1+i%4, tickets-i) {
			number := i
			burst.Add(1)
			t := n.ticket(number, func(err error) {
				defer burst.Done()
				if told != number {
					wrong = fmt.Errorf("ticket %d is told before %d", number, told)
				}
				told++
				switch {
				case err != nil:
					out.err = err
				case out.err != nil:
					wrong = fmt.Errorf("I4: ticket %d is committed after %w", number, out.err)
				default:
					out.committed++
				}
			})
			if err := n.log.Submit(context.Background(), t); err != nil {
				burst.Done()
				burst.Wait()
				out.err = errors.Join(out.err, err)
				break
			}
			i++
			out.submitted++
		}
		burst.Wait()
		if out.err == nil && i >= 13 && i < 17 {
			// A snapshot that fails takes nothing from the log.
			_ = n.log.Snapshot(context.Background())
		}
	}
	if err := n.close(); out.err == nil {
		out.err = err
	}
	if wrong != nil {
		panic(wrong)
	}
	return out
}

// check opens what a fault left and holds it against the model: the tickets
// there are 0 to some n, all that were committed (I1, I3, I8) and none that was
// not submitted (I2); the sinks hold exactly theirs, in order (I5, I7). Then a
// fresh ticket is committed (I16). It returns how many tickets there are.
func check(fsys vfs.FS, out outcome) (int, error) {
	n, err := openNode(fsys)
	if err != nil {
		return 0, err
	}
	count := len(n.table.has)
	var wantA, wantB []string
	for i := range count {
		if !n.table.has[i] {
			return 0, errors.Join(fmt.Errorf("ticket %d of %d is missing", i, count), n.close())
		}
		a, b := entriesOf(i)
		wantA, wantB = append(wantA, a...), append(wantB, b...)
	}
	switch {
	case count < out.committed:
		err = fmt.Errorf("I1: %d tickets are there, %d were committed", count, out.committed)
	case count > out.submitted:
		err = fmt.Errorf("I2: %d tickets are there, %d were submitted", count, out.submitted)
	case !slices.IsSorted(n.times) || len(n.times) > 0 && n.log.Now() < n.times[len(n.times)-1]:
		err = fmt.Errorf("engine time runs backwards: %v, now %v", n.times, n.log.Now())
	}
	for s, want := range map[*sink][]string{n.a: wantA, n.b: wantB} {
		got, readErr := s.entries()
		if readErr != nil || !slices.Equal(got, want) {
			err = errors.Join(err, readErr, fmt.Errorf("sink has %q, want %q", got, want))
		}
	}
	if err == nil {
		fresh := make(chan error, 1)
		err = n.log.Submit(context.Background(), n.ticket(count, func(err error) { fresh <- err }))
		if err == nil {
			err = <-fresh
		}
		count++
	}
	return count, errors.Join(err, n.close())
}
