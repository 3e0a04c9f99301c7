package wasm

import (
	"context"
	"testing"

	"github.com/weir-project/weir/plugins"
)

// BenchmarkBareCall is the yardstick of BenchmarkFilter64: one call of a guest
// function that does nothing, on the same instance machinery.
func BenchmarkBareCall(b *testing.B) {
	ctx := context.Background()
	h := New(Config{})
	p, err := h.Load(ctx, plugins.Spec{Name: "service", Path: "../../examples/plugins/service-rust/service-rust.wasm"})
	if err != nil {
		b.Fatal(err)
	}
	in, err := p.(*plugin).start(ctx, nil)
	if err != nil {
		b.Fatal(err)
	}
	f := in.mod.ExportedFunction("weir_abi_1")
	b.ReportAllocs()
	for b.Loop() {
		in.fuel.Set(1 << 40)
		if err := f.CallWithStack(in.ctx, in.stack[:]); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := in.shut(ctx); err != nil {
		b.Fatal(err)
	}
	if err := p.Close(ctx); err != nil {
		b.Fatal(err)
	}
	if err := h.Close(ctx); err != nil {
		b.Fatal(err)
	}
}
