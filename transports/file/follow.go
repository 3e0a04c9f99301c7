package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// follower is what a following source knows beyond its open files.
type follower struct {
	next time.Time // when to look for new files
	// finished holds, by node, files that were renamed and read to their end
	// and still match the pattern, so that they are not begun again.
	finished map[[2]uint64]place
	// ended holds the partitions of finished files, oldest first.
	ended []string
	// told holds the paths that a warning was given for.
	told map[string]bool
}

// tailState is what following knows of one open file.
type tailState struct {
	f       vfs.File
	node    [2]uint64
	off     int64 // end of what was given
	idle    bool  // all was given at the last look
	emptied bool  // begins again once it holds a whole line
	gone    bool  // its path is another file's, or nobody's
	size    int64
	active  time.Time // when it last grew or was given from
}

// openFollowed opens what is there. No file at all is fine: one may come.
func (s *source) openFollowed() error {
	s.follow.finished = map[[2]uint64]place{}
	s.follow.told = map[string]bool{}
	if err := s.openRenamed(); err != nil {
		return s.errorf("open: %w", err)
	}
	if err := s.scan(time.Now()); err != nil {
		return s.errorf("open: %w", err)
	}
	if len(s.files) == 0 {
		s.env.Log.Info("file source: waiting for a file", "source", s.env.Name, "path", s.cfg.path)
	}
	return nil
}

// stepFollowed asks the open files in turn.
func (s *source) stepFollowed(c *transports.Chunk) (busy bool, err error) {
	now := time.Now()
	if !now.Before(s.follow.next) {
		if err := s.scan(now); err != nil {
			return false, err
		}
	}
	for range len(s.files) {
		s.turn %= len(s.files)
		f := s.files[s.turn]
		if s.waitsForOlder(s.turn) {
			s.turn++
			continue
		}
		ended, err := s.readTail(f, c, now)
		if err != nil {
			return false, err
		}
		if ended {
			if err := s.finish(s.turn); err != nil {
				return false, err
			}
			return true, nil
		}
		s.turn++
		if len(c.Data) > 0 {
			return false, nil
		}
	}
	return false, nil
}

// waitsForOlder keeps the order across a rotation: the file that had the path
// before is read to its end first.
func (s *source) waitsForOlder(i int) bool {
	for _, older := range s.files[:i] {
		if older.tail.gone && older.path == s.files[i].path {
			return true
		}
	}
	return false
}

// readTail gives what was appended to a file. ended says that the file has
// lost its path and all of it was given.
func (s *source) readTail(f *openFile, c *transports.Chunk, now time.Time) (ended bool, err error) {
	t := &f.tail
	size, err := t.f.Size()
	if err != nil {
		return false, fmt.Errorf("size of %s: %w: %w", f.path, err, transports.ErrFatal)
	}
	if size != t.size {
		t.size, t.active = size, now
	}
	if err := s.noticeRestart(f, size); err != nil {
		return false, fmt.Errorf("read %s: %w: %w", f.path, err, transports.ErrFatal)
	}
	whole := t.gone && t.idle && now.Sub(t.active) >= rotateQuiet
	if t.emptied {
		return whole, nil
	}
	_, err = s.give(f, c, whole)
	switch {
	case errors.Is(err, io.EOF):
		ended, err = whole, nil
	case err != nil:
		return false, err
	}
	t.idle = len(c.Data) == 0
	if !t.idle {
		t.active = now
		t.off = f.read.(*plainLines).off
	}
	return ended, nil
}

// noticeRestart finds out whether the file was emptied in place (copytruncate)
// since the last look. What is then in it is a new partition.
func (s *source) noticeRestart(f *openFile, size int64) error {
	t := &f.tail
	if !t.emptied {
		emptied := size < t.off
		if t.idle && size > t.off {
			same, err := f.id.begins(t.f)
			if err != nil {
				return err
			}
			emptied = !same
		}
		if !emptied {
			return nil
		}
		s.env.Log.Warn("file source: the file was emptied; reading it from its beginning. What was written between the last look and then is lost",
			"source", s.env.Name, "path", f.path, "had", t.off, "has", size)
		t.emptied, t.idle, t.off = true, true, 0
	}
	head, ready, err := firstLine(t.f)
	if err != nil || !ready {
		return err
	}
	if f.id, err = s.newIdentity(t.f, t.node); err != nil {
		return err
	}
	f.partition = f.id.partition()
	t.off, t.emptied, t.idle = plainStart(head), false, false
	f.read = &plainLines{f: t.f, name: f.path, off: t.off, maxEvent: s.env.MaxEvent}
	s.assigned(f.partition)
	return nil
}

// firstLine says whether a followed file holds enough to be told apart: a
// whole line, or as much as its identity looks at.
func firstLine(f vfs.File) (head []byte, ready bool, err error) {
	head, err = readHead(f, headBytes)
	return head, len(head) == headBytes || bytes.IndexByte(head, '\n') >= 0, err
}

// finish closes a file that was read to its end.
func (s *source) finish(i int) error {
	f := s.files[i]
	end := resumed{place{id: f.id, form: formLines, offset: f.tail.off}, f.partition}
	s.follow.finished[f.tail.node] = end.place
	kept := s.resume[:0]
	for _, at := range s.resume {
		if at.id.node != f.tail.node {
			kept = append(kept, at)
		}
	}
	s.resume = append(kept, end)
	s.follow.ended = append(s.follow.ended, f.partition)
	if len(s.follow.ended) > maxRemembered {
		s.forget(s.follow.ended[0])
		s.follow.ended = s.follow.ended[1:]
	}
	s.files = append(s.files[:i], s.files[i+1:]...)
	s.env.Log.Info("file source: a file that was renamed or removed is read to its end",
		"source", s.env.Name, "path", f.path, "bytes", f.tail.off)
	if err := f.f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", f.path, err)
	}
	s.follow.next = time.Time{} // its successor may be there
	return nil
}

// forget drops the oldest finished partition: a settlement for it gets
// ErrNotHeld from now on.
func (s *source) forget(partition string) {
	s.knownMu.Lock()
	delete(s.known, partition)
	s.knownMu.Unlock()
	s.resume = slices.DeleteFunc(s.resume, func(at resumed) bool { return at.partition == partition })
}

// scan looks which files are there now.
func (s *source) scan(now time.Time) error {
	s.follow.next = now.Add(rescan)
	paths, err := expand(s.env.FS, s.cfg.path)
	if err != nil {
		return fmt.Errorf("%w: %w", err, transports.ErrFatal)
	}
	for _, f := range s.files {
		info, err := s.env.FS.Stat(f.path)
		if gone := err != nil || info.ID != f.tail.node; gone && !f.tail.gone {
			f.tail.gone, f.tail.active = true, now
		}
	}
	seen := map[[2]uint64]bool{}
	for _, path := range paths {
		node, err := s.take(path, now)
		if err != nil {
			return err
		}
		seen[node] = true
	}
	for node := range s.follow.finished {
		if !seen[node] {
			delete(s.follow.finished, node)
		}
	}
	return nil
}

// take opens a path's file unless that is done already.
func (s *source) take(path string, now time.Time) (node [2]uint64, err error) {
	info, err := s.env.FS.Stat(path)
	if err != nil {
		return node, nil // gone between two looks
	}
	for _, f := range s.files {
		if f.tail.node == info.ID {
			return info.ID, nil
		}
	}
	if info.Size == 0 {
		return info.ID, nil
	}
	if len(s.files) >= maxFollowed {
		s.warnOnce(s.cfg.path, fmt.Sprintf("more than %d files match; the rest waits", maxFollowed))
		return info.ID, nil
	}
	f, info, err := openStable(s.env.FS, path)
	if errors.Is(err, fs.ErrNotExist) {
		return info.ID, nil
	}
	if err != nil {
		return node, fmt.Errorf("open %s: %w: %w", path, err, transports.ErrFatal)
	}
	o, err := s.beginTail(f, info, path, now)
	if o == nil {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return node, fmt.Errorf("open %s: %w: %w", path, err, transports.ErrFatal)
	}
	if o != nil {
		s.files = append(s.files, o)
	}
	return info.ID, nil
}

// beginTail returns nil for a file that is not to be read (now).
func (s *source) beginTail(f vfs.File, info vfs.Info, path string, now time.Time) (*openFile, error) {
	if end, was := s.follow.finished[info.ID]; was && info.Size <= end.offset {
		if same, err := end.id.begins(f); err != nil || same {
			return nil, err
		}
	}
	head, ready, err := firstLine(f)
	if err != nil || !ready {
		return nil, err
	}
	if kind := packing(head); kind != "none" && s.cfg.compression == "auto" {
		s.warnOnce(path, "the file is packed with "+kind+" and is not followed; to read it, name it in a source without follow")
		return nil, nil
	}
	o, err := s.begin(f, info, path)
	if o == nil || err != nil {
		return nil, err
	}
	o.tail = tailState{f: f, node: info.ID, off: o.read.(*plainLines).off, active: now}
	return o, nil
}

// openRenamed finds the files of the last run that lost their path while
// nobody looked, in the folders of the pattern, and reads their rest first.
func (s *source) openRenamed() error {
	missing := map[[2]uint64]bool{}
	for _, at := range s.resume {
		missing[at.id.node] = true
	}
	paths, err := expand(s.env.FS, s.cfg.path)
	if err != nil {
		return fmt.Errorf("%w: %w", err, transports.ErrFatal)
	}
	for _, path := range paths {
		if info, err := s.env.FS.Stat(path); err == nil {
			delete(missing, info.ID)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	dirs, err := glob(s.env.FS, filepath.Dir(s.cfg.path))
	if err != nil {
		return fmt.Errorf("%w: %w", err, transports.ErrFatal)
	}
	for _, dir := range dirs {
		names, err := s.env.FS.List(dir)
		if err != nil {
			continue // not a folder, or gone
		}
		for _, name := range names[:min(len(names), maxListed)] {
			if err := s.openRest(filepath.Join(dir, name), missing); err != nil {
				return err
			}
		}
	}
	for node := range missing {
		s.env.Log.Info("file source: a file of an earlier run is no longer there", "source", s.env.Name, "device", node[0], "inode", node[1])
	}
	return nil
}

// openRest opens path if it is one of the missing files and grew since.
func (s *source) openRest(path string, missing map[[2]uint64]bool) error {
	info, err := s.env.FS.Stat(path)
	if err != nil || info.Dir || !missing[info.ID] {
		return nil
	}
	f, info, err := openStable(s.env.FS, path)
	if err != nil {
		return nil // moved on, or not ours to read
	}
	at, found, err := s.matching(f, info.ID)
	if err != nil || !found || info.Size <= at.offset {
		if found {
			delete(missing, info.ID)
		}
		return errors.Join(err, f.Close())
	}
	delete(missing, info.ID)
	o, err := s.beginTail(f, info, path, time.Now())
	if o == nil {
		return errors.Join(err, f.Close())
	}
	// It stands in for the path's former file: the present one waits for it.
	o.tail.gone = true
	if !hasMeta(s.cfg.path) {
		o.path = s.cfg.path
	}
	s.files = append(s.files, o)
	return nil
}

func (s *source) warnOnce(path, text string) {
	if s.follow.told[path] || len(s.follow.told) >= maxListed {
		return
	}
	s.follow.told[path] = true
	s.env.Log.Warn("file source: "+text, "source", s.env.Name, "path", path)
}
