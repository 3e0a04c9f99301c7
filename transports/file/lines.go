package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// reader gives the events of one file in order.
type reader interface {
	// read fills c.Data, c.Ends and c.Oversize and tells where it went.
	// whole says that no more will be written, so that a last line without its
	// line break counts. An empty c.Data says that there is nothing now, io.EOF
	// that all is given.
	read(c *transports.Chunk, whole bool) (run, error)
}

// run says where the events of a chunk stand.
type run struct {
	from, to           int64  // offsets in the unpacked stream: first event, event after the last
	fromIndex, toIndex uint64 // the same counted in elements, for an array
	// ends are the offsets after each element of an array, until the next read.
	ends []int64
	busy bool // nothing was given, but the reader is getting on
}

// plainLines reads lines of an unpacked file straight into chunks. The
// beginning of a line that did not fit is read again with the next chunk, so
// that nothing is copied or kept.
type plainLines struct {
	f        vfs.File
	name     string
	off      int64
	maxEvent int
	// scanned is how far the oversized line at off was looked at, 0 for none.
	scanned int64
	scratch []byte
}

const (
	minChunk   = 64 << 10
	scanBuffer = 64 << 10
)

// piece is how much is read at once. A longer system call would take so long that Go's
// scheduler gives the processor away in the middle of it, and the bytes would then be
// scanned on another core than the one whose cache they are in.
const piece = 32 << 10

// readPieces is f.ReadAt in pieces.
func readPieces(f io.ReaderAt, buf []byte, off int64) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = f.ReadAt(buf[n:min(n+piece, len(buf))], off+int64(n))
		n += m
	}
	return n, err
}

func (p *plainLines) read(c *transports.Chunk, whole bool) (run, error) {
	if p.scanned > p.off {
		return p.oversize(c, whole)
	}
	c.Data = roomy(c.Data)
	for {
		buf := c.Data[:cap(c.Data)]
		n, err := readPieces(p.f, buf, p.off)
		if err != nil && !errors.Is(err, io.EOF) {
			return run{}, p.failed(p.off+int64(n), err)
		}
		if n == 0 {
			return run{}, io.EOF
		}
		cut := bytes.LastIndexByte(buf[:n], '\n') + 1
		full := n == len(buf)
		switch {
		case !full && whole:
			cut = n
		case cut > 0:
		case !full:
			return run{}, nil // a line that is still being written
		case len(buf) < p.maxEvent+2:
			c.Data = make([]byte, 0, min(2*len(buf), p.maxEvent+2))
			continue
		default:
			p.scanned = p.off + int64(n)
			return p.oversize(c, whole)
		}
		from := p.off
		p.off += int64(cut)
		c.Data = buf[:cut]
		return run{from: from, to: p.off}, nil
	}
}

// oversize looks for the end of the line at p.off, which is longer than any
// event may be, and gives its beginning.
func (p *plainLines) oversize(c *transports.Chunk, whole bool) (run, error) {
	if p.scratch == nil {
		p.scratch = make([]byte, scanBuffer)
	}
	end, next := int64(-1), int64(0)
	for end < 0 {
		n, err := p.f.ReadAt(p.scratch, p.scanned)
		if err != nil && !errors.Is(err, io.EOF) {
			return run{}, p.failed(p.scanned, err)
		}
		at := bytes.IndexByte(p.scratch[:n], '\n')
		switch {
		case at >= 0:
			end = p.scanned + int64(at)
			next = end + 1
		case n == 0 && whole:
			end, next = p.scanned, p.scanned
		case n == 0:
			return run{}, nil
		default:
			p.scanned += int64(n)
		}
	}
	size := end - p.off
	var last [1]byte
	if _, err := p.f.ReadAt(last[:], end-1); err != nil && !errors.Is(err, io.EOF) {
		return run{}, p.failed(end-1, err)
	}
	if last[0] == '\r' {
		size--
	}
	c.Data = grown(c.Data, p.maxEvent)[:p.maxEvent]
	if _, err := p.f.ReadAt(c.Data, p.off); err != nil && !errors.Is(err, io.EOF) {
		return run{}, p.failed(p.off, err)
	}
	c.Oversize = size
	from := p.off
	p.off, p.scanned = next, 0
	return run{from: from, to: next}, nil
}

func (p *plainLines) failed(at int64, err error) error {
	return fmt.Errorf("read %s at byte %d: %w: %w", p.name, at, err, transports.ErrFatal)
}

// roomy gives an empty chunk some room where the caller brought none.
func roomy(data []byte) []byte {
	if cap(data) == 0 {
		return make([]byte, 0, minChunk)
	}
	return data[:0]
}

// grown returns data, empty, with room for n bytes.
func grown(data []byte, n int) []byte {
	if cap(data) >= n {
		return data[:0]
	}
	return make([]byte, 0, n)
}
