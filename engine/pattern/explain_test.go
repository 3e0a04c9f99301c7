package pattern

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/weir-project/weir/engine/field"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestExplainGolden pins what users read.
func TestExplainGolden(t *testing.T) {
	cases := []struct{ pattern, event string }{
		{`{"type":["A"]}`, `{"type":"A"}`},
		{`{"type":["A"]}`, `{"type":"B"}`},
		{`{"type":["A","B",{"prefix":"C"}]}`, `{"type":"D"}`},
		{`{"type":["A"],"data":{"speed":[{"numeric":[">",20,"<=",50]}]}}`, `{"type":"A","data":{"speed":12.50}}`},
		{`{"data":{"speed":[{"numeric":[">",20]}]}}`, `{"data":{}}`},
		{`{"data":[{"exists":true}]}`, `{"data":{"x":1}}`},
		{`{"data":[{"exists":true}]}`, `{"data":[]}`},
		{`{"data":[{"exists":true}]}`, `{"data":[{}]}`},
		{`{"data":[{"exists":false}]}`, `{"data":null}`},
		{`{"tags":["x"]}`, `{"tags":["y","a \"quoted\" z",3,true]}`},
		{`{"s":[{"anything-but":{"suffix":[".png",".gif"]}}]}`, `{"s":"a.gif"}`},
		{`{"s":[{"prefix":{"equals-ignore-case":"ab"}}]}`, `{"s":"xy"}`},
		{`{"a":{"b":[1],"c":[2]}}`, `{"a":[{"b":1,"c":3},{"b":2,"c":2}]}`},
		{`{"a":{"c":[{"exists":false}],"b":[1]}}`, `{"a":[{"b":1,"c":3},{"b":2}]}`},
		{`{"$or":[{"a":[1],"b":[2]},{"c":[3]}]}`, `{"a":1,"b":5,"c":4}`},
		{`{"$or":[{"a":[1]},{"c":[3]}]}`, `{"c":3}`},
		{`{"s":["x"]}`, `{"s":"` + strings.Repeat("é", 150) + `"}`},
	}
	var b strings.Builder
	for _, c := range cases {
		p, err := Compile([]byte(c.pattern))
		if err != nil {
			t.Fatal(err)
		}
		m := newMatcher(t, p)
		if _, err := m.match([]byte(c.event)); err != nil {
			t.Fatal(err)
		}
		b.WriteString(c.pattern + "\n" + c.event + "\n=> " + p.Explain(&m.view).String() + "\n\n")
	}
	golden(t, "testdata/explain.golden", b.String())
}

// TestErrorGolden pins what users read of patterns that do not compile.
func TestErrorGolden(t *testing.T) {
	var b strings.Builder
	for _, text := range []string{
		"", "null", `{"a":["x",]}`, `{"a":["x"]} {}`, `{"a":["x"]`, "{\"a\":[\"\xff\"]}",
		`{}`, `{"a":{}}`, `{"a":"x"}`, `{"a":7}`, `{"a":[]}`, `{"a":[["x"]]}`, `{"a":[{}]}`,
		"{\n  \"é\": [1], \"b\": [{\"preffix\": 1}]\n}",
		`{"a":[{"prefix":1}]}`, `{"a":[{"prefix":{"x":"y"}}]}`, `{"a":[{"prefix":"x","suffix":"y"}]}`, `{"a":[{"prefix":{}}]}`,
		`{"a":[{"wildcard":"a**b"}]}`, `{"a":[{"wildcard":"a\\b"}]}`, `{"a":[{"exists":1}]}`,
		`{"a":[{"cidr":5}]}`, `{"a":[{"cidr":"10.0.0.0"}]}`, `{"a":[{"cidr":"10.0.0.0/32"}]}`,
		`{"a":[{"numeric":5}]}`, `{"a":[{"numeric":[]}]}`, `{"a":[{"numeric":[">"]}]}`, `{"a":[{"numeric":["!=",1]}]}`,
		`{"a":[{"numeric":["<",1,">",0]}]}`, `{"a":[{"numeric":[">",1,"<",1]}]}`, `{"a":[{"numeric":["=","1"]}]}`, `{"a":[{"numeric":["=",1e999]}]}`, `{"a":[{"numeric":[1]}]}`,
		`{"a":[{"anything-but":null}]}`, `{"a":[{"anything-but":[]}]}`, `{"a":[{"anything-but":["x",1]}]}`, `{"a":[{"anything-but":{"cidr":"x"}}]}`,
		`{"a":[{"anything-but":{"prefix":""}}]}`, `{"a":[{"anything-but":{"prefix":[]}}]}`, `{"a":[{"anything-but":{}}]}`, `{"a":[{"anything-but":{"prefix":"a","suffix":"b"}}]}`,
		`{"$or":{"a":[1]}}`, `{"$or":[{"a":[1]}]}`, `{"$or":[1,2]}`, `{"$or":[{"prefix":["x"]},{"b":[1]}]}`, `{"$or":[{"a":[1]},{"b":[1]}],"$or":[{"a":[1]},{"b":[1]}]}`,
		`{"a":[1],"a":[2]}`, `{"a":{"b":[1]},"a.b":[2]}`,
		strings.Repeat(`{"a":`, 33) + `[1]` + strings.Repeat(`}`, 33),
	} {
		_, err := Compile([]byte(text))
		if err == nil {
			t.Errorf("compiles: %s", text)
			continue
		}
		e, ok := err.(*Error)
		if !ok || e.Offset < 0 || e.Offset > len(text) {
			t.Errorf("%s: %T %v", text, err, err)
		}
		b.WriteString(strings.ToValidUTF8(text, "?") + "\n=> " + err.Error() + "\n\n")
	}
	golden(t, "testdata/errors.golden", b.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; go test -update writes it anew. Got:\n%s", path, got)
	}
}

func TestLimits(t *testing.T) {
	or := `"$or":[{"a":[1]},{"b":[1]},{"c":[1]},{"d":[1]},{"e":[1]},{"f":[1]},{"g":[1]},{"h":[1]},{"i":[1]},{"j":[1]}]`
	var many []string
	for i := range MaxFields + 1 {
		many = append(many, `"`+strings.Repeat("x", i+1)+`":[1]`)
	}
	nested := func(n int) string {
		s := `"z":[1]`
		for i := range n {
			s = `"` + string(rune('k'+i)) + `":{` + or + `,` + s + `}`
		}
		return `{` + s + `}`
	}
	for name, c := range map[string]struct {
		text string
		o    Options
		fits bool
	}{
		"bytes by default":   {`{"a":["` + strings.Repeat("x", MaxBytes) + `"]}`, Options{}, false},
		"bytes of the other": {`{"a":["` + strings.Repeat("x", 2048) + `"]}`, EventBridge(), false},
		"bytes that fit":     {`{"a":["` + strings.Repeat("x", 2048) + `"]}`, Options{}, true},
		"fields":             {`{` + strings.Join(many, ",") + `}`, Options{}, false},
		"fields that fit":    {`{` + strings.Join(many[1:], ",") + `}`, Options{}, true},
		"alternatives":       {nested(4), Options{}, false},
		"1000 alternatives":  {nested(3), Options{}, true},
		"named twice":        {`{"a":[1],"a":[2]}`, EventBridge(), true},
	} {
		if _, err := c.o.Compile([]byte(c.text)); (err == nil) != c.fits {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestViewConstants matches on what does not stand in the event's bytes.
func TestViewConstants(t *testing.T) {
	p, err := Compile([]byte(`{"type":["a\"b"],"subject":[{"exists":false}],"data":{"n":[1]}}`))
	if err != nil {
		t.Fatal(err)
	}
	set := NewSet([]*Pattern{p})
	program, err := field.Compile([]field.Path{field.ParsePath("n")}, field.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var values field.Values
	doc := []byte(`{"n":1}`)
	if err := program.Scan(doc, &values); err != nil {
		t.Fatal(err)
	}
	view := View{Doc: doc, Values: &values, Slots: []int32{Const(1), Absent, 0}, Consts: []string{"x", `a\u0022b`}}
	var sc Scratch
	if got := set.Match(&view, &sc, []uint32{9}); len(got) != 2 || got[0] != 9 || got[1] != 0 {
		t.Errorf("got %v, want 9 and then rule 0", got)
	}
	view.Slots[0] = Const(0)
	if got := set.Match(&view, &sc, nil); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
	if got, want := p.Explain(&view).String(), `type is "x", want equals "a\"b"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
