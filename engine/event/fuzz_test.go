package event

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the standard library takes as RFC 3339, CheckTime takes as the same instant.
func FuzzCheckTime(f *testing.F) {
	for _, text := range []string{
		"2026-01-02T03:04:05Z", "2026-01-02t03:04:05.123456789z", "2016-12-31T23:59:60Z", "2026-01-02T03:04:05",
		"0000-01-01T00:00:00-23:59", "9999-12-31T23:59:59.9+23:59", "2024-02-29T00:00:00.000000000001+05:30",
	} {
		f.Add(text)
	}
	l := CodecOf(CloudEvents).Layouts(Missing{})[0]
	f.Fuzz(func(t *testing.T, text string) {
		got, err := CheckTime(appendString(nil, text), &l, Missing{})
		want, wrong := time.Parse(time.RFC3339, text)
		if wrong == nil && err != nil && !strings.Contains(text, ",") { // Go takes a comma for the point
			t.Fatalf("%q: %v", text, err)
		}
		if wrong == nil && err == nil && want.Year() > 1700 && want.Year() < 2200 && got != want.UnixNano() {
			t.Fatalf("%q: %d, want %d", text, got, want.UnixNano())
		}
		if err == nil && wrong != nil && !strings.ContainsAny(text, "tz") && text[17:19] != "60" {
			t.Fatalf("%q: taken, but %v", text, wrong)
		}
	})
}

// What binary mode takes, it gives again.
func FuzzDecodeBinary(f *testing.F) {
	f.Add("id", "/s", "t", "ext", "a%20b", "application/json", []byte(`{"a":1}`))
	f.Add("%22", `"q"`, "%", "subject", "x", "text/plain", []byte("hello"))
	f.Add("1", "/s", "t", "time", "2026-01-02T03:04:05z", "image/png", []byte{0, 255})
	f.Fuzz(func(t *testing.T, id, source, kind, name, value, media string, data []byte) {
		headers := []Header{
			{"ce-specversion", "1.0"},
			{"ce-id", id},
			{"ce-source", source},
			{"ce-type", kind},
			{"ce-" + name, value},
			{"content-type", media},
		}
		first, err := DecodeBinary(headers, data, Limits{})
		if err != nil {
			return
		}
		headers, data, err = EncodeBinary(&first, Stamps{})
		if err != nil {
			t.Fatal(err)
		}
		second, err := DecodeBinary(headers, data, Limits{})
		if err != nil || !equalEvents(&first, &second) {
			t.Fatalf("%+v\n%+v\n%v", first, second, err)
		}
	})
}

// What a batch takes, it gives again.
func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"specversion":"1.0","id":"1","source":"/s","type":"t","data":null},{"specversion":"1.0","id":"2","source":"/s","type":"t","x":true}]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		events, err := DecodeBatch(raw, Missing{}, Limits{})
		if err != nil || slices.ContainsFunc(events, func(e Event) bool { return e.ID == "" }) {
			return
		}
		out, err := EncodeBatch(nil, events, Stamps{})
		if err != nil || !sameJSON(raw, out) {
			t.Fatalf("%s\n%s\n%v", raw, out, err)
		}
	})
}

// The limit on an event's bytes is a limit on the time that it takes, whatever it holds.
func TestHostileEventsAreLinear(t *testing.T) {
	many := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.ReplaceAll(format, "#", string(appendString(nil, strings.Repeat("a", 1+i%3)+time.Duration(i).String()))))
		}
		return b.String()
	}
	cloud := `"specversion":"1.0","id":"1","source":"/s","type":"t"`
	for name, raw := range map[string]string{
		"attributes": `{` + cloud + many(`,#:1`, 40_000) + `}`,
		"members":    `{"detail-type":"T","source":"s"` + many(`,#:1`, 40_000) + `,"detail":{}}`,
		"depth":      `{` + cloud + `,"data":` + strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000) + `}`,
		"records":    `{"Records":[0` + strings.Repeat(",0", 500_000) + `]}`,
		"escapes":    `{` + cloud + `,"data":"` + strings.Repeat(`\\`, 500_000) + `"}`,
		"carried":    `{` + cloud + `,"weirenvelope":` + string(appendString(nil, `[`+strings.Repeat(`{},`, 20_000)+`{}]`)) + `}`,
	} {
		start := time.Now()
		e, err := Decode([]byte(raw), Codec{}, Missing{}, Limits{})
		if err == nil {
			_, err = Encode(nil, &e, CodecOf(CloudEvents), Stamps{ID: "1"})
		}
		if took := time.Since(start); took > 5*time.Second { // a quadratic walk takes minutes
			t.Errorf("%s: %s, %v", name, took, err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	raw := []byte(`{"version":"0","id":"outer","detail-type":"Order Created","source":"shop","account":"123456789012","time":"2026-01-02T03:04:05Z","region":"eu-central-1","resources":[],"detail":{"attributes":{"type":"OrderCreated","source":"/shop","eventId":"e-17","eventTime":"2026-01-02T03:04:05Z","eventCount":2},"data":{"order_id":17}}}`)
	e, err := Decode(raw, Codec{}, Missing{}, Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("auto", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Decode(raw, Codec{}, Missing{}, Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, to := range []Envelope{CloudEvents, Metadata} {
		for _, bare := range []bool{false, true} {
			name := "to " + to.String()
			if bare {
				name += " bare"
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				var dst []byte
				for b.Loop() {
					if dst, err = Encode(dst[:0], &e, CodecOf(to), Stamps{Bare: bare}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/golden/*.json")
	if err != nil {
		f.Fatal(err)
	}
	more, err := filepath.Glob("testdata/golden/from/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, more...) {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		events, err := DecodeAll(raw, Codec{}, testMissing, Limits{})
		if err != nil {
			return
		}
		for i := range events {
			e := &events[i]
			out, err := e.AppendCloudEvent(nil, Stamps{ID: "stamped"})
			if err != nil {
				if strings.Contains(err.Error(), carriedName) || len(e.carried) > 0 {
					continue // more than can be carried, or carried by a forger
				}
				t.Fatalf("%s: %v", raw, err)
			}
			if e.ID == "" {
				e.ID = "stamped"
			}
			if len(e.carried) > 0 {
				continue // what was carried speaks for itself
			}
			back, err := Decode(out, Codec{}, testMissing, unlimited)
			if err != nil {
				t.Fatalf("%s\n%s: %v", raw, out, err)
			}
			back.SetExtension(carriedName, e.Extension(carriedName))
			if !equalEvents(e, &back) {
				t.Fatalf("%s\n%s\n%+v\n%+v", raw, out, e, back)
			}
		}
	})
}
