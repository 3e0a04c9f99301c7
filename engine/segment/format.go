package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

const (
	fileMagic        = "WEIRSEG\x02"
	groupMagic       = "WGRP"
	fileHeaderBytes  = 48
	groupHeaderBytes = 56
	frameBytes       = 4
	segSuffix        = ".seg"
	tmpSuffix        = ".tmp"
	spareSuffix      = ".spare"
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Frame appends an entry in the log's framing to dst. It is pure.
func Frame(dst, entry []byte) []byte {
	dst = le.AppendUint32(dst, uint32(len(entry)))
	return append(dst, entry...)
}

// Unframe returns the first entry of a framed run and what follows it; ok is
// false at the end and where the framing is wrong.
func Unframe(framed []byte) (entry, rest []byte, ok bool) {
	if len(framed) < frameBytes {
		return nil, framed, false
	}
	n := uint64(le.Uint32(framed))
	if n > uint64(len(framed)-frameBytes) {
		return nil, framed, false
	}
	end := frameBytes + int(n)
	return framed[frameBytes:end:end], framed[end:], true
}

func checkFrames(framed []byte, count int) error {
	if len(framed) > MaxGroupBytes {
		return fmt.Errorf("group of %d bytes is larger than %d", len(framed), MaxGroupBytes)
	}
	rest, n := framed, 0
	for {
		_, next, ok := Unframe(rest)
		if !ok {
			break
		}
		rest = next
		n++
	}
	if len(rest) > 0 || n != count {
		return fmt.Errorf("group is said to have %d entries and holds %d whole ones and %d bytes more", count, n, len(rest))
	}
	return nil
}

// group is a group's header.
type group struct {
	count    uint32
	seq      uint64
	ordinal  uint64
	synced   uint64
	offset   uint64
	chain    uint32
	length   uint32
	bodySum  uint32
	checkSum uint32 // as read
}

// encode appends the header to dst and returns its checksum, which is the next
// group's chain.
func (h *group) encode(dst []byte, seed uint32) ([]byte, uint32) {
	start := len(dst)
	dst = append(dst, groupMagic...)
	dst = le.AppendUint32(dst, h.count)
	dst = le.AppendUint64(dst, h.seq)
	dst = le.AppendUint64(dst, h.ordinal)
	dst = le.AppendUint64(dst, h.synced)
	dst = le.AppendUint64(dst, h.offset)
	dst = le.AppendUint32(dst, h.chain)
	dst = le.AppendUint32(dst, h.length)
	dst = le.AppendUint32(dst, h.bodySum)
	sum := saltedSum(seed, dst[start:])
	return le.AppendUint32(dst, sum), sum
}

// saltedSum keeps bytes of other logs, which an entry may hold, and of earlier
// uses of the file from passing as groups of this one.
func saltedSum(seed uint32, b []byte) uint32 { return crc32.Update(seed, castagnoli, b) }

// seedOf is the checksum of a log's salt and a file's number, from which those of the
// file's group headers go on.
func seedOf(salt, number uint64) uint32 {
	return checksum(le.AppendUint64(le.AppendUint64(nil, salt), number))
}

var (
	errZeros  = errors.New("zeros where a group should be")
	errMagic  = errors.New("no group starts here")
	errHeader = errors.New("the group's header has a wrong checksum")
	errBody   = errors.New("the group's body has a wrong checksum")
	errTorn   = errors.New("the group is longer than the file")
	errOrder  = errors.New("a valid group that does not follow the one before it")
)

// decodeGroup reads a header of groupHeaderBytes.
func decodeGroup(b []byte, seed uint32) (h group, err error) {
	if string(b[:4]) != groupMagic {
		if [groupHeaderBytes]byte(b) == [groupHeaderBytes]byte{} {
			return h, errZeros
		}
		return h, errMagic
	}
	h = group{
		count: le.Uint32(b[4:]), seq: le.Uint64(b[8:]), ordinal: le.Uint64(b[16:]), synced: le.Uint64(b[24:]),
		offset: le.Uint64(b[32:]), chain: le.Uint32(b[40:]), length: le.Uint32(b[44:]), bodySum: le.Uint32(b[48:]),
		checkSum: le.Uint32(b[52:]),
	}
	if saltedSum(seed, b[:52]) != h.checkSum {
		return h, errHeader
	}
	return h, nil
}

func (s *segment) encode(dst []byte, salt uint64) []byte {
	start := len(dst)
	dst = append(dst, fileMagic...)
	dst = le.AppendUint64(dst, s.number)
	dst = le.AppendUint64(dst, salt)
	dst = le.AppendUint64(dst, s.firstSeq)
	dst = le.AppendUint64(dst, s.firstOrdinal)
	dst = le.AppendUint32(dst, s.chain)
	return le.AppendUint32(dst, checksum(dst[start:]))
}

func decodeFile(b []byte) (s segment, salt uint64, err error) {
	if string(b[:7]) != fileMagic[:7] {
		return s, 0, errors.New("not a segment file")
	}
	if b[7] != fileMagic[7] {
		return s, 0, fmt.Errorf("format version %d, and this program knows %d", b[7], fileMagic[7])
	}
	if checksum(b[:44]) != le.Uint32(b[44:]) {
		return s, 0, errors.New("the file's header has a wrong checksum")
	}
	s = segment{
		number: le.Uint64(b[8:]), firstSeq: le.Uint64(b[24:]), firstOrdinal: le.Uint64(b[32:]), chain: le.Uint32(b[40:]),
	}
	return s, le.Uint64(b[16:]), nil
}

// parseName returns the number in a file's name.
func parseName(name, suffix string) (number uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil && number > 0
}
