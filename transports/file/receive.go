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

// deliveries splits a chunk. Elements of an array carry the position of the
// chunk's first; their ordinals tell them apart.
func (s *source) deliveries(c *transports.Chunk) []transports.Delivery {
	var dst []transports.Delivery
	start, err := parsePosition(c.Start)
	one := func(data []byte, ordinal uint64) {
		pos := c.Start
		if err == nil && c.Ends == nil {
			start.offset = int64(ordinal)
			pos = s.slab.make(start)
		}
		dst = append(dst, transports.Delivery{
			ID:        fmt.Sprintf("%s@%d", c.Partition, ordinal),
			Partition: c.Partition,
			Position:  pos,
			Ordinal:   ordinal,
			Data:      data,
			Attempt:   1,
		})
	}
	if c.Oversize > 0 {
		one(append(c.Data[:len(c.Data):len(c.Data)], 0), c.Ordinal)
		return dst
	}
	if c.Ends != nil {
		from := uint32(0)
		for i, to := range c.Ends {
			one(c.Data[from:to:to], c.Ordinal+uint64(i))
			from = to
		}
		return dst
	}
	for off := 0; off < len(c.Data); {
		end, next := len(c.Data), len(c.Data)
		if at := bytes.IndexByte(c.Data[off:], '\n'); at >= 0 {
			end, next = off+at, off+at+1
		}
		line := bytes.TrimSuffix(c.Data[off:end:end], []byte{'\r'})
		if len(bytes.TrimSpace(line)) > 0 {
			one(line, c.Ordinal+uint64(off))
		}
		off = next
	}
	return dst
}
