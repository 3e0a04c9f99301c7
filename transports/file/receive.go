package file

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/weir-project/weir/transports"
)

// Receive implements transports.Source for callers that want single
// deliveries; the engine reads chunks. An event that is larger than
// Env.MaxEvent comes cut to one byte more than that, so that its receiver
// refuses it.
func (s *source) Receive(ctx context.Context, most int, wait time.Duration) ([]transports.Delivery, error) {
	if len(s.pending) == 0 {
		s.own.Data, s.own.Ends = make([]byte, 0, minChunk), nil // deliveries keep the bytes
		if err := s.ReceiveChunk(ctx, &s.own, wait); err != nil {
			return nil, err
		}
		s.pending = s.deliveries(&s.own)
	}
	n := min(max(most, 0), len(s.pending))
	given := s.pending[:n:n]
	s.pending = s.pending[n:]
	return given, nil
}

// deliveries splits a chunk.
func (s *source) deliveries(c *transports.Chunk) []transports.Delivery {
	var dst []transports.Delivery
	at, err := parsePosition(c.Start)
	if err != nil { // the source made it itself
		panic(err)
	}
	pos := c.Start
	// next is the offset after the event in the unpacked stream.
	one := func(data []byte, ordinal uint64, next int64) {
		at.offset = next
		if c.Ends != nil {
			at.index = ordinal + 1
		} else { // blank lines may stand between the last event and this one
			pos = s.slab.make(place{id: at.id, form: at.form, offset: int64(ordinal)})
		}
		after := s.slab.make(at)
		dst = append(dst, transports.Delivery{
			ID:        fmt.Sprintf("%s@%d", c.Partition, ordinal),
			Partition: c.Partition,
			Position:  pos,
			Next:      after,
			Ordinal:   ordinal,
			Data:      data,
			Attempt:   1,
		})
		pos = after
	}
	if c.Ends != nil {
		from := uint32(0)
		for i, to := range c.Ends {
			one(marked(c, c.Data[from:to:to]), c.Ordinal+uint64(i), s.ends[i])
			from = to
		}
		return dst
	}
	if c.Oversize > 0 {
		end, err := parsePosition(c.End)
		if err != nil {
			panic(err)
		}
		one(marked(c, c.Data), c.Ordinal, end.offset)
		return dst
	}
	for off := 0; off < len(c.Data); {
		end, next := len(c.Data), len(c.Data)
		if at := bytes.IndexByte(c.Data[off:], '\n'); at >= 0 {
			end, next = off+at, off+at+1
		}
		line := bytes.TrimSuffix(c.Data[off:end:end], []byte{'\r'})
		if len(bytes.TrimSpace(line)) > 0 {
			one(line, c.Ordinal+uint64(off), int64(c.Ordinal)+int64(next))
		}
		off = next
	}
	return dst
}

// marked makes the beginning of an oversized event longer than any event may be.
func marked(c *transports.Chunk, data []byte) []byte {
	if c.Oversize == 0 {
		return data
	}
	return append(data[:len(data):len(data)], 0)
}
