package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// EnsureDir makes dir and its missing parents and makes their names durable:
// MkdirAll alone leaves a folder that a power cut may take away with all that
// was synced in it.
func EnsureDir(fsys FS, dir string) error {
	dir = filepath.Clean(dir)
	var missing []string
	for at := dir; ; at = filepath.Dir(at) {
		_, err := fsys.Stat(at)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for folder %s: %w", at, err)
		}
		missing = append(missing, at)
		if at == filepath.Dir(at) {
			break
		}
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("make folder %s: %w", dir, err)
	}
	if len(missing) == 0 {
		// It may have been made just before the process was killed: its name is
		// there to see and need not be durable. A parent that may not be read was
		// made by somebody else, long before.
		err := fsys.SyncDir(filepath.Dir(dir))
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("sync folder %s: %w", filepath.Dir(dir), err)
		}
		return nil
	}
	for i := len(missing) - 1; i >= 0; i-- {
		parent := filepath.Dir(missing[i])
		if err := fsys.SyncDir(parent); err != nil {
			return fmt.Errorf("sync folder %s: %w", parent, err)
		}
	}
	return nil
}
