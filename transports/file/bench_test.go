package file

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// benchFile is a file of 352-byte events in the page cache.
func benchFile(b testing.TB) (path string, size int64) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "in.ndjson")
	line := []byte(`{"id":"` + strings.Repeat("x", 342) + "\"}\n")
	must(b, os.WriteFile(path, bytes.Repeat(line, 200_000), 0o600))
	return path, int64(len(line)) * 200_000
}

// BenchmarkReceiveChunk reads a file from the page cache in chunks of 256 KiB;
// one op is one chunk. The yardstick is pread alone.
func BenchmarkReceiveChunk(b *testing.B) {
	path, size := benchFile(b)
	b.Run("source", func(b *testing.B) {
		env := transports.Env{Name: "bench", FS: vfs.OS{}, MaxEvent: 1 << 20}
		src, err := New().NewSource(env, transports.Settings{"path": path})
		must(b, err)
		s := src.(*source)
		must(b, s.Open(b.Context(), nil, nil))
		c := transports.Chunk{Data: make([]byte, 0, 256<<10)}
		total := int64(0)
		b.ReportAllocs()
		for b.Loop() {
			must(b, s.ReceiveChunk(b.Context(), &c, 0))
			if lines := s.files[0].read.(*plainLines); lines.off == size {
				lines.off = 0 // once more from the beginning
			}
			total += int64(len(c.Data))
		}
		b.ReportMetric(float64(total)/b.Elapsed().Seconds()/1e9, "GB/s")
		must(b, s.Close(b.Context()))
	})
	b.Run("pread", func(b *testing.B) {
		f, err := os.Open(path)
		must(b, err)
		defer f.Close()
		buf := make([]byte, 256<<10)
		off, total := int64(0), int64(0)
		for b.Loop() {
			n, err := f.ReadAt(buf, off)
			off += int64(n)
			total += int64(n)
			if err != nil {
				off = 0
			}
		}
		b.ReportMetric(float64(total)/b.Elapsed().Seconds()/1e9, "GB/s")
	})
}

// BenchmarkFrame is the usual case: an entry without line breaks.
func BenchmarkFrame(b *testing.B) {
	e := transports.Entry{Data: []byte(`{"id":"` + strings.Repeat("x", 342) + `"}`)}
	dst := make([]byte, 0, 1024)
	b.SetBytes(int64(len(e.Data)))
	b.ReportAllocs()
	for b.Loop() {
		dst = frame(dst[:0], e.Data)
	}
}

func BenchmarkArray(b *testing.B) {
	var text bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&text, `,{"n":%d,"pad":"%s"}`, i, strings.Repeat("x", 300))
	}
	whole := append([]byte{'['}, append(text.Bytes()[1:], ']')...)
	b.SetBytes(int64(len(whole)))
	b.ReportAllocs()
	c := transports.Chunk{Data: make([]byte, 0, 256<<10)}
	for b.Loop() {
		a := newArrayReader(bytes.NewReader(whole), "in", 0, 0, 1<<20)
		for {
			if _, err := a.read(&c, true); err != nil {
				break
			}
		}
	}
}
