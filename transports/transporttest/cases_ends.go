package transporttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// closeUnderLoad is case 13: Close while everything runs, Close twice, cancel
// everywhere: every call returns, later ones fail, nothing leaks.
func closeUnderLoad(t *testing.T, f Factory) {
	r, empty := newRig(t, f, vfs.OS{}, t.TempDir(), ""), newRig(t, f, vfs.OS{}, t.TempDir(), "")
	before := goleak.IgnoreCurrent()
	must(t, r.open())
	m := newMaker(f, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var receiveErr error
	taken := make(chan struct{}, 1)
	wg.Go(func() { receiveErr = r.receiveUntilError(ctx, taken) })
	for range 20 {
		must(t, r.send(m.next("a", 0), m.next("b", 0)))
	}
	await(t, "an event", taken)
	source, sink := r.source, r.sink
	ended := make(chan error, 1)
	go func() { ended <- source.Close(context.Background()) }()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	await(t, "Receive to end after Close", done)
	select {
	case err := <-ended:
		must(t, err)
	case <-time.After(patience):
		t.Fatal("Close did not return")
	}
	if receiveErr != nil && !errors.Is(receiveErr, transports.ErrClosed) && !errors.Is(receiveErr, io.EOF) {
		t.Errorf("Receive ended with %v, want ErrClosed", receiveErr)
	}
	if r.behind != nil {
		r.behind.stop()
		r.behind = nil
	}
	must(t, source.Close(context.Background()))
	must(t, sink.Close(context.Background()))
	must(t, sink.Close(context.Background()))
	if err := r.tryWrite(sink, m.next("a", 0)); err == nil {
		t.Error("the sink took an entry after Close")
	}
	r.source, r.sink = nil, nil
	cancelled(t, empty)
	cancel()
	noLeaks(t, before)
}

func await(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
	}
}

// receiveUntilError takes without settling, and stops at the first error.
func (r *rig) receiveUntilError(ctx context.Context, taken chan<- struct{}) error {
	c := transports.Chunk{Data: make([]byte, 0, 64<<10)}
	for {
		var err error
		n := 0
		if chunks, ok := r.source.(transports.ChunkSource); ok {
			c.Data = c.Data[:0]
			err = chunks.ReceiveChunk(ctx, &c, time.Minute)
			n = len(c.Data)
		} else {
			var got []transports.Delivery
			got, err = r.source.Receive(ctx, 10, time.Minute)
			n = len(got)
		}
		if err != nil {
			return err
		}
		if n > 0 {
			select {
			case taken <- struct{}{}:
			default:
			}
		}
	}
}

// tryWrite writes to a sink once.
func (r *rig) tryWrite(sink transports.Sink, e transports.Entry) error {
	if staged, ok := sink.(transports.Staged); ok && !r.f.PlainWrite {
		if err := staged.Append(staged.Frame(nil, &e), 1); err != nil {
			return err
		}
		_, err := staged.Sync()
		return err
	}
	results := (&sender{sink: sink}).write(context.Background(), []transports.Entry{e})
	if results[0].Class == transports.OK {
		return nil
	}
	return results[0].Err
}

// cancelled receives from an empty place with a context that ends.
func cancelled(t *testing.T, r *rig) {
	t.Helper()
	must(t, r.open())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var err error
	go func() {
		err = r.receiveUntilError(ctx, make(chan struct{}, 1))
		close(ended)
	}()
	cancel()
	await(t, "Receive to end after cancel", ended)
	if !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) {
		t.Errorf("Receive ended with %v, want context.Canceled", err)
	}
	must(t, r.close())
}

// accounted is case 16: whatever is received, acked, nacked and taken up again
// by another source, every event is settled once and nothing is left over.
func accounted(t *testing.T, f Factory) {
	r := onDisk(t, f)
	seed := seedOf(t)
	m, l, rng := newMaker(f, seed), newLedger(f), rand.New(rand.NewPCG(seed, 2))
	acked := map[int]bool{}
	var held []item
	settle := func(n int) {
		// In the order received, as the engine's marks do.
		for _, it := range held[:n] {
			what, err := parse(it.Data)
			must(t, err)
			// An answer that got lost makes the sink send again what was acked.
			if acked[what.N] && r.sender.unknown.Load() == 0 {
				t.Fatalf("event %d was acked twice", what.N)
			}
			acked[what.N] = true
		}
		must(t, r.ack(held[:n]...))
		held = held[n:]
	}
	receive := func(wait time.Duration) int {
		got, err := r.receive(1+rng.IntN(20), wait)
		must(t, err)
		for _, it := range got {
			_, err := l.received(it)
			must(t, err)
		}
		held = append(held, got...)
		return len(got)
	}
	for range 150 {
		switch rng.IntN(6) {
		case 0, 1:
			e := m.next(fmt.Sprint("k", rng.IntN(10)), rng.IntN(200))
			must(t, l.wasSent(e))
			must(t, r.send(e))
		case 2, 3:
			receive(0)
		case 4:
			settle(rng.IntN(len(held) + 1))
		case 5:
			if n := len(held); n > 0 && r.caps.Nack && rng.IntN(2) == 0 {
				// The last one received: nothing of its key is under way behind it.
				must(t, r.nack(held[n-1], 0))
				held = held[:n-1]
				continue
			}
			must(t, r.closeSource())
			held = nil // they come again
			must(t, r.openSource())
		}
	}
	for deadline := time.Now().Add(patience); len(acked) < m.n && time.Now().Before(deadline); {
		receive(quiet)
		settle(len(held))
	}
	must(t, l.missing())
	if n := receive(quiet); n != 0 || len(acked) != m.n {
		t.Errorf("%d sent, %d acked, and %d are left over", m.n, len(acked), n)
	}
}
