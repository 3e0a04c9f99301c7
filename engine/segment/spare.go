package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/weir-project/weir/engine/vfs"
)

// A file that is dropped becomes the spare: the next segment is written over it.
// That saves the removal (on a disk that is told of freed room, that stops all
// writes for milliseconds) and makes each sync cheaper, since the file does not
// grow. One is enough where files are dropped as fast as they are filled; further
// ones are removed.

// DropBefore removes the files all of whose entries lie before ordinal; the
// newest file always stays. Readers that are in a removed file may finish it.
func (l *Log) DropBefore(ordinal uint64) error {
	l.drop.Lock()
	defer l.drop.Unlock()
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return fmt.Errorf("drop from log %s: %w", l.cfg.Dir, ErrClosed)
		}
		if len(l.segments) < 2 || l.segments[1].firstOrdinal > ordinal {
			l.mu.Unlock()
			return nil
		}
		oldest := l.segments[0]
		l.segments = slices.Clone(l.segments[1:])
		l.mu.Unlock()
		if err := l.retire(oldest.number); err != nil {
			// It stays the oldest, so that no younger one goes before it.
			l.mu.Lock()
			l.segments = append([]segment{oldest}, l.segments...)
			l.mu.Unlock()
			return fmt.Errorf("drop segment %d: %w", oldest.number, err)
		}
	}
}

// spareName is what a dropped file is called. The number keeps names of different
// files apart.
func spareName(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s%s", number, segSuffix, spareSuffix))
}

// retire takes a file out of the log's names and makes that durable: a crash that
// kept an older name and lost a newer one would look like damage.
func (l *Log) retire(number uint64) error {
	l.mu.Lock()
	keep := l.spare == 0
	l.mu.Unlock()
	var err error
	if keep {
		err = l.cfg.FS.Rename(path(l.cfg.Dir, number), spareName(l.cfg.Dir, number))
	} else {
		err = l.cfg.FS.Remove(path(l.cfg.Dir, number))
	}
	gone := errors.Is(err, fs.ErrNotExist)
	if err != nil && !gone {
		return err
	}
	if err := l.cfg.FS.SyncDir(l.cfg.Dir); err != nil {
		return err
	}
	if keep && !gone {
		l.mu.Lock()
		l.spare = number
		l.mu.Unlock()
	}
	return nil
}

// takeSpare returns the name of the spare, which is then the caller's, or "" where
// there is none that nobody reads any more.
func (l *Log) takeSpare() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spare == 0 || l.reading[l.spare] > 0 {
		return ""
	}
	name := spareName(l.cfg.Dir, l.spare)
	l.spare = 0
	return name
}

// adopt takes a spare that an earlier run left, and removes what is one too many.
func (l *Log) adopt(number uint64) error {
	if l.spare == 0 {
		l.spare = number
		return nil
	}
	return l.cfg.FS.Remove(spareName(l.cfg.Dir, number))
}

// blank returns an empty file, or the spare, to be written from its beginning, and
// its name; recycled is how many bytes it had.
func (l *Log) blank(name string) (f vfs.File, as string, recycled int64, err error) {
	spare := l.takeSpare()
	if spare == "" {
		f, err = l.cfg.FS.Create(name)
		return f, name, 0, err
	}
	f, err = l.cfg.FS.Overwrite(spare, 0)
	if err != nil {
		return nil, "", 0, err
	}
	recycled, err = f.Size()
	if err != nil {
		return nil, "", 0, errors.Join(err, f.Close())
	}
	return f, spare, recycled, nil
}
