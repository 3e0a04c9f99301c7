package file

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testEnv(t testing.TB, fsys vfs.FS) transports.Env {
	t.Helper()
	return transports.Env{
		Name: "test", BaseDir: "/d", DataDir: "/data", FS: fsys, MaxEvent: 1 << 10,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now,
	}
}

func put(t testing.TB, fsys vfs.FS, path, text string) {
	t.Helper()
	must(t, fsys.MkdirAll(filepath.Dir(path)))
	f, err := fsys.Create(path)
	must(t, err)
	_, err = f.Write([]byte(text))
	must(t, errors.Join(err, f.Sync(), f.Close(), fsys.SyncDir(filepath.Dir(path))))
}

func add(t testing.TB, fsys vfs.FS, path, text string) {
	t.Helper()
	f, err := fsys.Append(path)
	must(t, err)
	_, err = f.Write([]byte(text))
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

func get(t testing.TB, fsys vfs.FS, path string) string {
	t.Helper()
	f, err := fsys.Open(path)
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	text, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	must(t, err)
	return string(text)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// got is one event as a reader of chunks sees it.
type got struct {
	data      string
	oversize  int64
	partition string
	ordinal   uint64
}

// split takes a chunk apart as its comment says.
func split(c *transports.Chunk) []got {
	if c.Oversize > 0 {
		return []got{{string(c.Data), c.Oversize, c.Partition, c.Ordinal}}
	}
	var events []got
	if c.Ends != nil {
		from := uint32(0)
		for i, to := range c.Ends {
			events = append(events, got{string(c.Data[from:to]), 0, c.Partition, c.Ordinal + uint64(i)})
			from = to
		}
		return events
	}
	return append(events, splitLines(string(c.Data), c.Partition, c.Ordinal)...)
}

// splitLines is the yardstick: events of a text of lines, the plain way.
func splitLines(text, partition string, ordinal uint64) (events []got) {
	off := 0
	for off < len(text) {
		end := off
		for end < len(text) && text[end] != '\n' {
			end++
		}
		line := text[off:end]
		if len(line) > 0 && line[len(line)-1] == '\r' {
			line = line[:len(line)-1]
		}
		if line != "" {
			events = append(events, got{line, 0, partition, ordinal + uint64(off)})
		}
		off = end + 1
	}
	return events
}

func openSource(t testing.TB, env transports.Env, settings transports.Settings, resume map[string]transports.Position) *source {
	t.Helper()
	src, err := New().NewSource(env, settings)
	must(t, err)
	s := src.(*source)
	must(t, s.Open(t.Context(), resume, nil))
	t.Cleanup(func() { must(t, s.Close(context.Background())) })
	return s
}

// drain reads chunks of the given capacity up to the source's end.
func drain(t testing.TB, s *source, capacity int) (events []got, resume map[string]transports.Position, err error) {
	t.Helper()
	resume = map[string]transports.Position{}
	for {
		c := transports.Chunk{Data: make([]byte, 0, capacity)}
		err := s.ReceiveChunk(t.Context(), &c, time.Second)
		if errors.Is(err, io.EOF) {
			return events, resume, nil
		}
		if err != nil {
			return events, resume, err
		}
		events = append(events, split(&c)...)
		if len(c.Data) > 0 {
			resume[c.Partition] = c.End
		}
	}
}

func texts(events []got) []string {
	var all []string
	for _, e := range events {
		all = append(all, e.data)
	}
	return all
}
