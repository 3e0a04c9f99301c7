package file

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

var (
	gzipMagic = []byte{0x1F, 0x8B}
	zstdMagic = []byte{0x28, 0xB5, 0x2F, 0xFD}
)

// packing says how a stream that begins with head is packed.
func packing(head []byte) string {
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return "gzip"
	case bytes.HasPrefix(head, zstdMagic):
		return "zstd"
	}
	return "none"
}

// unpack returns the unpacked stream. It reads as the caller does, without
// goroutines, and takes members or frames that follow each other as one stream.
func unpack(kind string, r io.Reader) (io.Reader, error) {
	switch kind {
	case "gzip":
		return gzip.NewReader(r)
	case "zstd":
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	}
	return r, nil
}

// chooseReader gives o the reader that suits the file and its position.
func (s *source) chooseReader(o *openFile, f vfs.File, head []byte, at place, size int64) error {
	packed := s.cfg.compression
	if packed == "auto" {
		packed = packing(head)
	}
	o.form = at.form
	if packed == "none" && o.form == 0 {
		form, err := s.plainForm(f)
		if err != nil {
			return err
		}
		o.form = form
	}
	if err := s.checkForm(o.form); err != nil {
		return err
	}
	if packed == "none" && at.offset > size {
		return fmt.Errorf("it is shorter than the position of the last run: have %d bytes, want %d", size, at.offset)
	}
	raw := io.NewSectionReader(f, 0, 1<<62)
	switch {
	case packed == "none" && o.form == formLines:
		off := at.offset
		if off == 0 {
			off = plainStart(head)
		}
		o.read = &plainLines{f: f, name: o.path, off: off, maxEvent: s.env.MaxEvent}
	case packed == "none":
		a := newArrayReader(io.NewSectionReader(f, at.offset, 1<<62), o.path, at.offset, at.index, s.env.MaxEvent)
		a.in.off = at.offset
		o.read = a
	default:
		o.read = &lazyReader{
			raw: raw, packed: packed, name: o.path, format: s.cfg.format, at: at, maxEvent: s.env.MaxEvent,
			chosen: func(form byte) { o.form = form },
		}
	}
	return nil
}

// checkForm refuses a position that was made under another format.
func (s *source) checkForm(form byte) error {
	if form == formArray && s.cfg.format == "ndjson" || form == formLines && s.cfg.format == "array" {
		return fmt.Errorf("the position of the last run is of another format than %s", s.cfg.format)
	}
	return nil
}

// plainForm looks at the first character of an unpacked file.
func (s *source) plainForm(f vfs.File) (byte, error) {
	switch {
	case s.cfg.format == "array":
		return formArray, nil
	case s.cfg.format == "ndjson", s.cfg.follow:
		return formLines, nil
	}
	return firstForm(bufio.NewReader(io.NewSectionReader(f, 0, 1<<62)))
}

// firstForm consumes white space and a byte order mark and tells the form by
// what comes then.
func firstForm(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return formLines, nil
		case err != nil:
			return 0, err
		case b == '[':
			return formArray, nil
		case !isSpace(b) && bytes.IndexByte(bom, b) < 0:
			return formLines, nil
		}
	}
}

// lazyReader is for streams that must be looked into before it is clear how
// they are packed and what they hold. Looking may have to wait.
type lazyReader struct {
	raw      io.Reader
	live     *pollFile // nil for files
	packed   string    // auto, none, gzip, zstd
	name     string
	format   string
	at       place
	maxEvent int
	chosen   func(form byte)

	peek *bufio.Reader // the raw stream, then the unpacked one
	open bool          // unpacked
	real reader
}

func (l *lazyReader) read(c *transports.Chunk, whole bool) (run, error) {
	if l.real == nil {
		err := l.choose()
		if errors.Is(err, errIdle) {
			return run{}, nil
		}
		if err != nil {
			return run{}, fmt.Errorf("read %s: %w: %w", l.name, err, transports.ErrFatal)
		}
	}
	return l.real.read(c, whole)
}

// choose may return errIdle and is then called again.
func (l *lazyReader) choose() error {
	if l.peek == nil {
		l.peek = bufio.NewReaderSize(l.raw, minChunk)
	}
	if l.packed == "auto" {
		head, err := l.peek.Peek(len(zstdMagic))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		l.packed = packing(head)
	}
	if !l.open {
		if l.packed != "none" && l.live != nil {
			l.live.patient = true // an unpacker does not survive errIdle
		}
		r, err := unpack(l.packed, l.peek)
		if err != nil {
			return fmt.Errorf("unpack %s: %w", l.packed, err)
		}
		if l.packed != "none" {
			l.peek = bufio.NewReaderSize(r, minChunk)
		}
		l.open = true
	}
	form := l.at.form
	switch {
	case form != 0:
	case l.format == "array":
		form = formArray
	case l.format == "ndjson":
		form = formLines
	default:
		var err error
		if form, err = l.peekForm(); err != nil {
			return err
		}
	}
	l.chosen(form)
	if form == formArray {
		l.real = newArrayReader(l.peek, l.name, l.at.offset, l.at.index, l.maxEvent)
		return nil
	}
	live := l.live != nil && !l.live.patient
	l.real = newStreamLines(l.peek, l.name, live, l.at.offset, l.maxEvent)
	return nil
}

// peekForm looks at the first character without taking it. A stream that
// begins with more white space than the buffer holds counts as lines.
func (l *lazyReader) peekForm() (byte, error) {
	for n := 1; n <= l.peek.Size(); n++ {
		head, err := l.peek.Peek(n)
		if len(head) < n {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return formLines, nil // what is missing shows when it is read
			}
			return 0, err
		}
		if b := head[n-1]; !isSpace(b) && bytes.IndexByte(bom, b) < 0 {
			if b == '[' {
				return formArray, nil
			}
			return formLines, nil
		}
	}
	return formLines, nil
}
