package pattern

import (
	"encoding/json"
	"testing"
)

// FuzzCompile holds that no text and no event brings the compiler or a matcher
// down, that what compiles is JSON, that errors lie in the text, and that
// Explain and Match agree.
func FuzzCompile(f *testing.F) {
	for _, x := range readVectors(f, "testdata/vectors.jsonl") {
		event := x.Event
		if event == nil {
			event = json.RawMessage(`{"a":[{"b":"x"},1]}`)
		}
		f.Add(x.text(), []byte(event))
	}
	f.Fuzz(func(t *testing.T, text, doc []byte) {
		p, err := Compile(text)
		if err != nil {
			e, ok := err.(*Error)
			if !ok || e.Offset < 0 || e.Offset > len(text) || e.Line < 1 || e.Column < 1 || e.Reason == "" {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if !json.Valid(text) || len(p.Fields()) == 0 {
			t.Fatalf("compiles with %d fields: %q", len(p.Fields()), text)
		}
		m := newMatcher(t, p, p)
		got, err := m.match(doc)
		if err != nil {
			return
		}
		if len(got) == 1 || p.Explain(&m.view).Matched != (len(got) == 2) {
			t.Fatalf("rules %v of two equal ones, Explain says %v\n%s\n%s", got, p.Explain(&m.view), text, doc)
		}
	})
}
