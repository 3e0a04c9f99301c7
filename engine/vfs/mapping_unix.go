//go:build unix

package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

type osMapping []byte

func (m osMapping) Bytes() []byte { return m }
func (m osMapping) Close() error  { return unix.Munmap(m) }

// Map implements Mapper.
func (OS) Map(name string, size int) (Mapping, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	b, err := mapFile(f, size)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return osMapping(b), nil
}

func mapFile(f *os.File, size int) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// A hole in the file would be filled when the memory is written to: on a full disk
	// that ends the process.
	if missing := int64(size) - st.Size(); missing > 0 {
		_, err = f.WriteAt(make([]byte, missing), st.Size())
	} else {
		err = f.Truncate(int64(size))
	}
	if err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "map", Path: f.Name(), Err: err}
	}
	return b, nil
}
