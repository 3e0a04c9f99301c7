//go:build unix

package wasm

import (
	"golang.org/x/sys/unix"

	"github.com/tetratelabs/wazero/experimental"
)

// allocate reserves a guest's whole memory at once: pages cost nothing until
// they are touched, growing copies nothing, and freeing gives everything back.
// It is nil where the system refuses.
func allocate(most uint64) experimental.LinearMemory {
	b, err := unix.Mmap(-1, 0, int(most), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil
	}
	return &mapped{b: b}
}

type mapped struct{ b []byte }

// Reallocate gives the first size bytes, nil past the cap.
func (m *mapped) Reallocate(size uint64) []byte {
	if size > uint64(len(m.b)) {
		return nil
	}
	return m.b[:size:size]
}

// Free unmaps the memory. A view kept past it is a segmentation fault.
func (m *mapped) Free() {
	if m.b != nil {
		// Unmapping a mapping of our own cannot fail, and nobody could act on it.
		_ = unix.Munmap(m.b)
		m.b = nil
	}
}
