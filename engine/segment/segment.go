// Package segment is an append-only log of entries in numbered files: the
// commit log, local queues, dead letters and the archive are made of it.
//
// Promise: entries whose Sync returned nil are there after any crash, whole and
// in order. What a crash left unfinished at the end is cut and told by
// Recovery. Damage to anything that was durable is a *CorruptError that names
// segment and offset, never a shorter log. After the first failed write or sync
// the log takes nothing more (I4): it must be opened again, and nothing that
// recovery reads is relied on before it was written anew and synced, since a
// kill or a failed sync leaves bytes that can be read and were never durable.
//
// # Files
//
// A log is a folder of files named by their number, 20 decimal digits and
// ".seg"; other names in the folder are left alone (".tmp" after such a name
// is removed, ".spare" is a file to be used again). All integers are little-endian. A file is a header and groups:
//
//	 0  8  "WEIRSEG" and the format's version, 2
//	 8  8  the file's number
//	16  8  salt: a random number, the same in all files of a log
//	24  8  sequence of the first group
//	32  8  ordinal of the first entry
//	40  4  chain: header checksum of the group before, 0 for sequence 0
//	44  4  CRC-32C of bytes 0-43
//
// A group is what one Append wrote, a header and a body:
//
//	 0  4  "WGRP"
//	 4  4  number of entries
//	 8  8  sequence: groups are numbered from 0
//	16  8  ordinal of the first entry: entries are numbered from 0
//	24  8  synced: groups with a smaller sequence were durable before this one was written
//	32  8  offset of this group in its file: the end of the group before
//	40  4  chain: header checksum of the group before
//	44  4  length of the body in bytes
//	48  4  CRC-32C of the body
//	52  4  CRC-32C of the salt, the file's number and bytes 0-51
//	56     body: entries, each a length of 4 bytes and that many bytes
//
// A file appears under its name (by renaming) only once its header and all
// groups it starts with are durable, and only when all groups before them are
// durable too. So its header rules: groups in older files from its first
// sequence on are superseded. A log is cut and its unsure end is rewritten by
// adding such a file, which is atomic; leftovers are removed after.
//
// A file that was dropped is written over by a newer one, so behind the last group
// of the newest file may stand bytes of older groups. Their headers' checksums were
// made with another file's number: they never pass for groups of this file.
//
// Bad bytes at sequence n of the newest file are an unfinished end if no group
// header after them says that n was durable (synced > n), else damage. So
// groups that were written and never synced may be torn in any order.
package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/weir-project/weir/engine/vfs"
)

// DefaultSegmentBytes is the size at which the log goes on in a new file.
const DefaultSegmentBytes = 64 << 20

// MaxGroupBytes is the largest body that Append takes, in bytes.
const MaxGroupBytes = 256 << 20

// Errors that a caller acts on.
var (
	// ErrCaughtUp: the reader stands at the published mark; see Log.Changed.
	ErrCaughtUp = errors.New("nothing more is published")
	// ErrDropped: the entry was removed by DropBefore; go on at Log.First.
	ErrDropped = errors.New("entry is no longer held")
	// ErrShort: the log ends before the mark it should be restored to.
	ErrShort = errors.New("log ends before its mark")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("log is closed")
)

// CorruptError says that bytes which were durable have changed.
type CorruptError struct {
	Dir     string
	Segment uint64 // number of the file
	Offset  int64  // of the group that is damaged, in bytes
	Reason  string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s", path(e.Dir, e.Segment), e.Offset, e.Reason)
}

// Config says where a log is. FS and Dir must be set.
type Config struct {
	FS  vfs.FS
	Dir string
	// SegmentBytes is when to go on in a new file; 0 = DefaultSegmentBytes. A
	// group is never split, so files may be longer by one group.
	SegmentBytes int64
	// Lazy leaves all files but the newest to be checked when they are read;
	// otherwise Open reads the whole log.
	Lazy bool

	salt uint64 // 0: random
}

// Validate says what is missing or out of range.
func (c Config) Validate() error {
	switch {
	case c.FS == nil:
		return errors.New("segment: Config.FS is not set")
	case c.Dir == "":
		return errors.New("segment: Config.Dir is not set")
	case c.SegmentBytes < 0:
		return fmt.Errorf("segment: Config.SegmentBytes is %d", c.SegmentBytes)
	}
	return nil
}

// Mark is an end of the log. Entries decides; File and Length say where the
// end was at the time, and a recovery may have moved it since.
type Mark struct {
	File    uint64 // number of the file, from 1
	Length  int64  // bytes in it
	Entries uint64 // entries ever appended
}

// Info describes a file of the log.
type Info struct {
	Number uint64
	First  uint64 // ordinal of its first entry
	Length int64  // bytes
}

// Recovery says what Open found at the end of the log.
type Recovery struct {
	Segment uint64 // the file that was cut; 0 if none
	Offset  int64  // where
	Bytes   int64  // how many bytes were cut
	Begun   bool   // they begin with a group; otherwise they are of an earlier use of the file
	Reason  string // what was wrong with them
	// Rewritten is how many groups were written anew because they may never have
	// been durable.
	Rewritten int
}

// Log is an append-only log. Append, Rotate, Sync and Restore are for one goroutine at
// a time; everything else may be called from any, meanwhile.
type Log struct {
	cfg      Config
	salt     uint64
	outside  bool // opened by Look
	recovery Recovery

	write  sync.Mutex // the writer's state
	file   vfs.File
	seed   uint32 // seedOf the file
	tail   bool   // behind the end are bytes of an earlier use of the file
	err    error  // what failed, for good
	seq    uint64
	synced uint64
	chain  uint32
	buf    []byte

	mu       sync.Mutex // what readers see
	segments []segment  // oldest first, never empty
	end      Mark
	changed  chan struct{}
	closed   bool
	reading  map[uint64]int // readers by number of the file
	spare    uint64         // number of the file that waits for reuse, 0 = none

	published atomic.Uint64 // entries that readers may read
	drop      sync.Mutex    // one DropBefore at a time
}

// segment is a file as its header describes it.
type segment struct {
	number, firstSeq, firstOrdinal uint64
	chain                          uint32
	length                         int64 // bytes that may be read
}

func path(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d.seg", number))
}

func newSalt() uint64 {
	for {
		if s := rand.Uint64(); s != 0 {
			return s
		}
	}
}

// Recovery says what Open had to do.
func (l *Log) Recovery() Recovery { return l.recovery }

// Identity is the log's salt, which tells it from all others. It is set once the
// log is open.
func (l *Log) Identity() uint64 { return l.salt }

// Err is what made the log fail, nil while it works.
func (l *Log) Err() error {
	l.write.Lock()
	defer l.write.Unlock()
	return l.err
}

// End is the end of what was appended, durable or not.
func (l *Log) End() Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// First is the ordinal of the oldest entry still held; in an empty log, of the
// next entry.
func (l *Log) First() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[0].firstOrdinal
}

// Size is how many bytes the log's files hold.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, s := range l.segments {
		n += s.length
	}
	return n
}

// Segments lists the files, oldest first.
func (l *Log) Segments() []Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Info, len(l.segments))
	for i, s := range l.segments {
		out[i] = Info{Number: s.number, First: s.firstOrdinal, Length: s.length}
	}
	return out
}

// Append writes count framed entries (see Frame) as one group at the end; they
// are durable after Sync. After a failed write every Append and Sync returns
// the same error. With count 0 it does nothing.
func (l *Log) Append(framed []byte, count int) error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.err != nil {
		return l.err
	}
	if err := checkFrames(framed, count); err != nil {
		return fmt.Errorf("append to %s: %w", l.cfg.Dir, err)
	}
	if count == 0 {
		return nil
	}
	at := l.End().Length
	if at > fileHeaderBytes && at+groupHeaderBytes+int64(len(framed)) > l.cfg.SegmentBytes {
		if err := l.rotate(); err != nil {
			return l.fail(err)
		}
		at = l.End().Length
	}
	h := group{
		count: uint32(count), seq: l.seq, ordinal: l.End().Entries, synced: l.synced,
		offset: uint64(at), chain: l.chain, length: uint32(len(framed)), bodySum: checksum(framed),
	}
	sum, err := l.writeGroup(&h, framed)
	if err != nil {
		return l.fail(err)
	}
	l.chain = sum
	l.seq++
	l.mu.Lock()
	l.end.Length += groupHeaderBytes + int64(len(framed))
	l.end.Entries += uint64(count)
	l.segments[len(l.segments)-1].length = l.end.Length
	l.mu.Unlock()
	return nil
}

// copyLimit is up to which length a body is copied behind its header to make
// one write of two, in bytes.
const copyLimit = 1 << 20

func (l *Log) writeGroup(h *group, body []byte) (sum uint32, err error) {
	l.buf, sum = h.encode(l.buf[:0], l.seed)
	if len(body) > copyLimit {
		if _, err := l.file.Write(l.buf); err != nil {
			return 0, fmt.Errorf("write group %d: %w", h.seq, err)
		}
		l.buf = l.buf[:0]
		_, err = l.file.Write(body)
	} else {
		l.buf = append(l.buf, body...)
		_, err = l.file.Write(l.buf)
	}
	if err != nil {
		return 0, fmt.Errorf("write group %d: %w", h.seq, err)
	}
	return sum, nil
}

// Sync makes everything that was appended durable. After an error the log has
// failed: a second try could succeed without having written anything.
func (l *Log) Sync() error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.err != nil {
		return l.err
	}
	if err := l.syncFile(); err != nil {
		return l.fail(err)
	}
	return nil
}

func (l *Log) syncFile() error {
	if l.synced == l.seq {
		return nil
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	l.synced = l.seq
	return nil
}

func (l *Log) fail(err error) error {
	l.err = fmt.Errorf("log %s has failed: %w", l.cfg.Dir, err)
	return l.err
}

// Rotate goes on in a new file, where the newest holds anything. Call it as Append.
func (l *Log) Rotate() error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.err != nil {
		return l.err
	}
	if l.End().Length <= fileHeaderBytes {
		return nil
	}
	if err := l.rotate(); err != nil {
		return l.fail(err)
	}
	return nil
}

// rotate goes on in a new file. The old one is synced before, since a newer
// file says that all before it is durable.
func (l *Log) rotate() error {
	if err := l.syncFile(); err != nil {
		return err
	}
	end := l.End()
	next := segment{number: end.File + 1, firstSeq: l.seq, firstOrdinal: end.Entries, chain: l.chain}
	return l.startFile(next, nil)
}

// startFile makes a file that begins with the groups that fill appends, makes
// it durable under its name, and writes there from then on.
func (l *Log) startFile(s segment, fill func(f vfs.File, s *segment) error) error {
	file, recycled, err := l.makeFile(&s, fill)
	if err != nil {
		return fmt.Errorf("make segment %d: %w", s.number, err)
	}
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return errors.Join(fmt.Errorf("close segment %d: %w", s.number-1, err), file.Close())
		}
	}
	l.file, l.seed, l.tail = file, seedOf(l.salt, s.number), recycled > s.length
	l.mu.Lock()
	l.segments = append(l.segments, s)
	l.end = Mark{File: s.number, Length: s.length, Entries: max(l.end.Entries, s.firstOrdinal)}
	l.mu.Unlock()
	return nil
}

// makeFile returns the file, at the place where writing goes on, and how many bytes
// it had before.
func (l *Log) makeFile(s *segment, fill func(f vfs.File, s *segment) error) (file vfs.File, recycled int64, err error) {
	name := path(l.cfg.Dir, s.number)
	f, as, recycled, err := l.blank(name + tmpSuffix)
	if err != nil {
		return nil, 0, err
	}
	if err := l.fillFile(f, s, fill); err != nil {
		return nil, 0, err
	}
	if err := l.cfg.FS.Rename(as, name); err != nil {
		return nil, 0, err
	}
	if err := l.cfg.FS.SyncDir(l.cfg.Dir); err != nil {
		return nil, 0, err
	}
	file, err = l.cfg.FS.Overwrite(name, s.length)
	return file, recycled, err
}

// fillFile writes the file's header and what fill adds, syncs and closes it.
func (l *Log) fillFile(f vfs.File, s *segment, fill func(f vfs.File, s *segment) error) error {
	_, err := f.Write(s.encode(nil, l.salt))
	s.length = fileHeaderBytes
	if err == nil && fill != nil {
		err = fill(f, s)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Publish lets readers go on to m, an end that was taken from End or Restore.
// A mark before the published one changes nothing, and one beyond the end
// publishes up to the end.
func (l *Log) Publish(m Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := min(m.Entries, l.end.Entries)
	if entries <= l.published.Load() {
		return
	}
	l.published.Store(entries)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Changed returns a channel that is closed when more is published or the log
// is closed. Take it before reading, and wait on it after ErrCaughtUp.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
		if l.closed {
			close(l.changed)
		}
	}
	return l.changed
}

// Close ends the log without syncing it. Readers that have caught up get
// ErrClosed from then on. It may be called twice.
func (l *Log) Close() error {
	l.write.Lock()
	defer l.write.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	if l.changed != nil {
		close(l.changed)
	}
	l.changed = nil
	l.mu.Unlock()
	var err error
	if l.err == nil {
		l.err = fmt.Errorf("log %s: %w", l.cfg.Dir, ErrClosed)
		if l.tail {
			err = l.file.Truncate(l.end.Length) // so that the next Open finds nothing to cut
		}
	}
	if l.file == nil {
		return nil
	}
	if err := errors.Join(err, l.file.Close()); err != nil {
		return fmt.Errorf("close log %s: %w", l.cfg.Dir, err)
	}
	return nil
}
