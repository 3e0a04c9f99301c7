package vfs

import (
	"errors"
	"fmt"
)

var errNoMapping = fmt.Errorf("map a file into memory: %w", errors.ErrUnsupported)

// Mapper is an optional power of a file system: memory that outlives the process.
type Mapper interface {
	// Map makes a file of that size, or opens it and gives it the size, and maps it
	// into memory. What is written to the memory is there for the next process however
	// this one ends; after a power cut it may not be. Where the system has no such
	// thing the error wraps errors.ErrUnsupported.
	Map(name string, size int) (Mapping, error)
}

// Mapping is a file in memory.
type Mapping interface {
	// Bytes is the memory, of the size that was asked for, aligned to 8 bytes at least.
	Bytes() []byte
	// Close gives the memory back; it must not be touched any more.
	Close() error
}

// memMapping is memory that a Mem keeps by the file's name until a power cut.
type memMapping []byte

func (m memMapping) Bytes() []byte { return m }
func (m memMapping) Close() error  { return nil }

// Map implements Mapper.
func (m *Mem) Map(name string, size int) (Mapping, error) {
	name = clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.openWrite("map", name)
	if err != nil {
		return nil, err
	}
	f.node.truncate(int64(size))
	if b := m.maps[name]; len(b) != size {
		now := make(memMapping, size)
		copy(now, b)
		m.maps[name] = now
	}
	return m.maps[name], nil
}

// Map implements Mapper.
func (f *Faults) Map(name string, size int) (m Mapping, err error) {
	under, ok := f.under.(Mapper)
	if !ok {
		return nil, errNoMapping
	}
	err = f.do("map", name, func() (err error) { m, err = under.Map(name, size); return err })
	return m, err
}
