package workload

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
)

func TestShares(t *testing.T) {
	const n = 50_000
	g := New(1)
	seen := map[string]int{}
	var size, orders, repeats int
	for i := range n {
		e, repeat := g.Next()
		size += len(e)
		if at, ok := seen[string(e)]; ok != repeat || ok && i-at > lookBack*2 {
			t.Fatalf("event %d: seen %v, said repeat %v", i, ok, repeat)
		}
		seen[string(e)] = i
		if repeat {
			repeats++
		}
		var v struct {
			ID, Source, Type string
			Data             struct {
				Service string `json:"service_info"`
			}
		}
		if err := json.Unmarshal(e, &v); err != nil || v.ID == "" || v.Source == "" || v.Data.Service == "" {
			t.Fatalf("event %d: %v: %s", i, err, e)
		}
		if v.Type != "DriverLocationUpdated" {
			orders++
		}
	}
	near := func(what string, got, want, by float64) {
		if got < want-by || got > want+by {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	near("bytes an event", float64(size)/n, 352, 6)
	near("orders", float64(orders)/n, orderShare/100.0, 0.02)
	near("repeats", float64(repeats)/n, repeatShare/100.0, 0.01)
}

func TestFileIsTheSameForASeed(t *testing.T) {
	dir := t.TempDir()
	a, err := File(dir, 7, 3000)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := Write(&want, 7, 3000); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Fatal("the file is not what the seed gives")
	}
	if n := bytes.Count(got, []byte("\n")); n != 3000 {
		t.Fatalf("%d lines", n)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Fatalf("left behind: %v", entries)
	}
}
