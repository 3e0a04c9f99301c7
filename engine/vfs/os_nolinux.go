//go:build !linux

package vfs

import "os"

// syncData uses the full sync of the platform (F_FULLFSYNC on Darwin).
func syncData(f *os.File) error { return f.Sync() }
