package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// readAll reads all chunks of a reader.
func readAll(t testing.TB, r reader, capacity int) (events []got, err error) {
	t.Helper()
	for range 1 << 20 {
		c := transports.Chunk{Data: make([]byte, 0, capacity)}
		went, err := r.read(&c, true)
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		if len(c.Data) == 0 && !went.busy {
			t.Fatal("a reader of a file gave nothing and no error")
		}
		c.Ordinal = uint64(went.from)
		if c.Ends != nil {
			c.Ordinal = went.fromIndex
			if n := went.toIndex - went.fromIndex; int(n) != len(c.Ends) {
				t.Fatalf("%d elements given, %d counted", len(c.Ends), n)
			}
		}
		events = append(events, split(&c)...)
	}
	t.Fatal("a reader does not end")
	return nil, nil
}

func TestArrayElements(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
		err  string
	}{
		{`[]`, nil, ""},
		{"", nil, ""},
		{" \n[ \t] \r\n", nil, ""},
		{`[{"a":1},{"b":[1,2]}]`, []string{`{"a":1}`, `{"b":[1,2]}`}, ""},
		{"[\n  {\"a\": \"]},[{\\\"\"} ,\n  17, null ,\"x\\\\\", [], true]\n", []string{`{"a": "]},[{\""}`, "17", "null", `"x\\"`, "[]", "true"}, ""},
		{"\xEF\xBB\xBF[1]", []string{"1"}, ""},
		{`{"a":1}`, nil, "want a JSON array"},
		{`[1,]`, []string{"1"}, "byte 3: want an element"},
		{`[,1]`, nil, "byte 1: want an element"},
		{`[1 2]`, []string{"1"}, "byte 3: want a comma"},
		{`[1`, nil, "ends within an element"},
		{`[{"a":1}`, []string{`{"a":1}`}, "not closed"},
		{`[1,`, []string{"1"}, "not closed"},
		{`[1][2]`, []string{"1"}, "byte 3: there is more after the array's end"},
	} {
		for _, capacity := range []int{1, 5, 1 << 12} {
			a := newArrayReader(iotest.OneByteReader(strings.NewReader(c.in)), "in", 0, 0, 64)
			have, err := readAll(t, a, capacity)
			if !slices.Equal(texts(have), c.want) {
				t.Errorf("%s at %d: have %q, want %q", c.in, capacity, texts(have), c.want)
			}
			if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || !errors.Is(err, transports.ErrFatal)) {
				t.Errorf("%s at %d: error %v, want %q", c.in, capacity, err, c.err)
			}
		}
	}
}

func TestArrayOversizeElement(t *testing.T) {
	long := `"` + strings.Repeat("x", 5000) + `"`
	a := newArrayReader(strings.NewReader("[1,"+long+",2]"), "in", 0, 0, 64)
	have, err := readAll(t, a, 16)
	must(t, err)
	if len(have) != 3 || have[1].data != long[:64] || have[1].oversize != int64(len(long)) || have[2].data != "2" {
		t.Errorf("have %v", have)
	}
}

// I8, for arrays.
func TestArrayResumeAtEveryChunk(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "/d/in.json", ` [ {"a":1} , 2, "three",[4], {"five":5}]`)
	env, set := testEnv(t, fsys), transports.Settings{"path": "in.json"}
	all, _, err := drain(t, openSource(t, env, set, nil), 1<<10)
	must(t, err)
	if len(all) != 5 {
		t.Fatalf("%d elements, want 5", len(all))
	}
	s, given := openSource(t, env, set, nil), 0
	for {
		c := transports.Chunk{Data: make([]byte, 0, 8)}
		if err := s.ReceiveChunk(t.Context(), &c, 0); err != nil {
			break
		}
		again := openSource(t, env, set, map[string]transports.Position{c.Partition: c.Start})
		have, _, err := drain(t, again, 1<<10)
		must(t, err)
		if !slices.Equal(have, all[given:]) {
			t.Errorf("resumed after %d: have %v, want %v", given, have, all[given:])
		}
		given += len(c.Ends)
	}
	if given != len(all) {
		t.Errorf("%d elements given, want %d", given, len(all))
	}
}

// The splitter gives what encoding/json does, and where it gives only valid
// elements without an error, the whole is valid.
func FuzzArray(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[1,{"a":"]"},"\"",null]`, " [ 1 , 2 ] ", `[1,]`, `[[],{}]`, `["a\\"]`, `[1}`, `{}`, "\xEF\xBB\xBF[1]", `[-1.5e3,true]`, `[1][`,
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, text []byte, capacity uint8) {
		a := newArrayReader(bytes.NewReader(text), "in", 0, 0, 1<<20)
		have, err := readAll(t, a, int(capacity)+1)
		plain := bytes.TrimPrefix(text, bom)
		var want []json.RawMessage
		if trimmed := bytes.TrimSpace(plain); json.Unmarshal(plain, &want) == nil && trimmed[0] == '[' {
			if err != nil {
				t.Fatalf("valid array refused: %v", err)
			}
			if len(have) != len(want) {
				t.Fatalf("%d elements, want %d", len(have), len(want))
			}
			for i := range want {
				if have[i].data != string(want[i]) || have[i].ordinal != uint64(i) {
					t.Fatalf("element %d: %q (%d), want %q", i, have[i].data, have[i].ordinal, want[i])
				}
			}
			return
		}
		if err != nil || len(have) == 0 {
			return
		}
		for _, e := range have {
			if !json.Valid([]byte(e.data)) {
				return // refused where it is scanned
			}
		}
		if !json.Valid(plain) {
			t.Fatalf("an invalid array gave only valid elements: %q", text)
		}
	})
}

// The lines of all chunks are the lines of the file, whatever the capacity and
// however the bytes come.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nc"), uint16(1), uint8(4))
	f.Add([]byte("\xEF\xBB\xBFone\ntwo"), uint16(64), uint8(30))
	f.Add([]byte(strings.Repeat("x", 100)+"\r\ny"), uint16(7), uint8(9))
	f.Add([]byte("\r\n\r\r\n"), uint16(2), uint8(1))
	f.Fuzz(func(t *testing.T, text []byte, capacity uint16, limit uint8) {
		maxEvent, chunk := int(limit)+4, int(capacity)+1
		start := plainStart(text)
		want := splitLines(string(text[start:]), "", uint64(start))
		fsys := vfs.NewMem()
		put(t, fsys, "/in", string(text))
		file, err := fsys.Open("/in")
		must(t, err)
		for name, r := range map[string]reader{
			"plain":  &plainLines{f: file, name: "in", off: start, maxEvent: maxEvent},
			"stream": newStreamLines(bytes.NewReader(text), "in", false, 0, maxEvent),
			"live":   newStreamLines(iotest.OneByteReader(bytes.NewReader(text)), "in", true, 0, maxEvent),
		} {
			have, err := readAll(t, r, chunk)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if len(have) != len(want) {
				t.Fatalf("%s: %d lines, want %d", name, len(have), len(want))
			}
			for i, w := range want {
				if err := sameEvent(have[i], w, maxEvent); err != nil {
					t.Fatalf("%s: line %d: %v", name, i, err)
				}
			}
		}
	})
}

func sameEvent(have, want got, maxEvent int) error {
	if have.ordinal != want.ordinal {
		return fmt.Errorf("ordinal %d, want %d", have.ordinal, want.ordinal)
	}
	if have.oversize == 0 {
		if have.data != want.data {
			return fmt.Errorf("have %q, want %q", have.data, want.data)
		}
		return nil
	}
	if len(want.data) <= maxEvent || have.oversize != int64(len(want.data)) || have.data != want.data[:maxEvent] {
		return fmt.Errorf("oversize %d with %q, want %q", have.oversize, have.data, want.data)
	}
	return nil
}
