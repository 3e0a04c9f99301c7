package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/transports"
)

// maxBatch is the most that one Write or Send takes, in bytes as they stand in
// the log. One round of a shared sync holds one batch a caller.
const maxBatch = 64 << 20

// maxGroup is how many bytes of several callers become one group of the log.
const maxGroup = 8 << 20

// frames is what one shared durable write appends.
type frames struct {
	parts []part
	group []byte
}

// part is one caller's share of a round. The caller waits, so its bytes need
// no copy.
type part struct {
	framed []byte
	count  int
	err    *error // set where this part was refused
}

// frame appends an entry as the log takes it to dst.
func frame(dst []byte, e *transports.Entry, published time.Time) []byte {
	at := len(dst)
	dst = appendEntry(segment.Frame(dst, nil), e, published)
	// The log's framing is the entry's length before it: Frame of nothing, filled in.
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// append writes framed entries outside an engine's commit: they are durable and
// published when it returns. Concurrent callers share the sync.
func (p *place) append(framed []byte, count int) error {
	if err := p.mayWrite(); err != nil {
		return err
	}
	if err := p.settledEnd(); err != nil {
		return err
	}
	if len(framed) > maxBatch {
		return fmt.Errorf("batch takes %d bytes, more than the limit of %d", len(framed), maxBatch)
	}
	var refused error
	err := p.plain.do(func(f *frames) { f.parts = append(f.parts, part{framed, count, &refused}) }, p.writeRound)
	if refused != nil {
		return refused
	}
	return err
}

func (p *place) full(want int, room int64) error {
	return fmt.Errorf("%s %q is %w: %d bytes do not fit into the %d that are left of max (%d)", p.kind, p.name, ErrFull, want, room, p.max.Load())
}

// mayWrite refuses plain writes while an engine's commit decides where the
// place ends: a later Restore would cut them.
func (p *place) mayWrite() error {
	p.mu.Lock()
	writer := p.writer
	p.mu.Unlock()
	if writer != "" {
		return fmt.Errorf("%s %q is written by the sink %q", p.kind, p.name, writer)
	}
	return nil
}

func (p *place) writeRound(f *frames) error {
	defer func() {
		clear(f.parts)
		f.parts = f.parts[:0]
	}()
	room := p.room()
	group, count := f.group[:0], 0
	flush := func() error {
		err := p.log.Append(group, count)
		group, count = group[:0], 0
		return err
	}
	for _, part := range f.parts {
		if int64(len(part.framed)) > room {
			*part.err = p.full(len(part.framed), room)
			continue
		}
		room -= int64(len(part.framed))
		if count > 0 && len(group)+len(part.framed) > maxGroup {
			if err := flush(); err != nil {
				return err
			}
		}
		group = append(group, part.framed...)
		count += part.count
	}
	if err := flush(); err != nil {
		return err
	}
	if cap(group) <= 2*maxGroup {
		f.group = group
	}
	if err := p.log.Sync(); err != nil {
		return err
	}
	p.publishing.Lock()
	staged := p.marked.staged
	p.publishing.Unlock()
	// Where a staged sink writes too, the note alone says that these are committed.
	return p.publish(p.log.End(), false, staged)
}

// settledEnd says whether all that stood in the log when it was opened is
// published, so that something may be appended behind it.
func (p *place) settledEnd() error {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	if p.plainly {
		return nil
	}
	if end := p.log.End(); end.Entries != p.marked.Entries {
		return fmt.Errorf("%s %q has %d entries that are not committed: %w", p.kind, p.name, end.Entries-p.marked.Entries, ErrUncommitted)
	}
	p.plainly = true
	return nil
}

// restore cuts what lies beyond the last committed mark. What was written
// plainly is noted as published and stays, whatever the engine's mark says.
func (p *place) restore(m segment.Mark) error {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	if p.marked.Entries > m.Entries {
		m = p.marked.Mark
	}
	p.plainly = false
	if err := p.log.Restore(m); err != nil {
		return err
	}
	p.marked = mark{m, true}
	if err := p.note.add(appendMark(nil, p.marked)); err != nil {
		return err
	}
	return p.note.sync()
}

// takeWriter makes a sink the place's only writer in an engine's commit.
func (p *place) takeWriter(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writer != "" {
		return fmt.Errorf("%s %q is written by the sink %q already", p.kind, p.name, p.writer)
	}
	p.writer = name
	return nil
}

func (p *place) leaveWriter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writer = ""
}

var errNotOpen = errors.New("not open")
