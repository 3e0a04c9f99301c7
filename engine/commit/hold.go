package commit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/weir-project/weir/engine/vfs"
)

// formatName begins the FORMAT file.
const formatName = "weir-commit "

// maxFormatBytes bounds what is read of FORMAT.
const maxFormatBytes = 64

// Hold is a folder that is taken: its lock is held and its format is one that
// this program knows. Whatever else lives in the folder (local queues, park
// queues) may be opened only while it is held, since opening recovers, and
// that writes.
type Hold struct {
	dir  string
	lock io.Closer
}

// Take makes the folder where it is missing, locks it and checks its format. Give
// the hold to Open by Config.Hold. Another holder is vfs.ErrLocked, a folder of a
// newer program ErrNewerFormat.
func Take(fsys vfs.FS, dir string) (*Hold, error) {
	if err := vfs.EnsureDir(fsys, dir); err != nil {
		return nil, err
	}
	lock, err := fsys.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("take data folder %s: %w", dir, err)
	}
	if err := checkFormat(fsys, dir); err != nil {
		return nil, errors.Join(fmt.Errorf("take data folder %s: %w", dir, err), lock.Close())
	}
	return &Hold{dir: dir, lock: lock}, nil
}

// Close gives the folder back. It may be called twice, and on nil.
func (h *Hold) Close() error {
	if h == nil || h.lock == nil {
		return nil
	}
	lock := h.lock
	h.lock = nil
	return lock.Close()
}

// checkFormat refuses a folder of a newer program and marks a new one. FORMAT
// is durable before anything else is made, so that a log without it is not ours.
func checkFormat(fsys vfs.FS, dir string) error {
	f, err := fsys.Open(filepath.Join(dir, "FORMAT"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := fsys.Stat(filepath.Join(dir, "log")); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(errors.New("there is a log and no FORMAT file"), err)
		}
		return writeFormat(fsys, dir)
	}
	if err != nil {
		return err
	}
	b := make([]byte, maxFormatBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return errors.Join(fmt.Errorf("read FORMAT: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := knownFormat(b[:n]); err != nil {
		return err
	}
	// A program that was killed may have left the name without making it durable.
	return fsys.SyncDir(dir)
}

func writeFormat(fsys vfs.FS, dir string) error {
	f, err := fsys.Create(filepath.Join(dir, "FORMAT.tmp"))
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(formatName + strconv.Itoa(FormatVersion) + "\n"))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(filepath.Join(dir, "FORMAT.tmp"), filepath.Join(dir, "FORMAT")); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}
