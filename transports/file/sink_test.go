package file

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

func openSink(t testing.TB, env transports.Env, settings transports.Settings, m transports.Mark) *sink {
	t.Helper()
	s, err := restoredSink(t.Context(), New(), env, settings, m)
	must(t, err)
	return s
}

func restoredSink(ctx context.Context, tr *Transport, env transports.Env, settings transports.Settings, m transports.Mark) (*sink, error) {
	made, err := tr.NewSink(env, settings)
	if err != nil {
		return nil, err
	}
	s := made.(*sink)
	if err := s.Open(ctx); err != nil {
		return nil, err
	}
	return s, s.Restore(m)
}

func stage(t testing.TB, s *sink, lines ...string) transports.Mark {
	t.Helper()
	var framed []byte
	for _, l := range lines {
		framed = s.Frame(framed, &transports.Entry{Data: []byte(l)})
	}
	must(t, s.Append(framed, len(lines)))
	m, err := s.Sync()
	must(t, err)
	return m
}

func TestFrameKeepsAnEntryOnOneLine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"a":1}`, "{\"a\":1}\n"},
		{"{\n\t\"a\":\r\n1}\n", "{ \t\"a\":  1} \n"},
		{"", "\n"},
		{"\n\n", "  \n"},
	} {
		if got := string(frame([]byte("x"), []byte(c.in))); got != "x"+c.want {
			t.Errorf("frame(%q) = %q, want %q", c.in, got, "x"+c.want)
		}
	}
}

func TestSinkAppendsAndResumes(t *testing.T) {
	fsys := vfs.NewMem()
	env, set := testEnv(t, fsys), transports.Settings{"path": "out/a.ndjson"}
	s := openSink(t, env, set, transports.Mark{})
	m := stage(t, s, "one", "two")
	if want := (transports.Mark{File: 1, Length: 8, Entries: 2}); m != want {
		t.Fatalf("mark %+v, want %+v", m, want)
	}
	must(t, s.Publish(m))
	stage(t, s, "never committed")
	must(t, s.Close(t.Context()))
	must(t, s.Close(t.Context()))

	s = openSink(t, env, set, m)
	m = stage(t, s, "three")
	if m.Entries != 3 {
		t.Errorf("entries %d, want 3", m.Entries)
	}
	must(t, s.Close(t.Context()))
	if have := get(t, fsys, "/d/out/a.ndjson"); have != "one\ntwo\nthree\n" {
		t.Errorf("file holds %q", have)
	}
}

func TestSinkKeepsWhatWasThereBefore(t *testing.T) {
	for name, before := range map[string]string{"lines": "old\n", "no line end": "old", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			fsys := vfs.NewMem()
			put(t, fsys, "/d/a.ndjson", before)
			env, set := testEnv(t, fsys), transports.Settings{"path": "a.ndjson"}
			want := strings.TrimSuffix(before, "\n")
			if want != "" {
				want += "\n"
			}
			// Two crashes before anything is committed, then a commit, then a
			// data folder that is lost.
			for range 2 {
				s := openSink(t, env, set, transports.Mark{})
				stage(t, s, "uncommitted")
				must(t, s.Close(t.Context()))
			}
			s := openSink(t, env, set, transports.Mark{})
			if have := get(t, fsys, "/d/a.ndjson"); have != before {
				t.Fatalf("after restore the file holds %q, want %q", have, before)
			}
			must(t, s.Publish(stage(t, s, "new")))
			must(t, s.Close(t.Context()))
			must(t, fsys.Remove(statePath(env, s.cfg)))
			s = openSink(t, env, set, transports.Mark{})
			stage(t, s, "newer")
			must(t, s.Close(t.Context()))
			if have := get(t, fsys, "/d/a.ndjson"); have != want+"new\nnewer\n" {
				t.Errorf("the file holds %q, want %q", have, want+"new\nnewer\n")
			}
		})
	}
}

func TestSinkLostCommitLogCutsNothing(t *testing.T) {
	fsys := vfs.NewMem()
	env, set := testEnv(t, fsys), transports.Settings{"path": "a.ndjson"}
	s := openSink(t, env, set, transports.Mark{})
	must(t, s.Publish(stage(t, s, "one")))
	must(t, s.Close(t.Context()))
	s = openSink(t, env, set, transports.Mark{})
	stage(t, s, "two")
	must(t, s.Close(t.Context()))
	if have := get(t, fsys, "/d/a.ndjson"); have != "one\ntwo\n" {
		t.Errorf("the file holds %q", have)
	}
}

func TestSinkShorterThanCommittedFails(t *testing.T) {
	fsys := vfs.NewMem()
	env, set := testEnv(t, fsys), transports.Settings{"path": "a.ndjson"}
	s := openSink(t, env, set, transports.Mark{})
	m := stage(t, s, "one")
	must(t, s.Publish(m))
	must(t, s.Close(t.Context()))
	put(t, fsys, "/d/a.ndjson", "on")
	_, err := restoredSink(t.Context(), New(), env, set, m)
	if !errors.Is(err, transports.ErrFatal) {
		t.Fatalf("error %v, want ErrFatal", err)
	}
	for _, part := range []string{"/d/a.ndjson", "have 2 bytes", "want 4"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestSinkRefusesSecondWriter(t *testing.T) {
	env, set := testEnv(t, vfs.NewMem()), transports.Settings{"path": "a.ndjson"}
	tr := New()
	s, err := restoredSink(t.Context(), tr, env, set, transports.Mark{})
	must(t, err)
	if _, err := restoredSink(t.Context(), tr, env, set, transports.Mark{}); !errors.Is(err, transports.ErrFatal) {
		t.Errorf("second sink: %v, want ErrFatal", err)
	}
	must(t, s.Close(t.Context()))
	s, err = restoredSink(t.Context(), tr, env, set, transports.Mark{})
	must(t, err)
	must(t, s.Close(t.Context()))
}

func TestSinkWriteWithoutCommitLog(t *testing.T) {
	fsys := vfs.NewMem()
	made, err := New().NewSink(testEnv(t, fsys), transports.Settings{"path": "a.ndjson"})
	must(t, err)
	must(t, made.Open(t.Context()))
	results := make([]transports.Result, 2)
	made.Write(t.Context(), []transports.Entry{{Data: []byte("a")}, {Data: []byte("b")}}, results)
	for i, r := range results {
		if r.Class != transports.OK || r.Err != nil {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	must(t, made.Close(t.Context()))
	if have := get(t, fsys, "/d/a.ndjson"); have != "a\nb\n" {
		t.Errorf("the file holds %q", have)
	}
}

func TestStreamSinkWritesToStandardOutput(t *testing.T) {
	tr := New()
	var out bytes.Buffer
	tr.stdout = &out
	made, err := tr.NewSink(testEnv(t, vfs.NewMem()), transports.Settings{"path": "-"})
	must(t, err)
	if _, staged := made.(transports.Staged); staged {
		t.Error("standard output says that it takes part in the commit")
	}
	must(t, made.Open(t.Context()))
	results := make([]transports.Result, 1)
	made.Write(t.Context(), []transports.Entry{{Data: []byte("a")}}, results)
	if out.String() != "a\n" || results[0].Class != transports.OK {
		t.Errorf("wrote %q, result %+v", out.String(), results[0])
	}
	must(t, made.Close(t.Context()))
}
