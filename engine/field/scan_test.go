package field

import (
	"encoding/json"
	"testing"
)

const typical = `{"specversion":"1.0","id":"6f1c1c9e-2f5b-4a55-9e55-9a0f7d2b6c11","source":"/fleet/driver-1234","type":"DriverLocationUpdated","time":"2026-01-01T00:00:00.000Z","datacontenttype":"application/json","data":{"driver_id":"5a0b0f3e-7c2e-4f55-8e55-1a0f7d2b6c22","lat":52.520008,"lng":13.404954,"service_info":"delivery","speed":42.5,"heading":271}}`

var eight = []string{"specversion", "id", "source", "type", "time", "data.driver_id", "data.service_info", "data"}

func compileFor(tb testing.TB, o Options, paths ...string) *Program {
	tb.Helper()
	parsed := make([]Path, len(paths))
	for i, s := range paths {
		parsed[i] = ParsePath(s)
	}
	p, err := Compile(parsed, o)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func BenchmarkScan(b *testing.B) {
	doc := []byte(typical)
	p := compileFor(b, Options{Root: true}, eight...)
	var v Values
	b.ReportAllocs()
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if err := p.Scan(doc, &v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValid(b *testing.B) {
	doc := []byte(typical)
	b.ReportAllocs()
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if !json.Valid(doc) {
			b.Fatal("refused")
		}
	}
}
