package http

import (
	"bytes"
	"encoding/json"
	nethttp "net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/event"
)

// FuzzArray holds splitArray against encoding/json: of an array that is right JSON it
// finds the elements exactly; of anything else it takes nothing that is not there.
func FuzzArray(f *testing.F) {
	for _, seed := range []string{`[]`, `[1]`, ` [ {"a":"]"} , "\"]," , [[]] ] `, `[1,]`, `[,1]`, `[1 2]`, `[{"a":1}`, `["\`, `[1]x`, `[}`, `[{]}]`, "[\"\\\\\",2]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		checkArray(t, body)
	})
}

func checkArray(t interface {
	Errorf(string, ...any)
}, body []byte,
) {
	var want []json.RawMessage
	right := json.Unmarshal(body, &want) == nil && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("["))
	data, ends, err := splitArray(bytes.Clone(body))
	if !right {
		for from, i := uint32(0), 0; err == nil && i < len(ends); from, i = ends[i], i+1 {
			if !bytes.Contains(body, data[from:ends[i]]) {
				t.Errorf("%q: %q is not in it", body, data[from:ends[i]])
			}
		}
		return
	}
	if err != nil || len(ends) != len(want) {
		t.Errorf("%q: %d elements, %v, want %d", body, len(ends), err, len(want))
		return
	}
	from := uint32(0)
	for i, end := range ends {
		if got := data[from:end]; !bytes.Equal(got, want[i]) {
			t.Errorf("%q: element %d is %q, want %q", body, i, got, want[i])
		}
		from = end
	}
}

// TestArrays draws arrays of values with white space around them.
func TestArrays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blank := rapid.StringOfN(rapid.SampledFrom([]rune(" \t\r\n")), 0, 2, -1)
		body := blank.Draw(t, "a") + "["
		for i := range rapid.IntRange(0, 5).Draw(t, "n") {
			if i > 0 {
				body += blank.Draw(t, "b") + ","
			}
			value, err := json.Marshal(drawValue(t, 3))
			if err != nil {
				t.Fatal(err)
			}
			body += blank.Draw(t, "c") + string(value)
		}
		checkArray(t, []byte(body+blank.Draw(t, "d")+"]"+blank.Draw(t, "e")))
	})
}

func drawValue(t *rapid.T, depth int) any {
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	if depth == 0 {
		kind %= 4
	}
	switch kind {
	case 0:
		return rapid.StringOf(rapid.RuneFrom([]rune("a\"\\[]{},: ü"))).Draw(t, "text")
	case 1:
		return rapid.Float64Range(-1e9, 1e9).Draw(t, "number")
	case 2:
		return rapid.Bool().Draw(t, "bool")
	case 3:
		return nil
	case 4:
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			list = append(list, drawValue(t, depth-1))
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		object[rapid.StringOf(rapid.RuneFrom([]rune("ab\"]}"))).Draw(t, "name")] = drawValue(t, depth-1)
	}
	return object
}

// FuzzLines: lines are those of bytes.Lines, trimmed at their ends, without blank ones.
func FuzzLines(f *testing.F) {
	for _, seed := range []string{"", "a", "a\n", "a\r\nb", "\n\n a \n", " \r\n\t\n", "a\n\nb\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var want []string
		for line := range bytes.Lines(body) {
			if text := strings.TrimRight(string(line), " \t\r\n"); strings.TrimLeft(text, " \t\r") != "" {
				want = append(want, text)
			}
		}
		data, ends := splitLines(bytes.Clone(body))
		var got []string
		from := uint32(0)
		for _, end := range ends {
			got = append(got, string(data[from:end]))
			from = end
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", body, got, want)
		}
	})
}

// FuzzBinary: whatever stands in headers, the outcome is an error or a structured
// CloudEvent that is one, and that says the same when it is sent in binary mode again.
func FuzzBinary(f *testing.F) {
	for _, seed := range [][4]string{
		{"Id", "1", "application/json", `{"a":1}`},
		{"Subject", "%C3%A4%20%", "text/plain", "x"},
		{"Subject", `"quoted \" text"`, "", "\x00\xff"},
		{"N", "-1", "application/json", "null"},
		{"Time", "2026-01-02T03:04:05z", "application/json; charset=utf-8", ""},
		{"Data", "x", "", ""},
		{"Bad_name", "x", "", ""},
		{"Id", "%FF", "", ""},
		{"Expirytime", "soon", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], []byte(seed[3]))
	}
	f.Fuzz(func(t *testing.T, name, value, media string, body []byte) {
		h := nethttp.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}}
		h["Ce-"+name] = []string{value}
		if media != "" {
			h["Content-Type"] = []string{media}
		}
		data, err := fromBinary(h, bytes.Clone(body), 1<<20)
		if err != nil {
			return
		}
		e, err := event.Decode(data, event.CodecOf(event.CloudEvents), event.Missing{}, event.Limits{Event: 8 << 20})
		if err != nil {
			t.Fatalf("%q %q %q: made %s, which is no event: %v", name, value, body, data, err)
		}
		headers, sent, err := event.EncodeBinary(&e, event.Stamps{})
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		again := nethttp.Header{}
		for _, a := range headers {
			if !isFieldValue(a.Value) || !isToken(a.Name) {
				t.Fatalf("header %q: %q cannot be sent", a.Name, a.Value)
			}
			again.Set(a.Name, a.Value)
		}
		back, err := fromBinary(again, sent, 1<<20)
		if err != nil || !sameEvent(back, data) {
			t.Fatalf("%s became %s: %v", data, back, err)
		}
	})
}

// sameEvent compares two CloudEvents but for a media type that one of them leaves to the default.
func sameEvent(a, b []byte) bool {
	var x, y map[string]any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	for _, m := range []map[string]any{x, y} {
		if m["datacontenttype"] == "application/json" {
			delete(m, "datacontenttype")
		}
	}
	p, _ := json.Marshal(x) // they came from JSON
	q, _ := json.Marshal(y)
	return bytes.Equal(p, q)
}
