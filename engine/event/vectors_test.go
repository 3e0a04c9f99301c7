package event

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

func read(t *testing.T, name string) map[string]json.RawMessage {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "conformance", name))
	if err != nil {
		t.Fatal(err)
	}
	var cases map[string]json.RawMessage
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestConformanceValid(t *testing.T) {
	for name, raw := range read(t, "valid.json") {
		e, err := Decode(raw, CodecOf(CloudEvents), Missing{}, Limits{})
		if err == nil {
			err = e.Validate()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		same, err := e.AppendCloudEvent(nil, Stamps{})
		if err != nil || !sameJSON(raw, same) {
			t.Errorf("%s: %s, %v", name, same, err)
		}
		made := e
		made.Original, made.Chain = nil, nil
		anew, err := made.AppendCloudEvent(nil, Stamps{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		back, err := Decode(anew, Codec{}, Missing{}, Limits{})
		if err != nil || !equalEvents(&e, &back) {
			t.Errorf("%s: %s: %v", name, anew, err)
		}
	}
}

func TestConformanceInvalid(t *testing.T) {
	for name, c := range read(t, "invalid.json") {
		parts, _ := parseArray(c)
		e, err := Decode(parts[0], CodecOf(CloudEvents), Missing{}, Limits{})
		if err == nil {
			err = e.Validate()
		}
		if want := unquote(parts[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func TestConformanceBatches(t *testing.T) {
	for name, c := range read(t, "batches.json") {
		parts, _ := parseArray(c)
		events, err := DecodeBatch(parts[0], Missing{}, Limits{})
		if want := unquote(parts[1]); want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		back, err := EncodeBatch(nil, events, Stamps{})
		if err != nil || !sameJSON(parts[0], back) {
			t.Errorf("%s: %s, %v", name, back, err)
		}
	}
}

// equalEvents compares what events say, not how they came: time by instant,
// extensions in any order, JSON data by value.
func equalEvents(a, b *Event) bool {
	if a.ID != b.ID || a.Source != b.Source || a.Type != b.Type || a.Subject != b.Subject || a.DataContentType != b.DataContentType ||
		a.DataSchema != b.DataSchema || !a.Time.Equal(b.Time) || a.DataKind != b.DataKind || len(a.Extensions) != len(b.Extensions) {
		return false
	}
	for _, x := range a.Extensions {
		if b.Extension(x.Name) != x.Value {
			return false
		}
	}
	return string(a.Data) == string(b.Data) || a.DataKind != DataBinary && sameJSON(a.Data, b.Data)
}

// The encoding of one event into each envelope, and of one event of each
// envelope into CloudEvents.
func TestGolden(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden/event.json")
	if err != nil {
		t.Fatal(err)
	}
	stamps := Stamps{Processed: time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)}
	for _, chain := range chains {
		e, err := Decode(raw, Codec{}, Missing{}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := Encode(nil, &e, CodecOf(chain...), stamps)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, chainText(chain, ".")+".json", out)
	}
	files, err := filepath.Glob("testdata/golden/from/*.json")
	if err != nil || len(files) < 6 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		events, err := DecodeAll(raw, Codec{}, testMissing, Limits{})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var out []byte
		for i := range events {
			if out, err = events[i].AppendCloudEvent(out, Stamps{}); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			out = append(out, '\n')
		}
		golden(t, "from/"+filepath.Base(file)+".cloudevents", out[:len(out)-1])
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	got = append(slices.Clone(got), '\n')
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != string(got) {
		t.Errorf("%s:\n%s\nwant\n%s%v", name, got, want, err)
	}
}
