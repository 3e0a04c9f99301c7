package derive

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put appends records and makes them durable; they are not published.
func put(t *testing.T, q *Queue, ids ...string) transports.Mark {
	t.Helper()
	var framed []byte
	for _, id := range ids {
		framed = AppendRecord(framed, &Record{Kind: Reentry, Source: "s", Data: []byte(id)})
	}
	must(t, q.Append(framed, len(ids)))
	m, err := q.Sync()
	must(t, err)
	return m
}

func take(t *testing.T, q *Queue) (ids []string, through transports.Settlement) {
	t.Helper()
	list, err := q.Receive(t.Context(), 100, 0)
	must(t, err)
	for _, d := range list {
		r, err := Parse(d.Data)
		must(t, err)
		ids = append(ids, string(r.Data))
		through = transports.Settlement{Through: d.Next, Ordinal: d.Ordinal + 1}
	}
	return ids, through
}

// TestQueueReadsWhatIsCommitted: records come after Publish, in order, again after a
// restart unless they are settled, and those that were never committed are gone (I1, I2).
func TestQueueReadsWhatIsCommitted(t *testing.T) {
	mem := vfs.NewMem()
	q, err := OpenQueue(mem, "/d", 0)
	must(t, err)
	must(t, q.Open(t.Context(), nil, nil))
	m := put(t, q, "a", "b", "c")
	if ids, _ := take(t, q); len(ids) != 0 {
		t.Fatalf("read %q before their commit", ids)
	}
	must(t, q.Publish(m))
	ids, _ := take(t, q)
	if fmt.Sprint(ids) != "[a b c]" {
		t.Fatalf("read %q", ids)
	}
	if n := q.Waiting(); n != 3 {
		t.Errorf("%d wait, want 3", n)
	}
	put(t, q, "never committed")
	must(t, q.Close(t.Context()))

	q, err = OpenQueue(mem.Crash(1), "/d", 0)
	must(t, err)
	must(t, q.Restore(m))
	must(t, q.Open(t.Context(), map[string]transports.Position{"": position(1)}, nil))
	var each []string
	must(t, q.Each(func(ordinal uint64, r *Record) { each = append(each, fmt.Sprint(ordinal, string(r.Data))) }))
	if ids, _ = take(t, q); fmt.Sprint(ids) != "[b c]" || fmt.Sprint(each) != "[1b 2c]" {
		t.Errorf("after a restart: read %q, saw %q", ids, each)
	}
	must(t, q.Close(t.Context()))
	must(t, q.Close(t.Context()))
}

// TestQueueIsBounded: it is full at its bound, over at twice that, and neither once
// all is settled, however large its last file is.
func TestQueueIsBounded(t *testing.T) {
	q, err := OpenQueue(vfs.NewMem(), "/d", 16<<10)
	must(t, err)
	must(t, q.Open(t.Context(), nil, nil))
	seen := ""
	for i := range 100 {
		must(t, q.Publish(put(t, q, fmt.Sprintf("%0500d", i))))
		if state := fmt.Sprint(q.Full(), q.Over()); state != seen {
			t.Logf("after %d records, %d bytes: full, over: %s", i, q.Bytes(), state)
			seen = state
		}
	}
	if seen != "true true" {
		t.Fatalf("full, over: %s", seen)
	}
	for {
		ids, through := take(t, q)
		if len(ids) == 0 {
			break
		}
		for _, err := range q.Settle(t.Context(), []transports.Settlement{through}) {
			must(t, err)
		}
	}
	if q.Full() || q.Over() || q.Waiting() != 0 {
		t.Errorf("full %v, over %v, %d wait", q.Full(), q.Over(), q.Waiting())
	}
	if q.Bytes() > 4<<10 {
		t.Errorf("%d bytes are held of what is settled (I15)", q.Bytes())
	}
	must(t, q.Append(AppendRecord(nil, &Record{Kind: Reentry, Data: make([]byte, 64<<10)}), 1))
	m, err := q.Sync()
	must(t, err)
	must(t, q.Publish(m))
	_, through := take(t, q)
	q.Settle(t.Context(), []transports.Settlement{through})
	if q.Full() {
		t.Errorf("an empty queue of %d bytes is full: nothing would ever make room", q.Bytes())
	}
	must(t, q.Close(t.Context()))
}

// TestReceiveWaits: for a record, for its time, or for the end of its context.
func TestReceiveWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, err := OpenQueue(vfs.NewMem(), "/d", 0)
		must(t, err)
		must(t, q.Open(t.Context(), nil, nil))
		began := time.Now()
		if list, err := q.Receive(t.Context(), 1, time.Second); err != nil || len(list) > 0 || time.Since(began) != time.Second {
			t.Errorf("%v, %v after %v", list, err, time.Since(began))
		}
		go func() {
			time.Sleep(time.Minute) // virtual
			m := put(t, q, "a")
			must(t, q.Publish(m))
		}()
		if list, err := q.Receive(t.Context(), 1, time.Hour); err != nil || len(list) != 1 {
			t.Errorf("%v, %v after %v", list, err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.Receive(ctx, 1, time.Hour); err != context.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		must(t, q.Close(t.Context()))
	})
}
