package segment

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/weir-project/weir/engine/vfs"
)

// Open opens the log in cfg.Dir, making it where there is none, and recovers
// it. Nothing is published until Restore or Publish is called. Damage is a
// *CorruptError, and the files are left as they are.
func Open(cfg Config) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = DefaultSegmentBytes
	}
	l := &Log{cfg: cfg, reading: map[uint64]int{}}
	if err := l.open(); err != nil {
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) {
			err = fmt.Errorf("open log %s: %w", cfg.Dir, err)
		}
		if l.file != nil {
			err = errors.Join(err, l.file.Close())
		}
		return nil, err
	}
	return l, nil
}

func (l *Log) open() error {
	if err := vfs.EnsureDir(l.cfg.FS, l.cfg.Dir); err != nil {
		return err
	}
	found, err := l.files()
	if err != nil {
		return err
	}
	if len(found) == 0 {
		l.salt = l.cfg.salt
		if l.salt == 0 {
			l.salt = newSalt()
		}
		return l.startFile(segment{number: 1}, nil)
	}
	held, gone := supersede(found)
	if !l.cfg.Lazy {
		for i := range held[:len(held)-1] {
			if err := l.verify(held[i], held[i+1]); err != nil {
				return err
			}
		}
	}
	l.segments = held
	if err := l.recoverEnd(held[len(held)-1]); err != nil {
		return err
	}
	l.synced = l.seq
	return l.remove(gone)
}

// files reads the headers of all files, oldest first, and removes what was
// never finished.
func (l *Log) files() ([]segment, error) {
	names, err := l.cfg.FS.List(l.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var out []segment
	for _, name := range names {
		if _, ok := parseName(name, segSuffix+tmpSuffix); ok {
			if err := l.cfg.FS.Remove(filepath.Join(l.cfg.Dir, name)); err != nil {
				return nil, err
			}
			continue
		}
		if number, ok := parseName(name, segSuffix+spareSuffix); ok {
			if err := l.adopt(number); err != nil {
				return nil, err
			}
			continue
		}
		number, ok := parseName(name, segSuffix)
		if !ok {
			continue
		}
		s, err := l.readHeader(number)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (l *Log) readHeader(number uint64) (segment, error) {
	f, err := l.cfg.FS.Open(path(l.cfg.Dir, number))
	if err != nil {
		return segment{}, err
	}
	s, err := l.parseHeader(f, number)
	return s, errors.Join(err, f.Close())
}

func (l *Log) parseHeader(f vfs.File, number uint64) (segment, error) {
	var b [fileHeaderBytes]byte
	if n, err := f.ReadAt(b[:], 0); n < len(b) {
		if errors.Is(err, io.EOF) {
			return segment{}, l.corrupt(number, 0, "the file ends within its header")
		}
		return segment{}, fmt.Errorf("read segment %d: %w", number, err)
	}
	s, salt, err := decodeFile(b[:])
	switch {
	case err != nil:
		return s, l.corrupt(number, 0, err.Error())
	case s.number != number:
		return s, l.corrupt(number, 0, fmt.Sprintf("the file is segment %d under another name", s.number))
	case l.salt != 0 && salt != l.salt:
		return s, l.corrupt(number, 0, "the file belongs to another log")
	}
	l.salt = salt
	s.length, err = f.Size()
	return s, err
}

func (l *Log) corrupt(number uint64, at int64, reason string) error {
	return &CorruptError{Dir: l.cfg.Dir, Segment: number, Offset: at, Reason: reason}
}

// supersede parts the files that count from those that newer files replace.
func supersede(found []segment) (held, gone []segment) {
	for i, s := range slices.Backward(found) {
		if i < len(found)-1 && s.firstSeq >= held[len(held)-1].firstSeq {
			gone = append(gone, s)
			continue
		}
		held = append(held, s)
	}
	slices.Reverse(held)
	return held, gone
}

// verify reads a whole file up to where the next one starts.
func (l *Log) verify(s, next segment) error {
	f, err := l.cfg.FS.Open(path(l.cfg.Dir, s.number))
	if err != nil {
		return err
	}
	r := newScan(f, l.salt, s, s.length)
	for err == nil && r.seq < next.firstSeq {
		_, _, err = r.next()
	}
	if err == nil {
		err = follows(r, next)
	}
	return errors.Join(l.alarm(s.number, r, err), f.Close())
}

// follows says whether the scan, which has come to the end of its file, stands
// where the next file starts.
func follows(r *scan, next segment) error {
	if r.ordinal != next.firstOrdinal || r.chain != next.chain {
		return &badError{fmt.Errorf("segment %d does not follow", next.number)}
	}
	return nil
}

// alarm makes a CorruptError of bytes that are wrong where they were durable.
func (l *Log) alarm(number uint64, r *scan, err error) error {
	var bad *badError
	switch {
	case err == nil:
		return nil
	case l.droppedFrom(number):
		return fmt.Errorf("read %s at entry %d: %w", l.cfg.Dir, r.ordinal, ErrDropped)
	case errors.Is(err, io.EOF):
		return l.corrupt(number, r.at, fmt.Sprintf("the file ends before group %d", r.seq))
	case errors.As(err, &bad):
		return l.corrupt(number, r.at, bad.Error())
	}
	return fmt.Errorf("segment %d: %w", number, err)
}

// recoverEnd reads the newest file, cuts its unfinished end and writes the
// groups anew that may never have been durable.
func (l *Log) recoverEnd(last segment) error {
	f, err := l.cfg.FS.Open(path(l.cfg.Dir, last.number))
	if err != nil {
		return err
	}
	return errors.Join(l.recoverFile(last, f), f.Close())
}

func (l *Log) recoverFile(last segment, f vfs.File) error {
	r := newScan(f, l.salt, last, last.length)
	unsure := last.firstSeq // groups from here on may never have been durable
	var bad *badError
	for {
		h, _, err := r.next()
		if err == nil {
			unsure = max(h.synced, last.firstSeq)
			continue
		}
		if errors.As(err, &bad) || err == io.EOF {
			break
		}
		return err
	}
	if bad != nil {
		found, at, err := r.durableAfter()
		if err != nil {
			return err
		}
		if found {
			return l.corrupt(last.number, r.at, fmt.Sprintf("%v, and a valid group follows at byte %d", bad, at))
		}
		l.recovery = Recovery{Segment: last.number, Offset: r.at, Bytes: last.length - r.at, Begun: r.begun(), Reason: bad.Error()}
	}
	l.seq, l.chain = r.seq, r.chain
	if r.at == fileHeaderBytes && bad == nil {
		return l.continueFile(last)
	}
	l.recovery.Rewritten = int(r.seq - unsure)
	return l.rewrite(last, r, unsure)
}

// continueFile goes on in a file that holds no groups.
func (l *Log) continueFile(last segment) error {
	// Its name may be there to see and not be durable.
	if err := l.cfg.FS.SyncDir(l.cfg.Dir); err != nil {
		return err
	}
	file, err := l.cfg.FS.Overwrite(path(l.cfg.Dir, last.number), last.length)
	if err != nil {
		return err
	}
	l.file, l.seed = file, seedOf(l.salt, last.number)
	l.end = Mark{File: last.number, Length: last.length, Entries: last.firstOrdinal}
	return nil
}

// rewrite copies the groups from sequence unsure on, up to where the scan got,
// to a new file.
func (l *Log) rewrite(last segment, end *scan, unsure uint64) error {
	r := newScan(end.file, l.salt, last, end.at)
	for r.seq < unsure {
		h, err := r.header(headerAhead)
		if err != nil {
			return err
		}
		r.pass(h)
	}
	if r.seq == last.firstSeq {
		// The whole file is copied, so that it is superseded and no longer held.
		l.segments = l.segments[:len(l.segments)-1]
	} else {
		l.segments[len(l.segments)-1].length = r.at
	}
	l.end.Entries = end.ordinal
	next := segment{number: last.number + 1, firstSeq: unsure, firstOrdinal: r.ordinal, chain: r.chain}
	if err := l.startFile(next, func(f vfs.File, s *segment) error { return l.copyGroups(f, s, r) }); err != nil {
		return err
	}
	if unsure == last.firstSeq {
		return l.remove([]segment{last})
	}
	return nil
}

// copyGroups writes the groups of r anew for the file s.
func (l *Log) copyGroups(f vfs.File, s *segment, r *scan) error {
	chain, seed := s.chain, seedOf(l.salt, s.number)
	var buf []byte
	for {
		h, body, err := r.next()
		if err == io.EOF {
			l.chain = chain
			return nil
		}
		if err != nil {
			return err
		}
		h.offset, h.chain, h.synced = uint64(s.length), chain, s.firstSeq
		buf, chain = h.encode(buf[:0], seed)
		buf = append(buf, body...)
		if _, err := f.Write(buf); err != nil {
			return err
		}
		s.length += int64(len(buf))
	}
}

func (l *Log) remove(gone []segment) error {
	for _, s := range gone {
		if err := l.cfg.FS.Remove(path(l.cfg.Dir, s.number)); err != nil {
			return err
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return l.cfg.FS.SyncDir(l.cfg.Dir)
}

// Restore cuts what lies beyond m and publishes m. Call it after Open, before
// there are readers. The zero mark empties the log. A log that ends before m
// fails with ErrShort.
func (l *Log) Restore(m Mark) error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.err != nil {
		return l.err
	}
	end, first := l.End(), l.First()
	var err error
	switch {
	case m == Mark{} && (end.Entries > 0 || first > 0):
		err = l.cut(0, 0, 0)
	case m.Entries > end.Entries:
		return fmt.Errorf("restore %s: %w: it ends in segment %d with entry %d, and the mark is %d entries (segment %d, byte %d)",
			l.cfg.Dir, ErrShort, end.File, end.Entries, m.Entries, m.File, m.Length)
	case m.Entries < first:
		return fmt.Errorf("restore %s to entry %d: %w, the oldest is %d", l.cfg.Dir, m.Entries, ErrDropped, first)
	case m.Entries < end.Entries:
		err = l.cutAt(m.Entries)
	}
	if err != nil {
		return l.fail(fmt.Errorf("restore to entry %d: %w", m.Entries, err))
	}
	l.published.Store(0)
	l.Publish(m)
	return nil
}

func (l *Log) cutAt(entries uint64) error {
	s := l.find(entries)
	defer l.leave(s.number)
	f, err := l.cfg.FS.Open(path(l.cfg.Dir, s.number))
	if err != nil {
		return err
	}
	r := newScan(f, l.salt, s, s.length)
	err = l.alarm(s.number, r, r.seek(entries))
	if err == nil && r.ordinal != entries {
		err = fmt.Errorf("the mark lies within group %d of segment %d", r.seq, s.number)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return l.cut(r.seq, r.ordinal, r.chain)
}

// cut adds a file that supersedes everything from sequence seq on.
func (l *Log) cut(seq, ordinal uint64, chain uint32) error {
	if err := l.syncFile(); err != nil {
		return err
	}
	l.mu.Lock()
	l.end.Entries = ordinal
	next := segment{number: l.end.File + 1, firstSeq: seq, firstOrdinal: ordinal, chain: chain}
	l.mu.Unlock()
	if err := l.startFile(next, nil); err != nil {
		return err
	}
	l.seq, l.synced, l.chain = seq, seq, chain
	l.mu.Lock()
	held, gone := supersede(l.segments)
	l.segments = held
	l.mu.Unlock()
	return l.remove(gone)
}
