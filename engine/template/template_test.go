package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/field"
)

// fakeEvent finds values in a document, member by member.
type fakeEvent struct {
	doc   string
	refs  []Ref
	known map[Known]string
}

func (e *fakeEvent) Value(slot int) []byte {
	r := e.refs[slot]
	if r.Known != NotKnown {
		return []byte(e.known[r.Known])
	}
	v := []byte(e.doc)
	for _, name := range r.Path {
		found, ok := memberOf(v, name)
		if !ok {
			return nil
		}
		v = found
	}
	return v
}

// rendered renders an event template as one object.
func rendered(t *Event, s Source, max int) (string, error) {
	var list []string
	for i, name := range t.Names() {
		b, ok, err := t.Append(nil, i, s, max)
		if err != nil {
			return "", err
		}
		if ok {
			list = append(list, strconv.Quote(name)+":"+string(b))
		}
	}
	return "{" + strings.Join(list, ",") + "}", nil
}

const sample = `{"id":"e1","type":"Order \"Created\"","region":"eu-1","data":{"id":7,"big":123456789012345678901234567890,"name":"a<b>\u0041\n","ok":true,` +
	`"none":null,"items":[{"sku":"x","n":[1,2]},{"n":[]},{"sku":"y\"z","n":[3]}],"at":{ "city" : "Bern", "geo":[1.50, 2] },"empty":""},"resources":["r0","r1"]}`

func TestRender(t *testing.T) {
	tests := []struct{ name, template, want string }{
		{
			"types are kept", `{"data":{"a":<data.id>,"b":<data.big>,"c":<data.ok>,"d":<data.none>,"e":<data.name>,"f":<data.at>}}`,
			`{"data":{"a":7,"b":123456789012345678901234567890,"c":true,"d":null,"e":"a<b>\u0041\n","f":{ "city" : "Bern", "geo":[1.50, 2] }}}`,
		},
		{"inside a string", `{"data":"n <data.id> <data.ok> <data.none> <data.name>!"}`, `{"data":"n 7 true null a<b>\u0041\n!"}`},
		{"an escape in a value stays one", `{"data":"<type>"}`, `{"data":"Order \"Created\""}`},
		{"an object in a string loses its quotes", `{"data":"at <data.at>"}`, `{"data":"at {city:Bern,geo:[1.50,2]}"}`},
		{"a missing member is left out", `{"data":{"a":<data.nope>,"b":1,"c":<data.nope.deep>}}`, `{"data":{"b":1}}`},
		{"a missing element is left out", `{"data":[<data.nope>,1,<data.nope>,2,<data.nope>]}`, `{"data":[1,2]}`},
		{"missing in a string is empty", `{"data":"[<data.nope>]"}`, `{"data":"[]"}`},
		{"all is missing", `{"type":<data.nope>,"data":{"a":<data.nope>}}`, `{"data":{}}`},
		{"an index", `{"data":[<data.items[2].sku>,<data.items[0].n[1]>,<data.items[9]>,<data.at[0]>]}`, `{"data":["y\"z",2]}`},
		{"all elements", `{"data":{"skus":<data.items[*].sku>,"n":<data.items[*].n[*]>,"no":<data.id[*]>}}`, `{"data":{"skus":["x","y\"z"],"n":[[1,2],[],[3]]}}`},
		{"JSON paths", `{"subject":<$.resources[1]>,"data":<$.data.id>}`, `{"subject":"r1","data":7}`},
		{"literals", `{"data":{"a":[1,-2.5e3,true,null,"x\u00e9\\"],"b":{}}}`, `{"data":{"a":[1,-2.5e3,true,null,"x\u00e9\\"],"b":{}}}`},
		{"two for one", `{"data":"a << b <data.id>"}`, `{"data":"a < b 7"}`},
		{"an escaped < is one", `{"data":"\u003cid\u003e"}`, `{"data":"\u003cid\u003e"}`},
		{"known things", `{"data":{"e":<aws.events.event.json>,"n":<weir.route>,"t":<aws.events.event.ingestion-time>}}`, `{"data":{"e":{"whole":1},"n":"r","t":"2026-01-02T03:04:05Z"}}`},
		{"EventBridge's words", `{"detail-type":"x","detail":{"r":<region>}}`, `{"type":"x","data":{"r":"eu-1"}}`},
		{"extensions", `{"tenant":"<data.empty>","n":5}`, `{"tenant":"","n":5}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := ParseEvent([]byte(test.template), Options{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := rendered(p, &fakeEvent{sample, p.Refs(), map[Known]string{WholeEvent: `{"whole":1}`, RouteName: `"r"`, WorkTime: `"2026-01-02T03:04:05Z"`}}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want || !json.Valid([]byte(got)) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestNamedPaths(t *testing.T) {
	o := Options{Paths: map[string]string{"instance": "$.data.id", "name": "data.name"}}
	p, err := ParseEvent([]byte(`{"data":{"i":<instance>,"n":"<name>","t":<type>,"x":<$.tenant>}}`), o)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := rendered(p, &fakeEvent{doc: sample, refs: p.Refs()}, 0)
	if want := `{"data":{"i":7,"n":"a<b>\u0041\n","t":"Order \"Created\""}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		template string
		at       int
		reason   string
	}{
		{`[1]`, 0, "mapping of attributes"},
		{`{}`, 0, "is empty"},
		{`{"data":<data.x}`, 8, "not closed"},
		{`{"data":"a <data.x b"}`, 11, "not closed"},
		{`{"data":"a < b>"}`, 11, "no placeholder"},
		{`{"data":"a <> b"}`, 11, "no placeholder"},
		{`{"data":<<}`, 8, "in strings only"},
		{`{"data":{"<id>":1}}`, 9, "part of a name"},
		{`{"data":{"a":1,"a":2}}`, 15, "stands twice"},
		{`{"data":1,"detail":2}`, 10, "both words"},
		{`{"id":"x"}`, 1, "id cannot be set"},
		{`{"specversion":"1.0"}`, 1, "cannot be set"},
		{`{"account":"1"}`, 1, "EventBridge's own"},
		{`{"Order_Id":"x"}`, 1, "no attribute has the name"},
		{`{"data":<order_id>}`, 8, "no event has a field"},
		{`{"data":<type.x>}`, 8, "nothing inside"},
		{`{"data":<id[0]>}`, 8, "nothing inside"},
		{`{"data":<resources.x>}`, 8, "list of texts"},
		{`{"data":<aws.events.nope>}`, 8, "no reserved name"},
		{`{"data":<weir.nope>}`, 8, "no reserved name"},
		{`{"data":<data.a[x]>}`, 8, "neither"},
		{`{"data":<data.a[01]>}`, 8, "neither"},
		{`{"data":<data.a[1>}`, 8, "not closed"},
		{`{"data":<data..a>}`, 8, "name is missing"},
		{`{"data":<data.>}`, 8, "ends with a dot"},
		{`{"data":<data.a[1]b>}`, 8, "after ]"},
		{`{"data":<$.data.a?b>}`, 8, "cannot stand in a name"},
		{`{"data":<` + strings.Repeat("a", 300) + `>}`, 8, "not closed"},
		{`{"data":nope}`, 8, "no JSON"},
		{`{"data":01}`, 8, "no JSON"},
		{`{"data":"\x"}`, 9, "no escape"},
		{`{"data":"\u12"}`, 9, "no escape"},
		{"{\"data\":\"a\nb\"}", 10, "control character"},
		{`{"data":"a`, 8, "not closed"},
		{`{"data":1`, 9, "comma or }"},
		{`{"data":[1 2]}`, 11, "comma or ]"},
		{`{"data" 1}`, 8, "colon"},
		{`{data:1}`, 1, "name in quotes"},
		{`{"data":}`, 8, "no JSON"},
		{`{"data":1} x`, 11, "after the end"},
		{`{"data":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`, 71, "in each other"},
		{"{\"data\":\"\xff\"}", 0, "UTF-8"},
		{`{"data":"` + strings.Repeat("a", MaxText) + `"}`, 0, "at most"},
	}
	for _, test := range tests {
		_, err := ParseEvent([]byte(test.template), Options{})
		var bad *Error
		if !errors.As(err, &bad) {
			t.Errorf("%.60s: %v", test.template, err)
			continue
		}
		if bad.Offset != test.at || !strings.Contains(bad.Reason, test.reason) {
			t.Errorf("%.60s: at %d: %s; want at %d: ...%s...", test.template, bad.Offset, bad.Reason, test.at, test.reason)
		}
	}
	if _, err := ParseEvent([]byte(`{"data":<customer>}`), Options{Paths: map[string]string{"order": "data.id"}}); err == nil || !strings.Contains(err.Error(), "not among the paths") {
		t.Errorf("a name without its path: %v", err)
	}
}

func TestText(t *testing.T) {
	tests := []struct{ template, want string }{
		{"orders", "orders"},
		{"", ""},
		{"orders-<data.id>-<region>", "orders-7-eu-1"},
		{"<data.name>", "a<b>A\n"},
		{"a<<b", "a<b"},
		{"<data.at>", "{city:Bern,geo:[1.50,2]}"},
		{"x<data.empty>y", "xy"},
		{"<type>", `Order "Created"`},
	}
	for _, test := range tests {
		p, err := ParseText(test.template, Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Append(nil, &fakeEvent{doc: sample, refs: p.Refs()}, 0)
		if err != nil || string(got) != test.want {
			t.Errorf("%q: %q, %v, want %q", test.template, got, err, test.want)
		}
		if c, ok := p.Constant(); ok != (len(p.Refs()) == 0) || ok && c != test.want {
			t.Errorf("%q: constant %q, %v", test.template, c, ok)
		}
	}
	p, err := ParseText("t-<data.nope>", Options{})
	if err != nil {
		t.Fatal(err)
	}
	var missing *MissingError
	if _, err = p.Append(nil, &fakeEvent{doc: sample, refs: p.Refs()}, 0); !errors.As(err, &missing) || missing.Path != "data.nope" {
		t.Errorf("a topic without its region: %v", err)
	}
	for _, bad := range []string{"a <data.x", "<nope_x>", "\xff"} {
		if _, err := ParseText(bad, Options{}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestLimitOfOutput(t *testing.T) {
	p, err := ParseEvent([]byte(`{"data":{"a":"<data.name><data.name>","b":<data.items>}}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := &fakeEvent{doc: sample, refs: p.Refs()}
	full, err := rendered(p, e, 0)
	if err != nil {
		t.Fatal(err)
	}
	size := len(full) - len(`{"data":}`)
	if _, err := rendered(p, e, size); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	for max := 1; max < size; max++ {
		if _, err := rendered(p, e, max); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("%d bytes under a limit of %d: %v", size, max, err)
		}
	}
}

func TestRenderDoesNotAllocate(t *testing.T) {
	p, err := ParseEvent([]byte(`{"type":"x","data":{"a":<data.id>,"b":"<data.name> of <type>","c":[1,<data.at>]}}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := fixedEvent{values: [][]byte{[]byte("7"), []byte(`"n"`), []byte(`"t"`), []byte(`{"a":1}`)}}
	var s Source = e
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		for i := range p.Names() {
			buf, _, _ = p.Append(buf[:0], i, s, 1000)
		}
	}); n > 0 {
		t.Errorf("%v allocations an event", n)
	}
}

type fixedEvent struct{ values [][]byte }

func (e fixedEvent) Value(slot int) []byte { return e.values[slot] }

// --- the property: rendering agrees with a slow renderer on decoded JSON ---

// drawJSON draws a document as text.
func drawJSON(t *rapid.T, depth int) string {
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	space := rapid.SampledFrom([]string{"", " ", "\n\t"}).Draw(t, "space")
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return rapid.SampledFrom([]string{"0", "-1.50", "1e3", "12345678901234567890123"}).Draw(t, "number")
	case 1:
		return rapid.SampledFrom([]string{"true", "false", "null"}).Draw(t, "word")
	case 2, 3:
		return drawString(t)
	case 4:
		var list []string
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			list = append(list, drawJSON(t, depth-1))
		}
		return "[" + space + strings.Join(list, space+",") + "]"
	}
	var list []string
	for _, name := range []string{"a", "b", "c"} {
		if rapid.Bool().Draw(t, name) {
			list = append(list, strconv.Quote(name)+space+":"+space+drawJSON(t, depth-1))
		}
	}
	return "{" + strings.Join(list, ","+space) + space + "}"
}

func drawString(t *rapid.T) string {
	if rapid.Bool().Draw(t, "escapes") {
		return rapid.SampledFrom([]string{`"\ud83d\ude00"`, `"\u0041\"\\\/\b"`, `"\\\\\""`, `"]}{[,:"`}).Draw(t, "escaped")
	}
	b, _ := json.Marshal(rapid.String().Draw(t, "string"))
	return string(b)
}

// drawTemplate draws a template's text beside a function that renders the same from
// decoded values.
func drawTemplate(t *rapid.T, depth int) (string, func(doc any) (any, bool)) {
	kinds := 5
	if depth == 0 {
		kinds = 3
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "part") {
	case 0:
		b := drawJSON(t, 0)
		if strings.Contains(b, "<") {
			b = `"plain"`
		}
		return b, func(any) (any, bool) { return decode(b), true }
	case 1:
		p := drawPath(t)
		return "<" + p + ">", func(doc any) (any, bool) { return slowFind(doc, p) }
	case 2:
		return drawText(t)
	case 3:
		var texts []string
		var parts []func(any) (any, bool)
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			text, f := drawTemplate(t, depth-1)
			texts, parts = append(texts, text), append(parts, f)
		}
		return "[" + strings.Join(texts, " ,") + "]", func(doc any) (any, bool) {
			list := []any{}
			for _, f := range parts {
				if v, ok := f(doc); ok {
					list = append(list, v)
				}
			}
			return list, true
		}
	}
	var texts []string
	parts := map[string]func(any) (any, bool){}
	for _, name := range []string{"x", "y"} {
		text, f := drawTemplate(t, depth-1)
		texts, parts[name] = append(texts, strconv.Quote(name)+": "+text), f
	}
	return "{" + strings.Join(texts, ", ") + "}", func(doc any) (any, bool) {
		m := map[string]any{}
		for name, f := range parts {
			if v, ok := f(doc); ok {
				m[name] = v
			}
		}
		return m, true
	}
}

func drawText(t *rapid.T) (string, func(any) (any, bool)) {
	p, q := drawPath(t), drawPath(t)
	return `"a<` + p + `>\n<<<` + q + `>"`, func(doc any) (any, bool) {
		return "a" + slowText(doc, p) + "\n<" + slowText(doc, q), true
	}
}

func drawPath(t *rapid.T) string {
	p := "data"
	for range rapid.IntRange(0, 3).Draw(t, "steps") {
		p += rapid.SampledFrom([]string{".a", ".b", ".c", "[0]", "[1]", "[*]"}).Draw(t, "step")
	}
	return p
}

func decode(text string) any {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	return v
}

// slowFind follows a path through decoded values.
func slowFind(doc any, path string) (any, bool) {
	steps, err := parseSteps(path)
	if err != nil {
		panic(err)
	}
	return slowFollow(doc, steps)
}

func slowFollow(v any, steps []step) (any, bool) {
	for i, s := range steps {
		list, isList := v.([]any)
		m, isMap := v.(map[string]any)
		switch {
		case s.index == eachItem:
			if !isList {
				return nil, false
			}
			out := []any{}
			for _, e := range list {
				if found, ok := slowFollow(e, steps[i+1:]); ok {
					out = append(out, found)
				}
			}
			return out, true
		case s.index >= 0:
			if !isList || s.index >= len(list) {
				return nil, false
			}
			v = list[s.index]
		default:
			if !isMap {
				return nil, false
			}
			var ok bool
			if v, ok = m[s.name]; !ok {
				return nil, false
			}
		}
	}
	return v, true
}

func slowText(doc any, path string) string {
	v, ok := slowFind(doc, path)
	if !ok {
		return ""
	}
	return slowPlain(v)
}

// slowPlain is a value in a string. Members are sorted, as those of the drawn
// documents are.
func slowPlain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return "null"
	case []any:
		var list []string
		for _, e := range v {
			list = append(list, slowPlain(e))
		}
		return "[" + strings.Join(list, ",") + "]"
	case map[string]any:
		var list []string
		for name, e := range v {
			list = append(list, name+":"+slowPlain(e))
		}
		slices.Sort(list)
		return "{" + strings.Join(list, ",") + "}"
	}
	return fmt.Sprint(v)
}

// TestRenderAgreesWithASlowRenderer: whatever the template and the document.
func TestRenderAgreesWithASlowRenderer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := `{"data":` + drawJSON(t, 3) + `}`
		text, slow := drawTemplate(t, 3)
		p, err := ParseEvent([]byte(`{"data":`+text+`}`), Options{})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got, err := rendered(p, &fakeEvent{doc: doc, refs: p.Refs()}, 0)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{}
		if v, ok := slow(decode(doc)); ok {
			want["data"] = v
		}
		if !json.Valid([]byte(got)) || !reflect.DeepEqual(decode(got), any(want)) {
			t.Fatalf("template %s\ndocument %s\ngot  %s\nwant %v", text, doc, got, want)
		}
	})
}

// FuzzParse: no text makes the parser fail otherwise than by an error with its place,
// and what it takes renders valid JSON of any event.
func FuzzParse(f *testing.F) {
	f.Add(`{"type":"x","data":{"a":<data.id>,"b":"<data.name> <<"}}`, sample)
	f.Add(`{"data":[<data.items[*].n[1]>,"<data.at>"]}`, sample)
	f.Add(`{"data":"\ud83d<data.x>"}`, `{"data":{"x":"\ude00"}}`)
	f.Add(`{"<id>":1}`, `{}`)
	f.Fuzz(func(t *testing.T, text, doc string) {
		p, err := ParseEvent([]byte(text), Options{})
		if err != nil {
			var bad *Error
			if !errors.As(err, &bad) || bad.Offset < 0 || bad.Offset > len(text) {
				t.Fatalf("%v", err)
			}
			return
		}
		var compact bytes.Buffer
		program, err := field.Compile(nil, field.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var v field.Values
		if json.Compact(&compact, []byte(doc)) != nil || program.Scan(compact.Bytes(), &v) != nil || compact.Bytes()[0] != '{' {
			return
		}
		got, err := rendered(p, &fakeEvent{compact.String(), p.Refs(), map[Known]string{
			WholeEvent: "{}", WithoutData: "{}", WorkTime: `"t"`, RouteName: `"r"`, RouteAddress: `"a"`,
		}}, 1<<20)
		if err == nil && !json.Valid([]byte(got)) {
			t.Fatalf("template %s of %s rendered %s", text, compact.Bytes(), got)
		}
	})
}

func TestMembers(t *testing.T) {
	var got []string
	Members([]byte(`{ "a" : [1,{"x":"}"}] , "b\"":"c" ,"d":null}`), func(name, member []byte) bool {
		got = append(got, string(name)+"="+string(member))
		return true
	})
	if want := []string{`a=[1,{"x":"}"}]`, `b\"="c"`, `d=null`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
