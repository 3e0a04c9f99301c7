package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/weir-project/weir/engine/vfs"
)

// ErrReadOnly: the log was opened by Look.
var ErrReadOnly = errors.New("log is open for reading only")

// lookAttempts is how often Look begins anew when files go while it reads them.
const lookAttempts = 5

// Look opens a log for reading only, while another process may be writing it. It
// changes nothing: no lock, no recovery, nothing made or removed. All whole groups
// that stood there when it was called are durable when it returns (the newest file
// is synced once more, since a kill may have left bytes that never were) and
// published. A log that is not there is an error of fs.ErrNotExist.
func Look(cfg Config) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Log{cfg: cfg, outside: true, reading: map[uint64]int{}, err: fmt.Errorf("log %s: %w", cfg.Dir, ErrReadOnly)}
	if err := l.Refresh(); err != nil {
		return nil, err
	}
	return l, nil
}

// Refresh makes a log that Look opened see what was added and removed since.
func (l *Log) Refresh() error {
	for attempt := 1; ; attempt++ {
		found, err := l.lookFiles()
		if err == nil {
			err = l.lookEnd(found)
		}
		// Retention or a recovery may remove a file between the listing and the reading.
		if err == nil || !errors.Is(err, fs.ErrNotExist) || attempt == lookAttempts {
			if err != nil {
				err = fmt.Errorf("look at log %s: %w", l.cfg.Dir, err)
			}
			return err
		}
	}
}

// lookFiles reads the headers of the files that count, oldest first.
func (l *Log) lookFiles() ([]segment, error) {
	names, err := l.cfg.FS.List(l.cfg.Dir)
	if err != nil {
		return nil, err
	}
	known := map[uint64]segment{}
	l.mu.Lock()
	for _, s := range l.segments {
		known[s.number] = s
	}
	l.mu.Unlock()
	var found []segment
	for _, name := range names {
		number, ok := parseName(name, segSuffix)
		if !ok {
			continue
		}
		s, ok := known[number]
		if !ok {
			if s, err = l.readHeader(number); err != nil {
				return nil, err
			}
		}
		found = append(found, s)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no segments: %w", fs.ErrNotExist)
	}
	held, _ := supersede(found)
	return held, nil
}

// lookEnd finds the end of the newest file and publishes up to it.
func (l *Log) lookEnd(held []segment) error {
	last := &held[len(held)-1]
	f, err := l.cfg.FS.Open(path(l.cfg.Dir, last.number))
	if err != nil {
		return err
	}
	end, err := l.wholeGroups(*last, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	last.length = end.at
	for i := range held[:len(held)-1] {
		// What was the newest file at an earlier look may have grown since.
		info, err := l.cfg.FS.Stat(path(l.cfg.Dir, held[i].number))
		if err != nil {
			return err
		}
		held[i].length = info.Size
	}
	l.mu.Lock()
	l.segments = held
	l.end = Mark{File: last.number, Length: last.length, Entries: end.ordinal}
	m := l.end
	l.mu.Unlock()
	l.Publish(m)
	return nil
}

// wholeGroups returns a scan that stands behind the last whole group of the
// newest file, all of which are durable then.
func (l *Log) wholeGroups(s segment, f vfs.File) (*scan, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	r := newScan(f, l.salt, s, size)
	again := true
	for {
		_, _, err := r.next()
		var bad *badError
		switch {
		case err == nil:
			again = true
			continue
		case err == io.EOF:
			return r, nil
		case !errors.As(err, &bad):
			return nil, err
		}
		found, at, err := r.durableAfter()
		if err != nil || !found {
			return r, err
		}
		if !again {
			return nil, l.corrupt(s.number, r.at, fmt.Sprintf("%v, and a valid group follows at byte %d", bad, at))
		}
		// The writer may have been in the middle of this group when it was read: once more.
		again, r.window = false, r.window[:0]
	}
}

// droppedFrom says, to a reader from outside, that its file is no longer held: the
// writer may have begun to use it again. A file that has its name is as it was.
func (l *Log) droppedFrom(number uint64) bool {
	if !l.outside {
		return false
	}
	_, err := l.cfg.FS.Stat(path(l.cfg.Dir, number))
	return errors.Is(err, fs.ErrNotExist)
}

// ErrMoved: the log has another group, or none, where one was expected.
var ErrMoved = errors.New("no such group there")

// ReaderAt is Reader for a caller that remembers where a group stands (Segment,
// Offset, Sequence and First count): it opens the file there, without reading what
// comes before. The group says itself whether it is the one; else ErrMoved.
func (l *Log) ReaderAt(g Group) (*Reader, error) {
	seg := l.find(g.First)
	switch {
	case seg.number == 0:
		return nil, fmt.Errorf("read %s at entry %d: %w", l.cfg.Dir, g.First, ErrDropped)
	case seg.number != g.Segment || g.Offset < fileHeaderBytes:
		l.leave(seg.number)
		return nil, fmt.Errorf("read %s, segment %d, byte %d: %w", l.cfg.Dir, g.Segment, g.Offset, ErrMoved)
	}
	f, err := l.cfg.FS.Open(path(l.cfg.Dir, seg.number))
	if err != nil {
		l.leave(seg.number)
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrDropped
		}
		return nil, fmt.Errorf("read %s at entry %d: %w", l.cfg.Dir, g.First, err)
	}
	r := &Reader{log: l, ordinal: g.First, seg: seg}
	r.scan = newScan(f, l.salt, seg, fileHeaderBytes)
	r.refresh()
	if err := r.scan.jump(g); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s, segment %d, byte %d: %w", l.cfg.Dir, g.Segment, g.Offset, err), r.Close())
	}
	return r, nil
}

// jump moves to a group, whose header is checked by itself only.
func (s *scan) jump(g Group) error {
	s.at, s.seq, s.ordinal = g.Offset, g.Sequence, g.First
	if s.at+groupHeaderBytes > s.limit {
		return ErrMoved
	}
	b, err := s.bytes(s.at, groupHeaderBytes, windowBytes)
	if err != nil {
		return err
	}
	h, err := decodeGroup(b, s.seed)
	if err != nil || h.seq != g.Sequence || h.ordinal != g.First || h.offset != uint64(g.Offset) {
		return ErrMoved
	}
	s.chain = h.chain
	return nil
}
