package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

// A configuration from a file, with the transports that it names.
func Example() {
	dir, err := os.MkdirTemp("", "weir-example")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
	write("weir.yaml", `
version: 1
sources: {orders: {file: {path: orders.ndjson}}}
routes: {created: {when: {type: [OrderCreated]}, to: [out]}}
sinks: {out: {file: {path: out.ndjson}}}
`)
	write("orders.ndjson", `{"specversion":"1.0","id":"1","source":"/shop","type":"OrderCreated"}
{"specversion":"1.0","id":"2","source":"/shop","type":"OrderPaid"}
`)
	eng, err := engine.New(engine.Config{
		File:       filepath.Join(dir, "weir.yaml"),
		Transports: []transports.Transport{file.New(), local.New()},
	})
	if err != nil {
		panic(err)
	}
	if err := eng.Run(context.Background()); err != nil { // a file has an end, so this returns
		panic(err)
	}
	out, _ := os.ReadFile(filepath.Join(dir, "out.ndjson"))
	fmt.Print(string(out))
	// Output: {"specversion":"1.0","id":"1","source":"/shop","type":"OrderCreated"}
}

// A sink that is a function, and events from the program itself.
func ExampleEngine_Publish() {
	dir, err := os.MkdirTemp("", "weir-example")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	eng, err := engine.New(engine.Config{Tree: config.Tree{
		"version":      1,
		"node":         config.Tree{"data": dir},
		"sources":      config.Tree{"orders": config.Tree{"program": config.Tree{}}},
		"routes":       config.Tree{"all": config.Tree{"to": []string{"kitchen"}}},
		"sinks":        config.Tree{"kitchen": config.Tree{"program": config.Tree{}}},
		"dead_letters": false,
	}})
	if err != nil {
		panic(err)
	}
	err = eng.Handle("kitchen", func(_ context.Context, events []event.Event) []transports.Result {
		for i := range events {
			fmt.Println(events[i].Type, string(events[i].Data))
		}
		return make([]transports.Result, len(events)) // each is OK
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- eng.Run(ctx) }()
	order := event.Event{ID: "1", Source: "/shop", Type: "OrderCreated", Data: []byte(`{"dish":"soup"}`), DataKind: event.DataJSON}
	fmt.Println("published:", eng.Publish(ctx, "orders", []event.Event{order}))
	stop()
	fmt.Println("ended:", <-ended)
	// Output:
	// OrderCreated {"dish":"soup"}
	// published: <nil>
	// ended: <nil>
}
