package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openQueue(t testing.TB, fsys vfs.FS) *Queue {
	t.Helper()
	q, err := OpenQueue(fsys, "/data", "q")
	must(t, err)
	return q
}

func entryOf(n int) transports.Entry {
	return transports.Entry{ID: fmt.Sprint(n), Key: fmt.Appendf(nil, "k%d", n%3), Data: fmt.Appendf(nil, "entry %d", n)}
}

func receiveAll(t testing.TB, c *Consumer) []transports.Delivery {
	t.Helper()
	var all []transports.Delivery
	for {
		got, err := c.Receive(context.Background(), 100, 0)
		must(t, err)
		if len(got) == 0 {
			return all
		}
		all = append(all, got...)
	}
}

func idsOf(list []transports.Delivery) string {
	var ids []string
	for _, d := range list {
		ids = append(ids, d.ID)
	}
	return strings.Join(ids, " ")
}

func TestQueueGivesUnackedAgainAfterReopen(t *testing.T) {
	fsys := vfs.NewMem()
	q := openQueue(t, fsys)
	for n := range 6 {
		must(t, q.Send(context.Background(), entryOf(n)))
	}
	c, err := q.Consumer("", false)
	must(t, err)
	got := receiveAll(t, c)
	if idsOf(got) != "0 1 2 3 4 5" || string(got[4].Key) != "k1" || string(got[4].Data) != "entry 4" {
		t.Fatalf("got %+v", got)
	}
	must(t, c.Ack(got[0], got[2], got[3]))
	if err := c.Ack(got[2]); !errors.Is(err, transports.ErrNotHeld) {
		t.Fatalf("second ack: %v", err)
	}
	must(t, c.Nack(0, got[1])) // takes back 4, which has its key
	if err := c.Ack(got[4]); !errors.Is(err, transports.ErrNotHeld) {
		t.Fatalf("ack of an entry that was taken back: %v", err)
	}
	must(t, c.Close())
	must(t, q.Close())

	q = openQueue(t, fsys.Crash(1))
	c, err = q.Consumer("", false)
	must(t, err)
	got = receiveAll(t, c)
	if idsOf(got) != "1 4 5" || got[0].Attempt != 2 {
		t.Fatalf("after reopen: %s, attempt %d", idsOf(got), got[0].Attempt)
	}
	must(t, c.Ack(got...))
	must(t, c.Close())
	must(t, q.Close())
}

func TestLockedDataFolderNamesTheHolder(t *testing.T) {
	dir := t.TempDir()
	q, err := OpenQueue(vfs.OS{}, dir, "q")
	must(t, err)
	_, err = OpenQueue(vfs.OS{}, dir, "other")
	if !errors.Is(err, vfs.ErrLocked) || !strings.Contains(err.Error(), "process") {
		t.Fatalf("second open: %v", err)
	}
	must(t, q.Close())
}

func TestListReadsWhileTheQueueIsOpen(t *testing.T) {
	fsys := vfs.NewMem()
	q := openQueue(t, fsys)
	for n := range 5 {
		must(t, q.Send(context.Background(), entryOf(n)))
	}
	c, err := q.Consumer("", false)
	must(t, err)
	got := receiveAll(t, c)
	must(t, c.Ack(got[0], got[1], got[3]))
	infos, err := List(fsys, "/data")
	must(t, err)
	if len(infos) != 1 || infos[0].Name != "q" || infos[0].Kind != QueueKind || infos[0].Entries != 5 || infos[0].Bytes < 100 {
		t.Fatalf("%+v", infos)
	}
	if want := (ConsumerInfo{Name: "queue", Low: 2, Settled: 3, Waiting: 2}); len(infos[0].Consumers) != 1 || infos[0].Consumers[0] != want {
		t.Fatalf("%+v, want %+v", infos[0].Consumers, want)
	}
	must(t, c.Close())
	must(t, q.Close())
}

// TestI1I2I3I7QueueCrashesAtEveryStep crashes at every operation of the file
// system while entries are sent, received, acked and nacked.
func TestI1I2I3I7QueueCrashesAtEveryStep(t *testing.T) {
	whole := vfs.NewFaults(vfs.NewMem(), vfs.Fault{})
	if _, err := workQueue(whole); err != nil {
		t.Fatal(err)
	}
	for at := uint64(1); at <= whole.Ops(); at++ {
		for seed := range uint64(6) {
			mem := vfs.NewMem()
			l, err := workQueue(vfs.NewFaults(mem, vfs.Fault{At: at}))
			if err == nil {
				t.Fatalf("no crash at operation %d of %d", at, whole.Ops())
			}
			if err := l.judge(mem.Crash(seed)); err != nil {
				t.Fatalf("crash at operation %d, seed %d: %v", at, seed, err)
			}
		}
	}
}

// ledger is what a program that used a queue was told.
type ledger struct {
	issued int          // entries that Send was called with
	sent   map[int]bool // Send returned nil
	acked  map[string]bool
	trying map[string]bool // Ack was called
}

const ledgerEntries = 24

func workQueue(fsys vfs.FS) (*ledger, error) {
	l := &ledger{sent: map[int]bool{}, acked: map[string]bool{}, trying: map[string]bool{}}
	q, err := OpenQueue(fsys, "/data", "q")
	if err != nil {
		return l, err
	}
	q.place.log.Size()
	c, err := q.Consumer("", false)
	if err != nil {
		return l, errors.Join(err, q.Close())
	}
	err = l.work(q, c)
	return l, errors.Join(err, c.Close(), q.Close())
}

func (l *ledger) work(q *Queue, c *Consumer) error {
	ctx := context.Background()
	for l.issued < ledgerEntries {
		batch := []transports.Entry{entryOf(l.issued), entryOf(l.issued + 1)}
		l.issued += 2
		if err := q.Send(ctx, batch...); err != nil {
			return err
		}
		l.sent[l.issued-2], l.sent[l.issued-1] = true, true
		got, err := c.Receive(ctx, 3, 0)
		if err != nil {
			return err
		}
		for i, d := range got {
			if i == 1 && d.Attempt == 1 {
				if err := c.Nack(0, d); err != nil && !errors.Is(err, transports.ErrNotHeld) {
					return err
				}
				continue
			}
			l.trying[d.ID] = true
			err := c.Ack(d)
			if errors.Is(err, transports.ErrNotHeld) {
				delete(l.trying, d.ID) // taken back with the nacked entry of its key
				continue
			}
			if err != nil {
				return err
			}
			l.acked[d.ID] = true
		}
	}
	return nil
}

// judge opens what the crash left and compares it with what was promised.
func (l *ledger) judge(fsys vfs.FS) error {
	q, err := OpenQueue(fsys, "/data", "q")
	if err != nil {
		return err
	}
	c, err := q.Consumer("", false)
	if err != nil {
		return err
	}
	given := map[string]int{}
	last := map[string]int{}
	for {
		got, err := c.Receive(context.Background(), 5, 0)
		if err != nil {
			return err
		}
		if len(got) == 0 {
			break
		}
		for _, d := range got {
			var n int
			if _, err := fmt.Sscanf(string(d.Data), "entry %d", &n); err != nil || n >= l.issued {
				return fmt.Errorf("I2: %q was never sent", d.Data)
			}
			given[d.ID] = n + 1
			if l.acked[d.ID] {
				return fmt.Errorf("entry %d was given after its ack was durable", n)
			}
			if prev := last[string(d.Key)]; n < prev {
				return fmt.Errorf("I7: entry %d of key %s came after %d", n, d.Key, prev)
			}
			last[string(d.Key)] = n
		}
		if err := c.Ack(got...); err != nil {
			return err
		}
	}
	for n := range l.issued {
		id := fmt.Sprint(n) // entries are numbered as they were sent
		if l.sent[n] && given[id] == 0 && !l.trying[id] {
			return fmt.Errorf("I1: entry %d was sent and never came", n)
		}
	}
	return errors.Join(c.Close(), q.Close())
}

func TestFullQueueTakesNothing(t *testing.T) {
	q, err := OpenQueueWith(QueueConfig{FS: vfs.NewMem(), Data: "/data", Name: "q", Max: 4096})
	must(t, err)
	sent := 0
	for ; ; sent++ {
		err := q.Send(context.Background(), transports.Entry{Data: make([]byte, 1000)})
		if errors.Is(err, ErrFull) {
			break
		}
		must(t, err)
	}
	if sent != 3 {
		t.Fatalf("%d entries of 1,000 bytes went into 4,096", sent)
	}
	c, err := q.Consumer("", false)
	must(t, err)
	if got := receiveAll(t, c); len(got) != sent {
		t.Fatalf("%d of %d came", len(got), sent)
	}
	must(t, c.Close())
	must(t, q.Close())
}

func TestWaitingReceiveIsWokenByASend(t *testing.T) {
	q := openQueue(t, vfs.NewMem())
	c, err := q.Consumer("", false)
	must(t, err)
	done := make(chan error, 1)
	go func() {
		got, err := c.Receive(context.Background(), 1, time.Minute)
		if err == nil && len(got) != 1 {
			err = fmt.Errorf("%d entries", len(got))
		}
		done <- err
	}()
	must(t, q.Send(context.Background(), entryOf(1)))
	must(t, <-done)
	must(t, c.Close())
	must(t, q.Close())
}
