package segment

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
)

func BenchmarkAppendSync(b *testing.B) {
	for _, size := range []int{0, 4 << 10, 256 << 10} {
		b.Run(fmt.Sprint("group=", size), func(b *testing.B) {
			l := open(b, Config{FS: vfs.OS{}, Dir: filepath.Join(b.TempDir(), "log")})
			framed := Frame(nil, make([]byte, size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				must(b, l.Append(framed, 1))
				must(b, l.Sync())
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, Config{FS: vfs.OS{}, Dir: filepath.Join(b.TempDir(), "log")})
	var framed []byte
	for range 64 {
		framed = Frame(framed, make([]byte, 352))
	}
	b.SetBytes(int64(len(framed)))
	b.ReportAllocs()
	for b.Loop() {
		must(b, l.Append(framed, 64))
	}
}

func BenchmarkReadGroups(b *testing.B) {
	l := open(b, Config{FS: vfs.OS{}, Dir: filepath.Join(b.TempDir(), "log")})
	var framed []byte
	for range 64 {
		framed = Frame(framed, make([]byte, 352))
	}
	for range 2000 {
		must(b, l.Append(framed, 64))
	}
	l.Publish(l.End())
	var dst []byte
	r, err := l.Reader(0)
	must(b, err)
	b.SetBytes(int64(len(framed)))
	b.ReportAllocs()
	for b.Loop() {
		dst, _, _, err = r.ReadGroups(dst[:0], 1)
		if errors.Is(err, ErrCaughtUp) {
			must(b, r.Close())
			r, err = l.Reader(0)
		}
		must(b, err)
	}
	must(b, r.Close())
}
