package local

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/segment"
)

func TestProgressIsTheSameAsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p progress
		model := map[uint64]bool{}
		tries := map[uint64]uint32{}
		var noted [][]byte
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			from := rapid.Uint64Range(0, 80).Draw(t, "from")
			var body []byte
			if rapid.IntRange(0, 4).Draw(t, "kind") == 0 {
				n := rapid.Uint32Range(1, 9).Draw(t, "tries")
				body = appendTry(nil, from, n)
				if !model[from] {
					tries[from] = n
				}
			} else {
				r := run{from, from + rapid.Uint64Range(0, 6).Draw(t, "length")}
				body = appendSettled(nil, []run{r})
				for n := r.from; n < r.to; n++ {
					model[n] = true
					delete(tries, n)
				}
			}
			noted = append(noted, body)
			if err := p.apply(body); err != nil {
				t.Fatal(err)
			}
			if err := agrees(&p, model, tries); err != "" {
				t.Fatal(err)
			}
		}
		var replayed, whole progress
		for _, body := range noted {
			if err := replayed.apply(body); err != nil {
				t.Fatal(err)
			}
		}
		if err := whole.apply(p.appendWhole(nil)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(replayed.appendWhole(nil), p.appendWhole(nil)) || !bytes.Equal(whole.appendWhole(nil), p.appendWhole(nil)) {
			t.Fatalf("%+v, replayed %+v, from its whole %+v", p, replayed, whole)
		}
	})
}

func agrees(p *progress, model map[uint64]bool, tries map[uint64]uint32) string {
	low := uint64(0)
	for model[low] {
		low++
	}
	if p.low != low {
		return "low is wrong"
	}
	above := uint64(0)
	for n := range uint64(100) {
		if p.isSettled(n) != model[n] {
			return "settled set differs"
		}
		if n >= low && model[n] {
			above++
		}
	}
	if p.above() != above {
		return "count above low is wrong"
	}
	if len(tries) != len(p.tries) || len(tries) > 0 && !reflect.DeepEqual(tries, p.tries) {
		return "tries differ"
	}
	return ""
}

func TestProgressFormIsPinned(t *testing.T) {
	p := progress{low: 300, runs: []run{{302, 303}, {310, 1000}}, tries: map[uint64]uint32{301: 2}}
	var out bytes.Buffer
	for i, body := range [][]byte{p.appendWhole(nil), appendSettled(nil, []run{{5, 6}, {9, 300}}), appendTry(nil, 7, 3), appendMark(nil, mark{segment.Mark{File: 2, Length: 4096, Entries: 77}, true})} {
		out.WriteString(hex.EncodeToString(appendNote(nil, uint64(i+1), body)) + "\n")
	}
	golden(t, "notes.golden", out.Bytes())
}

func FuzzProgress(f *testing.F) {
	p := progress{low: 300, runs: []run{{302, 303}}, tries: map[uint64]uint32{301: 2}}
	f.Add(p.appendWhole(nil))
	f.Add(appendSettled(nil, []run{{5, 6}, {9, 300}}))
	f.Add(appendTry(nil, 7, 3))
	f.Fuzz(func(t *testing.T, body []byte) {
		var p, again progress
		if p.apply(body) != nil {
			return
		}
		whole := p.appendWhole(nil)
		if err := again.apply(whole); err != nil || !bytes.Equal(again.appendWhole(nil), whole) {
			t.Fatalf("%x: %+v does not survive: %+v, %v", body, p, again, err)
		}
	})
}
