package segment

import (
	"errors"
	"io/fs"

	"github.com/weir-project/weir/engine/vfs"
)

// FirstHeld reads from the files of a log the ordinal of the oldest entry that they
// hold; ok is false where there are none. It changes nothing and may be called while
// another program writes the log.
func FirstHeld(fsys vfs.FS, dir string) (ordinal uint64, ok bool, err error) {
	l := &Log{cfg: Config{FS: fsys, Dir: dir}}
	names, err := fsys.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, false, err
	}
	for _, name := range names { // sorted, so the oldest comes first
		number, isSegment := parseName(name, segSuffix)
		if !isSegment {
			continue
		}
		s, err := l.readHeader(number)
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped meanwhile
		}
		return s.firstOrdinal, err == nil, err
	}
	return 0, false, nil
}
