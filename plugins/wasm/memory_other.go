//go:build !unix

package wasm

import "github.com/tetratelabs/wazero/experimental"

// allocate keeps a guest's memory in a slice that grows up to the cap.
func allocate(most uint64) experimental.LinearMemory { return &sliced{most: most} }

type sliced struct {
	b    []byte
	most uint64
}

// Reallocate gives size bytes, nil past the cap.
func (s *sliced) Reallocate(size uint64) []byte {
	if size > s.most {
		return nil
	}
	if size > uint64(cap(s.b)) {
		grown := make([]byte, size, min(s.most, size*2))
		copy(grown, s.b)
		s.b = grown
	}
	s.b = s.b[:size]
	return s.b
}

// Free drops the memory.
func (s *sliced) Free() { s.b = nil }
