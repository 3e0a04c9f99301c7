package engine_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
)

// shaky is memory whose sources fail a few times, each time before they give something.
type shaky struct {
	*memory.Transport
	failures int
	failure  error
	hurt     chan struct{} // told of each failure
}

func (s *shaky) NewSource(env transports.Env, settings transports.Settings) (transports.Source, error) {
	source, err := s.Transport.NewSource(env, settings)
	return &shakySource{Source: source, owner: s}, err
}

type shakySource struct {
	transports.Source
	owner *shaky
	mu    sync.Mutex // guards count
	count int
}

func (s *shakySource) Receive(ctx context.Context, most int, wait time.Duration) ([]transports.Delivery, error) {
	s.mu.Lock()
	s.count++
	fails := s.count <= s.owner.failures
	s.mu.Unlock()
	if fails {
		s.owner.hurt <- struct{}{}
		return nil, s.owner.failure
	}
	return s.Source.Receive(ctx, most, wait)
}

func shakyEngine(t *testing.T, s *shaky) *engine.Engine {
	t.Helper()
	eng, err := engine.New(engine.Config{
		Tree: config.Tree{
			"version":      1,
			"node":         config.Tree{"data": filepath.Join(t.TempDir(), "data")},
			"sources":      config.Tree{"in": config.Tree{"memory": config.Tree{"queue": "in"}}},
			"routes":       config.Tree{"all": config.Tree{"to": []string{"out"}}},
			"sinks":        config.Tree{"out": config.Tree{"memory": config.Tree{"queue": "out"}}},
			"dead_letters": false,
		},
		Transports: []transports.Transport{s},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Queue("in").Put(transports.Entry{Data: []byte(cloudEvent(1, "Order", "eu"))}); err != nil {
		t.Fatal(err)
	}
	s.Queue("in").End()
	return eng
}

// TestASourceThatFailsIsAskedAgain is I16 for sources: what does not say that it is for
// ever is got over, and the status tells of it meanwhile.
func TestASourceThatFailsIsAskedAgain(t *testing.T) {
	s := &shaky{Transport: memory.New(), failures: 3, failure: errors.New("the line is cut"), hurt: make(chan struct{}, 10)}
	eng := shakyEngine(t, s)
	ended := make(chan error, 1)
	go func() { ended <- eng.Run(t.Context()) }()
	<-s.hurt
	<-s.hurt // the first has been noted
	told := ""
	for _, w := range eng.Status().Waits {
		told += fmt.Sprintln(w.What, w.Why)
	}
	if !strings.Contains(told, "source in the line is cut") {
		t.Errorf("status says %q", told)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := len(s.Queue("out").Entries()); n != 1 {
		t.Errorf("%d events came out, want 1", n)
	}
	if waits := eng.Status().Waits; len(waits) != 0 {
		t.Errorf("at the end it waits for %v", waits)
	}
}

func TestASourceThatFailsForEverEndsTheRun(t *testing.T) {
	s := &shaky{Transport: memory.New(), failures: 1, failure: fmt.Errorf("%w: the door is shut", transports.ErrFatal), hurt: make(chan struct{}, 10)}
	if err := shakyEngine(t, s).Run(t.Context()); !errors.Is(err, transports.ErrFatal) || !strings.Contains(err.Error(), "the door is shut") {
		t.Errorf("Run: %v, want the source's error", err)
	}
}

// TestLeasesAreExtended: an event that is worked on for longer than its lease does not
// come a second time.
func TestLeasesAreExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory.New()
		const length = 200 * time.Millisecond
		eng, err := engine.New(engine.Config{
			Tree: config.Tree{
				"version":      1,
				"node":         config.Tree{"data": "/w/data"},
				"sources":      config.Tree{"in": config.Tree{"memory": config.Tree{"queue": "in", "lease": length}, "dedup": false}},
				"routes":       config.Tree{"all": config.Tree{"to": []string{"slow"}}},
				"sinks":        config.Tree{"slow": config.Tree{"program": config.Tree{}, "retry": config.Tree{"park_after": time.Minute, "max_age": time.Hour}}},
				"dead_letters": false,
			},
			Transports: []transports.Transport{m}, FS: vfs.NewMem(),
		})
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		if err := eng.Handle("slow", func(_ context.Context, events []event.Event) []transports.Result {
			calls += len(events)
			<-time.After(4 * length)
			return make([]transports.Result, len(events))
		}); err != nil {
			t.Fatal(err)
		}
		if err := m.Queue("in").Put(transports.Entry{Data: []byte(cloudEvent(1, "Order", "eu"))}); err != nil {
			t.Fatal(err)
		}
		m.Queue("in").End()
		if err := eng.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := eng.Status().Sources["in"].Received; calls != 1 || got != 1 {
			t.Errorf("the event was handled %d times and received %d times", calls, got)
		}
	})
}
