package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// source reads files and standard input. ReceiveChunk and Receive are called
// from one goroutine; Settle and Close from any.
type source struct {
	env   transports.Env
	cfg   sourceConfig
	stdin *os.File

	closing chan struct{}
	once    sync.Once

	// mu guards all below. It is held while a file is read, never while the
	// source waits.
	mu       sync.Mutex
	opened   bool
	closed   bool
	listener transports.Listener
	resume   []resumed   // of the last run, not taken up yet
	queue    []string    // files to read once, in order
	files    []*openFile // being read
	turn     int         // the next of files to ask
	slab     positions
	follow   follower
	own      transports.Chunk // Receive's
	ends     []int64          // of the last chunk's elements; see run
	pending  []transports.Delivery
	failed   error // the end of the source by an error

	// knownMu is apart from mu, so that Settle never waits for a read.
	knownMu sync.Mutex
	known   map[string]bool // partitions that were given
}

// openFile is one file being read.
type openFile struct {
	path      string
	f         io.Closer
	read      reader
	id        identity
	partition string
	form      byte
	tail      tailState // follow only
}

var (
	_ transports.Source      = (*source)(nil)
	_ transports.ChunkSource = (*source)(nil)
	_ transports.Looker      = (*source)(nil)
)

func newSource(env transports.Env, cfg sourceConfig, stdin *os.File) *source {
	return &source{env: env, cfg: cfg, stdin: stdin, closing: make(chan struct{}), known: map[string]bool{}}
}

// Capabilities implements transports.Source.
func (s *source) Capabilities() transports.Capabilities {
	return transports.Capabilities{
		Order:     transports.OrderPartition,
		Positions: transports.KeptByEngine,
		Finite:    !s.cfg.follow,
		Lossy:     s.stream(),
	}
}

// stream says that what was read cannot be read again.
func (s *source) stream() bool { return s.cfg.standard || isPipe(s.cfg.path) }

// Open implements transports.Source.
func (s *source) Open(_ context.Context, resume map[string]transports.Position, l transports.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.errorf("open: %w", transports.ErrClosed)
	}
	s.listener = l
	for partition, pos := range resume {
		at, err := parsePosition(pos)
		if err != nil {
			return s.errorf("open: partition %s: %w: %w", partition, err, transports.ErrFatal)
		}
		s.learn(partition)
		s.resume = append(s.resume, resumed{at, partition})
	}
	s.opened = true
	switch {
	case s.stream():
		return s.openStream()
	case s.cfg.follow:
		return s.openFollowed()
	}
	paths, err := s.find()
	s.queue = paths
	return err
}

// find lists the files to be read once.
func (s *source) find() ([]string, error) {
	paths, err := expand(s.env.FS, s.cfg.path)
	if err != nil {
		return nil, s.errorf("open: %w: %w", err, transports.ErrFatal)
	}
	if len(paths) == 0 {
		return nil, s.errorf("open %s: no such file: %w", s.cfg.path, transports.ErrFatal)
	}
	return paths, nil
}

// Look implements transports.Looker: a file that is to be read once must be there.
func (s *source) Look() error {
	if s.stream() || s.cfg.follow {
		return nil
	}
	_, err := s.find()
	return err
}

// ReceiveChunk implements transports.ChunkSource. A line that fits into c's
// capacity comes as it is, also above Env.MaxEvent: the engine measures events
// as it splits. Only what would need more room than an event may have comes
// with Oversize.
func (s *source) ReceiveChunk(ctx context.Context, c *transports.Chunk, wait time.Duration) error {
	c.Data, c.Oversize = c.Data[:0], 0
	var timer *time.Timer
	pause, deadline := minPoll, time.Now().Add(wait)
	for {
		busy, err := s.step(ctx, c, deadline)
		if err != nil || len(c.Data) > 0 {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		if busy {
			continue
		}
		pause = min(pause, left)
		if timer == nil {
			timer = time.NewTimer(pause)
			defer timer.Stop()
		} else {
			timer.Reset(pause)
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing:
			return s.errorf("receive: %w", transports.ErrClosed)
		}
		pause = min(2*pause, maxPoll)
	}
}

// step gives what is there without waiting for a file to grow.
func (s *source) step(ctx context.Context, c *transports.Chunk, deadline time.Time) (busy bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return false, s.errorf("receive: %w", transports.ErrClosed)
	case !s.opened:
		return false, s.errorf("receive: used before Open")
	case s.failed != nil:
		return false, s.failed
	case ctx.Err() != nil:
		return false, ctx.Err()
	}
	if s.cfg.follow {
		busy, err = s.stepFollowed(c)
	} else {
		busy, err = s.stepFinite(ctx, c, deadline)
	}
	if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		s.failed = s.errorf("%w", err)
		return false, s.failed
	}
	return busy, err
}

// stepFinite reads one file after the other.
func (s *source) stepFinite(ctx context.Context, c *transports.Chunk, deadline time.Time) (busy bool, err error) {
	for {
		if len(s.files) == 0 {
			if len(s.queue) == 0 {
				return false, io.EOF
			}
			f, err := s.openOnce(s.queue[0])
			if err != nil {
				return false, err
			}
			s.queue = s.queue[1:]
			if f == nil { // empty
				continue
			}
			s.files = append(s.files, f)
		}
		f := s.files[0]
		if live, ok := f.f.(*pollFile); ok {
			live.until(ctx, deadline)
		}
		busy, err := s.give(f, c, true)
		if !errors.Is(err, io.EOF) {
			return busy, err
		}
		s.files = s.files[:0]
		if err := f.f.Close(); err != nil {
			return false, fmt.Errorf("close %s: %w", f.path, err)
		}
	}
}

// give reads the next chunk of a file.
func (s *source) give(f *openFile, c *transports.Chunk, whole bool) (busy bool, err error) {
	went, err := f.read.read(c, whole)
	if err != nil {
		c.Data = c.Data[:0]
		return false, err
	}
	if len(c.Data) == 0 {
		return went.busy, nil
	}
	at := place{id: f.id, form: f.form, offset: went.from, index: went.fromIndex}
	c.Partition = f.partition
	c.Start = s.slab.make(at)
	s.ends = went.ends
	at.offset, at.index = went.to, went.toIndex
	c.End = s.slab.make(at)
	c.Ordinal = uint64(went.from)
	if f.form == formArray {
		c.Ordinal = went.fromIndex
	} else {
		c.Ends = nil
	}
	return false, nil
}

// Settle implements transports.Source. The engine keeps positions, so that
// there is nothing to do but to know the partition.
func (s *source) Settle(_ context.Context, settlements []transports.Settlement) []error {
	s.knownMu.Lock()
	defer s.knownMu.Unlock()
	errs := make([]error, len(settlements))
	for i := range settlements {
		switch st := &settlements[i]; {
		case !s.known[st.Partition]:
			errs[i] = s.errorf("settle partition %q: %w", st.Partition, transports.ErrNotHeld)
		case st.Nack:
			errs[i] = s.errorf("settle %s: a file does not take events back", st.ID)
		}
	}
	return errs
}

// Close implements transports.Source.
func (s *source) Close(context.Context) error {
	s.once.Do(func() { close(s.closing) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, f := range s.files {
		if err := f.f.Close(); err != nil {
			errs = append(errs, s.errorf("close %s: %w", f.path, err))
		}
	}
	s.files = nil
	return errors.Join(errs...)
}

func (s *source) errorf(format string, args ...any) error {
	return fmt.Errorf("file source "+s.env.Name+": "+format, args...)
}

// assigned makes a partition known and tells the listener.
func (s *source) assigned(partition string) {
	s.learn(partition)
	if s.listener != nil {
		s.listener.Assigned(partition)
	}
}

func (s *source) knows(partition string) bool {
	s.knownMu.Lock()
	defer s.knownMu.Unlock()
	return s.known[partition]
}

func (s *source) learn(partition string) {
	s.knownMu.Lock()
	defer s.knownMu.Unlock()
	s.known[partition] = true
}
