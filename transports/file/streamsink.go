package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/weir-project/weir/transports"
)

// streamSink writes to standard output or a named pipe. What is written there
// cannot be cut back, so it has no transports.Staged and is at-least-once: after
// a crash, entries that were written and not yet committed come again.
type streamSink struct {
	env    transports.Env
	cfg    sinkConfig
	stdout io.Writer

	mu      sync.Mutex
	w       io.Writer
	pipe    *os.File // nil for standard output
	closed  bool
	scratch []byte
	ends    []int
}

// Limits implements transports.Sink.
func (*streamSink) Limits() transports.Limits { return transports.Limits{KeyedFailure: true} }

// Open implements transports.Sink. A pipe is opened by the first Write that
// finds a reader at its other end.
func (s *streamSink) Open(context.Context) error {
	s.env.Log.Info("file sink: a stream cannot take part in the commit; after a crash entries may come twice",
		"sink", s.env.Name, "path", s.cfg.path)
	return nil
}

// Write implements transports.Sink.
func (s *streamSink) Write(ctx context.Context, batch []transports.Entry, results []transports.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scratch, s.ends = s.scratch[:0], s.ends[:0]
	for i := range batch {
		s.scratch = frame(s.scratch, batch[i].Data)
		s.ends = append(s.ends, len(s.scratch))
	}
	n, class, err := s.send(ctx)
	for i := range batch {
		begin := 0
		if i > 0 {
			begin = s.ends[i-1]
		}
		switch {
		case err == nil || s.ends[i] <= n:
			results[i] = transports.Result{}
		case begin < n: // its beginning went out
			results[i] = transports.Result{Class: transports.Unknown, Err: err}
		default:
			results[i] = transports.Result{Class: class, Err: err}
		}
	}
}

// send writes the frames and says how many bytes went out, and what an error
// means for those that did not.
func (s *streamSink) send(ctx context.Context) (int, transports.Class, error) {
	if s.closed {
		return 0, transports.Fatal, fmt.Errorf("file sink %s: %w", s.env.Name, transports.ErrClosed)
	}
	if err := s.connect(); err != nil {
		class := transports.Fatal
		if errors.Is(err, syscall.ENXIO) {
			class = transports.Retry
		}
		return 0, class, fmt.Errorf("open %s: %w", s.cfg.path, err)
	}
	if s.pipe == nil {
		n, err := s.w.Write(s.scratch)
		if err != nil {
			err = fmt.Errorf("write to standard output: %w", err)
		}
		return n, transports.Fatal, err
	}
	stop := interruptWrites(ctx, s.pipe)
	n, err := s.w.Write(s.scratch)
	stop()
	if err == nil {
		return n, transports.OK, nil
	}
	// The reader went away or is too slow; the next attempt begins a new line.
	s.pipe.Close()
	s.w, s.pipe = nil, nil
	return n, transports.Retry, fmt.Errorf("write %s: %w", s.cfg.path, err)
}

func (s *streamSink) connect() error {
	if s.w != nil {
		return nil
	}
	if s.cfg.standard {
		s.w = s.stdout
		return nil
	}
	f, err := os.OpenFile(s.cfg.path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	s.w, s.pipe = f, f
	return nil
}

// Flush implements transports.Sink; Write leaves nothing behind.
func (*streamSink) Flush(context.Context) error { return nil }

// Close implements transports.Sink. Standard output stays open: it is the
// program's.
func (s *streamSink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.pipe == nil {
		return nil
	}
	err := s.pipe.Close()
	s.w, s.pipe = nil, nil
	if err != nil {
		return fmt.Errorf("close %s: %w", s.cfg.path, err)
	}
	return nil
}

// interruptWrites makes a blocked write to f fail once ctx ends, until stop.
func interruptWrites(ctx context.Context, f *os.File) (stop func()) {
	unhook := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	return func() { unhook() }
}
