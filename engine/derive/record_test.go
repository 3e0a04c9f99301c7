package derive

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func drawLineage(t *rapid.T) Lineage {
	l := Lineage{
		Hop: rapid.Uint32Min(1).Draw(t, "hop"), Number: rapid.Uint32().Draw(t, "number"),
		RootHi: rapid.Uint64().Draw(t, "hi"), RootLo: rapid.Uint64().Draw(t, "lo"),
		Cause: rapid.String().Draw(t, "cause"), Correlation: rapid.String().Draw(t, "correlation"),
		Route: rapid.String().Draw(t, "route"), EventSource: rapid.String().Draw(t, "source"),
	}
	for range rapid.IntRange(0, 4).Draw(t, "envelopes") {
		l.Envelopes = append(l.Envelopes, rapid.StringN(1, 8, 16).Draw(t, "envelope"))
	}
	return l
}

func drawRecord(t *rapid.T) Record {
	r := Record{
		Kind: rapid.SampledFrom([]Kind{Derived, Reentry}).Draw(t, "kind"), Source: rapid.String().Draw(t, "from"),
		Partition: rapid.String().Draw(t, "partition"), Ordinal: rapid.Uint64().Draw(t, "ordinal"),
		Sub: rapid.Uint32().Draw(t, "sub"), Keyed: rapid.Bool().Draw(t, "keyed"), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
	}
	if r.Keyed {
		r.KeyHash = rapid.Uint64().Draw(t, "hash")
	}
	if rapid.Bool().Draw(t, "key") {
		r.Key = rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
	}
	if r.Kind == Derived || rapid.Bool().Draw(t, "descends") {
		r.Lineage = drawLineage(t)
	}
	if rapid.Bool().Draw(t, "again") {
		r.Attempts = rapid.Uint32Min(1).Draw(t, "attempts")
		r.Route, r.Sink = rapid.String().Draw(t, "route"), rapid.String().Draw(t, "sink")
	}
	return r
}

// TestRecordsComeBack: what was appended is read back, and nothing shorter is taken
// for it.
func TestRecordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		b := want.Append(nil)
		got, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.Key, want.Key) || (got.Key == nil) != (want.Key == nil) {
			t.Fatalf("data or key differ: %+v, want %+v", got, want)
		}
		head := len(b) - len(got.Data)
		got.Data, want.Data, got.Key, want.Key = nil, nil, nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		cut := rapid.IntRange(0, head-1).Draw(t, "cut")
		if r, err := Parse(b[:cut]); err == nil {
			t.Fatalf("%d of %d bytes were taken for all: %+v", cut, head, r)
		}
	})
}

func FuzzParse(f *testing.F) {
	r := Record{Kind: Derived, Source: "s", Keyed: true, KeyHash: 7, Key: []byte("k"), Lineage: Lineage{Hop: 1, Envelopes: []string{"cloudevents"}}, Data: []byte("{}")}
	f.Add(r.Append(nil))
	f.Add([]byte{0x11, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again, err := Parse(r.Append(nil))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v became %+v: %v", r, again, err)
		}
	})
}

// TestRecordFormat pins the bytes on disk.
func TestRecordFormat(t *testing.T) {
	records := []Record{
		{
			Kind: Derived, Source: "orders", Partition: "p0", Ordinal: 300, Sub: 1, Keyed: true, KeyHash: 0x0102030405060708, Key: []byte("c1"),
			Lineage: Lineage{
				Hop: 2, Number: 5, RootHi: 1, RootLo: 2, Cause: "e1", Correlation: "e0", Route: "accept",
				EventSource: "/shop", Envelopes: []string{"eventbridge", "metadata"},
			},
			Data: []byte(`{"a":1}`),
		},
		{Kind: Reentry, Source: "orders", Ordinal: 7, Data: []byte(`{"b":2}`)},
	}
	var b bytes.Buffer
	for i := range records {
		b.WriteString(hex.Dump(records[i].Append(nil)))
		b.WriteByte('\n')
	}
	const name = "testdata/records.golden"
	if *update {
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("the format changed:\n%s", b.Bytes())
	}
}
