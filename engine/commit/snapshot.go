package commit

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/vfs"
)

const (
	snapMagic  = "WEIRSNP\x01"
	snapSuffix = ".snap"
	snapTmp    = "next.tmp"

	kindHead  = 0
	kindMark  = 1
	kindSlice = 2
	kindEnd   = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func snapName(begin uint64) string { return fmt.Sprintf("%020d%s", begin, snapSuffix) }

// snapshotWhenDue starts a snapshot once enough was written since the last.
func (l *Log) snapshotWhenDue() {
	w := &l.writer
	if w.since < max(l.cfg.SnapshotEvery, l.SnapshotSize()) {
		return
	}
	if w.running != nil {
		select {
		case <-w.running:
		default:
			return
		}
	}
	w.since = 0
	running := make(chan struct{})
	w.running = running
	l.done.Go(func() {
		defer close(running)
		if err := l.Snapshot(l.stopCtx); err != nil && l.stopCtx.Err() == nil {
			l.cfg.Log.Error("snapshot failed; the log is kept and the next one tries again", "error", err)
		}
	})
}

// Snapshot writes the tables' committed values, so that recovery begins there,
// and removes what is no longer needed. It also runs by itself, every
// Config.SnapshotEvery. A failure leaves the older snapshots and the log.
func (l *Log) Snapshot(ctx context.Context) error {
	l.snapshot.Lock()
	defer l.snapshot.Unlock()
	err := l.writeSnapshot(ctx)
	if err != nil {
		err = fmt.Errorf("snapshot of commit log %s: %w", l.cfg.Dir, err)
	}
	l.mu.Lock()
	l.snapErr = err
	l.mu.Unlock()
	return err
}

// SnapshotErr is the error of the last snapshot, nil where it succeeded.
func (l *Log) SnapshotErr() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.snapErr
}

// SnapshotSize is how many bytes the newest snapshot has, 0 where there is none.
func (l *Log) SnapshotSize() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.snapSize
}

func (l *Log) writeSnapshot(ctx context.Context) error {
	l.mu.Lock()
	if l.err != nil || l.closed {
		defer l.mu.Unlock()
		return errors.Join(l.err, ErrClosed)
	}
	begin, at, marks := l.applied, l.at, maps.Clone(l.marks)
	done := len(l.begins) > 0 && l.begins[0] == begin
	l.mu.Unlock()
	if done {
		return nil // nothing was committed since
	}
	if err := vfs.EnsureDir(l.cfg.FS, l.path("snapshots")); err != nil {
		return err
	}
	tmp := l.path("snapshots", snapTmp)
	f, err := l.cfg.FS.Create(tmp)
	if err != nil {
		return err
	}
	w := &snapWriter{f: f}
	err = l.writeTables(ctx, w, begin, at, func() {
		for _, name := range slices.Sorted(maps.Keys(marks)) {
			w.frame(kindMark, encodeMark(nil, name, marks[name]))
		}
	})
	if err == nil {
		err = f.Sync()
	}
	size, sizeErr := f.Size()
	if err := errors.Join(err, sizeErr, f.Close()); err != nil {
		return err
	}
	// Slices hold committed values only, so the log is durable past all of them.
	if err := l.cfg.FS.Rename(tmp, l.path("snapshots", snapName(begin))); err != nil {
		return err
	}
	if err := l.cfg.FS.SyncDir(l.path("snapshots")); err != nil {
		return err
	}
	l.mu.Lock()
	l.counts.snapshot.Store(time.Now().UnixNano())
	l.begins = append([]uint64{begin}, l.begins...)
	l.begins = l.begins[:min(keepSnapshots, len(l.begins))]
	l.snapSize = size
	l.mu.Unlock()
	if err := l.removeSnapshots(); err != nil {
		return err
	}
	return l.Trim()
}

// removeSnapshots removes all that are not kept, damaged ones among them.
func (l *Log) removeSnapshots() error {
	found, err := l.listSnapshots()
	if err != nil {
		return err
	}
	l.mu.Lock()
	keep := slices.Clone(l.begins)
	l.mu.Unlock()
	for _, begin := range found {
		if slices.Contains(keep, begin) {
			continue
		}
		if err := l.cfg.FS.Remove(l.path("snapshots", snapName(begin))); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) writeTables(ctx context.Context, w *snapWriter, begin uint64, at time.Duration, marks func()) error {
	w.buf = append(w.buf, snapMagic...)
	head := le.AppendUint64(nil, begin)
	w.frame(kindHead, le.AppendUint64(head, uint64(at)))
	marks()
	for _, t := range *l.tables.Load() {
		name := le.AppendUint16(nil, uint16(len(t.Name())))
		name = append(name, t.Name()...)
		err := t.Snapshot(func(slice []byte) error {
			if err := errors.Join(ctx.Err(), l.stopCtx.Err()); err != nil {
				return err
			}
			if len(slice) > maxSliceBytes {
				return fmt.Errorf("slice of %d bytes is larger than %d", len(slice), maxSliceBytes)
			}
			w.frame(kindSlice, name, slice)
			return w.flush()
		})
		if err != nil {
			return fmt.Errorf("table %q: %w", t.Name(), err)
		}
	}
	w.frame(kindEnd)
	return w.flush()
}

// snapWriter writes the frames of a snapshot.
type snapWriter struct {
	f   vfs.File
	n   uint64
	buf []byte
}

func (w *snapWriter) frame(kind byte, parts ...[]byte) {
	start := len(w.buf)
	w.buf = append(w.buf, 0, 0, 0, 0, 0, 0, 0, 0, kind)
	for _, p := range parts {
		w.buf = append(w.buf, p...)
	}
	body := w.buf[start+8:]
	le.PutUint32(w.buf[start:], uint32(len(body)))
	le.PutUint32(w.buf[start+4:], frameSum(w.n, body))
	w.n++
}

func (w *snapWriter) flush() error {
	_, err := w.f.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// frameSum binds a frame to its place.
func frameSum(n uint64, body []byte) uint32 {
	var place [8]byte
	le.PutUint64(place[:], n)
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, body)
}

// errSnapshot says that a snapshot is damaged, not that it could not be read.
var errSnapshot = errors.New("the snapshot is damaged")

// readSnapshot calls take for every frame of a whole snapshot.
func readSnapshot(f vfs.File, take func(kind byte, body []byte) error) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	r := io.NewSectionReader(f, 0, size)
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return damaged(0, err)
	}
	if string(head) != snapMagic {
		return fmt.Errorf("%w: wrong beginning %q", errSnapshot, head)
	}
	var body []byte
	for n := uint64(0); ; n++ {
		if _, err := io.ReadFull(r, head); err != nil {
			return damaged(n, err)
		}
		length := le.Uint32(head)
		if length == 0 || length > maxSliceBytes+maxNameBytes+3 {
			return fmt.Errorf("%w: frame %d has %d bytes", errSnapshot, n, length)
		}
		body = slices.Grow(body[:0], int(length))[:length]
		if _, err := io.ReadFull(r, body); err != nil {
			return damaged(n, err)
		}
		if frameSum(n, body) != le.Uint32(head[4:]) {
			return fmt.Errorf("%w: frame %d has a wrong checksum", errSnapshot, n)
		}
		if (n == 0) != (body[0] == kindHead) {
			return fmt.Errorf("%w: frame %d is of kind %d", errSnapshot, n, body[0])
		}
		if err := take(body[0], body[1:]); err != nil {
			return err
		}
		if body[0] == kindEnd {
			return nil
		}
	}
}

func damaged(n uint64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends in frame %d", errSnapshot, n)
	}
	return err
}

// loadSnapshot loads the newest whole snapshot and returns where replay begins.
func (l *Log) loadSnapshot() (begin uint64, err error) {
	begins, err := l.listSnapshots()
	if err != nil {
		return 0, err
	}
	first, end := l.seg.First(), l.seg.End().Entries
	var found []error
	for i, b := range begins {
		if b > end {
			return 0, fmt.Errorf("%w: snapshot %s was made at entry %d, and the log ends with entry %d: committed groups are lost",
				ErrNoState, snapName(b), b, end)
		}
		if b < first {
			found = append(found, fmt.Errorf("snapshot %s: the log begins only at entry %d", snapName(b), first))
			continue
		}
		if err = l.checkSnapshot(b); errors.Is(err, errSnapshot) {
			l.cfg.Log.Error("a snapshot is damaged; an older one is tried", "file", snapName(b), "error", err)
			found = append(found, fmt.Errorf("snapshot %s: %w", snapName(b), err))
			continue
		}
		if err != nil {
			return 0, err
		}
		l.begins = begins[i:]
		info, err := l.cfg.FS.Stat(l.path("snapshots", snapName(b)))
		if err != nil {
			return 0, err
		}
		l.snapSize = info.Size
		return b, l.applySnapshot(b)
	}
	if first > 0 {
		return 0, errors.Join(append(found, fmt.Errorf("%w, and the log begins only at entry %d", ErrNoState, first))...)
	}
	return 0, nil
}

// listSnapshots returns the begins of the snapshots, newest first.
func (l *Log) listSnapshots() ([]uint64, error) {
	names, err := l.cfg.FS.List(l.path("snapshots"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var begins []uint64
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, snapSuffix)
		if !ok || len(digits) != 20 {
			continue
		}
		if begin, err := strconv.ParseUint(digits, 10, 64); err == nil {
			begins = append(begins, begin)
		}
	}
	slices.Reverse(begins)
	return begins, nil
}

func (l *Log) eachFrame(begin uint64, take func(kind byte, body []byte) error) error {
	f, err := l.cfg.FS.Open(l.path("snapshots", snapName(begin)))
	if err != nil {
		return err
	}
	return errors.Join(readSnapshot(f, take), f.Close())
}

// checkSnapshot reads a whole snapshot before any table sees a part of it.
func (l *Log) checkSnapshot(begin uint64) error {
	return l.eachFrame(begin, func(kind byte, body []byte) error {
		var err error
		switch kind {
		case kindHead:
			if len(body) != 16 || le.Uint64(body) != begin {
				err = errors.New("the head belongs to another snapshot")
			}
		case kindMark:
			_, _, _, err = decodeMark(body)
		case kindSlice:
			_, _, err = decodeName(body)
		case kindEnd:
		default:
			err = fmt.Errorf("a frame of unknown kind %d", kind)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errSnapshot, err)
		}
		return nil
	})
}

func (l *Log) applySnapshot(begin uint64) error {
	tables := map[string]Table{}
	for _, t := range *l.tables.Load() {
		tables[t.Name()] = t
	}
	return l.eachFrame(begin, func(kind byte, body []byte) error {
		switch kind {
		case kindHead:
			l.at = time.Duration(le.Uint64(body[8:]))
		case kindMark:
			name, m, _, err := decodeMark(body)
			if err != nil {
				return err
			}
			l.marks[name] = m
		case kindSlice:
			name, slice, err := decodeName(body)
			if err != nil {
				return err
			}
			t := tables[name]
			if t == nil {
				l.cfg.Log.Warn("a snapshot holds a table that is no longer there; it is left out", "table", name)
				return nil
			}
			if err := t.Load(slice); err != nil {
				return fmt.Errorf("load table %q: %w", name, err)
			}
		}
		return nil
	})
}
