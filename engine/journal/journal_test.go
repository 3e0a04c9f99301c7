package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write golden files")

type seen struct {
	Epoch, Generation uint64
	Section           Section
	Entry             Entry
}

// collect reads a settled record into copies.
func collect(t require, record []byte) []seen {
	var all []seen
	err := Read(record, &Visitor{Settled: func(epoch, generation uint64, s *Section, e *Entry) error {
		c := seen{epoch, generation, *s, *e}
		c.Section.Start, c.Section.Next, c.Section.Low = bytes.Clone(s.Start), bytes.Clone(s.Next), bytes.Clone(s.Low)
		c.Entry.ID = bytes.Clone(e.ID)
		c.Entry.Notes = append([]Note(nil), e.Notes...)
		c.Entry.Routes = append([]uint32(nil), e.Routes...)
		c.Entry.Taken = append([]uint32(nil), e.Taken...)
		all = append(all, c)
		return nil
	}})
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return all
}

type require interface{ Fatalf(string, ...any) }

func drawEntry(t *rapid.T) Entry {
	e := Entry{
		Ordinal: rapid.Uint64().Draw(t, "ordinal"), Sub: rapid.Uint32Range(0, 3).Draw(t, "sub"),
		Outcome: Outcome(rapid.IntRange(1, int(lastResult)).Draw(t, "outcome")),
		ID:      rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "id"),
		Reason:  rapid.String().Draw(t, "reason"),
		Key:     rapid.Uint64().Draw(t, "key"),
	}
	if e.Identified = rapid.Bool().Draw(t, "identified"); e.Identified {
		e.Hi, e.Lo = rapid.Uint64().Draw(t, "hi"), rapid.Uint64().Draw(t, "lo")
		if rapid.Bool().Draw(t, "same key") {
			e.Key = e.Hi
		}
	}
	if e.Claimed = rapid.Bool().Draw(t, "claimed"); e.Claimed {
		e.Data = rapid.Uint64().Draw(t, "data")
		if e.HasVersion = rapid.Bool().Draw(t, "versioned"); e.HasVersion {
			e.Version = rapid.Uint32().Draw(t, "version")
		}
	}
	e.Routes = rapid.SliceOfN(rapid.Uint32(), 0, 5).Draw(t, "routes")
	e.Taken = rapid.SliceOfN(rapid.Uint32Range(0, 5), len(e.Routes), len(e.Routes)).Draw(t, "taken")
	for range rapid.IntRange(0, 2).Draw(t, "notes") {
		e.Notes = append(e.Notes, Note{
			Route: rapid.Uint32().Draw(t, "route"), Sink: rapid.Uint32().Draw(t, "sink"),
			Outcome: Parked, Attempts: rapid.Uint32().Draw(t, "attempts"), Reason: rapid.String().Draw(t, "why"),
		})
	}
	return e
}

func TestRecordsComeBackAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w Writer
		var want []seen
		epoch, generation := rapid.Uint64().Draw(t, "epoch"), rapid.Uint64().Draw(t, "generation")
		w.Begin(epoch, generation)
		for range rapid.IntRange(0, 3).Draw(t, "sections") {
			s := Section{
				Source: rapid.String().Draw(t, "source"), Partition: rapid.String().Draw(t, "partition"),
				LowOrdinal: rapid.Uint64().Draw(t, "low"), Low: rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "lowpos"),
				First: rapid.Uint64().Draw(t, "first"), End: rapid.Uint64().Draw(t, "end"), Total: rapid.Uint64().Draw(t, "total"),
				Start: rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "start"), Next: rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "next"),
			}
			w.Section(&s)
			for range rapid.IntRange(0, 5).Draw(t, "entries") {
				e := drawEntry(t)
				w.Entry(&e)
				want = append(want, seen{epoch, generation, s, e})
			}
		}
		w.End()
		got := collect(t, w.Bytes)
		if len(got) != len(want) {
			t.Fatalf("%d entries, want %d", len(got), len(want))
		}
		for i := range want {
			normal(&want[i].Entry)
			normal(&got[i].Entry)
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("entry %d:\n got %+v\nwant %+v", i, got[i], want[i])
			}
		}
	})
}

// normal makes empty slices equal.
func normal(e *Entry) {
	if len(e.ID) == 0 {
		e.ID = nil
	}
	if len(e.Routes) == 0 {
		e.Routes, e.Taken = nil, nil
	}
	if len(e.Notes) == 0 {
		e.Notes = nil
	}
}

// TestGolden pins the format: a change of it must be seen, and needs a new kind.
func TestGolden(t *testing.T) {
	var w Writer
	w.Begin(3, 7)
	w.Section(&Section{Source: "orders", Partition: "p0", LowOrdinal: 90, Low: []byte("L"), First: 100, End: 900, Total: 5, Start: []byte("a"), Next: []byte("b")})
	w.Entry(&Entry{Ordinal: 100, Outcome: Delivered, Identified: true, Hi: 1, Lo: 2, Key: 1, Claimed: true, Data: 3, HasVersion: true, Version: 300, ID: []byte("id-1"), Routes: []uint32{0, 200}, Taken: []uint32{NoOutputs, 5}})
	w.Entry(&Entry{Ordinal: 220, Outcome: Refused, Key: 9, Sub: 1, Reason: "invalid_json"})
	w.Entry(&Entry{Ordinal: 215, Outcome: Unmatched, Identified: true, Hi: 7, Lo: 8, Key: 7, ID: []byte("0123abcd-4567-89ab-cdef-0123456789ab")})
	w.Entry(&Entry{Ordinal: 210, Outcome: Delivered, Identified: true, Hi: 5, Lo: 6, Key: 8, Notes: []Note{{Route: 1, Sink: 2, Outcome: Parked, Attempts: 4, Reason: "down"}}})
	w.End()
	records := [][]byte{
		w.Bytes,
		AppendGeneration(nil, &Generation{
			Epoch: 3, Number: 7, Digest: "d", Routes: []string{"r", "q"}, Sinks: []string{"s", "t"},
			Exits: []Exit{{To: []uint32{1, 0}}, {Outputs: []Output{{"eu", []uint32{0}}, {Name: "us"}}, Else: []uint32{1}}}, Unmatched: []uint32{1},
		}),
		AppendRedelivered(nil, 3, "s", []Redelivery{{Ordinal: 11, Outcome: Dead, Attempts: 2, Reason: "poison", Source: "orders", ID: "id-1", Route: "r"}}),
		AppendExported(nil, Exported{Sink: "audit", Ordinal: 300}),
	}
	var got bytes.Buffer
	for _, r := range records {
		got.WriteString(hex.EncodeToString(r) + "\n")
	}
	const name = "testdata/records.golden"
	if *update {
		if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("format changed:\n got %s\nwant %s", got.Bytes(), want)
	}
}

func TestOtherRecordsComeBack(t *testing.T) {
	g := Generation{
		Epoch: 1, Number: 2, Digest: "abc", Routes: []string{"a", "b"}, Sinks: []string{"c"},
		Exits: []Exit{{To: []uint32{0}}, {Outputs: []Output{{"x", []uint32{0}}}, Else: []uint32{0}}}, Unmatched: []uint32{0},
	}
	err := Read(AppendGeneration(nil, &g), &Visitor{Generation: func(got *Generation) error {
		if !reflect.DeepEqual(*got, g) {
			t.Errorf("got %+v, want %+v", *got, g)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	err = Read(AppendExported(nil, Exported{"s", 9}), &Visitor{Exported: func(x Exported) error {
		if (x != Exported{"s", 9}) {
			t.Errorf("got %+v", x)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ended := []Redelivery{{Ordinal: 3, Outcome: Delivered, Attempts: 9, Source: "o", ID: "i", Route: "r"}, {Ordinal: 1, Outcome: Dead, Reason: "poison"}}
	var got []Redelivery
	err = Read(AppendRedelivered(nil, 4, "hook", ended), &Visitor{Redelivered: func(epoch uint64, sink string, r *Redelivery) error {
		if epoch != 4 || sink != "hook" {
			t.Errorf("epoch %d, sink %q", epoch, sink)
		}
		got = append(got, *r)
		return nil
	}})
	if err != nil || !reflect.DeepEqual(got, ended) {
		t.Errorf("got %+v, %v; want %+v", got, err, ended)
	}
}

// TestEarlierRecordsAreRead: data folders of earlier versions stay readable.
func TestEarlierRecordsAreRead(t *testing.T) {
	text, err := os.ReadFile("testdata/records.1.golden")
	if err != nil {
		t.Fatal(err)
	}
	var routes []uint32
	var names []string
	var ended []Redelivery
	for line := range strings.FieldsSeq(string(text)) {
		record, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		err = Read(record, &Visitor{
			Settled:     func(_, _ uint64, _ *Section, e *Entry) error { routes = append(routes, e.Routes...); return nil },
			Generation:  func(g *Generation) error { names = append(append(names, g.Routes...), g.Sinks...); return nil },
			Redelivered: func(_ uint64, _ string, r *Redelivery) error { ended = append(ended, *r); return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := []uint32{0, 200}; !reflect.DeepEqual(routes, want) {
		t.Errorf("routes %v, want %v", routes, want)
	}
	if want := []string{"r", "s", "t"}; !reflect.DeepEqual(names, want) {
		t.Errorf("names %v, want %v", names, want)
	}
	if want := []Redelivery{{Ordinal: 11, Outcome: Dead, Attempts: 2, Reason: "poison"}}; !reflect.DeepEqual(ended, want) {
		t.Errorf("ended %v, want %v", ended, want)
	}
}

func FuzzRead(f *testing.F) {
	var w Writer
	w.Begin(1, 1)
	w.Section(&Section{Source: "s", First: 1, End: 9, Total: 2})
	w.Entry(&Entry{Ordinal: 4, Outcome: Delivered, Identified: true, Hi: 1, Lo: 1, Key: 1, ID: []byte("x"), Routes: []uint32{1}})
	w.End()
	f.Add(w.Bytes)
	f.Add(AppendGeneration(nil, &Generation{Routes: []string{"r"}}))
	f.Add(AppendRedelivered(nil, 1, "s", []Redelivery{{Ordinal: 1, Outcome: Dead}}))
	f.Add(AppendExported(nil, Exported{"s", 1}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, record []byte) {
		visit := 0
		err := Read(record, &Visitor{
			Settled:     func(_, _ uint64, _ *Section, e *Entry) error { visit++; _ = e.Outcome.String(); return nil },
			Redelivered: func(uint64, string, *Redelivery) error { visit++; return nil },
		})
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("error %v does not wrap ErrMalformed", err)
		}
		if visit > len(record) {
			t.Fatalf("%d entries out of %d bytes", visit, len(record))
		}
	})
}

func TestWriterDoesNotAllocate(t *testing.T) {
	w := Writer{Bytes: make([]byte, 0, 4096)}
	s := Section{Source: "orders", Partition: "p", First: 1, End: 100, Total: 10}
	e := Entry{Ordinal: 5, Outcome: Delivered, Identified: true, Hi: 1, Lo: 2, Key: 1, ID: []byte("0123456789"), Routes: []uint32{3}}
	n := testing.AllocsPerRun(100, func() {
		w.Begin(1, 1)
		w.Section(&s)
		for range 10 {
			w.Entry(&e)
		}
		w.End()
	})
	if n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}
