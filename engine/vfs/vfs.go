// Package vfs is the one door to the disk for everything that must survive a
// crash. Code above it says Sync and SyncDir where it needs durability; the
// implementations are the operating system, a memory file system that can be
// "crashed" at any operation, and a wrapper that injects faults.
//
// Promise: what was written and then Sync-ed is there after a crash; a created,
// renamed or removed name is there (or gone) after a crash only once SyncDir of its
// folder has returned. Nothing else may be relied on.
package vfs

import (
	"io"
	"time"
)

// File is an open file. Write goes on at the file's own write position, which
// stands at the end after Append, at 0 after Create and where it was asked for
// after Overwrite. ReadAt may be called
// from any goroutine; everything else from one at a time.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	// Sync makes all that was written durable. After an error the file's
	// unsynced contents are unknown and the file must be abandoned.
	Sync() error
	// Truncate cuts or extends the file to size bytes and, where the write
	// position lies past size, moves it there.
	Truncate(size int64) error
	// Size is the current length in bytes.
	Size() (int64, error)
}

// FS is a tree of files. Names are slash-separated paths as the operating
// system takes them. Errors wrap fs.ErrNotExist and fs.ErrExist where they
// apply. All methods may be called concurrently.
type FS interface {
	// Create makes or empties a file, open for reading and writing.
	Create(name string) (File, error)
	// Append opens an existing or new file for reading and for writing at its end.
	Append(name string) (File, error)
	// Overwrite opens an existing file for reading and for writing over what is
	// there, from byte at on. Unlike Create it keeps the file's room on the disk,
	// so that a sync of what is written need not make any room durable.
	Overwrite(name string, at int64) (File, error)
	// Open opens an existing file for reading only.
	Open(name string) (File, error)
	Remove(name string) error
	// Rename replaces newname where it exists, atomically.
	Rename(oldname, newname string) error
	// MkdirAll makes a folder and its parents, readable by the owner only.
	MkdirAll(dir string) error
	// List returns the names (not paths) in a folder, sorted.
	List(dir string) ([]string, error)
	Stat(name string) (Info, error)
	// SyncDir makes the names in a folder durable.
	SyncDir(dir string) error
	// Lock takes an exclusive lock file; it fails with ErrLocked where another
	// process (or another holder in this one) has it. Close releases it.
	Lock(name string) (io.Closer, error)
	// Free is how many bytes may still be written below dir.
	Free(dir string) (int64, error)
}

// Info describes a file.
type Info struct {
	Size    int64
	ModTime time.Time
	Dir     bool
	// ID tells files apart across renames (device and inode); 0,0 where the
	// file system has no such thing.
	ID [2]uint64
}
