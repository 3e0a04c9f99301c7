package file

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

func pack(t testing.TB, kind, text string) string {
	t.Helper()
	var out bytes.Buffer
	switch kind {
	case "gzip":
		w := gzip.NewWriter(&out)
		_, err := w.Write([]byte(text))
		must(t, errors.Join(err, w.Close()))
	case "zstd":
		w, err := zstd.NewWriter(&out)
		must(t, err)
		_, err = w.Write([]byte(text))
		must(t, errors.Join(err, w.Close()))
	default:
		return text
	}
	return out.String()
}

// manyLines is long enough for several blocks of both packings.
func manyLines(n int) (text string, lines []string) {
	var all strings.Builder
	for i := range n {
		line := fmt.Sprintf(`{"n":%d,"pad":"%x"}`, i, i*2654435761)
		lines = append(lines, line)
		all.WriteString(line + "\n")
	}
	return all.String(), lines
}

func TestPackedFiles(t *testing.T) {
	text, lines := manyLines(20_000)
	array := "[" + strings.Join(lines, ",") + "]"
	half := len(text) / 2
	for _, kind := range []string{"none", "gzip", "zstd"} {
		for name, contents := range map[string]string{
			"lines":   pack(t, kind, text),
			"members": pack(t, kind, text[:half]) + pack(t, kind, text[half:]),
			"array":   pack(t, kind, array),
			"bom":     pack(t, kind, string(bom)+text),
		} {
			for _, said := range []string{"auto", kind} {
				t.Run(kind+"/"+name+"/"+said, func(t *testing.T) {
					fsys := vfs.NewMem()
					put(t, fsys, "/d/in", contents)
					env, set := testEnv(t, fsys), transports.Settings{"path": "in", "compression": said}
					have, _, err := drain(t, openSource(t, env, set, nil), 100_000)
					must(t, err)
					if !slices.Equal(texts(have), lines) {
						t.Fatalf("%d events, want %d", len(have), len(lines))
					}
					// I8: go on after the first chunk.
					s := openSource(t, env, set, nil)
					c := transports.Chunk{Data: make([]byte, 0, 100_000)}
					must(t, s.ReceiveChunk(t.Context(), &c, time.Second))
					rest, _, err := drain(t, openSource(t, env, set, map[string]transports.Position{c.Partition: c.End}), 100_000)
					must(t, err)
					if given := len(split(&c)); !slices.Equal(rest, have[given:]) {
						t.Errorf("resumed: %d events, want %d", len(rest), len(have)-given)
					}
				})
			}
		}
	}
}

func TestCutOffPackedFileGivesWhatIsWhole(t *testing.T) {
	text, lines := manyLines(50_000)
	for _, kind := range []string{"gzip", "zstd"} {
		whole := pack(t, kind, text)
		fsys := vfs.NewMem()
		put(t, fsys, "/d/in.packed", whole[:len(whole)*3/4])
		have, _, err := drain(t, openSource(t, testEnv(t, fsys), transports.Settings{"path": "in.packed"}, nil), 1<<16)
		if !errors.Is(err, transports.ErrFatal) || !strings.Contains(err.Error(), "/d/in.packed") || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("%s: error %v", kind, err)
		}
		if len(have) < len(lines)/4 || !slices.Equal(texts(have), lines[:len(have)]) {
			t.Errorf("%s: %d events before the error", kind, len(have))
		}
	}
}

func TestDamagedPackedFile(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "/d/in", "not packed\n")
	for _, kind := range []string{"gzip", "zstd"} {
		_, _, err := drain(t, openSource(t, testEnv(t, fsys), transports.Settings{"path": "in", "compression": kind}, nil), 100)
		if !errors.Is(err, transports.ErrFatal) || !strings.Contains(err.Error(), "/d/in") {
			t.Errorf("%s: error %v", kind, err)
		}
	}
}

func TestFileShorterThanPosition(t *testing.T) {
	text, _ := manyLines(100)
	for _, kind := range []string{"none", "gzip"} {
		fsys := vfs.NewMem()
		packed := pack(t, kind, text)
		put(t, fsys, "/d/in", packed)
		env, set := testEnv(t, fsys), transports.Settings{"path": "in"}
		_, resume, err := drain(t, openSource(t, env, set, nil), 1<<16)
		must(t, err)
		for partition, pos := range resume {
			at, err := parsePosition(pos)
			must(t, err)
			at.offset += 1000
			resume[partition] = at.append(nil)
		}
		_, _, err = drain(t, openSource(t, env, set, resume), 1<<16)
		want := fmt.Sprintf("want %d", len(text)+1000)
		if !errors.Is(err, transports.ErrFatal) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want ErrFatal with %q", kind, err, want)
		}
	}
}

func stdinSource(t *testing.T, settings transports.Settings) (*source, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	tr := New()
	tr.stdin = r
	src, err := tr.NewSource(testEnv(t, vfs.NewMem()), settings)
	must(t, err)
	s := src.(*source)
	must(t, s.Open(t.Context(), nil, nil))
	t.Cleanup(func() { must(t, s.Close(t.Context())) })
	return s, w
}

func TestStandardInput(t *testing.T) {
	for _, c := range []struct{ kind, text, want string }{
		{"none", "one\ntwo\nlast", "one two last"},
		{"none", `[1, "two"]`, `1 "two"`},
		{"gzip", "one\ntwo\n", "one two"},
		{"zstd", `[1,2]`, "1 2"},
	} {
		s, w := stdinSource(t, transports.Settings{"path": "-"})
		if !s.Capabilities().Lossy {
			t.Error("standard input does not say that it is lossy")
		}
		_, err := w.WriteString(pack(t, c.kind, c.text))
		must(t, errors.Join(err, w.Close()))
		have, _, err := drain(t, s, 100)
		must(t, err)
		if all := strings.Join(texts(have), " "); all != c.want {
			t.Errorf("%s %q: have %q, want %q", c.kind, c.text, all, c.want)
		}
	}
}

func TestStandardInputGivesLinesAsTheyCome(t *testing.T) {
	s, w := stdinSource(t, transports.Settings{"path": "-"})
	for _, step := range []struct{ write, want string }{
		{"one\ntw", "one\n"},
		{"", ""},
		{"o\n", "two\n"},
	} {
		_, err := w.WriteString(step.write)
		must(t, err)
		c := transports.Chunk{Data: make([]byte, 0, 100)}
		must(t, s.ReceiveChunk(t.Context(), &c, 10*time.Millisecond))
		if string(c.Data) != step.want {
			t.Errorf("after %q: have %q, want %q", step.write, c.Data, step.want)
		}
	}
}

func TestStandardInputUnblocksOnClose(t *testing.T) {
	s, _ := stdinSource(t, transports.Settings{"path": "-"})
	done := make(chan error)
	go func() {
		c := transports.Chunk{}
		done <- s.ReceiveChunk(t.Context(), &c, time.Hour)
	}()
	must(t, s.Close(t.Context()))
	if err := <-done; !errors.Is(err, transports.ErrClosed) {
		t.Errorf("receive: %v, want ErrClosed", err)
	}
}

// I8, for single deliveries: Position is that of the event, Next of the one after.
func TestReceiveSplits(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	for name, text := range map[string]string{
		"lines": "1\r\n\n" + long + "\n2\n3",
		"array": ` [1 ,"` + long + `",2, 3] `,
	} {
		fsys := vfs.NewMem()
		put(t, fsys, "/d/in", text)
		env, set := testEnv(t, fsys), transports.Settings{"path": "in"}
		all := func(resume map[string]transports.Position) (have []transports.Delivery) {
			s := openSource(t, env, set, resume)
			for {
				ds, err := s.Receive(t.Context(), 1, time.Second)
				if err != nil {
					return have
				}
				have = append(have, ds...)
			}
		}
		have := all(nil)
		if len(have) != 4 || string(have[0].Data) != "1" || len(have[1].Data) != env.MaxEvent+1 || string(have[3].Data) != "3" {
			t.Fatalf("%s: %d deliveries: %.200v", name, len(have), have)
		}
		for i, d := range have {
			for rest, pos := range map[int]transports.Position{i: d.Position, i + 1: d.Next} {
				again := all(map[string]transports.Position{d.Partition: pos})
				if len(again) != len(have)-rest || len(again) > 0 && again[0].ID != have[rest].ID {
					t.Errorf("%s: resumed at %d: %d deliveries, want %d", name, rest, len(again), len(have)-rest)
				}
			}
		}
	}
}

func TestRotateEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		s := openSink(t, testEnv(t, fsys), transports.Settings{"path": "out/a.ndjson", "rotate_every": time.Hour}, transports.Mark{})
		must(t, s.Publish(stage(t, s, "one")))
		time.Sleep(59 * time.Minute) // virtual
		must(t, s.Publish(stage(t, s, "two")))
		time.Sleep(time.Minute)
		m := stage(t, s, "three")
		must(t, s.Publish(m))
		m2 := stage(t, s, "four")
		if m.File != 1 || m2.File != 2 || m2.Entries != 4 || m2.Length != 5 {
			t.Errorf("marks %+v, %+v", m, m2)
		}
		must(t, s.Close(t.Context()))
		names, err := fsys.List("/d/out")
		must(t, err)
		if want := []string{"a-20000101T010000Z-000001.ndjson", "a.ndjson"}; !slices.Equal(names, want) {
			t.Errorf("names %v, want %v", names, want)
		}
		if have := get(t, fsys, "/d/out/"+names[0]); have != "one\ntwo\nthree\n" {
			t.Errorf("rotated file holds %q", have)
		}
	})
}
