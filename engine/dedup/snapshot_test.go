package dedup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

const golden = "testdata/snapshot.golden"

func goldenTable() *Table[int] {
	tb := newTable[int](Config{Window: time.Hour, MaxIDs: 100}, 1, 2)
	for i := range uint64(6) {
		hi, lo := fingerprint(i)
		tb.Replay(hi, lo, 0x1111*i, uint32(i), time.Minute+time.Duration(i)*time.Second)
	}
	return tb
}

func TestSnapshotFormat(t *testing.T) {
	var got []byte
	var slices [][]byte
	err := goldenTable().Snapshot(func(b []byte) error {
		got = append(got, b...)
		slices = append(slices, bytes.Clone(b))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("a snapshot is\n%x, want\n%x", got, want)
	}
	tb := New[int](Config{Window: time.Hour})
	for _, b := range slices {
		if err := tb.Load(b); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(6) {
		hi, lo := fingerprint(i)
		want := State{Committed: true, Data: 0x1111 * i, Version: uint32(i), At: time.Minute + time.Duration(i)*time.Second}
		if st := tb.Look(0, hi, lo); st != want {
			t.Errorf("id %d: %+v, want %+v", i, st, want)
		}
	}
}

func TestSnapshotStopsAtAnError(t *testing.T) {
	full := errors.New("disk full")
	calls := 0
	err := goldenTable().Snapshot(func([]byte) error { calls++; return full })
	if !errors.Is(err, full) || calls != 1 {
		t.Fatalf("%d slices, then %v", calls, err)
	}
}

// What Load takes, Snapshot gives back; what it refuses changes nothing.
func FuzzLoad(f *testing.F) {
	whole, err := os.ReadFile(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:sliceHeader+4*entrySize])
	f.Add(whole[:sliceHeader+4*entrySize-1])
	f.Add([]byte("WDW1\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tb := New[int](Config{MaxIDs: 100})
		if err := tb.Load(b); err != nil {
			if !errors.Is(err, ErrSlice) || tb.Len() != 0 {
				t.Fatalf("%d ids after %v", tb.Len(), err)
			}
			return
		}
		again := New[int](Config{MaxIDs: 100})
		if err := tb.Snapshot(again.Load); err != nil {
			t.Fatal(err)
		}
		now := time.Duration(tb.stripes[0].now) * tickLength
		for e := b[sliceHeader:]; len(e) > 0; e = e[entrySize:] {
			hi, lo := binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint64(e[8:])
			if was, is := tb.Look(now, hi, lo), again.Look(now, hi, lo); was != is {
				t.Fatalf("%+v, %+v after another snapshot", was, is)
			}
		}
	})
}

func TestValidate(t *testing.T) {
	for _, c := range []Config{{}, {Window: MaxWindow, MaxIDs: MaxMaxIDs}} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []Config{{Window: -1}, {Window: MaxWindow + 1}, {MaxIDs: -1}, {MaxIDs: MaxMaxIDs + 1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
