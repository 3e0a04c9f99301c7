package dispatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// Park is a sink's durable queue of deliveries that wait for it. It takes part in
// the commit as a staged sink (parked entries are written with the record that
// settles their events) and as a table (which entries have ended). Entries stay
// in order; the log of them is cut from the front as they end.
//
//	entry  key u64 | first i64 (unix ns) | attempts | id str | route str | key str
//	       | n | {name str | value str}{n} | data str | context str | n | rendered str{n}
//
// Integers are little-endian where sized, else unsigned varints; str is a varint
// length and bytes. context is the engine's own: what a dead letter must say.
type Park struct {
	log *segment.Log
	max int64

	pending atomic.Int64 // data bytes parked, or about to be, and not ended

	mu    sync.Mutex // guards what follows
	low   uint64     // every entry before it has ended, durably
	above map[uint64]struct{}

	reader *segment.Reader // the dispatcher's
}

// DefaultParkBytes bounds a park queue unless configured otherwise.
const DefaultParkBytes = 1 << 30

// OpenPark opens or makes a park queue; max bounds its data in bytes (0 = DefaultParkBytes).
func OpenPark(fs vfs.FS, dir string, max int64) (*Park, error) {
	log, err := segment.Open(segment.Config{FS: fs, Dir: dir})
	if err != nil {
		return nil, fmt.Errorf("open park queue: %w", err)
	}
	if max == 0 {
		max = DefaultParkBytes
	}
	return &Park{log: log, max: max, above: map[uint64]struct{}{}}, nil
}

// Close closes the files.
func (p *Park) Close() error { return p.log.Close() }

// Full says whether the bound is reached.
func (p *Park) Full() bool { return p.pending.Load() >= p.max }

// Bytes is how much data is parked or about to be.
func (p *Park) Bytes() int64 { return max(0, p.pending.Load()) }

// Limit is how much data may be parked, in bytes.
func (p *Park) Limit() int64 { return p.max }

// Waiting is how many entries are parked.
func (p *Park) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(p.log.End().Entries-p.low) - len(p.above)
}

func (p *Park) expect(n int) { p.pending.Add(int64(n)) }
func (p *Park) left(n int)   { p.pending.Add(-int64(n)) }

// Frame appends an entry that no dispatcher has seen yet; see FrameJob.
func (p *Park) Frame(dst []byte, e *transports.Entry) []byte {
	return p.FrameJob(dst, &Job{Entry: *e}, nil)
}

// FrameJob appends a parked job to dst, in the queue's framing. context comes back in Ended.
func (p *Park) FrameJob(dst []byte, j *Job, context []byte) []byte {
	var b []byte
	b = binary.LittleEndian.AppendUint64(b, j.Key)
	b = binary.LittleEndian.AppendUint64(b, uint64(j.first.UnixNano()))
	b = binary.AppendUvarint(b, uint64(j.Attempts))
	b = appendString(b, j.Entry.ID)
	b = appendString(b, j.Entry.Route)
	b = appendString(b, j.Entry.Key)
	b = binary.AppendUvarint(b, uint64(len(j.Entry.Headers)))
	for _, h := range j.Entry.Headers {
		b = appendString(b, h.Name)
		b = appendString(b, h.Value)
	}
	b = appendString(b, j.Entry.Data)
	b = appendString(b, context)
	b = binary.AppendUvarint(b, uint64(len(j.Entry.Rendered)))
	for _, text := range j.Entry.Rendered {
		b = appendString(b, text)
	}
	return segment.Frame(dst, b)
}

// FrameAgain appends a delivery that ended as a dead letter and is tried once more:
// its attempts count on, its age begins anew. Tell the dispatcher before it is committed;
// see Dispatcher.Expect.
func (p *Park) FrameAgain(dst []byte, e *transports.Entry, key uint64, attempts int, now time.Time, context []byte) []byte {
	return p.FrameJob(dst, &Job{Entry: *e, Key: key, Attempts: attempts, first: now}, context)
}

func appendString[S string | []byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// Append, Sync, Publish and Restore are the queue's part in the commit; see transports.Staged.
func (p *Park) Append(framed []byte, count int) error { return p.log.Append(framed, count) }

// Sync makes what was appended durable.
func (p *Park) Sync() (transports.Mark, error) {
	if err := p.log.Sync(); err != nil {
		return transports.Mark{}, err
	}
	return transports.Mark(p.log.End()), nil
}

// Publish lets the dispatcher read up to the mark.
func (p *Park) Publish(m transports.Mark) error {
	p.log.Publish(segment.Mark(m))
	return nil
}

// Restore cuts what was not committed.
func (p *Park) Restore(m transports.Mark) error {
	if err := p.log.Restore(segment.Mark(m)); err != nil {
		return err
	}
	p.log.Publish(segment.Mark(m))
	return nil
}

// Ended notes that an entry has ended, durably. Repeats are harmless.
func (p *Park) Ended(ordinal uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ordinal < p.low {
		return
	}
	p.above[ordinal] = struct{}{}
	for {
		if _, ok := p.above[p.low]; !ok {
			return
		}
		delete(p.above, p.low)
		p.low++
	}
}

// Trim gives the space of ended entries back.
func (p *Park) Trim() error {
	p.mu.Lock()
	low := p.low
	p.mu.Unlock()
	return p.log.DropBefore(low)
}

// Snapshot yields which entries have ended: low u64 | above u64*.
func (p *Park) Snapshot(yield func([]byte) error) error {
	p.mu.Lock()
	b := binary.LittleEndian.AppendUint64(nil, p.low)
	for o := range p.above {
		b = binary.LittleEndian.AppendUint64(b, o)
	}
	p.mu.Unlock()
	return yield(b)
}

// Load takes a slice of Snapshot back.
func (p *Park) Load(slice []byte) error {
	if len(slice) == 0 || len(slice)%8 != 0 {
		return fmt.Errorf("park queue snapshot: %d bytes are not a list of ordinals", len(slice))
	}
	p.mu.Lock()
	p.low = max(p.low, binary.LittleEndian.Uint64(slice))
	p.mu.Unlock()
	for at := 8; at < len(slice); at += 8 {
		p.Ended(binary.LittleEndian.Uint64(slice[at:]))
	}
	return nil
}

// Resume reads what is parked after a recovery; it must follow Restore and come before New.
func (p *Park) Resume() error {
	p.mu.Lock()
	low := max(p.low, p.log.First())
	p.low = low
	p.mu.Unlock()
	var err error
	p.reader, err = p.log.Reader(low)
	return err
}

// keys counts what is parked by key; the caller has not read anything yet.
func (p *Park) keys(count map[uint64]int) error {
	for {
		e, ok, err := p.next()
		if err != nil {
			return err
		}
		if !ok {
			return p.Resume()
		}
		count[e.key]++
		p.expect(len(e.entry.Data))
	}
}

// Changed is closed or signalled when more may be read.
func (p *Park) Changed() <-chan struct{} { return p.log.Changed() }

type parkedEntry struct {
	entry    transports.Entry
	key      uint64
	first    time.Time
	attempts int
	ordinal  uint64
	context  []byte
}

// next reads the next entry that has not ended; ok is false where there is none yet.
func (p *Park) next() (e parkedEntry, ok bool, err error) {
	for {
		b, ordinal, err := p.reader.Next()
		if errors.Is(err, segment.ErrCaughtUp) {
			return e, false, nil
		}
		if err != nil {
			return e, false, err
		}
		p.mu.Lock()
		_, ended := p.above[ordinal]
		ended = ended || ordinal < p.low
		p.mu.Unlock()
		if ended {
			continue
		}
		e, err = parseParked(append([]byte(nil), b...))
		e.ordinal = ordinal
		return e, err == nil, err
	}
}

var errShort = errors.New("park queue entry is too short for what it says it holds")

// parseParked keeps slices of b.
func parseParked(b []byte) (e parkedEntry, err error) {
	if len(b) < 16 {
		return e, errShort
	}
	e.key = binary.LittleEndian.Uint64(b)
	e.first = time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:])))
	b = b[16:]
	bad := false
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	text := func() []byte {
		n := number()
		if bad || n > uint64(len(b)) {
			bad = true
			return nil
		}
		s := b[:n:n]
		b = b[n:]
		return s
	}
	e.attempts = int(number())
	e.entry.ID, e.entry.Route, e.entry.Key = string(text()), string(text()), text()
	for n := number(); n > 0 && !bad; n-- {
		e.entry.Headers = append(e.entry.Headers, transports.Header{Name: string(text()), Value: string(text())})
	}
	e.entry.Data, e.context = text(), text()
	for n := number(); n > 0 && !bad; n-- {
		e.entry.Rendered = append(e.entry.Rendered, string(text()))
	}
	if bad {
		return e, errShort
	}
	return e, nil
}

// Take returns up to n parked entries, in order, none of which has ended, and goes past
// them. It is for a queue without a dispatcher, after Resume; the caller sets outcomes.
func (p *Park) Take(n int) ([]Ended, error) {
	var list []Ended
	for len(list) < n {
		e, ok, err := p.next()
		if err != nil || !ok {
			return list, err
		}
		list = append(list, Ended{
			Redelivery: journal.Redelivery{Ordinal: e.ordinal, Attempts: uint32(e.attempts)},
			Entry:      e.entry, Context: e.context,
		})
	}
	return list, nil
}
