package local

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// TestRetain: a sink drops what is too old or too much, oldest first, counts it, and
// never what is not published.
func TestRetain(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	mem := vfs.NewMem()
	env := transports.Env{Name: "dead", DataDir: "/d", FS: mem, Now: func() time.Time { return now }}
	end, err := New().NewSink(env, transports.Settings{"queue": "dead", "max": int64(1 << 20), "segment": int64(1000)})
	must(t, err)
	k := end.(*Sink)
	must(t, k.Open(context.Background()))
	must(t, k.Restore(transports.Mark{}))
	send := func(n int, publish bool) {
		t.Helper()
		for range n {
			must(t, k.Append(k.Frame(nil, &transports.Entry{ID: "x", Data: []byte(strings.Repeat("d", 300))}), 1))
			m, err := k.Sync()
			must(t, err)
			if publish {
				must(t, k.Publish(m))
			}
			now = now.Add(time.Minute)
		}
	}
	send(60, true)
	if gone, err := k.Retain(2*time.Hour, 1<<30); err != nil || gone != (transports.Dropped{}) {
		t.Fatalf("nothing is too old: %+v %v", gone, err)
	}
	gone, err := k.Retain(30*time.Minute, 0)
	if err != nil || gone.Entries < 25 || gone.Entries > 30 || gone.Unread != gone.Entries || gone.Bytes < 25*300 {
		t.Fatalf("by age: %+v %v", gone, err)
	}
	if first := k.place.log.First(); first != gone.Entries {
		t.Errorf("the oldest is %d after %d were dropped", first, gone.Entries)
	}
	size := k.place.log.Size()
	if gone, err = k.Retain(time.Hour, 5000); err != nil || k.place.log.Size() > 5000 || k.place.log.Size() < 3000 || gone.Bytes != size-k.place.log.Size() {
		t.Fatalf("by size: %+v %v, %d bytes of %d are left", gone, err, k.place.log.Size(), size)
	}
	// What a crash would cut again is not counted as held, nor dropped.
	published := k.place.marked.Entries
	send(20, false)
	if _, err = k.Retain(time.Nanosecond, 1); err != nil {
		t.Fatal(err)
	}
	if first := k.place.log.First(); first > published {
		t.Errorf("entry %d went, and only %d are published", first, published)
	}
	must(t, k.Close(context.Background()))
	if _, err := k.Retain(time.Hour, 1); err == nil {
		t.Error("a closed sink retains")
	}
}

// TestRetainCountsUnread: what a reader had settled is not told as unread.
func TestRetainCountsUnread(t *testing.T) {
	env := transports.Env{Name: "dead", DataDir: "/d", FS: vfs.NewMem()}
	end, err := New().NewSink(env, transports.Settings{"queue": "dead", "max": int64(1 << 20), "segment": int64(1000)})
	must(t, err)
	k := end.(*Sink)
	must(t, k.Open(context.Background()))
	entries := []transports.Entry{{ID: "x", Data: []byte(strings.Repeat("d", 300))}}
	for range 40 {
		results := make([]transports.Result, 1)
		k.Write(context.Background(), entries, results)
		must(t, results[0].Err)
	}
	c, err := k.place.attach(queueConsumer, "reader", false, 0)
	must(t, err)
	must(t, c.settle([]run{{1, 3}}, nil)) // not from the first: nothing is passed yet
	gone, err := k.Retain(0, 10_000)
	if err != nil || gone.Entries == 0 || gone.Unread != gone.Entries {
		t.Fatalf("%+v %v", gone, err)
	}
	first := k.place.log.First()
	must(t, c.settle([]run{{0, first + 1}}, nil))
	gone, err = k.Retain(0, 5000)
	if err != nil || gone.Entries < 5 || gone.Unread != gone.Entries-1 {
		t.Fatalf("one entry was settled: %+v %v", gone, err)
	}
	must(t, c.detach())
	must(t, k.Close(context.Background()))
}
