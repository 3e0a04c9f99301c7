package commit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// formatName begins the FORMAT file.
const formatName = "weir-commit "

// maxFormatBytes bounds what is read of FORMAT.
const maxFormatBytes = 64

// Open takes the folder, loads the newest whole snapshot into the tables and
// replays the records after it, in order, each with its group's engine time
// (record is valid until replay returns). Damage to what was durable is a
// *segment.CorruptError or ErrNoState; another holder is vfs.ErrLocked. Call
// Stage for every staged sink, then Start.
func Open(cfg Config, tables []Table, replay func(record []byte, at time.Duration) error) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	l := &Log{
		cfg: cfg, tables: tables, marks: map[string]transports.Mark{},
		queue: make(chan *Ticket, cfg.Queue), closing: make(chan struct{}), drain: make(chan struct{}), failed: make(chan struct{}),
	}
	l.stages.Store(&[]*stage{})
	l.stopCtx, l.stop = context.WithCancel(context.Background())
	if err := l.open(replay); err != nil {
		l.stop()
		err = fmt.Errorf("open commit log %s: %w", cfg.Dir, err)
		if l.seg != nil {
			err = errors.Join(err, l.seg.Close())
		}
		if l.lock != nil {
			err = errors.Join(err, l.lock.Close())
		}
		return nil, err
	}
	return l, nil
}

func (l *Log) open(replay func(record []byte, at time.Duration) error) error {
	if err := l.checkTables(); err != nil {
		return err
	}
	if err := vfs.EnsureDir(l.cfg.FS, l.cfg.Dir); err != nil {
		return err
	}
	lock, err := l.cfg.FS.Lock(l.path("LOCK"))
	if err != nil {
		return err
	}
	l.lock = lock
	if err := l.checkFormat(); err != nil {
		return err
	}
	l.seg, err = segment.Open(segment.Config{
		FS: l.cfg.FS, Dir: l.path("log"), SegmentBytes: l.cfg.SegmentBytes, Lazy: true,
	})
	if err != nil {
		return err
	}
	if r := l.seg.Recovery(); r.Bytes > 0 {
		l.cfg.Log.Warn("cut an unfinished group at the end of the commit log",
			"segment", r.Segment, "offset", r.Offset, "bytes", r.Bytes, "reason", r.Reason)
	}
	begin, err := l.loadSnapshot()
	if err != nil {
		return err
	}
	l.seg.Publish(l.seg.End())
	if err := l.replay(begin, replay); err != nil {
		return err
	}
	l.writer.base = l.at
	l.applied = l.seg.End().Entries
	return nil
}

func (l *Log) checkTables() error {
	seen := map[string]bool{}
	for _, t := range l.tables {
		if name := t.Name(); name == "" || len(name) > maxNameBytes || seen[name] {
			return fmt.Errorf("table name %q is empty, too long or there twice", name)
		}
		seen[t.Name()] = true
	}
	return nil
}

// checkFormat refuses a folder of a newer program and marks a new one. FORMAT
// is durable before anything else is made, so that a log without it is not ours.
func (l *Log) checkFormat() error {
	f, err := l.cfg.FS.Open(l.path("FORMAT"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := l.cfg.FS.Stat(l.path("log")); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(errors.New("there is a log and no FORMAT file"), err)
		}
		return l.writeFormat()
	}
	if err != nil {
		return err
	}
	b := make([]byte, maxFormatBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return errors.Join(fmt.Errorf("read FORMAT: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	digits, ok := strings.CutPrefix(strings.TrimSpace(string(b[:n])), formatName)
	version, err := strconv.Atoi(digits)
	switch {
	case !ok || err != nil || version < 1:
		return fmt.Errorf("FORMAT is %q, want %q and a version", b[:n], formatName)
	case version > FormatVersion:
		return fmt.Errorf("%w: the folder has version %d, this program knows up to %d", ErrNewerFormat, version, FormatVersion)
	}
	// A program that was killed may have left the name without making it durable.
	return l.cfg.FS.SyncDir(l.cfg.Dir)
}

func (l *Log) writeFormat() error {
	f, err := l.cfg.FS.Create(l.path("FORMAT.tmp"))
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(formatName + strconv.Itoa(FormatVersion) + "\n"))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := l.cfg.FS.Rename(l.path("FORMAT.tmp"), l.path("FORMAT")); err != nil {
		return err
	}
	return l.cfg.FS.SyncDir(l.cfg.Dir)
}

// replay reads the log from ordinal begin.
func (l *Log) replay(begin uint64, replay func(record []byte, at time.Duration) error) error {
	r, err := l.Records(begin)
	if err != nil {
		return err
	}
	r.mark = func(name string, m transports.Mark) { l.marks[name] = m }
	err = nil
	for err == nil {
		var rec Record
		rec, err = r.next(true)
		if err != nil {
			break
		}
		l.at = max(l.at, rec.At)
		if rec.head {
			continue
		}
		l.writer.since += int64(len(rec.Data))
		if replayErr := replay(rec.Data, rec.At); replayErr != nil {
			err = fmt.Errorf("replay the record at segment %d, byte %d: %w", rec.Segment, rec.Offset, replayErr)
		}
	}
	if errors.Is(err, segment.ErrCaughtUp) {
		err = nil
	}
	return errors.Join(err, r.Close())
}
