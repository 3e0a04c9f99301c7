package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// chains are the envelopes, alone and in each other, between which conversion
// must lose nothing.
var chains = [][]Envelope{
	{CloudEvents},
	{EventBridge},
	{EventHub},
	{Metadata},
	{Attributes},
	{EventBridge, CloudEvents},
	{EventBridge, Metadata},
	{EventBridge, Attributes},
	{EventBridge, EventHub},
	{CloudEvents, Metadata},
	{Attributes, EventHub},
}

var testMissing = Missing{Source: "/filled/in", Zone: time.FixedZone("", -3*3600), EpochUnit: "ms"}

// sameJSON compares by encoding/json, which knows nothing of this package.
func sameJSON(a, b []byte) bool {
	read := func(raw []byte) (v any) {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if d.Decode(&v) != nil {
			return errors.New("no JSON")
		}
		return v
	}
	return reflect.DeepEqual(read(a), read(b))
}

func TestConversionThereAndBackIsEqual(t *testing.T) {
	stamps := Stamps{ID: "stamped"}
	for _, a := range chains {
		t.Run(chainText(a, ">"), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				b := rapid.SampledFrom(chains).Draw(t, "b")
				object := slices.Contains(a, EventBridge) || slices.Contains(b, EventBridge)
				raw := []byte(drawEvent(t, a, object))
				first, err := Decode(raw, CodecOf(a...), testMissing, Limits{})
				if err != nil {
					t.Fatalf("%s: %v", raw, err)
				}
				there, err := Encode(nil, &first, CodecOf(b...), stamps)
				if err != nil {
					t.Fatalf("%s: %v", raw, err)
				}
				second, err := Decode(there, CodecOf(b...), testMissing, Limits{})
				if err != nil {
					t.Fatalf("%s\n%s: %v", raw, there, err)
				}
				back, err := Encode(nil, &second, CodecOf(a...), stamps)
				if err != nil {
					t.Fatalf("%s\n%s: %v", raw, there, err)
				}
				want := raw
				if first.ID == "" {
					stamped := first
					stamped.ID = stamps.ID
					if want, err = Encode(nil, &stamped, CodecOf(a...), Stamps{}); err != nil {
						t.Fatal(err)
					}
				}
				if !sameJSON(want, back) {
					t.Fatalf("\nwas   %s\nthere %s\nback  %s", want, there, back)
				}
			})
		})
	}
}

func TestConversionThroughThreeAndBackIsEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.SliceOfN(rapid.SampledFrom(chains), 3, 4).Draw(t, "path")
		raw := []byte(drawEvent(t, path[0], true))
		e, err := Decode(raw, CodecOf(path[0]...), testMissing, Limits{})
		if err != nil || e.ID == "" {
			t.Skip()
		}
		log := string(raw)
		for _, chain := range append(path[1:], path[0]) {
			out, err := Encode(nil, &e, CodecOf(chain...), Stamps{})
			if err != nil {
				t.Fatalf("%s: to %v: %v", log, chain, err)
			}
			log += "\n" + string(out)
			if e, err = Decode(out, CodecOf(chain...), testMissing, Limits{}); err != nil {
				t.Fatalf("%s: %v", log, err)
			}
		}
		if !sameJSON(raw, e.Original) {
			t.Fatal(log)
		}
	})
}

// A change that is made between there and back arrives, and nothing else does.
func TestAChangeOnTheWayArrives(t *testing.T) {
	for _, a := range chains {
		t.Run(chainText(a, ">"), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				b := rapid.SampledFrom(chains).Draw(t, "b")
				raw := []byte(drawEvent(t, a, true))
				first, err := Decode(raw, CodecOf(a...), testMissing, Limits{})
				if err != nil || first.ID == "" {
					t.Skip()
				}
				change := func(e *Event) {
					e.ID, e.Type = "changed", "order:changed"
					e.Time = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
					e.Data, e.DataKind = []byte(`{"changed":true}`), DataJSON
				}
				there, err := Encode(nil, &first, CodecOf(b...), Stamps{})
				if err != nil {
					t.Fatal(err)
				}
				second, err := Decode(there, CodecOf(b...), testMissing, Limits{})
				if err != nil {
					t.Fatal(err)
				}
				change(&second)
				back, err := Encode(nil, &second, CodecOf(a...), Stamps{})
				if err != nil {
					t.Fatal(err)
				}
				change(&first)
				want, err := Encode(nil, &first, CodecOf(a...), Stamps{})
				if err != nil {
					t.Fatal(err)
				}
				if !sameJSON(want, back) {
					t.Fatalf("\nwas   %s\nthere %s\nback  %s\nwant  %s", raw, there, back, want)
				}
			})
		})
	}
}

// valueOf reads a canonical field through a layout, as an engine does.
func valueOf(raw []byte, l *Layout, field string) (text string, ok bool) {
	ref := l.Resolve([]string{field})
	if ref.Kind == RefConst {
		return unquote([]byte(`"` + ref.Const + `"`)), true
	}
	if ref.Kind == RefAbsent {
		return "", false
	}
	value := find(raw, ref.Path)
	if value == nil || value[0] == 'n' {
		return "", false
	}
	switch ref.Kind {
	case RefText:
		return string(value), true
	case RefFirst:
		text = onlyText(value)
		return text, text != ""
	case RefTrace:
		if value[0] != '"' {
			return "", false
		}
		return TraceParent(unquote(value))
	}
	if attribute, isAttribute := attributeValue(value); isAttribute {
		return attributeText(attribute), true
	}
	if field == "eventcount" {
		return string(value), true // above what a signed integer holds
	}
	return "", false
}

// The two views of the table agree: what a layout reads from the raw bytes is
// what Decode makes, and auto finds the chain whose layout comes first.
func TestLayoutsAgreeWithDecode(t *testing.T) {
	layouts := (Codec{}).Layouts(testMissing)
	fields := []string{
		"id", "source", "type", "subject", "datacontenttype", "dataschema", "awsversion", "awsaccount", "awsregion",
		"awsresources", "awstraceheader", "replayname", "traceparent", "eventversion", "eventcount", "eventid", "ext1",
		"processedtime", "correlationid",
	}
	rapid.Check(t, func(t *rapid.T) {
		chain := rapid.SampledFrom(chains[:9]).Draw(t, "chain")
		raw := []byte(drawEvent(t, chain, true))
		e, err := Decode(raw, Codec{}, testMissing, Limits{})
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		i := slices.IndexFunc(layouts, func(l Layout) bool { return marked(raw, l.Marks) })
		if i < 0 || !slices.Equal(layouts[i].Chain, e.Chain) {
			t.Fatalf("%s: layout %d, chain %v", raw, i, e.Chain)
		}
		l := &layouts[i]
		if data := find(raw, l.Resolve([]string{"data"}).Path); !bytes.Equal(data, e.Data) {
			t.Fatalf("%s: data %s, %s", raw, data, e.Data)
		}
		if !l.Direct {
			return
		}
		for _, field := range fields {
			want := ""
			if isCore(field) {
				want = *e.core(field)
			} else if v := e.Extension(field); v != nil {
				want = attributeText(v)
			}
			if got, _ := valueOf(raw, l, field); got != want {
				t.Fatalf("%s\n%s: layout %q, Decode %q", raw, field, got, want)
			}
		}
		for i := range l.Checks {
			c := &l.Checks[i]
			if err := c.Verify(find(raw, c.Path), find(raw, c.Other), l, testMissing); err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
		}
		ref := l.Resolve([]string{"time"})
		if value := find(raw, ref.Path); len(ref.Path) > 0 && value != nil && value[0] != 'n' {
			nanos, timeErr := CheckTime(value, l, testMissing)
			if timeErr != nil || nanos != math.MaxInt64 && nanos != math.MinInt64 && !time.Unix(0, nanos).Equal(e.Time) {
				t.Fatalf("%s: time %d %v, Decode %s", raw, nanos, timeErr, e.Time)
			}
		}
	})
}

// Each field of a direct layout is spoilt in turn: the checks and Decode refuse
// the same events.
func TestChecksRefuseWhatDecodeRefuses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chain := rapid.SampledFrom(chains).Draw(t, "chain")
		l := CodecOf(chain...).Layouts(testMissing)[0]
		if !l.Direct {
			t.Skip()
		}
		raw := []byte(drawEvent(t, chain, true))
		tr, err := parseTree(raw, chain)
		if err != nil {
			t.Fatal(err)
		}
		c := l.Checks[rapid.IntRange(0, len(l.Checks)-1).Draw(t, "check")]
		bad := rapid.SampledFrom([]string{"", "5", `""`, "[]", "{}", "true", `"x"`, "null", "4294967296", `"1.0"`}).Draw(t, "bad")
		if c.Field == "data_base64" || c.Field == "data" {
			bad = `"eA=="`
		}
		var value []byte
		if bad != "" {
			value = []byte(bad)
		}
		tr.set(tr.last(), c.Path[len(l.prefix(tr.last())):], value)
		raw = tr.bytes()
		if !marked(raw, l.Marks) {
			t.Skip()
		}
		refused := false
		for i := range l.Checks {
			c := &l.Checks[i]
			refused = refused || c.Verify(find(raw, c.Path), find(raw, c.Other), &l, testMissing) != nil
		}
		_, decodeErr := Decode(raw, CodecOf(chain...), testMissing, Limits{})
		if refused != (decodeErr != nil) {
			t.Fatalf("%s: checks refuse: %v, Decode: %v", raw, refused, decodeErr)
		}
	})
}

func TestBinaryModeThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m members
		m.add("specversion", `"1.0"`)
		m.add("id", quoted(drawText(t, "id")))
		m.add("source", quoted(drawText(t, "source")))
		m.add("type", quoted(drawText(t, "type")))
		m.add("ext", quoted(drawText(t, "ext")))
		m.add("time", quoted(drawTime(t, false)))
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			m.add("datacontenttype", `"application/json"`)
			m.add("data", drawValue(t, 2))
		case 1:
			m.add("datacontenttype", `"text/plain"`)
			m.add("data", quoted(drawText(t, "data")))
		case 2:
			m.add("datacontenttype", `"image/png"`)
			bytes := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "data")
			m.add("data_base64", quoted(base64.StdEncoding.EncodeToString(bytes)))
		}
		raw := []byte(m.draw(t))
		e, err := Decode(raw, Codec{}, Missing{}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		headers, data, err := EncodeBinary(&e, Stamps{})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range headers {
			if strings.ContainsFunc(h.Value, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("header %q", h)
			}
		}
		back, err := DecodeBinary(headers, data, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := back.AppendCloudEvent(nil, Stamps{})
		if err != nil {
			t.Fatal(err)
		}
		tr, _ := parseTree(raw, e.Chain)
		tr.put("time", e.timeText()) // the letters' case is no matter
		if !sameJSON(tr.bytes(), got) {
			t.Fatalf("\nwas  %s\nback %s\n%v", raw, got, headers)
		}
	})
}

// A change for which an envelope has no place survives in it.
func TestAChangeWithoutAPlaceSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SampledFrom(chains).Draw(t, "a")
		b := rapid.SampledFrom(chains).Draw(t, "b")
		e, err := Decode([]byte(drawEvent(t, a, true)), CodecOf(a...), testMissing, Limits{})
		if err != nil || e.ID == "" {
			t.Skip()
		}
		log := string(e.Original)
		step := func(to []Envelope) {
			out, err := Encode(nil, &e, CodecOf(to...), Stamps{})
			if err != nil {
				t.Fatalf("%s: %v", log, err)
			}
			log += "\n" + string(out)
			if e, err = Decode(out, CodecOf(to...), testMissing, Limits{}); err != nil {
				t.Fatalf("%s: %v", log, err)
			}
		}
		step(b)
		for _, value := range []string{"first", "second"} { // the second meets what is carried of the first
			e.Subject, e.DataSchema, e.Source = value, "/"+value, "/"+value
			e.SetExtension("added", value)
			step(b)
		}
		step([]Envelope{CloudEvents})
		if e.Subject != "second" || e.DataSchema != "/second" || e.Source != "/second" || e.Extension("added") != "second" {
			t.Fatal(log)
		}
	})
}

func TestSetExtensionLeavesCopiesAlone(t *testing.T) {
	a := Event{Extensions: []Attribute{{"x", "1"}, {"y", true}}}
	b := a
	b.SetExtension("x", int32(2))
	b.SetExtension("y", nil)
	b.SetExtension("z", nil)
	if a.Extension("x") != "1" || a.Extension("y") != true || b.Extension("x") != int32(2) || b.Extension("y") != nil || len(b.Extensions) != 1 {
		t.Error(a, b)
	}
}
