package vfs

import (
	"errors"
	"os"
	"syscall"
)

// syncData is fdatasync: it makes the data and the metadata that reading needs
// (the length) durable and spares the time stamps. The name is SyncDir's.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EINTR):
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		// An interrupted call has not failed to write: it may be made again.
	}
}
