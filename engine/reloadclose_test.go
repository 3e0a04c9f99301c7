package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// unclosable has sinks that fail when they are closed.
type unclosable struct{ *memory.Transport }

func (unclosable) Name() string { return "unclosable" }

func (u unclosable) NewSink(env transports.Env, s transports.Settings) (transports.Sink, error) {
	sink, err := u.Transport.NewSink(env, s)
	return unclosableSink{sink}, err
}

type unclosableSink struct{ transports.Sink }

func (u unclosableSink) Close(ctx context.Context) error {
	return errors.Join(u.Sink.Close(ctx), errors.New("does not close"))
}

// TestReloadThatCannotCloseWhatItRemovedI14: an error of Reload says that nothing was
// done, so a sink that fails as it goes is a warning.
func TestReloadThatCannotCloseWhatItRemovedI14(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		all := []transports.Transport{local.New(), mem, unclosable{mem}}
		plan := func(sink string) *config.Plan {
			p, err := config.Load(config.Options{Transports: all, File: "/w/weir.yaml", Data: []byte(`
version: 1
node: {data: /w/data}
sources: {in: {memory: {queue: in}}}
routes: {all: {to: [` + sink + `]}}
sinks: {` + sink + `: {unclosable: {queue: ` + sink + `}}}
`)})
			must(t, err)
			return p
		}
		e, err := engine.New(engine.Config{Plan: plan("before"), Transports: all, FS: vfs.NewMem(), DrainLimit: time.Second})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		synctest.Wait()
		c, err := e.Apply(ctx, plan("after"))
		if err != nil || c.Generation != 2 || e.Status().Generation != 2 {
			t.Errorf("the second generation is at work, and Apply returned %+v, %v", c, err)
		}
		if n := len(c.Warnings); n == 0 || !strings.Contains(c.Warnings[n-1].Error, "does not close") {
			t.Errorf("nothing warns of the sink that did not close: %+v", c.Warnings)
		}
		cancel()
		if err := <-done; err == nil || !strings.Contains(err.Error(), "does not close") {
			t.Errorf("run: %v", err)
		}
	})
}
