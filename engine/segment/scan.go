package segment

import (
	"errors"
	"fmt"
	"io"

	"github.com/weir-project/weir/engine/vfs"
)

// windowBytes is how much of a file is read at once.
const windowBytes = 256 << 10

// scan reads the groups of one file one after the other and checks that each
// follows the one before.
type scan struct {
	file  vfs.File
	seed  uint32 // see seedOf
	limit int64  // bytes that may be read

	// Where the next group starts and what it must be.
	at      int64
	seq     uint64
	ordinal uint64
	chain   uint32

	window   []byte
	windowAt int64
}

func newScan(file vfs.File, salt uint64, s segment, limit int64) *scan {
	return &scan{
		file: file, seed: seedOf(salt, s.number), limit: limit,
		at: fileHeaderBytes, seq: s.firstSeq, ordinal: s.firstOrdinal, chain: s.chain,
	}
}

// badError says that what was read is not the group that should be there; any
// other error of a scan is the file system's.
type badError struct{ reason error }

func (e *badError) Error() string { return e.reason.Error() }

// bytes returns n bytes at off, valid until the next call, reading ahead up to
// want bytes.
func (s *scan) bytes(off int64, n, want int) ([]byte, error) {
	if off >= s.windowAt && off+int64(n) <= s.windowAt+int64(len(s.window)) {
		from := int(off - s.windowAt)
		return s.window[from : from+n], nil
	}
	size := int(min(int64(max(n, want)), s.limit-off))
	if size < n {
		return nil, &badError{errTorn}
	}
	if cap(s.window) < size {
		s.window = make([]byte, size)
	}
	s.window, s.windowAt = s.window[:size], off
	got, err := s.file.ReadAt(s.window, off)
	if got < size {
		s.window = s.window[:0]
		if errors.Is(err, io.EOF) {
			return nil, &badError{errTorn}
		}
		return nil, fmt.Errorf("read at byte %d: %w", off, err)
	}
	return s.window[:n], nil
}

// header reads the next group's header without moving on; io.EOF at the limit.
func (s *scan) header(ahead int) (h group, err error) {
	if s.at >= s.limit {
		return h, io.EOF
	}
	b, err := s.bytes(s.at, groupHeaderBytes, ahead)
	if err != nil {
		return h, err
	}
	h, err = decodeGroup(b, s.seed)
	if err != nil {
		return h, &badError{err}
	}
	if h.seq != s.seq || h.ordinal != s.ordinal || h.offset != uint64(s.at) || h.chain != s.chain {
		return h, &badError{errOrder}
	}
	if s.at+groupHeaderBytes+int64(h.length) > s.limit {
		return h, &badError{errTorn}
	}
	return h, nil
}

// next reads the next group; its body is valid until the next call.
func (s *scan) next() (h group, body []byte, err error) {
	h, err = s.header(windowBytes)
	if err != nil {
		return h, nil, err
	}
	body, err = s.bytes(s.at+groupHeaderBytes, int(h.length), windowBytes)
	if err != nil {
		return h, nil, err
	}
	if checksum(body) != h.bodySum {
		return h, nil, &badError{errBody}
	}
	s.pass(h)
	return h, body, nil
}

// pass moves behind a group.
func (s *scan) pass(h group) {
	s.at += groupHeaderBytes + int64(h.length)
	s.seq++
	s.ordinal += uint64(h.count)
	s.chain = h.checkSum
}

// headerAhead is how much is read at once while bodies are skipped, in bytes.
const headerAhead = 4 << 10

// seek moves to the group that holds ordinal, or to the end of what may be
// read, looking at headers only.
func (s *scan) seek(ordinal uint64) error {
	for {
		h, err := s.header(headerAhead)
		if err == io.EOF || err == nil && s.ordinal+uint64(h.count) > ordinal {
			return nil
		}
		if err != nil {
			return err
		}
		s.pass(h)
	}
}

// begun says whether the group that should be at s.at, which is not whole, was at
// least begun.
func (s *scan) begun() bool {
	const head = 16
	b, err := s.bytes(s.at, head, head)
	return err != nil || string(b[:4]) == groupMagic && le.Uint64(b[8:]) == s.seq
}

// durableAfter looks in the rest of the file, byte by byte, for a group header
// that says that the group which should be at s.at was durable.
func (s *scan) durableAfter() (found bool, at int64, err error) {
	for off := s.at; off+groupHeaderBytes <= s.limit; {
		n := int(min(windowBytes, s.limit-off))
		b, err := s.bytes(off, n, n)
		if err != nil {
			return false, 0, err
		}
		for i := 0; i+groupHeaderBytes <= len(b); i++ {
			if b[i] != groupMagic[0] || string(b[i:i+4]) != groupMagic {
				continue
			}
			h, err := decodeGroup(b[i:i+groupHeaderBytes], s.seed)
			if err == nil && h.offset == uint64(off)+uint64(i) && h.seq > s.seq && h.synced > s.seq {
				return true, off + int64(i), nil
			}
		}
		off += int64(n) - groupHeaderBytes + 1
	}
	return false, 0, nil
}
