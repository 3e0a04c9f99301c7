// Command embed is a product that has the engine inside: a taxi company's
// dispatch. Bookings come from its own counter, by Publish, and from partners, who
// put files into a folder, by a transport of the company's own. A function of the
// program assigns a car to each; everything goes to an archive.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/examples/spool"
	"github.com/weir-project/weir/transports"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, ".", os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// flow says what goes where. The same could stand in a file: engine.Config.File.
func flow(dir string) config.Tree {
	return config.Tree{
		"version": 1,
		"node":    config.Tree{"data": filepath.Join(dir, "data")},
		"sources": config.Tree{
			"counter":  config.Tree{"program": config.Tree{}, "key": "data.car"},
			"partners": config.Tree{"spool": config.Tree{"path": filepath.Join(dir, "partners")}, "key": "data.car"},
		},
		"routes": config.Tree{
			"bookings": config.Tree{
				"when": config.Tree{"type": []string{"Booked"}},
				"to":   []string{"assign", "archive"},
			},
		},
		"sinks": config.Tree{
			"assign":  config.Tree{"program": config.Tree{"timeout": 2 * time.Second}},
			"archive": config.Tree{"spool": config.Tree{"path": filepath.Join(dir, "archive")}},
		},
		"dead_letters": config.Tree{"spool": config.Tree{"path": filepath.Join(dir, "dead")}},
	}
}

// run books three rides at the counter and works until ctx is done.
func run(ctx context.Context, dir string, out io.Writer) error {
	eng, err := engine.New(engine.Config{
		Tree:       flow(dir),
		Transports: []transports.Transport{spool.New()},
	})
	if err != nil {
		return err
	}
	cars := &cars{out: out}
	if err := eng.Handle("assign", cars.assign); err != nil {
		return errors.Join(err, eng.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- eng.Run(ctx) }()
	// What is under way when ctx ends is settled all the same: Publish waits for that,
	// and ends with Run at the latest.
	err = eng.Publish(context.WithoutCancel(ctx), "counter", []event.Event{booking("b-1", "limousine"), booking("b-2", "van"), booking("b-3", "limousine")})
	if err != nil {
		stop() // nothing works without the counter
	}
	return errors.Join(err, <-ended)
}

func booking(id, car string) event.Event {
	return event.Event{
		ID: id, Source: "/counter", Type: "Booked", Time: time.Now(),
		Data: fmt.Appendf(nil, `{"car":%q}`, car), DataKind: event.DataJSON,
	}
}

// cars assigns cars to bookings.
type cars struct {
	mu  sync.Mutex // guards out
	out io.Writer
}

// assign is the handler. Its results say, event by event, what became of it: OK, or
// a class that says what the engine does next.
func (c *cars) assign(_ context.Context, bookings []event.Event) []transports.Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	results := make([]transports.Result, len(bookings))
	for i := range bookings {
		var wish struct{ Car string }
		if err := json.Unmarshal(bookings[i].Data, &wish); err != nil || wish.Car == "" {
			results[i] = transports.Result{Class: transports.Poison, Err: errors.New("it names no car")}
			continue
		}
		fmt.Fprintf(c.out, "%s gets a %s\n", bookings[i].ID, wish.Car)
	}
	return results
}
