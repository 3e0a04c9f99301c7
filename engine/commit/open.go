package commit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/transports"
)

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
		cfg: cfg, marks: map[string]transports.Mark{}, joining: map[string]bool{},
		queue: make(chan *Ticket, cfg.Queue), closing: make(chan struct{}), drain: make(chan struct{}), failed: make(chan struct{}),
	}
	l.counts.write.Seconds()
	l.counts.size.Bytes()
	l.stages.Store(&[]*stage{})
	l.stopCtx, l.stop = context.WithCancel(context.Background())
	if err := l.open(tables, replay); err != nil {
		l.stop()
		err = fmt.Errorf("open commit log %s: %w", cfg.Dir, err)
		if l.seg != nil {
			err = errors.Join(err, l.seg.Close())
		}
		return nil, errors.Join(err, l.own.Close())
	}
	return l, nil
}

func (l *Log) open(tables []Table, replay func(record []byte, at time.Duration) error) error {
	if err := l.SetTables(tables); err != nil {
		return err
	}
	if err := l.take(); err != nil {
		return err
	}
	var err error
	l.seg, err = segment.Open(segment.Config{
		FS: l.cfg.FS, Dir: l.path("log"), SegmentBytes: l.cfg.SegmentBytes, Lazy: true,
	})
	if err != nil {
		return err
	}
	if r := l.seg.Recovery(); r.Begun {
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

func checkTables(tables []Table) error {
	seen := map[string]bool{}
	for _, t := range tables {
		if name := t.Name(); name == "" || len(name) > maxNameBytes || seen[name] {
			return fmt.Errorf("table name %q is empty, too long or there twice", name)
		}
		seen[t.Name()] = true
	}
	return nil
}

// take makes sure that the folder is held.
func (l *Log) take() (err error) {
	if h := l.cfg.Hold; h != nil {
		if h.lock == nil || h.dir != l.cfg.Dir {
			return fmt.Errorf("Config.Hold holds %s no longer, or another folder: %s", l.cfg.Dir, h.dir)
		}
		return nil
	}
	l.own, err = Take(l.cfg.FS, l.cfg.Dir)
	return err
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
