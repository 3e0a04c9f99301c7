package dedup

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	sliceMagic  = "WDW1"
	sliceHeader = 16
	entrySize   = 32
)

// ErrSlice is wrapped by Load's errors: the bytes are no slice of a snapshot.
var ErrSlice = errors.New("not a dedup snapshot slice")

// Snapshot yields the committed window in slices of at most 32 KiB and 16
// bytes, which yield may not keep. It runs beside claims and commits and holds a
// stripe's lock for one slice at a time: what is committed after its begin may or
// may not be in it, so recovery replays the log from where the snapshot began.
func (t *Table[R]) Snapshot(yield func([]byte) error) error {
	var buf []byte
	for i := range t.stripes {
		s := &t.stripes[i]
		var next, end uint64
		s.locked(func(s *stripe[R]) { next, end = s.w.tail, s.w.head })
		for {
			s.mu.Lock()
			// Entries that move from the tail to the head while the snapshot runs
			// must not be missed.
			next, end = max(next, s.w.tail), max(end, s.w.carried)
			if next >= end {
				s.mu.Unlock()
				break
			}
			buf, next = s.w.appendSlice(buf[:0], next, end)
			s.mu.Unlock()
			if err := yield(buf); err != nil {
				return fmt.Errorf("dedup snapshot: stripe %d: %w", i, err)
			}
		}
	}
	return nil
}

// appendSlice encodes the entries from next up to the end of its block or end.
func (w *window) appendSlice(dst []byte, next, end uint64) ([]byte, uint64) {
	stop := min(end, next&^w.blockMask+w.blockMask+1)
	b := w.block(next)
	dst = append(dst, sliceMagic...)
	countAt, count := len(dst), uint32(0)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(b.origin))
	for ; next < stop; next++ {
		e := &b.entries[next&w.blockMask]
		if e.at < atOldest {
			continue
		}
		count++
		dst = binary.LittleEndian.AppendUint64(dst, e.hi)
		dst = binary.LittleEndian.AppendUint64(dst, e.lo)
		dst = binary.LittleEndian.AppendUint64(dst, e.data)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(e.at))
		dst = binary.LittleEndian.AppendUint32(dst, e.version)
	}
	binary.LittleEndian.PutUint32(dst[countAt:], count)
	return dst, stop
}

// Load puts a slice of a snapshot into the window. Slices may come in any
// order, several times, and before or after Replay of later commits. A slice
// that is not one changes nothing.
func (t *Table[R]) Load(slice []byte) error {
	if len(slice) < sliceHeader || string(slice[:4]) != sliceMagic {
		return fmt.Errorf("load %d bytes: %w", len(slice), ErrSlice)
	}
	count := uint64(binary.LittleEndian.Uint32(slice[4:]))
	if uint64(len(slice)) != sliceHeader+count*entrySize {
		return fmt.Errorf("load %d bytes for %d entries: %w", len(slice), count, ErrSlice)
	}
	origin := int64(binary.LittleEndian.Uint64(slice[8:]))
	if origin < 0 || origin > int64(1<<63-1)/int64(tickLength)-1<<31 {
		return fmt.Errorf("load slice with origin %d: %w", origin, ErrSlice)
	}
	for b := slice[sliceHeader:]; len(b) > 0; b = b[entrySize:] {
		tick := origin + int64(int32(binary.LittleEndian.Uint32(b[24:])))
		e := entry{
			hi:      binary.LittleEndian.Uint64(b),
			lo:      binary.LittleEndian.Uint64(b[8:]),
			data:    binary.LittleEndian.Uint64(b[16:]),
			version: binary.LittleEndian.Uint32(b[28:]),
		}
		h, s := t.stripeOf(e.hi, e.lo)
		s.locked(func(s *stripe[R]) { s.replay(h, e, tick) })
	}
	return nil
}
