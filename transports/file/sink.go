package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// sink appends entries to a regular file, one a line. It has
// transports.Staged. After a failed write or fsync every later call fails (I4):
// what the file then holds is known only after the next Restore.
type sink struct {
	env   transports.Env
	cfg   sinkConfig
	owner *Transport

	mu      sync.Mutex
	f       vfs.File
	st      *state
	length  int64           // of the file, as this sink wrote it
	synced  transports.Mark // the newest mark
	entries uint64
	dirty   bool   // appended since synced
	newline bool   // the file ends within a line that is not ours
	claimed bool   // in owner.writing
	closed  bool   //
	broken  error  // the failure after which nothing more is written
	scratch []byte // Write's frames
}

var (
	_ transports.Sink   = (*sink)(nil)
	_ transports.Staged = (*sink)(nil)
)

// Limits implements transports.Sink: a file takes all, and fails as a whole.
func (*sink) Limits() transports.Limits { return transports.Limits{KeyedFailure: true} }

// Open implements transports.Sink. The file itself is opened by Restore.
func (s *sink) Open(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.owner.claim(s.cfg.path, s.env.Name); err != nil {
		return err
	}
	s.claimed = true
	return makeFolder(s.env.FS, filepath.Dir(s.cfg.path))
}

// Frame implements transports.Staged: the data and a newline. A line break
// within the data becomes a space, so that an entry stays a line; JSON has line
// breaks between its parts only, never inside a string.
func (*sink) Frame(dst []byte, e *transports.Entry) []byte { return frame(dst, e.Data) }

func frame(dst, data []byte) []byte {
	from := len(dst)
	dst = append(dst, data...)
	for _, breaking := range [2]byte{'\n', '\r'} {
		line := dst[from:]
		for at := bytes.IndexByte(line, breaking); at >= 0; at = bytes.IndexByte(line, breaking) {
			line[at] = ' '
			line = line[at+1:]
		}
	}
	return append(dst, '\n')
}

// Append implements transports.Staged.
func (s *sink) Append(framed []byte, count int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.append(framed, count)
}

func (s *sink) append(framed []byte, count int) error {
	if err := s.usable(); err != nil {
		return err
	}
	if len(framed) == 0 {
		return nil
	}
	if s.newline {
		if err := s.write([]byte{'\n'}); err != nil {
			return err
		}
		s.newline = false
	}
	if err := s.write(framed); err != nil {
		return err
	}
	s.entries += uint64(count)
	return nil
}

func (s *sink) write(p []byte) error {
	s.dirty = true
	n, err := s.f.Write(p)
	s.length += int64(n)
	if err != nil {
		return s.fail("write", err)
	}
	return nil
}

// Sync implements transports.Staged.
func (s *sink) Sync() (transports.Mark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sync()
}

func (s *sink) sync() (transports.Mark, error) {
	if err := s.usable(); err != nil {
		return transports.Mark{}, err
	}
	if !s.dirty {
		return s.synced, nil
	}
	if err := s.f.Sync(); err != nil {
		return transports.Mark{}, s.fail("sync", err)
	}
	size, err := s.f.Size()
	if err != nil {
		return transports.Mark{}, s.fail("size of", err)
	}
	if size != s.length {
		return transports.Mark{}, s.fail("sync", fmt.Errorf("somebody else writes to it: have %d bytes, want %d", size, s.length))
	}
	s.dirty = false
	s.synced = s.mark()
	return s.synced, nil
}

func (s *sink) mark() transports.Mark {
	return transports.Mark{File: s.number(), Length: s.length, Entries: s.entries}
}

func (s *sink) number() uint64 {
	if s.st == nil { // plain Write, outside of a commit
		return 1
	}
	return s.st.File
}

// Publish implements transports.Staged. A file that is due is rotated here,
// where all of it is committed; so it must be told of the newest mark before
// more is appended, else rotation waits for the next mark.
func (s *sink) Publish(m transports.Mark) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if s.st == nil {
		return errors.New("file: Publish before Restore")
	}
	if !s.st.Committed {
		s.st.Committed = true
		if err := s.save(); err != nil {
			return s.fail("publish", err)
		}
	}
	if m != s.synced || s.dirty || !s.due() {
		return nil
	}
	if err := s.rotate(); err != nil {
		return s.fail("rotate", err)
	}
	return nil
}

// Write implements transports.Sink for callers that have no commit log: an OK
// entry is durable, and a crash may repeat what was not answered.
func (s *sink) Write(_ context.Context, batch []transports.Entry, results []transports.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	class := transports.Fatal
	err := s.openPlain()
	if err == nil {
		s.scratch = s.scratch[:0]
		for i := range batch {
			s.scratch = frame(s.scratch, batch[i].Data)
		}
		class = transports.Unknown // some of it may be in the file
		if s.usable() != nil {
			class = transports.Fatal
		}
		if err = s.append(s.scratch, len(batch)); err == nil {
			_, err = s.sync()
		}
	}
	for i := range results {
		if err == nil {
			results[i] = transports.Result{}
			continue
		}
		results[i] = transports.Result{Class: class, Err: err}
	}
}

// openPlain opens the file at its end where Restore did not.
func (s *sink) openPlain() error {
	if s.f != nil || s.closed || s.broken != nil {
		return nil
	}
	size, _, err := s.openLive()
	if err != nil {
		return err
	}
	return s.standAt(size)
}

// Flush implements transports.Sink.
func (s *sink) Flush(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil || s.closed {
		return nil
	}
	_, err := s.sync()
	return err
}

// Close implements transports.Sink. What was appended and not synced is left
// for Restore to cut.
func (s *sink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.claimed {
		s.owner.release(s.cfg.path)
	}
	if s.f == nil {
		return nil
	}
	if err := s.f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", s.cfg.path, err)
	}
	return nil
}

func (s *sink) usable() error {
	switch {
	case s.closed:
		return fmt.Errorf("file sink %s: %w", s.env.Name, transports.ErrClosed)
	case s.broken != nil:
		return s.broken
	case s.f == nil:
		return fmt.Errorf("file sink %s: used before Restore", s.env.Name)
	}
	return nil
}

// fail remembers the first failure: after it the file's end is unknown.
func (s *sink) fail(operation string, err error) error {
	if s.broken == nil {
		s.broken = fmt.Errorf("%s %s: %w: %w", operation, s.cfg.path, err, transports.ErrFatal)
	}
	return s.broken
}
