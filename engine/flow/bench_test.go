package flow

import (
	"bytes"
	"testing"
	"time"

	"github.com/weir-project/weir/bench/workload"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/transports"
)

// benchPlan is the pipeline bench's configuration.
func benchPlan(sources int) *config.Plan {
	plan := &config.Plan{
		Node:   config.Node{Limits: config.Limits{Event: 1 << 20, InFlight: 10_000, InFlightBytes: 64 << 20}},
		Routes: []config.Route{{Name: "eu", From: []string{"orders"}, When: []byte(`{"type":["OrderCreated","OrderAccepted"],"data":{"service_info":["delivery"]}}`), To: []string{"out"}}},
		Sinks:  []config.Sink{{Name: "out", Codec: []string{"original"}}},
	}
	plan.Sources = []config.Source{{Name: "orders", Codec: []string{"auto"}, Dedup: &config.Dedup{Window: time.Minute, MaxIDs: 1 << 20, OnConflict: "dead_letter"}}}
	return plan
}

// benchChunk is a chunk of the workload's events, not scanned.
func benchChunk(b testing.TB, g *Generation) *chunk {
	var buf bytes.Buffer
	if err := workload.Write(&buf, 1, 740); err != nil {
		b.Fatal(err)
	}
	return &chunk{
		Chunk:  transports.Chunk{Partition: "p", Data: buf.Bytes()},
		source: &source{name: "orders"}, gen: g, reading: g.readings[0], byLane: make([][]uint32, 2),
	}
}

func BenchmarkScanStage(b *testing.B) {
	g, err := Compile(benchPlan(1), 1, nil)
	if err != nil {
		b.Fatal(err)
	}
	c := benchChunk(b, g)
	data := c.Data
	s := scanner{lanes: 2, now: time.Now}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		source, gen, reading := c.source, c.gen, c.reading
		c.reset()
		c.source, c.gen, c.reading, c.Data = source, gen, reading, data
		s.scan(c)
		events += len(c.items)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}

func BenchmarkScanOnly(b *testing.B) {
	g, err := Compile(benchPlan(1), 1, nil)
	if err != nil {
		b.Fatal(err)
	}
	c := benchChunk(b, g)
	lines := bytes.Split(bytes.TrimSuffix(c.Data, []byte("\n")), []byte("\n"))
	var v field.Values
	b.SetBytes(int64(len(c.Data)))
	events := 0
	for b.Loop() {
		for _, l := range lines {
			if err := c.reading.program.Scan(l, &v); err != nil {
				b.Fatal(err)
			}
		}
		events += len(lines)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}
