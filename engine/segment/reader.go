package segment

import (
	"errors"
	"fmt"
	"io"
	"sort"
)

// Reader reads published entries in order. It is for one goroutine at a time;
// a log may have any number of them. Damage is a *CorruptError.
type Reader struct {
	log    *Log
	seg    segment
	scan   *scan
	sealed bool // the file's end is known: next is where the following file starts
	next   segment

	group   Group
	body    []byte // what was not read of the current group
	ordinal uint64 // of the next entry
}

// Group says where a group is.
type Group struct {
	Sequence uint64
	Segment  uint64 // number of the file
	Offset   int64  // in the file
	First    uint64 // ordinal of its first entry
	Count    int
}

// find returns the file that holds, or will hold, an ordinal, and counts a reader
// of it; number 0 says that it is no longer held.
func (l *Log) find(ordinal uint64) segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].firstOrdinal > ordinal }) - 1
	if i < 0 {
		return segment{}
	}
	s := l.segments[i]
	l.reading[s.number]++
	return s
}

// leave counts a reader of a file off.
func (l *Log) leave(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reading[number]--; l.reading[number] == 0 {
		delete(l.reading, number)
	}
}

// Reader returns a reader whose first entry is ordinal. It fails with
// ErrDropped for entries that are no longer held; ordinal may be the log's end.
func (l *Log) Reader(ordinal uint64) (*Reader, error) {
	if end := l.End(); ordinal > end.Entries {
		return nil, fmt.Errorf("read %s at entry %d: the log ends with entry %d", l.cfg.Dir, ordinal, end.Entries)
	}
	r := &Reader{log: l, ordinal: ordinal}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// open opens the file that holds the next entry and moves to its group.
func (r *Reader) open() error {
	seg := r.log.find(r.ordinal)
	if seg.number == 0 {
		return fmt.Errorf("read %s at entry %d: %w", r.log.cfg.Dir, r.ordinal, ErrDropped)
	}
	f, err := r.log.cfg.FS.Open(path(r.log.cfg.Dir, seg.number))
	if err != nil {
		r.log.leave(seg.number)
		if seg.firstOrdinal < r.log.First() || r.log.droppedFrom(seg.number) {
			// It was dropped between the look and the opening.
			if !r.log.outside && r.ordinal >= r.log.First() {
				return r.open()
			}
			return fmt.Errorf("read %s at entry %d: %w", r.log.cfg.Dir, r.ordinal, ErrDropped)
		}
		return fmt.Errorf("read %s at entry %d: %w", r.log.cfg.Dir, r.ordinal, err)
	}
	r.seg, r.sealed = seg, false
	r.scan = newScan(f, r.log.salt, seg, fileHeaderBytes)
	r.refresh()
	if err := r.log.alarm(seg.number, r.scan, r.scan.seek(r.ordinal)); err != nil {
		return errors.Join(err, r.Close())
	}
	return nil
}

// refresh learns how far the current file may be read.
func (r *Reader) refresh() {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].number >= r.seg.number })
	if i == len(l.segments) || l.segments[i].number != r.seg.number {
		return
	}
	r.scan.limit = l.segments[i].length
	if i+1 < len(l.segments) {
		r.sealed, r.next = true, l.segments[i+1]
	}
}

// Next returns the next entry, which is valid until the next call, and its
// ordinal. ErrCaughtUp says that no more is published, ErrClosed that no more
// will be.
func (r *Reader) Next() (entry []byte, ordinal uint64, err error) {
	if len(r.body) == 0 {
		if err := r.fetch(); err != nil {
			return nil, 0, err
		}
	}
	entry, rest, ok := Unframe(r.body)
	if !ok {
		return nil, 0, r.log.corrupt(r.group.Segment, r.group.Offset, "wrong framing in a group with a right checksum")
	}
	r.body = rest
	r.ordinal++
	return entry, r.ordinal - 1, nil
}

// ReadGroups appends to dst whatever is published, whole groups up to about
// max bytes and at least one, and returns it with the ordinal of its first
// entry and the number of entries. Errors are those of Next.
func (r *Reader) ReadGroups(dst []byte, max int) (framed []byte, first uint64, count int, err error) {
	first = r.ordinal
	start := len(dst)
	for {
		if len(r.body) == 0 {
			if err := r.fetch(); err != nil {
				if count > 0 {
					return dst, first, count, nil // the error comes again
				}
				return dst, first, 0, err
			}
		}
		if count > 0 && len(dst)-start+len(r.body) > max {
			return dst, first, count, nil
		}
		dst = append(dst, r.body...)
		n := int(r.group.First + uint64(r.group.Count) - r.ordinal)
		r.body = nil
		count += n
		r.ordinal += uint64(n)
	}
}

// Group says where the entry that Next returned last is.
func (r *Reader) Group() Group { return r.group }

// fetch reads the group that holds the next entry.
func (r *Reader) fetch() error {
	if r.scan == nil {
		return fmt.Errorf("read %s: %w", r.log.cfg.Dir, ErrClosed)
	}
	if r.ordinal >= r.log.published.Load() {
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		if r.log.closed {
			return fmt.Errorf("read %s: %w", r.log.cfg.Dir, ErrClosed)
		}
		return ErrCaughtUp
	}
	if r.scan.at >= r.scan.limit && !r.sealed {
		r.refresh()
	}
	if r.sealed && r.scan.seq == r.next.firstSeq {
		if err := r.advance(); err != nil {
			return err
		}
	}
	at := r.scan.at
	h, body, err := r.scan.next()
	if err != nil {
		if err == io.EOF && !r.sealed && r.seg.firstOrdinal < r.log.First() {
			return r.leaveDropped()
		}
		return r.log.alarm(r.seg.number, r.scan, err)
	}
	r.group = Group{Sequence: h.seq, Segment: r.seg.number, Offset: at, First: h.ordinal, Count: int(h.count)}
	for skip := r.ordinal - h.ordinal; skip > 0; skip-- {
		_, rest, ok := Unframe(body)
		if !ok {
			return r.log.corrupt(r.seg.number, at, "wrong framing in a group with a right checksum")
		}
		body = rest
	}
	r.body = body
	return nil
}

// leaveDropped goes on where the reader has come to the end of a file that was dropped
// meanwhile: the next entry may well be held in another one.
func (r *Reader) leaveDropped() error {
	if r.ordinal < r.log.First() {
		return fmt.Errorf("read %s at entry %d: %w", r.log.cfg.Dir, r.ordinal, ErrDropped)
	}
	if err := errors.Join(r.Close(), r.open()); err != nil {
		return err
	}
	return r.fetch()
}

// advance goes on in the next file.
func (r *Reader) advance() error {
	if err := follows(r.scan, r.next); err != nil {
		return r.log.alarm(r.seg.number, r.scan, err)
	}
	window := r.scan.window
	if err := r.Close(); err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	if r.scan.window == nil {
		r.scan.window = window[:0]
	}
	return nil
}

// Close frees the reader's file. It may be called twice.
func (r *Reader) Close() error {
	if r.scan == nil {
		return nil
	}
	f := r.scan.file
	r.scan, r.body = nil, nil
	r.log.leave(r.seg.number)
	if err := f.Close(); err != nil {
		return fmt.Errorf("close reader of %s: %w", r.log.cfg.Dir, err)
	}
	return nil
}
