package commit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
)

// View is a commit log seen from outside: for reading only, while another process
// may hold the folder. Its methods may be called from any goroutine.
type View struct{ seg *segment.Log }

// Look opens the commit log of a data folder for reading only. It takes no lock
// and changes nothing; records up to the last durable group can be read. A folder
// without a log is an error of fs.ErrNotExist, one of a newer program ErrNewerFormat.
func Look(fsys vfs.FS, dir string) (*View, error) {
	if err := lookFormat(fsys, dir); err != nil {
		return nil, fmt.Errorf("look at data folder %s: %w", dir, err)
	}
	seg, err := segment.Look(segment.Config{FS: fsys, Dir: filepath.Join(dir, "log")})
	if err != nil {
		return nil, err
	}
	return &View{seg: seg}, nil
}

// lookFormat is checkFormat for readers: it makes nothing.
func lookFormat(fsys vfs.FS, dir string) error {
	f, err := fsys.Open(filepath.Join(dir, "FORMAT"))
	if err != nil {
		return err
	}
	b := make([]byte, maxFormatBytes)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read FORMAT: %w", err)
	}
	return knownFormat(b[:n])
}

// knownFormat says whether this program knows what FORMAT names.
func knownFormat(text []byte) error {
	digits, ok := strings.CutPrefix(strings.TrimSpace(string(text)), formatName)
	version, err := strconv.Atoi(digits)
	switch {
	case !ok || err != nil || version < 1:
		return fmt.Errorf("FORMAT is %q, want %q and a version", text, formatName)
	case version > FormatVersion:
		return fmt.Errorf("%w: the folder has version %d, this program knows up to %d", ErrNewerFormat, version, FormatVersion)
	}
	return nil
}

// Refresh makes the view see what was committed, and removed, since.
func (v *View) Refresh() error { return v.seg.Refresh() }

// Held says which ordinals can be read; see Log.Held.
func (v *View) Held() (first, end uint64) { return v.seg.First(), v.seg.End().Entries }

// Segments lists the files of the log, oldest first.
func (v *View) Segments() []segment.Info { return v.seg.Segments() }

// Records reads as Log.Records does; segment.ErrCaughtUp comes where Held ends.
func (v *View) Records(from uint64) (*Records, error) { return newRecords(v.seg, from) }

// Close ends the view. Readers that are open may go on to its end.
func (v *View) Close() error { return v.seg.Close() }

// Identity is a number that tells this log from all others; it is written into
// every segment.
func (v *View) Identity() uint64 { return v.seg.Identity() }

// Identity is a number that tells this log from all others.
func (l *Log) Identity() uint64 { return l.seg.Identity() }

// pollEvery is how often a view looks whether more was committed.
const pollEvery = 250 * time.Millisecond

// Wait returns once more is committed than up to ordinal end, or with ctx's error.
func (v *View) Wait(ctx context.Context, end uint64) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
		if err := v.Refresh(); err != nil {
			return err
		}
		if _, now := v.Held(); now > end {
			return nil
		}
		timer.Reset(pollEvery)
	}
}

// Wait returns once more is committed than up to ordinal end; with ctx's error, or
// ErrClosed.
func (l *Log) Wait(ctx context.Context, end uint64) error {
	for {
		changed := l.Changed()
		if _, now := l.Held(); now > end {
			return nil
		}
		select {
		case <-l.closing:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// RecordsAt is Records for a reader that knows where a group stands: the first
// record is the first of g. Where the log has no such group there (any more) it
// returns segment.ErrMoved or segment.ErrDropped.
func (v *View) RecordsAt(g segment.Group) (*Records, error) { return newRecordsAt(v.seg, g) }

// RecordsAt is Records for a reader that knows where a group stands; see View.RecordsAt.
func (l *Log) RecordsAt(g segment.Group) (*Records, error) { return newRecordsAt(l.seg, g) }

func newRecordsAt(seg *segment.Log, g segment.Group) (*Records, error) {
	r, err := seg.ReaderAt(g)
	if err != nil {
		return nil, fmt.Errorf("read commit log: %w", err)
	}
	return &Records{seg: seg, r: r, from: g.First}, nil
}
