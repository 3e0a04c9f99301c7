package local

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/transports"
)

var update = flag.Bool("update", false, "write golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (write it with -update only if the format may change):\n got %s\nwant %s", path, got, want)
	}
}

var goldenTime = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func goldenEntries() []transports.Entry {
	return []transports.Entry{
		{},
		{ID: "orders/1", Data: []byte(`{"total":1}`)},
		{ID: "orders/2", Route: "deliveries", Key: []byte("k7"), Data: []byte{0, 1, 0xff, '\n'}},
		{ID: "3", Key: []byte{}, Headers: []transports.Header{{Name: "ce-type", Value: "A"}, {Name: "", Value: ""}}, Data: []byte("x")},
	}
}

func TestEntryFormIsPinned(t *testing.T) {
	var out bytes.Buffer
	for _, e := range goldenEntries() {
		out.WriteString(hex.EncodeToString(appendEntry(nil, &e, goldenTime)) + "\n")
	}
	golden(t, "entry.golden", out.Bytes())
}

func TestEntryComesBackAsItWas(t *testing.T) {
	text := rapid.StringN(0, 40, -1)
	rapid.Check(t, func(t *rapid.T) {
		e := transports.Entry{ID: text.Draw(t, "id"), Route: text.Draw(t, "route"), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data")}
		if rapid.Bool().Draw(t, "keyed") {
			e.Key = append([]byte{}, text.Draw(t, "key")...)
		}
		for range rapid.IntRange(0, 4).Draw(t, "headers") {
			e.Headers = append(e.Headers, transports.Header{Name: text.Draw(t, "name"), Value: text.Draw(t, "value")})
		}
		raw := appendEntry(nil, &e, goldenTime)
		if len(raw) > sizeOf(&e) {
			t.Fatalf("entry takes %d bytes, more than the %d it is accounted with", len(raw), sizeOf(&e))
		}
		s, err := parseEntry(raw)
		if err != nil {
			t.Fatal(err)
		}
		if string(s.id) != e.ID || string(s.route) != e.Route || s.published != goldenTime.UnixNano() ||
			!bytes.Equal(s.key, e.Key) || (s.key == nil) != (e.Key == nil) || !bytes.Equal(s.data, e.Data) {
			t.Fatalf("got %+v, want %+v", s, e)
		}
		if got := s.headerList(); !reflect.DeepEqual(got, e.Headers) {
			t.Fatalf("headers %q, want %q", got, e.Headers)
		}
	})
}

func TestEntriesCutShortAreRefused(t *testing.T) {
	e := goldenEntries()[3]
	raw := appendEntry(nil, &e, goldenTime)
	for n := range len(raw) - len(e.Data) {
		if _, err := parseEntry(raw[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken for an entry", n, len(raw))
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, e := range goldenEntries() {
		f.Add(appendEntry(nil, &e, goldenTime))
	}
	f.Add([]byte{0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseEntry(raw)
		if err != nil {
			return
		}
		e := transports.Entry{ID: string(s.id), Route: string(s.route), Key: s.key, Headers: s.headerList(), Data: s.data}
		again, err := parseEntry(appendEntry(nil, &e, time.Unix(0, s.published)))
		if err != nil || !bytes.Equal(again.data, s.data) || !bytes.Equal(again.key, s.key) || again.published != s.published {
			t.Fatalf("%x does not survive: %+v, %v", raw, again, err)
		}
	})
}
