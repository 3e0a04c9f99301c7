package engine_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// TestExportThatWaitsHoldsUpNoReload: a local sink is changed, for which all must have
// settled, while the journal's export waits for a sink that is down. No line is lost by
// it, and few are offered again.
func TestExportThatWaitsHoldsUpNoReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLive(t, vfs.NewMem(), memory.New(), exportYAML)
		defer l.stop()
		var down atomic.Bool
		down.Store(true)
		l.memory.Queue("index").OnWrite(func(transports.Entry) transports.Result {
			if down.Load() {
				return transports.Result{Class: transports.Retry, Err: errors.New("down")}
			}
			return transports.Result{}
		})
		l.put("in", 0, 10)
		time.Sleep(time.Minute)
		moved := strings.Replace(exportYAML, "/w/index.ndjson", "/w/moved.ndjson", 1)
		plan, err := config.Load(config.Options{
			File: "/w/weir.yaml", Data: []byte("version: 1\nnode: {data: /w/data}\n" + moved),
			Transports: []transports.Transport{file.New(), local.New(), l.memory},
		})
		must(t, err)
		if _, err := l.engine.Apply(t.Context(), plan); err != nil {
			t.Errorf("a sink of journal.to that is down holds up the change of another: %v", err)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		l.put("in", 10, 20)
		time.Sleep(time.Minute)
		ids, lines := exported(t, l.index())
		if len(lines) != 20 || len(ids) > 3*20 {
			t.Errorf("%d entries of %d lines arrived, want 20 lines", len(ids), len(lines))
		}
	})
}
