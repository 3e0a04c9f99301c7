package engine_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

const reenterYAML = `
version: 1
node: {data: /w/data, lanes: 2}
sources:
  orders: {memory: {queue: in}, codec: metadata, missing: {source: /shop, zone: UTC}, expire: {after: 1h}}
routes:
  created: {when: {type: [OrderCreated]}, to: [out]}
unmatched: [other]
sinks:
  out: {file: {path: out.ndjson}}
  other: {file: {path: other.ndjson}}
`

// TestReenteredEventsAreReadAsTheirSourceReadsThem: past de-duplication and expiry, in
// the envelope of their source, with the id that they were given at first; an event
// whose source is gone is a dead letter (I1).
func TestReenteredEventsAreReadAsTheirSourceReadsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		must(t, mem.MkdirAll("/w"))
		m := memory.New()
		all := []transports.Transport{file.New(), local.New(), m}
		plan, err := config.Load(config.Options{File: "/w/weir.yaml", Data: []byte(reenterYAML), Transports: all})
		must(t, err)
		e, err := engine.New(engine.Config{Plan: plan, Transports: all, FS: mem})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()

		event := func(id, kind, at string) []byte {
			return []byte(`{"Metadata":{"event_id":"` + id + `","event_type":"` + kind + `","event_time_iso8601":"` + at + `"},"Data":{}}`)
		}
		fresh := time.Now().UTC().Format(time.RFC3339)
		must(t, m.Queue("in").Put(transports.Entry{Data: event("e1", "OrderCreated", fresh)}))
		synctest.Wait()
		time.Sleep(time.Second) // virtual
		nameless := []byte(`{"Metadata":{"event_type":"Nameless"},"Data":{}}`)
		must(t, e.Reenter(ctx, []derive.Record{
			{Kind: derive.Reentry, Source: "orders", Data: event("e1", "OrderCreated", fresh)},
			{Kind: derive.Reentry, Source: "orders", Data: event("e2", "OrderCreated", "2001-02-03T04:05:06Z")},
			{Kind: derive.Reentry, Source: "orders", Partition: "p", Ordinal: 77, Data: nameless},
			{Kind: derive.Reentry, Source: "gone", Data: event("e3", "OrderCreated", fresh)},
		}))
		time.Sleep(time.Second)
		cancel()
		must(t, <-done)

		got, err := metadataIDs(mem, "/w/out.ndjson")
		must(t, err)
		if want := []string{"e1", "e1", "e2"}; !slices.Equal(got, want) {
			t.Errorf("out holds %q, want %q", got, want)
		}
		if got, err = queueOf(mem, "dead"); err != nil || len(got) != 1 {
			t.Errorf("dead letters %q, %v, want one", got, err)
		}
		if n := e.Status().DeadLetters["source_removed"]; n != 1 {
			t.Errorf("%d letters say source_removed, want 1", n)
		}
	})
}

func metadataIDs(mem *vfs.Mem, name string) ([]string, error) {
	lines, err := linesIn(mem, name)
	var ids []string
	for _, line := range lines {
		ids = append(ids, cutOut(line, `"event_id":"`, `"`))
	}
	return ids, err
}
