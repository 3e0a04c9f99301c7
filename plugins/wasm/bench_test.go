package wasm_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/plugins/wasm"
)

const examples = "../../examples/plugins"

func example(name string) string {
	path, err := filepath.Abs(filepath.Join(examples, name, name+".wasm"))
	if err != nil {
		panic(err)
	}
	return path
}

func load(tb testing.TB, h *wasm.Host, spec plugins.Spec) plugins.Plugin {
	tb.Helper()
	p, err := h.Load(context.Background(), spec)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return p
}

func newHost(tb testing.TB) *wasm.Host {
	tb.Helper()
	h := wasm.New(wasm.Config{})
	tb.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return h
}

func instance(tb testing.TB, p plugins.Plugin) plugins.Instance {
	tb.Helper()
	in, err := p.Instance(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := in.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return in
}

// The events of the benchmarks: two fields, as the bench pipeline's filter has.
var (
	someTypes    = [][]byte{[]byte("OrderCreated"), []byte("OrderAccepted"), []byte("OrderShipped"), []byte("CartUpdated")}
	someServices = [][]byte{[]byte("delivery"), []byte("pickup"), []byte("delivery")}
	someTotals   = [][]byte{[]byte("99.5"), []byte("125.25"), []byte("100")}
)

func fill(b *plugins.Batch, n int, totals bool) {
	b.Reset(2)
	for i := range n {
		b.Event()
		b.String(someTypes[i%len(someTypes)], false)
		if totals {
			b.Number(someTotals[i%len(someTotals)])
		} else {
			b.String(someServices[i%len(someServices)], false)
		}
	}
}

// BenchmarkFilter64 measures a batch of 64 events from field values to
// answers: host encoding, the guest with fuel, and reading what it said.
func BenchmarkFilter64(b *testing.B) {
	h := newHost(b)
	for _, c := range []struct {
		name   string
		totals bool
	}{{"service-rust", false}, {"vip-rust", true}, {"vip-go", true}} {
		in := instance(b, load(b, h, plugins.Spec{Name: c.name, Path: example(c.name)}))
		b.Run(c.name, func(b *testing.B) {
			var batch plugins.Batch
			answers := make([]uint32, 64)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				fill(&batch, 64, c.totals)
				if err := in.Filter(ctx, &batch, answers); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/event")
		})
	}
	for _, totals := range []bool{false, true} {
		b.Run(fmt.Sprintf("encoding-totals-%v", totals), func(b *testing.B) {
			var batch plugins.Batch
			dst := make([]byte, 1<<16)
			for b.Loop() {
				fill(&batch, 64, totals)
				batch.CopyTo(dst)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/event")
		})
	}
}
