package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/weir-project/weir/transports"
)

// pollSlice is how long a live stream is waited for before its reader looks
// whether it is still wanted.
const pollSlice = 50 * time.Millisecond

// pollFile reads standard input or a pipe without blocking past a deadline.
type pollFile struct {
	f        *os.File
	owned    bool // closed with the source
	closing  <-chan struct{}
	ctx      context.Context
	deadline time.Time
	patient  bool // the deadline does not count, only ctx and closing do
}

// until sets for how long reads wait from now on.
func (p *pollFile) until(ctx context.Context, deadline time.Time) {
	p.ctx, p.deadline = ctx, deadline
}

// Read implements io.Reader; it returns errIdle at the deadline.
func (p *pollFile) Read(b []byte) (int, error) {
	for {
		ready, err := readable(p.f, pollSlice)
		if err != nil {
			return 0, err
		}
		if ready {
			n, err := p.f.Read(b)
			if n == 0 && err == nil {
				return 0, io.EOF
			}
			return n, err
		}
		select {
		case <-p.closing:
			return 0, transports.ErrClosed
		case <-p.ctx.Done():
			if p.patient {
				return 0, p.ctx.Err()
			}
			return 0, errIdle
		default:
		}
		if !p.patient && !time.Now().Before(p.deadline) {
			return 0, errIdle
		}
	}
}

// Close implements io.Closer.
func (p *pollFile) Close() error {
	if !p.owned {
		return nil
	}
	return p.f.Close()
}

// openStream begins to read standard input or a pipe. Such a stream is another
// one in every run, so its partition is named after the time, and positions of
// earlier runs mean nothing.
func (s *source) openStream() error {
	live := &pollFile{f: s.stdin, closing: s.closing}
	path, name := s.cfg.path, "pipe"
	if s.cfg.standard {
		path, name = "standard input", "stdin"
	} else {
		f, err := openPipe(s.cfg.path)
		if err != nil {
			return s.errorf("open %s: %w: %w", s.cfg.path, err, transports.ErrFatal)
		}
		live.f, live.owned = f, true
	}
	if live.f == nil {
		return s.errorf("open %s: %w", path, errors.ErrUnsupported)
	}
	s.resume = nil
	o := &openFile{path: path, f: live, form: formLines, partition: fmt.Sprintf("%s-%x", name, s.env.Now().UnixNano())}
	o.read = &lazyReader{
		raw: live, live: live, packed: s.cfg.compression, name: path, format: s.cfg.format,
		maxEvent: s.env.MaxEvent, chosen: func(form byte) { o.form = form },
	}
	s.files = append(s.files, o)
	s.assigned(o.partition)
	return nil
}
