package yardstick

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/weir-project/weir/bench/workload"
)

func TestLoopEqualsEncodingJSON(t *testing.T) {
	var in, want, got bytes.Buffer
	if err := workload.Write(&in, 3, 20_000); err != nil {
		t.Fatal(err)
	}
	seen := map[[2]string]bool{}
	repeats, written := 0, 0
	for line := range bytes.Lines(in.Bytes()) {
		var v struct {
			ID, Source, Type string
			Data             struct {
				Service string `json:"service_info"`
			}
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		k := [2]string{v.Source, v.ID}
		if seen[k] {
			repeats++
			continue
		}
		seen[k] = true
		if slices.Contains(workload.Wanted.Types, v.Type) && v.Data.Service == workload.Wanted.Service {
			want.Write(line)
			written++
		}
	}
	r, err := Loop(&in, &got)
	if err != nil {
		t.Fatal(err)
	}
	if r.Events != 20_000 || r.Repeats != repeats || r.Written != written || written == 0 || repeats == 0 {
		t.Fatalf("%+v, want %d repeats, %d written", r, repeats, written)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Fatal("other lines were written")
	}
}

func BenchmarkLoop(b *testing.B) {
	var in bytes.Buffer
	if err := workload.Write(&in, 3, 100_000); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Loop(bytes.NewReader(in.Bytes()), &bytes.Buffer{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/event")
}
