package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// partition is the only one that a queue or topic has.
const partition = "0"

// source reads a queue or topic alone; the engine keeps its position, which is
// the number of the next entry.
type source struct {
	end
	consumer string
	oldest   bool
	cons     *consumer
	feed     *logFeed

	receiving sync.Mutex // held by Receive, so that Close frees nothing under it

	mu       sync.Mutex
	given    uint64 // entries before it were handed out
	open     bool
	stopOnce sync.Once
	stop     chan struct{}
}

var (
	_ transports.Source      = (*source)(nil)
	_ transports.ChunkSource = (*chunkSource)(nil)
)

func positionOf(number uint64) transports.Position {
	return binary.BigEndian.AppendUint64(nil, number)
}

func (*source) Capabilities() transports.Capabilities {
	return transports.Capabilities{Order: transports.OrderPartition, Positions: transports.KeptByEngine}
}

// Open begins at what the queue itself remembers or at resume, whichever is later.
func (s *source) Open(_ context.Context, resume map[string]transports.Position, l transports.Listener) error {
	if isClosed(s.stop) {
		return transports.ErrClosed
	}
	if err := s.end.open(); err != nil {
		return err
	}
	if err := s.attach(resume); err != nil {
		return errors.Join(err, s.end.close())
	}
	if l != nil {
		l.Assigned(partition)
	}
	return nil
}

func (s *source) attach(resume map[string]transports.Position) error {
	c, err := s.place.attach(s.consumer, s.name, true, s.place.start(s.oldest))
	if err != nil {
		return err
	}
	from := c.progress.low
	if at, ok := resume[partition]; ok {
		number, err := s.place.position(at)
		if err != nil {
			return errors.Join(err, c.detach())
		}
		from = max(from, number)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cons, s.feed = c, c.reader
	s.feed.number, s.given, s.open = from, from, true
	return nil
}

// start is where a new consumer begins.
func (p *place) start(oldest bool) uint64 {
	if oldest {
		return p.log.First()
	}
	p.publishing.Lock()
	defer p.publishing.Unlock()
	return p.marked.Entries
}

func (p *place) position(at transports.Position) (uint64, error) {
	if len(at) != 8 {
		return 0, fmt.Errorf("%w: position %x is not one of %s %q", transports.ErrFatal, []byte(at), p.kind, p.name)
	}
	number := binary.BigEndian.Uint64(at)
	if end := p.log.End().Entries; number > end {
		return 0, fmt.Errorf("%w: position %d lies behind the end of %s %q, which holds %d entries", transports.ErrFatal, number, p.kind, p.name, end)
	}
	return number, nil
}

func (s *source) Receive(ctx context.Context, max int, wait time.Duration) ([]transports.Delivery, error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	var out []transports.Delivery
	err := s.wait(ctx, wait, func() (bool, error) {
		for len(out) < max {
			raw, number, err := s.feed.next()
			if err != nil {
				return len(out) > 0, endOfBatch(err, len(out))
			}
			e, err := parseEntry(raw)
			if err != nil {
				return true, fmt.Errorf("%w: entry %d: %w", transports.ErrFatal, number, err)
			}
			if out == nil {
				out = make([]transports.Delivery, 0, min(max, 64))
			}
			out = append(out, delivery(&given{stored: e, number: number, tries: 1}))
		}
		return true, nil
	})
	if err != nil && len(out) == 0 {
		return nil, err
	}
	if len(out) > 0 {
		s.advance(out[len(out)-1].Ordinal + 1)
	}
	return out, nil
}

// endOfBatch hides the end of what is published, and an error that comes again
// behind entries to be given first.
func endOfBatch(err error, have int) error {
	switch {
	case errors.Is(err, io.EOF) || have > 0:
		return nil
	case errors.Is(err, transports.ErrClosed):
		return err
	}
	return fmt.Errorf("%w: %w", transports.ErrFatal, err)
}

func (s *source) advance(to uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = to
}

// wait calls try until it is done, woken by what is published.
func (s *source) wait(ctx context.Context, wait time.Duration, try func() (done bool, err error)) error {
	if isClosed(s.stop) {
		return transports.ErrClosed
	}
	if s.feed == nil {
		return errNotOpen
	}
	var timeout <-chan time.Time
	for {
		changed := s.feed.log.Changed()
		done, err := try()
		if done || err != nil || wait <= 0 {
			return err
		}
		if timeout == nil {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-changed:
		case <-timeout:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stop:
			return transports.ErrClosed
		}
	}
}

// delivery is an entry as the contract has it. Its bytes are the block's it
// was read in, which nobody else writes to.
func delivery(g *given) transports.Delivery {
	return transports.Delivery{
		ID: strconv.FormatUint(g.number, 10), Partition: partition, Position: positionOf(g.number), Next: positionOf(g.number + 1), Ordinal: g.number,
		Key: g.key, Data: g.data, Headers: g.headerList(), Published: time.Unix(0, g.published), Attempt: int(g.tries),
	}
}

func (s *source) Settle(_ context.Context, settlements []transports.Settlement) []error {
	var errs []error
	for i, settlement := range settlements {
		if err := s.settle(settlement); err != nil {
			if errs == nil {
				errs = make([]error, len(settlements))
			}
			errs[i] = err
		}
	}
	return errs
}

func (s *source) settle(settlement transports.Settlement) error {
	if settlement.Through == nil || settlement.Nack {
		return fmt.Errorf("%s %q is read alone: its position is the engine's, and only Through settles", s.cfg.kind, s.cfg.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return transports.ErrNotHeld
	}
	through, err := s.place.position(settlement.Through)
	if err != nil {
		return err
	}
	if settlement.Partition != partition || through > s.given {
		return transports.ErrNotHeld
	}
	return s.cons.settleThrough(through)
}

// Close implements transports.Source.
func (s *source) Close(context.Context) error {
	s.stopOnce.Do(func() { close(s.stop) })
	s.receiving.Lock()
	defer s.receiving.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return nil
	}
	s.open = false
	return errors.Join(s.cons.detach(), s.end.close())
}

func isClosed(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// chunkSource hands out runs of entries. It is for entries without headers:
// a chunk has no place for them.
type chunkSource struct{ *source }

// ReceiveChunk implements transports.ChunkSource.
func (s *chunkSource) ReceiveChunk(ctx context.Context, c *transports.Chunk, wait time.Duration) error {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	first, count := uint64(0), uint64(0)
	room := cap(c.Data)
	c.Data, c.Ends, c.Partition, c.Oversize = c.Data[:0], c.Ends[:0], partition, 0
	err := s.wait(ctx, wait, func() (bool, error) {
		for {
			raw, number, err := s.feed.next()
			if err != nil {
				return count > 0, endOfBatch(err, int(count))
			}
			e, err := parseEntry(raw)
			if err == nil && e.nheaders > 0 {
				err = errors.New("it has headers, which chunks cannot carry: take `chunks: true` from the source's configuration")
			}
			if err != nil {
				s.feed.unread()
				return true, endOfBatch(fmt.Errorf("entry %d: %w", number, err), int(count))
			}
			oversize := s.maxEvent > 0 && len(e.data) > s.maxEvent
			if count > 0 && (oversize || len(c.Data)+len(e.data) > room || number != first+count) {
				s.feed.unread()
				return true, nil
			}
			if oversize {
				c.Oversize = int64(len(e.data))
				e.data = e.data[:s.maxEvent]
			}
			if count == 0 {
				first = number
			}
			c.Data = append(c.Data, e.data...)
			c.Ends = append(c.Ends, uint32(len(c.Data)))
			count++
			if oversize {
				return true, nil
			}
		}
	})
	if err != nil {
		return err
	}
	if count > 0 {
		c.Ordinal, c.Start, c.End = first, positionOf(first), positionOf(first+count)
		s.advance(first + count)
	}
	return nil
}
