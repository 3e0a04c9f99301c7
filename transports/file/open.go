package file

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// maxOpenTries bounds the look at a path that is renamed again and again.
const maxOpenTries = 10

var bom = []byte{0xEF, 0xBB, 0xBF}

// openStable opens a path and its node: a rename between the two would give
// one file's identity to another.
func openStable(fsys vfs.FS, path string) (vfs.File, vfs.Info, error) {
	for range maxOpenTries {
		before, err := fsys.Stat(path)
		if err != nil {
			return nil, vfs.Info{}, err
		}
		f, err := fsys.Open(path)
		if err != nil {
			return nil, vfs.Info{}, err
		}
		after, err := fsys.Stat(path)
		if err == nil && after.ID == before.ID {
			return f, after, nil
		}
		if closeErr := f.Close(); closeErr != nil {
			return nil, vfs.Info{}, closeErr
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, vfs.Info{}, err
		}
	}
	return nil, vfs.Info{}, fmt.Errorf("open %s: it is replaced all the time", path)
}

// openOnce opens a file that is read to its end and then left. It returns nil
// for an empty one.
func (s *source) openOnce(path string) (*openFile, error) {
	f, info, err := openStable(s.env.FS, path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w: %w", path, err, transports.ErrFatal)
	}
	o, err := s.begin(f, info, path)
	if o == nil {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w: %w", path, err, transports.ErrFatal)
	}
	return o, nil
}

func (s *source) begin(f vfs.File, info vfs.Info, path string) (*openFile, error) {
	size, err := f.Size()
	if err != nil || size == 0 {
		return nil, err
	}
	at, found, err := s.matching(f, info.ID)
	if err != nil {
		return nil, err
	}
	if found && s.cfg.follow && at.offset > size {
		s.env.Log.Warn("file source: the file was emptied since the last run; reading it from its beginning",
			"source", s.env.Name, "path", path, "had", at.offset, "has", size)
		found = false
	}
	if !found {
		at = resumed{}
		if at.id, err = s.newIdentity(f, info.ID); err != nil {
			return nil, err
		}
		at.partition = at.id.partition()
	}
	o := &openFile{path: path, f: f, id: at.id, partition: at.partition}
	head, err := readHead(f, headBytes)
	if err != nil {
		return nil, err
	}
	if err := s.chooseReader(o, f, head, at.place, size); err != nil {
		return nil, err
	}
	adviseSequential(f)
	s.assigned(o.partition)
	return o, nil
}

// matching finds the position of the last run in this very file: of several
// (the file was begun again) the youngest.
func (s *source) matching(f vfs.File, node [2]uint64) (resumed, bool, error) {
	best, found := resumed{}, false
	for _, at := range s.resume {
		if at.id.node != node || found && at.id.restart <= best.id.restart {
			continue
		}
		same, err := at.id.begins(f)
		if err != nil {
			return resumed{}, false, err
		}
		if same {
			best, found = at, true
		}
	}
	return best, found, nil
}

// newIdentity makes the identity of a file that no position is known of. Where
// another file had its partition before, it gets the next restart.
func (s *source) newIdentity(f vfs.File, node [2]uint64) (identity, error) {
	id, err := identify(f, node)
	for err == nil && s.knows(id.partition()) {
		id.restart++
	}
	return id, err
}

// plainStart is where the first line of an unpacked file begins.
func plainStart(head []byte) int64 {
	if bytes.HasPrefix(head, bom) {
		return int64(len(bom))
	}
	return 0
}
