// Package scan measures engine/field's scan against encoding/json.Valid, the
// plainest thing that a Go program would use to refuse bytes that are not JSON.
package scan

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/weir-project/weir/engine/field"
)

// Bar is how many times json.Valid's throughput the scan must reach.
const Bar = 3.3

// Options of a run. Zero values mean the defaults.
type Options struct {
	Seed   uint64        // of the events
	Pairs  int           // interleaved measurements, default 41
	Sample time.Duration // of one side of one measurement, default 5 ms; short, since a machine is shared
}

// Result is one line of the benchmark. Throughputs are bytes a second, medians
// over the pairs; Ratio is the median of the pairs' own ratios.
type Result struct {
	Case    string
	Scan    float64
	Valid   float64
	Ratio   float64
	Bar     float64 // 0 = none
	PerScan time.Duration
	Anchor  float64 // crc32 of the same bytes: shows a machine that was slowed
}

// Missed reports whether the result is below its bar.
func (r Result) Missed() bool { return r.Ratio < r.Bar }

// String is the result's line.
func (r Result) String() string {
	line := fmt.Sprintf("%-28s %7.2f GB/s (%v an event)   json.Valid %5.2f GB/s   ratio %5.2f   crc32 %5.2f GB/s",
		r.Case, r.Scan/1e9, r.PerScan, r.Valid/1e9, r.Ratio, r.Anchor/1e9)
	if r.Bar > 0 {
		line += fmt.Sprintf("   bar %.2f", r.Bar)
	}
	return line
}

// Fields are the fields that the benchmark projects.
func Fields() []field.Path {
	names := []string{"specversion", "id", "source", "type", "time", "datacontenttype", "data", "data.service_info"}
	paths := make([]field.Path, len(names))
	for i, name := range names {
		paths[i] = field.ParsePath(name)
	}
	return paths
}

// Events makes n CloudEvents of about 352 bytes, one like the other in shape
// and different in every value.
func Events(n int, seed uint64) [][]byte {
	r := rand.New(rand.NewPCG(seed, 352))
	types := []string{"DriverLocationUpdated", "DriverOnline", "OrderAccepted", "OrderDelivered"}
	services := []string{"delivery", "ride", "courier"}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	events := make([][]byte, n)
	for i := range events {
		events[i] = fmt.Appendf(nil,
			`{"specversion":"1.0","id":"%s","source":"/fleet/driver-%d","type":"%s","time":"%s","datacontenttype":"application/json","data":{"driver_id":"%s","lat":%.6f,"lng":%.6f,"service_info":"%s","vehicle":"bike-%03d","speed":%.1f,"heading":%d}}`,
			uuid(r), r.IntN(10_000), types[r.IntN(len(types))], start.Add(time.Duration(i)*time.Millisecond).Format("2006-01-02T15:04:05.000Z"),
			uuid(r), 52+r.Float64(), 13+r.Float64(), services[r.IntN(len(services))], r.IntN(1000), 60*r.Float64(), r.IntN(360))
	}
	return events
}

func uuid(r *rand.Rand) string {
	a, b := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48, b&0xffffffffffff)
}

// Run measures the cases: the bar's, and others for the record. Its error is
// an event that either side refused.
func Run(o Options) ([]Result, error) {
	const events = 2048
	plain := Events(events, o.Seed)
	accented := make([][]byte, len(plain))
	spaced := make([][]byte, len(plain))
	for i, doc := range plain {
		accented[i] = slices.Concat(doc[:len(doc)-2], []byte(`,"place":"Köpenicker Straße, Köln"}}`))
		var v any
		if err := json.Unmarshal(doc, &v); err != nil {
			return nil, fmt.Errorf("bench scan: %w", err)
		}
		indented, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("bench scan: %w", err)
		}
		spaced[i] = indented
	}
	var results []Result
	for _, c := range []struct {
		name   string
		events [][]byte
		fields []field.Path
		bar    float64
	}{
		{"CloudEvents, 8 fields", plain, Fields(), Bar},
		{"CloudEvents, no field", plain, nil, 0},
		{"with non-ASCII text", accented, Fields(), 0},
		{"indented", spaced, Fields(), 0},
	} {
		r, err := Compare(c.name, c.events, c.fields, o)
		if err != nil {
			return nil, err
		}
		r.Bar = c.bar
		results = append(results, r)
	}
	return results, nil
}

// Compare measures one case: the same events through both, in turn.
func Compare(name string, events [][]byte, fields []field.Path, o Options) (Result, error) {
	if o.Pairs <= 0 {
		o.Pairs = 41
	}
	if o.Sample <= 0 {
		o.Sample = 5 * time.Millisecond
	}
	program, err := field.Compile(fields, field.Options{Root: true})
	if err != nil {
		return Result{}, fmt.Errorf("bench scan: %w", err)
	}
	var values field.Values
	refused := 0
	scan := func(doc []byte) {
		if program.Scan(doc, &values) != nil {
			refused++
		}
	}
	valid := func(doc []byte) {
		if !json.Valid(doc) {
			refused++
		}
	}
	sum := uint32(0)
	anchor := func(doc []byte) { sum ^= crc32.ChecksumIEEE(doc) }
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var scans, valids, anchors, ratios []float64
	for range o.Pairs {
		s, v := throughput(events, o.Sample, scan), throughput(events, o.Sample, valid)
		scans, valids, ratios = append(scans, s), append(valids, v), append(ratios, s/v)
		anchors = append(anchors, throughput(events, o.Sample/5, anchor))
	}
	if refused > 0 {
		return Result{}, fmt.Errorf("bench scan: %s: %d events refused", name, refused)
	}
	bytes := 0
	for _, doc := range events {
		bytes += len(doc)
	}
	r := Result{Case: name, Scan: median(scans), Valid: median(valids), Ratio: median(ratios), Anchor: median(anchors)}
	r.PerScan = time.Duration(float64(bytes) / float64(len(events)) / r.Scan * 1e9)
	return r, nil
}

// started is where spent counts from, where it has no better.
var started = time.Now()

// throughput runs whole rounds over the events for about as long as asked and
// returns bytes a second. The caller holds its thread.
func throughput(events [][]byte, sample time.Duration, f func([]byte)) float64 {
	bytes := 0
	start := spent()
	for {
		for _, doc := range events {
			f(doc)
			bytes += len(doc)
		}
		if d := spent() - start; d >= sample {
			return float64(bytes) / d.Seconds()
		}
	}
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}
