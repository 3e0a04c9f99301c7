package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/weir-project/weir/transports"
)

// errIdle is what a live stream's Read returns when nothing came in time.
var errIdle = errors.New("nothing to read yet")

// errShorter is the end of a stream before the position it was to go on at.
var errShorter = errors.New("it ends before the position of the last run")

// skipStep bounds the bytes that one read skips on the way to a position.
const skipStep = 8 << 20

// maxEmptyReads bounds the reads in a row that bring neither bytes nor an error.
const maxEmptyReads = 100

// feed is a stream that remembers its first error and where it is.
type feed struct {
	r    io.Reader
	name string
	off  int64 // of the next byte
	err  error
	back []byte // read and given back
}

// unread gives bytes back; they stay the feed's until they are read again.
func (s *feed) unread(rest []byte) {
	s.back = rest
	s.off -= int64(len(rest))
}

// fill reads once. It returns errIdle, which does not stick, or the error that does.
func (s *feed) fill(p []byte) (int, error) {
	if len(s.back) > 0 {
		n := copy(p, s.back)
		s.back = s.back[n:]
		s.off += int64(n)
		return n, nil
	}
	if s.err != nil {
		return 0, s.err
	}
	for range maxEmptyReads {
		n, err := s.r.Read(p)
		s.off += int64(n)
		if errors.Is(err, errIdle) {
			return n, errIdle
		}
		s.err = err
		if n > 0 || err != nil {
			return n, err
		}
	}
	s.err = io.ErrNoProgress
	return 0, s.err
}

// skip goes towards the offset to, at most skipStep bytes, through buf.
func (s *feed) skip(to int64, buf []byte) error {
	for left := int64(skipStep); left > 0 && s.off < to; {
		n, err := s.fill(buf[:min(int64(len(buf)), to-s.off)])
		left -= int64(n)
		if s.off == to {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: have %d bytes, want %d: %w: %w", s.name, s.off, to, errShorter, transports.ErrFatal)
		}
		if err != nil {
			return s.failed()
		}
	}
	return nil
}

func (s *feed) failed() error {
	err := s.err
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the packed stream is cut off: %w", err)
	}
	return fmt.Errorf("read %s at byte %d: %w: %w", s.name, s.off, err, transports.ErrFatal)
}

// streamLines reads lines of a stream that cannot be read twice: an unpacked
// file or standard input. The beginning of a line that did not fit is kept.
type streamLines struct {
	in       feed
	live     bool  // give lines as soon as they are there
	start    int64 // where to go on; in.off is before it while skipping
	off      int64 // of the line that carry begins
	carry    []byte
	maxEvent int
	// overSize is the length so far of the oversized line that carry begins, 0
	// for none; overLast is its last byte.
	overSize int64
	overLast byte
	scratch  []byte
}

func newStreamLines(r io.Reader, name string, live bool, start int64, maxEvent int) *streamLines {
	return &streamLines{in: feed{r: r, name: name}, live: live, start: start, off: start, maxEvent: maxEvent}
}

func (s *streamLines) read(c *transports.Chunk, _ bool) (run, error) {
	c.Data = roomy(c.Data)
	if s.in.off < s.start {
		err := s.in.skip(s.start, c.Data[:cap(c.Data)])
		return run{busy: true}, err
	}
	if s.overSize > 0 {
		return s.oversize(c)
	}
	if room := len(s.carry) + minChunk; cap(c.Data) < room && cap(c.Data) < s.maxEvent+2 {
		c.Data = make([]byte, 0, min(room, max(s.maxEvent+2, cap(c.Data))))
	}
	buf := c.Data[:cap(c.Data)]
	n := copy(buf, s.carry)
	for {
		var err error
		n, err = s.collect(buf, n)
		if s.off == 0 && bytes.HasPrefix(buf[:n], bom) {
			n = copy(buf, buf[len(bom):n])
			s.off = int64(len(bom))
			if err == nil && bytes.IndexByte(buf[:n], '\n') < 0 {
				continue // there is room again
			}
		}
		cut := bytes.LastIndexByte(buf[:n], '\n') + 1
		switch {
		case errors.Is(err, io.EOF):
			if n == 0 {
				return run{}, io.EOF
			}
			cut = n
		case cut > 0:
		case errors.Is(err, errIdle):
			s.carry = append(s.carry[:0], buf[:n]...)
			return run{}, nil
		case err != nil:
			return run{}, s.in.failed()
		case len(buf) < s.maxEvent+2:
			larger := make([]byte, min(2*len(buf), s.maxEvent+2))
			copy(larger, buf[:n])
			buf = larger
			continue
		default:
			s.carry = append(s.carry[:0], buf[:s.maxEvent]...)
			s.overSize, s.overLast = int64(n), buf[n-1]
			return s.oversize(c)
		}
		s.carry = append(s.carry[:0], buf[cut:n]...)
		from := s.off
		s.off += int64(cut)
		c.Data = buf[:cut]
		return run{from: from, to: s.off}, nil
	}
}

// collect fills buf from n on: up to the first read that brings a line's end
// where the stream is live, else until it is full.
func (s *streamLines) collect(buf []byte, n int) (int, error) {
	for n < len(buf) {
		m, err := s.in.fill(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
		if s.live && bytes.IndexByte(buf[n-m:n], '\n') >= 0 {
			break
		}
	}
	return n, nil
}

// oversize reads up to the end of a line that is longer than any event may be.
func (s *streamLines) oversize(c *transports.Chunk) (run, error) {
	if s.scratch == nil {
		s.scratch = make([]byte, scanBuffer)
	}
	var rest []byte
	for ended := false; !ended; {
		n, err := s.in.fill(s.scratch)
		at := bytes.IndexByte(s.scratch[:n], '\n')
		grew := n
		if at >= 0 {
			grew, rest, ended = at, s.scratch[at+1:n], true
		}
		if grew > 0 {
			s.overSize += int64(grew)
			s.overLast = s.scratch[grew-1]
		}
		switch {
		case ended:
		case errors.Is(err, errIdle):
			c.Data = c.Data[:0]
			return run{}, nil
		case errors.Is(err, io.EOF):
			ended = true
		case err != nil:
			return run{}, s.in.failed()
		}
	}
	from := s.off
	s.in.unread(rest)
	s.off = s.in.off
	c.Oversize = s.overSize
	if s.overLast == '\r' {
		c.Oversize--
	}
	c.Data = append(grown(c.Data, s.maxEvent), s.carry[:s.maxEvent]...)
	s.carry = s.carry[:0]
	s.overSize = 0
	return run{from: from, to: s.off}, nil
}
