package weir

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
)

func describe(e *Event, slot int) string {
	dash := func(b []byte) string {
		if len(b) == 0 {
			return "-"
		}
		return hex.EncodeToString(b)
	}
	switch e.Type(slot) {
	case String:
		t, _ := e.Text(slot)
		return fmt.Sprintf("string %d %s", map[bool]int{true: 1}[t.Escaped], dash(t.Raw))
	case Int:
		n, _ := e.Int(slot)
		return fmt.Sprintf("i64 %d", n)
	case Float:
		f, _ := e.Number(slot)
		return fmt.Sprintf("f64 %016x", math.Float64bits(f))
	case Bool:
		v, _ := e.Bool(slot)
		return fmt.Sprintf("bool %v", v)
	case JSON:
		raw, _ := e.JSON(slot)
		return "json " + dash(raw)
	case Null:
		return "null"
	}
	return "absent"
}

func TestGoldenBatches(t *testing.T) {
	file, err := os.ReadFile("../testdata/batches.txt")
	if err != nil {
		t.Fatal(err)
	}
	var wants [][]string
	name, seen := "", 0
	for line := range strings.Lines(string(file)) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch f[0] {
		case "batch":
			name, wants = f[1], nil
		case "event":
			wants = append(wants, nil)
		case "slot":
			last := len(wants) - 1
			wants[last] = append(wants[last], strings.Join(f[4:], " "))
		case "bytes":
			seen++
			raw, err := hex.DecodeString(f[1])
			if err != nil {
				t.Fatal(err)
			}
			checkGolden(t, name, raw, wants)
		}
	}
	if seen < 5 {
		t.Fatalf("only %d golden batches", seen)
	}
}

func checkGolden(t *testing.T, name string, raw []byte, wants [][]string) {
	t.Helper()
	b, ok := ReadBatch(raw)
	if !ok || b.Len() != len(wants) {
		t.Fatalf("%s: batch of %d events, %v", name, b.Len(), ok)
	}
	var e Event
	for i, slots := range wants {
		b.Event(i, &e)
		for s, want := range slots {
			if got := describe(&e, s); got != want {
				t.Errorf("%s: event %d slot %d is %q, want %q", name, i, s, got, want)
			}
		}
		if e.Type(9999) != Absent || e.Type(-1) != Absent {
			t.Errorf("%s: slots that do not exist are there", name)
		}
	}
	for cut := range raw {
		if _, ok := ReadBatch(raw[:cut]); ok {
			t.Errorf("%s: cut at %d it still reads", name, cut)
		}
	}
}

func TestText(t *testing.T) {
	for raw, want := range map[string]string{
		"abc": "abc", `a\nb\\c\/d\"`: "a\nb\\c/d\"", `\u0041\u00e4\u20AC`: "Aä€", `\ud83d\ude00!`: "😀!",
		`\ud83d!`: "\ufffd!", `\ud83d\u0041`: "\ufffdA", "": "", `\b\f\r\t`: "\b\f\r\t",
	} {
		text := Text{Raw: []byte(raw), Escaped: strings.Contains(raw, `\`)}
		if got := text.String(); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
		if !text.Is(want) || !text.HasPrefix(want) || text.Is(want+"x") || text.HasPrefix(want+"x") || text.Is("other") {
			t.Errorf("%s: compares wrongly", raw)
		}
		if want != "" && (text.Is(want[:len(want)-1]) || !text.HasPrefix("")) {
			t.Errorf("%s: compares wrongly with less", raw)
		}
	}
	for _, raw := range []string{`\`, `\u`, `\u00`, `\ud83d\u`} {
		_ = Text{Raw: []byte(raw), Escaped: true}.String() // a cut escape ends the text
	}
}

func TestConfig(t *testing.T) {
	c := NewConfig(` { "a" : [ {"min": 9} , "x]" ], "m\u0069n":-12.5e1, "t":"\"q\"", "l":["a","b\n"], "e":[], "y":true, "z":[1] } `)
	if n, err := c.Number("min", 1); n != -125 || err != nil {
		t.Error(n, err)
	}
	if n, err := c.Number("none", 7); n != 7 || err != nil {
		t.Error(n, err)
	}
	if s, err := c.Text("t", ""); s != `"q"` || err != nil {
		t.Error(s, err)
	}
	if l, err := c.Texts("l"); !reflect.DeepEqual(l, []string{"a", "b\n"}) || err != nil {
		t.Error(l, err)
	}
	if l, err := c.Texts("e", "x"); len(l) != 0 || err != nil {
		t.Error(l, err)
	}
	if v, err := c.Bool("y", false); !v || err != nil {
		t.Error(v, err)
	}
	for _, err := range []error{second(c.Number("t", 0)), second(c.Text("min", "")), second(c.Texts("z")), second(c.Texts("t")), second(c.Bool("t", false))} {
		if err == nil {
			t.Error("a wrong type was taken")
		}
	}
	whole := string(c.json)
	for cut := range whole {
		NewConfig(whole[:cut]).Raw("none")
		NewConfig(whole[:cut]).Texts("l")
	}
}

func second[T any](_ T, err error) error { return err }

func TestReadingAllocatesNothing(t *testing.T) {
	raw, _ := hex.DecodeString("57524231010000000100000028000000" + "0000000002000001" + "6f6b")
	raw = append(raw[:12], append([]byte{26, 0, 0, 0}, raw[16:]...)...)
	var b Batch
	var e Event
	if n := testing.AllocsPerRun(100, func() {
		var ok bool
		if b, ok = ReadBatch(raw); !ok {
			t.Fatal("no batch")
		}
		b.Event(0, &e)
		if s, ok := e.Text(0); !ok || !s.Is("ok") {
			t.Fatal("not ok")
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
