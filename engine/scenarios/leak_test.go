package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// TestRunLeavesNoGoroutineI15: however Run ends, nothing goes on behind it.
func TestRunLeavesNoGoroutineI15(t *testing.T) {
	const finite = `
version: 1
node: {data: /w/data, lanes: 3}
sources: {in: {file: {path: in.ndjson}, key: data.k}}
routes: {all: {to: [file, remote]}}
sinks: {file: {file: {path: out.ndjson}}, remote: {remote: {}}}
`
	const endless = `
version: 1
node: {data: /w/data, lanes: 3}
sources: {in: {memory: {queue: in}}, files: {file: {path: in.ndjson, follow: true}}}
routes: {all: {to: [file, remote]}}
sinks: {file: {file: {path: out.ndjson}}, remote: {remote: {}}}
`
	boom := errors.New("boom")
	for _, c := range []struct {
		name, yaml string
		fault      error // of an early operation of Run on the disk
		answer     string
		cancel     bool // once events were delivered
		cancelled  bool // before Run
		want       string
	}{
		{name: "success", yaml: finite},
		{name: "cancelled", yaml: endless, cancel: true},
		{name: "cancelled before it began", yaml: endless, cancelled: true},
		{name: "cancelled with a sink that hangs", yaml: endless, answer: "slow:1h", cancel: true, want: "drain"},
		{name: "disk full", yaml: finite, fault: syscall.ENOSPC, want: "no space"},
		{name: "disk gone", yaml: finite, fault: syscall.EIO, want: "input/output"},
		{name: "source missing", yaml: strings.Replace(finite, "in.ndjson", "away.ndjson", 1), want: "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			remote := newRemote()
			if c.answer != "" {
				remote.sink("remote").answer("*", []string{c.answer})
			}
			at := uint64(0)
			if c.fault != nil {
				probe := vfs.NewFaults(diskOfEvents(t, 500), vfs.Fault{})
				_, err := newEngine(c.yaml, probe, remote)
				must(t, err)
				at = probe.Ops() + 4
			}
			e, err := newEngine(c.yaml, vfs.NewFaults(diskOfEvents(t, 500), vfs.Fault{At: at, Err: c.fault}), remote)
			must(t, err)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if c.cancelled {
				cancel(boom)
			}
			done := make(chan error, 1)
			go func() { done <- e.Run(ctx) }()
			if c.cancel {
				for e.Status().Sources["files"].Received < 500 {
					select {
					case err := <-done:
						t.Fatalf("ended before it was asked to: %v", err)
					case <-time.After(time.Millisecond):
					}
				}
				cancel(boom)
			}
			select {
			case err = <-done:
			case <-time.After(2 * time.Minute):
				t.Fatalf("Run does not end: %+v", e.Status())
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Run says %v, want %q", err, c.want)
			}
		})
	}
}

// diskOfEvents is a disk whose /w/in.ndjson has some events.
func diskOfEvents(t *testing.T, events int) *vfs.Mem {
	mem := vfs.NewMem()
	must(t, mem.MkdirAll("/w"))
	f, err := mem.Append("/w/in.ndjson")
	must(t, err)
	for i := range events {
		_, err = fmt.Fprintf(f, `{"specversion":"1.0","id":"e%d","source":"/s","type":"T","data":{"k":%d}}`+"\n", i, i%7)
		must(t, err)
	}
	must(t, errors.Join(f.Sync(), f.Close(), mem.SyncDir("/"), mem.SyncDir("/w")))
	return mem
}

func newEngine(yaml string, disk vfs.FS, remote *remote) (*engine.Engine, error) {
	all := []transports.Transport{file.New(), local.New(), memory.New(), remote}
	plan, err := config.Load(config.Options{File: "/w/weir.yaml", Data: []byte(yaml), Transports: all})
	if err != nil {
		return nil, err
	}
	return engine.New(engine.Config{
		Plan: plan, Transports: all, FS: disk, DrainLimit: 500 * time.Millisecond, ChunkBytes: 1 << 10,
	})
}
