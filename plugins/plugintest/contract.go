package plugintest

import (
	"context"
	"testing"

	"github.com/weir-project/weir/plugins"
)

// contract checks what a host promises for a guest that keeps its side.
func contract(t *testing.T, plain plugins.Plugin) {
	ctx := context.Background()
	if m := plain.Manifest(); m.Name != "plain" || m.Version != "1.2.3" || len(m.Fields) != 1 {
		t.Errorf("manifest %+v", m)
	}
	if d := plain.Digest(); len(d) != 64 {
		t.Errorf("digest %q", d)
	}
	in, err := plain.Instance(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 2, events, 1000, 1} {
		answers := make([]uint32, n)
		if err := filterInto(in, answers); err != nil {
			t.Fatalf("%d events: %v", n, err)
		}
		for i, a := range answers {
			if a != 1 {
				t.Fatalf("%d events: answer %d is %#x", n, i, a)
			}
		}
	}
	if r := in.Reason(0) + in.Reason(-1) + in.Reason(1<<30); r != "" {
		t.Errorf("reason %q of nothing", r)
	}
	misuse(t, in)
	if err := in.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := in.Close(ctx); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := filter(in, 1); err == nil {
		t.Error("a closed instance works")
	}
	allocations(t, plain)
	lanes(t, plain)
}

// misuse is the engine's fault, not the guest's: the instance stays good.
func misuse(t *testing.T, in plugins.Instance) {
	t.Helper()
	ctx := context.Background()
	var b plugins.Batch
	fill(&b, 3)
	if err := in.Filter(ctx, &b, make([]uint32, 2)); err == nil {
		t.Error("2 answers for 3 events")
	}
	b.Reset(2)
	b.Event()
	if err := in.Filter(ctx, &b, make([]uint32, 1)); err == nil {
		t.Error("2 slots where the manifest has 1")
	}
	b.Reset(1)
	b.Event()
	b.Null()
	b.Null()
	if err := in.Filter(ctx, &b, make([]uint32, 1)); err == nil {
		t.Error("a batch with an error")
	}
	if err := filter(in, 1); err != nil {
		t.Errorf("after misuse: %v", err)
	}
}

func allocations(t *testing.T, plain plugins.Plugin) {
	t.Helper()
	ctx := context.Background()
	in, err := plain.Instance(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var b plugins.Batch
	answers := make([]uint32, events)
	typ := []byte("OrderCreated")
	n := testing.AllocsPerRun(100, func() {
		b.Reset(1)
		for range events {
			b.Event()
			b.String(typ, false)
		}
		if err := in.Filter(ctx, &b, answers); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
	if err := in.Close(ctx); err != nil {
		t.Error(err)
	}
}

// lanes runs several instances at once.
func lanes(t *testing.T, plain plugins.Plugin) {
	t.Helper()
	const lanes, batches = 4, 200
	ctx := context.Background()
	done := make(chan error, lanes)
	for range lanes {
		go func() {
			in, err := plain.Instance(ctx)
			for i := 0; err == nil && i < batches; i++ {
				err = filter(in, events)
			}
			if err == nil {
				err = in.Close(ctx)
			}
			done <- err
		}()
	}
	for range lanes {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
