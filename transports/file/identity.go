package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/zeebo/xxh3"
)

const (
	headBytes       = 256
	positionVersion = 1
	positionLen     = 48
	formLines       = 'l'
	formArray       = 'a'
)

// identity tells a file apart from every other one, whatever its path: by
// device and inode, and by how it begins, since an inode is given again after
// its file is removed.
type identity struct {
	node     [2]uint64
	headLen  uint16
	headHash uint64
	restart  uint32
	// line is the hash of the head up to its first line break. It names the
	// partition, since it stays the same while a file grows; it is no part of
	// positions.
	line uint64
}

// resumed is where the last run stood in a partition.
type resumed struct {
	place
	partition string
}

func (id identity) partition() string {
	text := fmt.Sprintf("%x-%x-%016x", id.node[0], id.node[1], id.line)
	if id.restart > 0 {
		text += fmt.Sprintf("+%d", id.restart)
	}
	return text
}

// readHead reads up to n bytes of the beginning.
func readHead(f io.ReaderAt, n int) ([]byte, error) {
	var head [headBytes]byte
	got, err := f.ReadAt(head[:n], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return head[:got], nil
}

// identify makes the identity of an open file that is not empty.
func identify(f vfs.File, node [2]uint64) (identity, error) {
	head, err := readHead(f, headBytes)
	if err != nil {
		return identity{}, err
	}
	line := head
	if at := bytes.IndexByte(head, '\n'); at >= 0 {
		line = head[:at+1]
	}
	return identity{node: node, headLen: uint16(len(head)), headHash: xxh3.Hash(head), line: xxh3.Hash(line)}, nil
}

// begins says whether f begins as the identity says.
func (id identity) begins(f vfs.File) (bool, error) {
	head, err := readHead(f, int(id.headLen))
	if err != nil {
		return false, err
	}
	return len(head) == int(id.headLen) && xxh3.Hash(head) == id.headHash, nil
}

// place is a decoded position: the file, and where in it the next event begins.
type place struct {
	id     identity
	form   byte
	offset int64  // in the unpacked stream
	index  uint64 // elements of an array before it
}

func (p place) append(dst []byte) []byte {
	dst = append(dst, positionVersion, p.form)
	dst = binary.BigEndian.AppendUint64(dst, p.id.node[0])
	dst = binary.BigEndian.AppendUint64(dst, p.id.node[1])
	dst = binary.BigEndian.AppendUint16(dst, p.id.headLen)
	dst = binary.BigEndian.AppendUint64(dst, p.id.headHash)
	dst = binary.BigEndian.AppendUint32(dst, p.id.restart)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.offset))
	return binary.BigEndian.AppendUint64(dst, p.index)
}

func parsePosition(pos transports.Position) (place, error) {
	switch {
	case len(pos) != positionLen:
		return place{}, fmt.Errorf("position has %d bytes, want %d", len(pos), positionLen)
	case pos[0] != positionVersion:
		return place{}, fmt.Errorf("position has version %d, this program knows %d", pos[0], positionVersion)
	case pos[1] != formLines && pos[1] != formArray:
		return place{}, fmt.Errorf("position has unknown form %q", pos[1])
	}
	p := place{
		form: pos[1],
		id: identity{
			node:     [2]uint64{binary.BigEndian.Uint64(pos[2:]), binary.BigEndian.Uint64(pos[10:])},
			headLen:  binary.BigEndian.Uint16(pos[18:]),
			headHash: binary.BigEndian.Uint64(pos[20:]),
			restart:  binary.BigEndian.Uint32(pos[28:]),
		},
		offset: int64(binary.BigEndian.Uint64(pos[32:])),
		index:  binary.BigEndian.Uint64(pos[40:]),
	}
	if p.id.headLen > headBytes || p.offset < 0 {
		return place{}, errors.New("position is damaged")
	}
	return p, nil
}

// positions makes positions out of large blocks, so that a chunk costs no
// allocation of its own. What it gave is never reused: the engine may keep it.
type positions struct{ block []byte }

func (s *positions) make(p place) transports.Position {
	if cap(s.block)-len(s.block) < positionLen {
		s.block = make([]byte, 0, 256*positionLen)
	}
	from := len(s.block)
	s.block = p.append(s.block)
	return transports.Position(s.block[from:len(s.block):len(s.block)])
}
