package field

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// modelPaths are short names so that a fuzzer hits them.
var modelPaths = []Path{
	ParsePath("a"), ParsePath("a.b"), ParsePath("a.b.c"), ParsePath("b"), ParsePath("d.a"),
	ParsePath("a.b"), ParsePath("service_info"), ParsePath("data.a_name_longer_than_sixteen"), ParsePath(""), ParsePath("d.éà"),
}

var modelLimits = Limits{Depth: 6, Elements: 20}

func checkModel(t interface{ Fatalf(string, ...any) }, p *Program, v *Values, doc []byte, paths []Path) {
	err := p.Scan(doc, v)
	if diff := runModel(doc, paths, modelLimits).against(doc, v, err); diff != "" {
		t.Fatalf("%s\n%s", diff, doc)
	}
	if e, bad := err.(*Error); bad && (e.Offset < 0 || e.Offset > len(doc) || e.Reason == 0) {
		t.Fatalf("refusal out of range: %+v\n%s", e, doc)
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	p, err := Compile(modelPaths, Options{Limits: modelLimits, Root: true})
	if err != nil {
		f.Fatal(err)
	}
	whole, err := Compile(append([]Path{nil}, modelPaths...), Options{Limits: modelLimits})
	if err != nil {
		f.Fatal(err)
	}
	var v Values
	f.Fuzz(func(t *testing.T, doc []byte) {
		checkModel(t, p, &v, doc, modelPaths)
		checkModel(t, whole, &v, doc, append([]Path{nil}, modelPaths...))
	})
}

var seeds = []string{
	typical, `{}`, `[]`, `null`, ` true `, `"a"`, `-0`, `1e400`, `01`, `.5`, `-`, `1.`, `1e`, `1e+`, `-1.5E-3`, "\ufeff{}",
	`{"a":[{"b":1},{"b":2}]}`, `{"a":[1,[2,"x"],{"b":3}],"a.b":[4]}`, `{"a":1,"\u0061":2}`, `{"a":{"b":{"c":[[],{},[{}]]}}}`,
	`{"b":"\ud83d","d":{"\u00e9à":"\ud83d\ude00"}}`, `{"data":{"a_name_longer_than_sixteen":true,"a_name_longer_thxx_sixteen":1}}`,
	`[[[[[[[1]]]]]]]`, `{"x":[[[[[[[1]]]]]]]}`, "{\"a\":\"\x01\"}", "{\"a\":\"\xff\"}", `{"a":"\x"}`, `{"a":"\u12"}`, `{"":"","a":[]}`,
	`{"a":1,}`, `{"a" : [ 1 , 2 ] , "b" : { } }`, `{"a":tru}`, `{"a":nul`, `[1 2]`, `{"a"}`, `{"a":}`, `{1:2}`, `{"z":[1,{"q":[true,false,null,-1.5e3]},"s"]}`,
}

// TestScanModel draws documents that are rich in wanted names, arrays, escapes
// and damage, and compares every scan with the model.
func TestScanModel(t *testing.T) {
	p, err := Compile(modelPaths, Options{Limits: modelLimits, Root: true})
	if err != nil {
		t.Fatal(err)
	}
	var v Values
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		drawJSON(t, &b, 5)
		doc := []byte(b.String())
		checkModel(t, p, &v, doc, modelPaths)
		if len(doc) == 0 {
			return
		}
		at := rapid.IntRange(0, len(doc)-1).Draw(t, "at")
		switch rapid.IntRange(0, 2).Draw(t, "damage") {
		case 0:
			doc[at] = rapid.SampledFrom([]byte("\"\\{}[],:0.e-tn \x00\x1f\x7f\x80\xc3\xff")).Draw(t, "byte")
		case 1:
			doc = doc[:at]
		case 2:
			doc = append(doc[:at], doc[at+1:]...)
		}
		checkModel(t, p, &v, doc, modelPaths)
	})
}

func drawJSON(t *rapid.T, b *strings.Builder, depth int) {
	space := rapid.SampledFrom([]string{"", "", "", "", " ", "\n\t", "\r"})
	b.WriteString(space.Draw(t, "space"))
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	if depth == 0 {
		kind %= 2
	}
	switch kind {
	case 0:
		b.WriteString(rapid.SampledFrom([]string{"1", "-0", "12.5", "1e5", "0", "true", "false", "null"}).Draw(t, "scalar"))
	case 1:
		b.WriteString(rapid.SampledFrom([]string{`""`, `"x"`, `"\u0061\n"`, `"éèêëēė"`, `"a longer string, plain"`, `"日本語テキスト\ud83d"`, `"/fleet/driver-1234\\"`}).Draw(t, "string"))
	case 2:
		b.WriteString("[")
		for i := range rapid.IntRange(0, 4).Draw(t, "elements") {
			if i > 0 {
				b.WriteString(",")
			}
			drawJSON(t, b, depth-1)
		}
		b.WriteString("]")
	default:
		b.WriteString("{")
		for i := range rapid.IntRange(0, 4).Draw(t, "members") {
			if i > 0 {
				b.WriteString(",")
			}
			b.WriteString(space.Draw(t, "space"))
			b.WriteString(rapid.SampledFrom([]string{
				`"a"`, `"b"`, `"c"`, `"d"`, `"a.b"`, `"b.c"`, `"a.b.c"`, `"\u0061"`, `"éà"`, `"x"`, `"y"`, `""`, `"data"`, `"a_name_longer_than_sixteen"`, `"service_info"`,
			}).Draw(t, "name"))
			b.WriteString(space.Draw(t, "space") + ":")
			drawJSON(t, b, depth-1)
		}
		b.WriteString("}")
	}
	b.WriteString(space.Draw(t, "space"))
}
