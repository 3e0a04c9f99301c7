package field

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestScanRefuses pins the reason and the byte at fault.
func TestScanRefuses(t *testing.T) {
	p := compileFor(t, Options{Limits: Limits{Depth: 3, Elements: 3}}, "a", "a.b", "c.d", "long_name_of_a_field")
	for _, c := range []struct {
		doc    string
		reason Reason
		offset int
	}{
		{``, ReasonSyntax, 0},
		{`  `, ReasonSyntax, 2},
		{"\ufeff{}", ReasonSyntax, 0},
		{`{`, ReasonSyntax, 1},
		{`{}}`, ReasonSyntax, 2},
		{`{} x`, ReasonSyntax, 3},
		{`{"a":1,}`, ReasonSyntax, 7},
		{`{,}`, ReasonSyntax, 1},
		{`{"a":1 "b":2}`, ReasonSyntax, 7},
		{`{"a" 1}`, ReasonSyntax, 5},
		{`{"a":}`, ReasonSyntax, 5},
		{`{"x":}`, ReasonSyntax, 5},
		{`{"a":01}`, ReasonSyntax, 6},
		{`{"a":.5}`, ReasonSyntax, 5},
		{`{"a":1.}`, ReasonSyntax, 7},
		{`{"a":1e+}`, ReasonSyntax, 8},
		{`{"a":-}`, ReasonSyntax, 6},
		{`{"a":+1}`, ReasonSyntax, 5},
		{`{"a":0x1}`, ReasonSyntax, 6},
		{`{"a":NaN}`, ReasonSyntax, 5},
		{`{"a":nul}`, ReasonSyntax, 8},
		{`{"a":truth}`, ReasonSyntax, 8},
		{`{"x":falsey}`, ReasonSyntax, 10},
		{`{'a':1}`, ReasonSyntax, 1},
		{`{"a":[1,]}`, ReasonSyntax, 8},
		{`{"a":[1 2]}`, ReasonSyntax, 8},
		{`{"x":[1,]}`, ReasonSyntax, 8},
		{`{"x":[1}`, ReasonSyntax, 7},
		{`{"x":{"y":1]}`, ReasonSyntax, 11},
		{`{"x":{"y":1,}}`, ReasonSyntax, 12},
		{`{"x":{"y":[`, ReasonSyntax, 11},
		{"{\"a\":\"\n\"}", ReasonSyntax, 6},
		{"{\"a\":\"long enough for a word\x00\"}", ReasonSyntax, 28},
		{"{\"x\":\"tab\tinside\"}", ReasonSyntax, 9},
		{`{"a":"\x"}`, ReasonSyntax, 7},
		{`{"a":"\u12g4"}`, ReasonSyntax, 10},
		{`{"a":"\u12`, ReasonSyntax, 10},
		{`{"a":"open`, ReasonSyntax, 10},
		{`{"a":"open\`, ReasonSyntax, 11},
		{`{"a`, ReasonSyntax, 3},
		{"{\"a\":\"\xff\"}", ReasonUTF8, 6},
		{"{\"x\":\"caf\xc3\"}", ReasonUTF8, 9},
		{"{\"\xed\xa0\xbd\":1}", ReasonUTF8, 2},
		{"{\"x\":\"\xc0\xaf overlong\"}", ReasonUTF8, 6},
		{`{"a":[[[1]]]}`, ReasonDepth, 7},
		{`{"x":[[[1]]]}`, ReasonDepth, 7},
		{`[[[{}]]]`, ReasonDepth, 3},
		{`{"a":1,"a":2}`, ReasonDuplicateKey, 7},
		{`{"a":1, "\u0061":2}`, ReasonDuplicateKey, 8},
		{`{"a":[{"b":1},{"b":1,"b":2}]}`, ReasonDuplicateKey, 21},
		{`{"c":{"d":1},"c":{}}`, ReasonDuplicateKey, 13},
		{`{"long_name_of_a_field":1,"long_name_of_a_field":2}`, ReasonDuplicateKey, 26},
		{`{"a":[1,2,3,4]}`, ReasonElements, 12},
		{`{"a":[{"b":1},{"b":2},{"b":3},{"b":4}]}`, ReasonElements, 30},
	} {
		var v Values
		err, ok := p.Scan([]byte(c.doc), &v).(*Error)
		if !ok || err.Reason != c.reason || err.Offset != c.offset {
			t.Errorf("%q: %v, want %v at byte %d", c.doc, err, c.reason, c.offset)
		}
	}
}

func TestScanAccepts(t *testing.T) {
	p := compileFor(t, Options{Limits: Limits{Depth: 70, Elements: 3}}, "a", "a.b")
	for _, doc := range []string{
		`1`, `-0`, `1e400`, `-1.5E-3`, `""`, `null`, " \t\r\n[] ", `{}`, `{"a":"\ud83d"}`, `{"a":"\"\\\/\b\f\n\r\t\u00e9"}`,
		`{"x":1,"x":2}`, `{"a":{"x":1,"x":2}}`, `{"x":{"a":1,"a":2}}`, `{"a":[1,2,3]}`, `{"x":[1,2,3,4,5]}`, `{"a":[{},{},{},{},{}]}`,
		"\"\u2028\x7f\"", `{"a":1,"A":2}`, `{"a":1,"b":2,"a.b":3}`,
		`{"x":` + strings.Repeat("[", 69) + strings.Repeat("]", 69) + `}`,
		`{"x":` + strings.Repeat(`{"a":`, 69) + `1` + strings.Repeat("}", 69) + `}`,
	} {
		var v Values
		if err := p.Scan([]byte(doc), &v); err != nil || !json.Valid([]byte(doc)) {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

func TestValuesGet(t *testing.T) {
	p := compileFor(t, Options{}, "a", "a.b", "gone", "e", "o", "a")
	var v Values
	doc := []byte(` {"a":[1,{"b":"x\n"},[2.5]],"a.b":true,"e":[ ],"o":{"a":1}} `)
	if err := p.Scan(doc, &v); err != nil {
		t.Fatal(err)
	}
	var got []string
	for slot := range v.Slots() {
		for x, ok := v.Get(slot), true; ok; x, ok = v.Next(x) {
			got = append(got, fmt.Sprintf("%d %v %s flags=%d", slot, x.Kind, x.JSON(doc), x.Flags))
		}
	}
	want := []string{
		`0 array [1,{"b":"x\n"},[2.5]] flags=0`, `0 number 1 flags=2`, `0 number 2.5 flags=0`,
		`1 string "x\n" flags=1`, `1 true true flags=0`,
		`2 absent  flags=0`,
		`3 array [ ] flags=4`,
		`4 object {"a":1} flags=0`,
		`5 array [1,{"b":"x\n"},[2.5]] flags=0`, `5 number 1 flags=2`, `5 number 2.5 flags=0`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if start, end := v.Span(); start != 1 || end != len(doc)-1 || !v.Object() {
		t.Errorf("span %d to %d, object=%v", start, end, v.Object())
	}
}

func TestRoot(t *testing.T) {
	p := compileFor(t, Options{Root: true}, "id", "data", "data.x", "under_score")
	for _, c := range []struct {
		doc     string
		members int
		odd     bool
	}{
		{`{}`, 0, false},
		{`{"id":"1","data":{"X":null}}`, 2, false},
		{`{"id":null,"data":null}`, 2, false},
		{`{"id":"1","ext1":"x","b":true,"c":false,"n":2147483647}`, 5, false},
		{`{"n":-2147483648}`, 1, false},
		{`{"n":2147483648}`, 1, true},
		{`{"n":-2147483649}`, 1, true},
		{`{"n":1.0}`, 1, true},
		{`{"n":1e1}`, 1, true},
		{`{"n":99999999999999999999}`, 1, true},
		{`{"n":null}`, 1, true},
		{`{"n":{}}`, 1, true},
		{`{"n":[]}`, 1, true},
		{`{"Ext":"x"}`, 1, true},
		{`{"e-x":"x"}`, 1, true},
		{`{"":"x"}`, 1, true},
		{`{"aname_longer":"x"}`, 1, true},
		{`{"anamelonger":"x"}`, 1, false},
		{`{"under_score":"x"}`, 1, true},
		{`{"data.x":1}`, 1, true},
		{`{"e\u0078t":"x"}`, 1, true},
		{`{"é":"x"}`, 1, true},
		{`{ "id" : "1" , "ext" : 5 }`, 2, false},
		{`{"data":[{"Odd":1},{"odd":null}]}`, 1, false},
		{`[{"Odd":1}]`, 0, false},
	} {
		var v Values
		if err := p.Scan([]byte(c.doc), &v); err != nil || v.RootMembers() != c.members || v.RootOdd() != c.odd {
			t.Errorf("%s: %d members, odd=%v (%v), want %d, %v", c.doc, v.RootMembers(), v.RootOdd(), err, c.members, c.odd)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		path   Path
		limits Limits
	}{
		"segments":     {path: make(Path, MaxSegments+1)},
		"depth":        {limits: Limits{Depth: MaxDepth + 1}},
		"no depth":     {limits: Limits{Depth: -1}},
		"no elements":  {limits: Limits{Elements: -1}},
		"dots as well": {path: Path{strings.Repeat(".", MaxSegments)}},
	} {
		if _, err := Compile([]Path{c.path}, Options{Limits: c.limits}); err == nil {
			t.Errorf("%s: compiles", name)
		}
	}
}

// TestManyNames compiles more fields than the table has a place for each, and
// names that differ only in their middle.
func TestManyNames(t *testing.T) {
	var names []string
	for i := range 3000 {
		names = append(names, fmt.Sprintf("n%d", i), fmt.Sprintf("beginning%04dend_of_it", i))
	}
	p := compileFor(t, Options{}, names...)
	var b strings.Builder
	for i, name := range names {
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + strconv.Quote(name) + ":" + strconv.Itoa(i))
	}
	b.WriteString(`,"beginning____end_of_it":0,"n":0}`)
	var v Values
	doc := []byte(b.String())
	if err := p.Scan(doc, &v); err != nil {
		t.Fatal(err)
	}
	for i := range names {
		if got := string(v.Get(i).Raw(doc)); got != strconv.Itoa(i) {
			t.Fatalf("%s: %s, want %d", names[i], got, i)
		}
	}
}

func TestScanAllocates(t *testing.T) {
	p := compileFor(t, Options{Root: true}, append([]string{"data.list"}, eight...)...)
	var v Values
	docs := [][]byte{
		[]byte(typical), []byte(`{"data":{"list":[1,[2],{"x":3}],"d\u0072iver_id":"\n"}}`), []byte(`{"id":"1","id":"2"}`),
		[]byte(`{"id":"` + strings.Repeat("日本語", 20) + `"}`), []byte(`[`),
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, doc := range docs {
			_ = p.Scan(doc, &v) // two are refused
		}
	}); n != 0 {
		t.Errorf("%v allocations a round, want none", n)
	}
}

func TestAppendUnescaped(t *testing.T) {
	for raw, want := range map[string]string{
		``: ``, `plain`: `plain`, `\"\\\/\b\f\n\r\t`: "\"\\/\b\f\n\r\t", `\u00e9\u0000`: "é\x00",
		`\ud83d\ude00!`: "😀!", `\ud83d`: "\ufffd", `\ud83dx`: "\ufffdx", `\ude00\ud83d`: "\ufffd\ufffd", `\ud83d\u0041`: "\ufffdA", `\uD83D\n`: "\ufffd\n",
	} {
		if got := string(AppendUnescaped([]byte("<"), []byte(raw))); got != "<"+want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
		var std string
		if err := json.Unmarshal([]byte(`"`+raw+`"`), &std); err != nil || std != want {
			t.Errorf("%s: encoding/json says %q (%v), the table %q", raw, std, err, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		raw   string
		f     float64
		exact bool
	}{
		{"0", 0, true},
		{"-0.0", 0, true},
		{"0e999", 0, true},
		{"300", 300, true},
		{"3.00e2", 300, true},
		{"0.1", 0.1, true},
		{"9007199254740993", 9007199254740992, false},
		{"9007199254740992", 9007199254740992, true},
		{"37.80780792169409", 37.80780792169409, true},
		{"37.807807921694092", 37.807807921694092, false},
		{"1e308", 1e308, true},
		{"1e309", math.Inf(1), false},
		{"-1e999999999999", math.Inf(-1), false},
		{"1e-325", 0, false},
		{"5e-324", 5e-324, true},
		{"1e-999999999999", 0, false},
		{"1" + strings.Repeat("0", 30), 1e30, true},
		{"0." + strings.Repeat("0", 30) + "1", 1e-31, true},
	} {
		if f, exact := Float64([]byte(c.raw)); f != c.f || exact != c.exact {
			t.Errorf("%s: %v, exact=%v, want %v, %v", c.raw, f, exact, c.f, c.exact)
		}
	}
	for raw, want := range map[string]string{
		"0": "0", "-0": "0", "9223372036854775807": "9223372036854775807", "-9223372036854775808": "-9223372036854775808",
		"9223372036854775808": "no", "-9223372036854775809": "no", "10000000000000000000": "no", "1.0": "no", "1e2": "no", "": "no", "-": "no",
	} {
		n, ok := Int64([]byte(raw))
		if got := strconv.FormatInt(n, 10); ok && got != want || !ok && want != "no" {
			t.Errorf("%q: %s, %v, want %s", raw, got, ok, want)
		}
	}
}

// TestFloat64Model compares with strconv: the number, and whether the shortest
// decimal for it is the same number.
func TestFloat64Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?`).Draw(t, "number")
		if rapid.Bool().Draw(t, "from a float") {
			raw = strconv.FormatFloat(rapid.Float64Range(-math.MaxFloat64, math.MaxFloat64).Draw(t, "float"), 'g', -1, 64)
		}
		want, err := strconv.ParseFloat(raw, 64)
		f, exact := Float64([]byte(raw))
		if f != want {
			t.Fatalf("%s: %v, want %v", raw, f, want)
		}
		if same := err == nil && equalDecimals(raw, strconv.FormatFloat(want, 'f', -1, 64)); exact != same {
			t.Fatalf("%s: exact=%v, want %v", raw, exact, same)
		}
	})
}

// equalDecimals compares two numbers by their digits, written out.
func equalDecimals(a, b string) bool { return expanded(a) == expanded(b) }

func expanded(s string) string {
	s, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	shift, _ := strconv.Atoi(exponent)
	sign := strings.HasPrefix(s, "-")
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	const room = 1100
	all := strings.Repeat("0", room) + whole + fraction + strings.Repeat("0", room)
	point := room + len(whole) + shift
	left, right := strings.TrimLeft(all[:point], "0"), strings.TrimRight(all[point:], "0")
	if left+right == "" {
		return "0"
	}
	return fmt.Sprint(sign) + left + "." + right
}
