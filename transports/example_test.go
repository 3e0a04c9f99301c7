package transports_test

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
)

// The two ends of a transport, used as the engine uses them: what was written is
// received, and is gone when it is acked.
func Example() {
	ctx := context.Background()
	queue := memory.New()
	settings := transports.Settings{"queue": "orders"}
	sink, err := queue.NewSink(transports.Env{Name: "out"}, settings)
	if err != nil {
		panic(err)
	}
	source, err := queue.NewSource(transports.Env{Name: "in"}, settings)
	if err != nil {
		panic(err)
	}
	if err := sink.Open(ctx); err != nil {
		panic(err)
	}
	if err := source.Open(ctx, nil, nil); err != nil {
		panic(err)
	}
	batch := []transports.Entry{{Key: []byte("order-1"), Data: []byte(`{"n":1}`)}, {Key: []byte("order-2"), Data: []byte(`{"n":2}`)}}
	results := make([]transports.Result, len(batch))
	sink.Write(ctx, batch, results)
	for i, r := range results {
		fmt.Printf("%s: %v\n", batch[i].Key, r.Class)
	}
	deliveries, err := source.Receive(ctx, 10, time.Second)
	if err != nil {
		panic(err)
	}
	var acks []transports.Settlement
	for _, d := range deliveries {
		fmt.Printf("%s %s, attempt %d\n", d.Key, d.Data, d.Attempt)
		acks = append(acks, transports.Settlement{ID: d.ID})
	}
	fmt.Println("acked:", source.Settle(ctx, acks))
	_, _ = source.Close(ctx), sink.Close(ctx)
	// Output:
	// order-1: ok
	// order-2: ok
	// order-1 {"n":1}, attempt 1
	// order-2 {"n":2}, attempt 1
	// acked: [<nil> <nil>]
}
