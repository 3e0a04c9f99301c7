package wasm

import (
	"context"
	"testing"

	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/plugins/plugintest"
)

// BenchmarkTrapToNext measures how soon a lane works again after a trap: the
// failing call, closing the instance, taking the spare, one event.
func BenchmarkTrapToNext(b *testing.B) {
	ctx := context.Background()
	h := New(Config{})
	var file []byte
	for _, c := range plugintest.Guests().Cases {
		if c.Name == "trap on the 37th event" {
			file = c.File
		}
	}
	path := b.TempDir() + "/trap.wasm"
	writeFile(b, path, file)
	loaded, err := h.Load(ctx, plugins.Spec{Name: "trap", Path: path})
	if err != nil {
		b.Fatal(err)
	}
	p := loaded.(*plugin)
	var bad, good plugins.Batch
	for batch, n := range map[*plugins.Batch]int{&bad: 64, &good: 1} {
		batch.Reset(1)
		for range n {
			batch.Event()
			batch.Null()
		}
	}
	answers := make([]uint32, 64)
	in, err := p.Instance(ctx)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		p.fill.Wait() // the spare is ready, as it is between traps
		b.StartTimer()
		if err := in.Filter(ctx, &bad, answers); err == nil {
			b.Fatal("no trap")
		}
		if err := in.Close(ctx); err != nil {
			b.Fatal(err)
		}
		if in, err = p.Instance(ctx); err != nil {
			b.Fatal(err)
		}
		if err := in.Filter(ctx, &good, answers[:1]); err != nil {
			b.Fatal(err)
		}
	}
	for _, close := range []func(context.Context) error{in.Close, p.Close, h.Close} {
		if err := close(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
