package file

import (
	"errors"
	"fmt"
	"io"

	"github.com/weir-project/weir/transports"
)

// arrayReader splits one JSON array into its elements while it streams by. It
// finds where elements end and does not judge them: an element that is no JSON
// is refused where events are scanned, and what stands between elements must be
// a comma and white space.
type arrayReader struct {
	in       feed
	start    int64 // where to go on; in.off is before it while skipping
	buf      []byte
	rest     []byte // of buf, not looked at yet
	state    arrayState
	marked   int    // bytes of a byte order mark at the beginning
	off      int64  // after the last element given
	index    uint64 // elements given
	maxEvent int

	el    element // the element under way
	data  []byte  // its bytes, at most maxEvent
	ready bool    // it is whole and not given yet
	end   int64   // the offset after it
	ends  []int64 // the offsets after the elements of the last chunk
}

type arrayState uint8

const (
	beforeArray  arrayState = iota
	beforeFirst             // an element or the array's end
	beforeNext              // after a comma
	inElement               //
	afterElement            // a comma or the array's end
	afterArray
)

// newArrayReader begins at offset start, after index elements.
func newArrayReader(r io.Reader, name string, start int64, index uint64, maxEvent int) *arrayReader {
	a := &arrayReader{
		in: feed{r: r, name: name}, start: start, off: start, index: index,
		buf: make([]byte, minChunk), maxEvent: maxEvent,
	}
	if index > 0 {
		a.state = afterElement
	}
	return a
}

// at is the offset of the first byte of rest.
func (a *arrayReader) at() int64 { return a.in.off - int64(len(a.rest)) }

func (a *arrayReader) read(c *transports.Chunk, _ bool) (run, error) {
	c.Data, c.Ends, a.ends = roomy(c.Data), c.Ends[:0], a.ends[:0]
	if a.in.off < a.start {
		return run{busy: true}, a.in.skip(a.start, a.buf)
	}
	went := run{from: a.off, fromIndex: a.index}
	err := a.fill(c)
	went.to, went.toIndex, went.ends = a.off, a.index, a.ends
	if len(c.Ends) > 0 {
		if err != nil && a.in.err == nil { // comes again with the next read
			a.in.err, a.rest = err, nil
		}
		return went, nil
	}
	return run{}, err
}

// fill puts whole elements into c until it is full or the stream stops.
func (a *arrayReader) fill(c *transports.Chunk) error {
	for {
		if a.ready && !a.put(c) || c.Oversize > 0 {
			return nil
		}
		if len(a.rest) == 0 {
			n, err := a.in.fill(a.buf)
			a.rest = a.buf[:n]
			if n == 0 {
				return a.stopped(err)
			}
		}
		if a.state != inElement {
			if err := a.between(); err != nil {
				return err
			}
			continue
		}
		n, done := a.el.scan(a.rest)
		room := max(a.maxEvent-len(a.data), 0)
		a.data = append(a.data, a.rest[:min(n, room)]...)
		a.rest = a.rest[n:]
		if done {
			a.ready, a.end, a.state = true, a.at(), afterElement
		}
	}
}

// put moves the whole element to the chunk, if it has its place there.
func (a *arrayReader) put(c *transports.Chunk) bool {
	alone := len(c.Ends) == 0
	large := a.el.size > int64(a.maxEvent)
	if !alone && (large || len(c.Data)+len(a.data) > cap(c.Data)) {
		return false
	}
	if large {
		c.Oversize = a.el.size
	}
	c.Data = append(c.Data, a.data...)
	c.Ends = append(c.Ends, uint32(len(c.Data)))
	a.ready, a.data, a.el = false, a.data[:0], element{}
	a.off = a.end
	a.ends = append(a.ends, a.end)
	a.index++
	return true
}

// between goes through what stands around elements.
func (a *arrayReader) between() error {
	for len(a.rest) > 0 {
		b := a.rest[0]
		if isSpace(b) || a.state == beforeArray && a.skipBOM() {
			a.rest = a.rest[1:]
			continue
		}
		switch {
		case a.state == beforeArray && b == '[' && a.marked%len(bom) == 0:
			a.state = beforeFirst
		case a.state == beforeArray:
			return a.syntax("want a JSON array, have %q; where each line is an event, say format: ndjson", b)
		case a.state == afterArray:
			return a.syntax("there is more after the array's end: %q; where each line is an event, say format: ndjson", b)
		case b == ']' && (a.state == beforeFirst || a.state == afterElement):
			a.state = afterArray
		case a.state == afterElement && b == ',':
			a.state = beforeNext
		case a.state == afterElement:
			return a.syntax("want a comma or ] after an element, have %q", b)
		case b == ']' || b == ',':
			return a.syntax("want an element, have %q", b)
		default:
			a.state = inElement
			return nil
		}
		a.rest = a.rest[1:]
	}
	return nil
}

// skipBOM says whether the next byte goes on with a byte order mark.
func (a *arrayReader) skipBOM() bool {
	if a.marked >= len(bom) || a.at() != int64(a.marked) || a.rest[0] != bom[a.marked] {
		return false
	}
	a.marked++
	return true
}

// stopped is what the end of the stream, or of what is there now, means.
func (a *arrayReader) stopped(err error) error {
	var syntax *arrayError
	switch {
	case errors.Is(err, errIdle):
		return nil
	case errors.As(err, &syntax):
		return err
	case !errors.Is(err, io.EOF):
		return a.in.failed()
	case a.state == afterArray, a.state == beforeArray:
		return io.EOF
	case a.state == inElement:
		return a.syntax("the file ends within an element")
	}
	return a.syntax("the array is not closed at the end of the file")
}

// arrayError is a mistake between the elements of an array.
type arrayError struct {
	name   string
	offset int64
	text   string
}

func (e *arrayError) Error() string {
	return fmt.Sprintf("read %s at byte %d: %s", e.name, e.offset, e.text)
}

func (*arrayError) Unwrap() error { return transports.ErrFatal }

func (a *arrayReader) syntax(format string, args ...any) error {
	return &arrayError{name: a.in.name, offset: a.at(), text: fmt.Sprintf(format, args...)}
}

// element is the scan of one element, which may span many reads.
type element struct {
	size    int64
	depth   int
	scalar  bool // a number or a name: ends before what cannot be part of it
	quoted  bool
	escaped bool
}

// scan takes the bytes of b that belong to the element and says whether it is whole.
func (e *element) scan(b []byte) (n int, done bool) {
	defer func() { e.size += int64(n) }()
	for i := 0; i < len(b); i++ {
		ch := b[i]
		if e.quoted {
			switch {
			case e.escaped:
				e.escaped = false
			case ch == '\\':
				e.escaped = true
			case ch == '"':
				e.quoted = false
				if e.depth == 0 {
					return i + 1, true
				}
			}
			continue
		}
		if e.scalar {
			if ch == ',' || ch == ']' || isSpace(ch) {
				return i, true
			}
			continue
		}
		switch ch {
		case '"':
			e.quoted = true
		case '{', '[':
			e.depth++
		case '}', ']':
			e.depth--
			if e.depth <= 0 {
				return i + 1, true
			}
		default:
			e.scalar = e.depth == 0
		}
	}
	return len(b), false
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\r' || b == '\t' }
