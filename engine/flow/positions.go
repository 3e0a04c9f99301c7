package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
)

// positions knows, for each partition of each source, the low mark (everything
// before it is settled and durable) and what is settled above it. It is a table of
// the commit log: its snapshot and the records after it rebuild it.
//
// Snapshot slices hold one partition each:
//
//	source str | partition str | low str | lowOrdinal | settled | n | range{n} | n | span{n} | n | mark{n}
//	range  first | end                              ordinals that are settled, above the low mark
//	span   first | end | left | start str | next str   left = events that are not settled
//	mark   ordinal | sub                            an event that is settled, above the low mark
//
// Integers are unsigned varints, str is a varint length and bytes.
type positions struct {
	mu         sync.Mutex // guards everything below it, spans and partitions included
	partitions map[partitionName]*partition
}

type partitionName struct{ source, partition string }

// partition is one source's partition.
type partition struct {
	low        transports.Position // nil = from the beginning
	lowOrdinal uint64
	settled    uint64 // events ever settled
	spans      []*span
	// recovered holds events above the low mark that were settled before the
	// start; they are skipped when they are read again.
	recovered map[unitMark]struct{}
	ranges    [][2]uint64 // the same for whole chunks: ordinals [first, end)
	epoch     uint64      // of the newest record that was replayed
	spare     []*span     // that the low mark has passed, at most maxChunks
}

type unitMark struct {
	ordinal uint64
	sub     uint32
}

// span is what stays of a chunk until its events are durable and the low mark has
// passed it; the chunk itself goes as soon as the lanes are done with its bytes.
type span struct {
	source      *source
	partition   *partition // nil where the broker keeps positions
	first, end  uint64
	total, left int
	start, next transports.Position
	came        time.Time
	done        []bool     // by item: settled and durable
	marks       []unitMark // by item; of a span that recovery made, nil

	// Of a source whose broker keeps positions:
	units     []uint32 // by item: its delivery
	unitsLeft []int32  // by delivery: events that are not settled
	ids       []string // of the deliveries
	refusals  []refusal
}

// refusal is an event that was refused, and its delivery.
type refusal struct {
	unit uint32
	transports.Refusal
}

func newPositions() *positions {
	return &positions{partitions: map[partitionName]*partition{}}
}

// of returns a partition, made where it is new. The caller holds mu.
func (p *positions) of(source, name string) *partition {
	key := partitionName{source, name}
	pt := p.partitions[key]
	if pt == nil {
		pt = &partition{}
		p.partitions[key] = pt
	}
	return pt
}

// resume lists where a source goes on.
func (p *positions) resume(source string) map[string]transports.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := map[string]transports.Position{}
	for name, pt := range p.partitions {
		if name.source == source && pt.low != nil {
			at[name.partition] = pt.low
		}
	}
	return at
}

// before is how many events of a source were settled before this start.
func (p *positions) before(source string) (n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, pt := range p.partitions {
		if name.source == source {
			n += pt.settled
		}
	}
	return n
}

// open adds a scanned chunk to its partition, in source order, and marks the items
// that are settled already. Where the broker keeps positions, a span counts its
// chunk's events and no more. whole says that none of it is left to settle.
func (p *positions) open(c *chunk) (whole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(c.items)
	if c.source.brokerKeeps {
		c.span = &span{source: c.source, left: n, total: n, came: c.at, done: make([]bool, n)}
		c.span.countUnits(c)
		return n == 0
	}
	pt := p.of(c.source.name, c.Partition)
	s := pt.fresh(n)
	c.span = s
	s.source, s.partition, s.came, s.left, s.total = c.source, pt, c.at, n, n
	for i := range c.items {
		s.marks[i] = unitMark{c.items[i].ordinal, c.items[i].sub}
	}
	s.first, s.end = c.Ordinal, c.endOrdinal()
	s.start, s.next = slices.Clone(c.Start), slices.Clone(c.End)
	if len(pt.recovered)+len(pt.ranges) > 0 {
		for i := range c.items {
			it := &c.items[i]
			if pt.knows(s.marks[i]) {
				it.flags |= flagSettled
				s.done[i] = true
				s.left--
				s.total--
			}
		}
	}
	if pt.low == nil && len(pt.spans) == 0 {
		pt.low, pt.lowOrdinal = s.start, s.first
	}
	pt.spans = append(pt.spans, s)
	return s.left == 0
}

// fresh returns a span of n events, none of which is settled. The caller holds mu.
func (pt *partition) fresh(n int) *span {
	s := &span{}
	if last := len(pt.spare) - 1; last >= 0 {
		s, pt.spare = pt.spare[last], pt.spare[:last]
	}
	s.done = slices.Grow(s.done[:0], n)[:n]
	clear(s.done)
	s.marks = slices.Grow(s.marks[:0], n)[:n]
	return s
}

// countUnits notes which deliveries the chunk's events came in.
func (s *span) countUnits(c *chunk) {
	s.unitsLeft = make([]int32, len(c.deliveries))
	for i := range c.deliveries {
		s.ids = append(s.ids, c.deliveries[i].ID)
	}
	for i := range c.items {
		it := &c.items[i]
		if it.fault != 0 {
			why := &c.faults[it.fault-1]
			s.refusals = append(s.refusals, refusal{it.unit, transports.Refusal{Event: int(s.unitsLeft[it.unit]), Reason: why.reason, Detail: why.detail}})
		}
		s.units = append(s.units, it.unit)
		s.unitsLeft[it.unit]++
	}
}

// refused lists what was refused of a delivery.
func (s *span) refused(unit uint32) (list []transports.Refusal) {
	for _, r := range s.refusals {
		if r.unit == unit {
			list = append(list, r.Refusal)
		}
	}
	return list
}

// low is the low mark of a span's partition.
func (p *positions) low(s *span) (transports.Position, uint64) {
	if s.partition == nil {
		return nil, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.partition.low, s.partition.lowOrdinal
}

// endOrdinal is the first ordinal past the chunk.
func (c *chunk) endOrdinal() uint64 {
	switch {
	case len(c.deliveries) > 0:
		last := len(c.deliveries) - 1
		events := uint64(1)
		for i := len(c.units) - 2; i >= 0 && c.units[i] == uint32(last); i-- {
			events++
		}
		return c.deliveries[last].Ordinal + events
	case c.Ends != nil:
		return c.Ordinal + uint64(len(c.Ends))
	}
	return c.Ordinal + uint64(len(c.Data))
}

// settle notes that items of a span are settled and durable. It reports whether
// the partition's low mark moved.
func (p *positions) settle(s *span, items []uint32) (moved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, i := range items {
		if !s.done[i] {
			s.done[i] = true
			n++
		}
	}
	s.left -= n
	pt := s.partition
	if pt == nil {
		return false
	}
	pt.settled += uint64(n)
	return pt.advance(len(pt.spans))
}

// advance moves the low mark over at most so many spans that are settled whole. (In a
// recovery there may be gaps between spans: chunks of which no event is recorded.)
// The caller holds mu.
func (pt *partition) advance(most int) bool {
	n := 0
	for n < most && pt.spans[n].left <= bugLowMarkSlack {
		pt.low, pt.lowOrdinal = pt.spans[n].next, pt.spans[n].end
		n++
	}
	if n == 0 {
		return false
	}
	if len(pt.spare)+n <= maxChunks {
		pt.spare = append(pt.spare, pt.spans[:n]...) // nobody asks for them: all their events are settled
	}
	pt.spans = slices.Delete(pt.spans, 0, n)
	pt.forget()
	return true
}

// knows says whether an event above the low mark was settled before the start.
func (pt *partition) knows(m unitMark) bool {
	if _, ok := pt.recovered[m]; ok {
		return true
	}
	return slices.ContainsFunc(pt.ranges, func(r [2]uint64) bool { return r[0] <= m.ordinal && m.ordinal < r[1] })
}

// knew says whether an event of a source with one partition was settled before the start.
func (p *positions) knew(source string, ordinal uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pt := p.partitions[partitionName{source, ""}]
	return pt != nil && (ordinal < pt.lowOrdinal || pt.knows(unitMark{ordinal, 0}))
}

// forget drops what the low mark has passed. The caller holds mu.
func (pt *partition) forget() {
	for m := range pt.recovered {
		if m.ordinal < pt.lowOrdinal {
			delete(pt.recovered, m)
		}
	}
	pt.ranges = slices.DeleteFunc(pt.ranges, func(r [2]uint64) bool { return r[1] <= pt.lowOrdinal })
}

// lowMarks lists the low marks of a source's partitions, as settlements.
func (p *positions) lowMarks(source string, list []transports.Settlement) []transports.Settlement {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, pt := range p.partitions {
		if name.source == source && pt.low != nil {
			list = append(list, transports.Settlement{Partition: name.partition, Through: pt.low, Ordinal: pt.lowOrdinal})
		}
	}
	return list
}

// replay takes a settled entry of a record. Replaying one twice is harmless.
func (p *positions) replay(epoch uint64, s *journal.Section, e *journal.Entry) {
	if s.First == s.End {
		return // the broker keeps positions
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pt := p.of(s.Source, s.Partition)
	if epoch != pt.epoch {
		// Another start of the engine read from the low mark on: its chunks may have
		// been cut elsewhere.
		pt.epoch, pt.spans = epoch, nil
	}
	if pt.low == nil || s.LowOrdinal > pt.lowOrdinal {
		pt.low, pt.lowOrdinal = slices.Clone(s.Low), s.LowOrdinal
		pt.spans = slices.DeleteFunc(pt.spans, func(sp *span) bool { return sp.first < pt.lowOrdinal })
		pt.forget()
	}
	m := unitMark{e.Ordinal, e.Sub}
	if pt.knows(m) || e.Ordinal < pt.lowOrdinal {
		return
	}
	if pt.recovered == nil {
		pt.recovered = map[unitMark]struct{}{}
	}
	pt.recovered[m] = struct{}{}
	pt.settled++
	pt.spanAt(s).left--
	for len(pt.spans) > 0 && pt.spans[0].first == pt.lowOrdinal && pt.advance(1) {
	}
}

// begin ends the recovery. What it knew of the last start's chunks goes: this start
// reads from the low mark on, and may cut its chunks elsewhere.
func (p *positions) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pt := range p.partitions {
		pt.spans = nil
	}
}

// spanAt finds or makes the span of a section, keeping spans in order.
func (pt *partition) spanAt(s *journal.Section) *span {
	i, found := slices.BinarySearchFunc(pt.spans, s.First, func(sp *span, first uint64) int {
		switch {
		case sp.first < first:
			return -1
		case sp.first > first:
			return 1
		}
		return 0
	})
	if found {
		return pt.spans[i]
	}
	sp := &span{
		first: s.First, end: s.End, total: int(s.Total), left: int(s.Total),
		start: slices.Clone(s.Start), next: slices.Clone(s.Next),
	}
	pt.spans = slices.Insert(pt.spans, i, sp)
	return sp
}

// Name is the table's name in snapshots.
func (p *positions) Name() string { return "positions" }

// Snapshot yields every partition.
func (p *positions) Snapshot(yield func([]byte) error) error {
	p.mu.Lock()
	names := slices.Collect(maps.Keys(p.partitions))
	p.mu.Unlock()
	var b []byte
	for _, name := range names {
		p.mu.Lock()
		b = p.partitions[name].append(appendText(appendText(b[:0], name.source), name.partition))
		p.mu.Unlock()
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

func (pt *partition) append(b []byte) []byte {
	b = appendText(b, pt.low)
	b = binary.AppendUvarint(b, pt.lowOrdinal)
	b = binary.AppendUvarint(b, pt.settled)
	b = binary.AppendUvarint(b, uint64(len(pt.ranges)))
	for _, r := range pt.ranges {
		b = binary.AppendUvarint(b, r[0])
		b = binary.AppendUvarint(b, r[1])
	}
	b = binary.AppendUvarint(b, uint64(len(pt.spans)))
	var marks []unitMark
	for _, s := range pt.spans {
		b = binary.AppendUvarint(b, s.first)
		b = binary.AppendUvarint(b, s.end)
		b = binary.AppendUvarint(b, uint64(s.left))
		b = appendText(b, s.start)
		b = appendText(b, s.next)
		marks = s.settledMarks(marks)
	}
	for m := range pt.recovered {
		marks = append(marks, m)
	}
	b = binary.AppendUvarint(b, uint64(len(marks)))
	for _, m := range marks {
		b = binary.AppendUvarint(b, m.ordinal)
		b = binary.AppendUvarint(b, uint64(m.sub))
	}
	return b
}

// settledMarks appends what is settled of a span. (One that is settled whole needs
// none: its left is 0.)
func (s *span) settledMarks(marks []unitMark) []unitMark {
	if s.left == 0 {
		return marks
	}
	for i, m := range s.marks {
		if s.done[i] {
			marks = append(marks, m)
		}
	}
	return marks
}

// Load takes a slice of Snapshot back.
func (p *positions) Load(slice []byte) error {
	r := textReader{b: slice}
	source, name := string(r.text()), string(r.text())
	pt := &partition{low: slices.Clone(r.text()), lowOrdinal: r.number(), settled: r.number(), recovered: map[unitMark]struct{}{}}
	for n := r.number(); n > 0 && !r.bad; n-- {
		pt.ranges = append(pt.ranges, [2]uint64{r.number(), r.number()})
	}
	for n := r.number(); n > 0 && !r.bad; n-- {
		s := &span{first: r.number(), end: r.number(), left: int(r.number()), start: slices.Clone(r.text()), next: slices.Clone(r.text())}
		pt.spans = append(pt.spans, s)
		if s.left == 0 {
			pt.ranges = append(pt.ranges, [2]uint64{s.first, s.end})
		}
	}
	for n := r.number(); n > 0 && !r.bad; n-- {
		pt.recovered[unitMark{r.number(), uint32(r.number())}] = struct{}{}
	}
	if r.bad {
		return fmt.Errorf("positions: snapshot slice of %d bytes: %w", len(slice), errShortSlice)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.partitions[partitionName{source, name}] = pt
	return nil
}

var errShortSlice = errors.New("too short for what it says it holds")

func appendText[S ~string | ~[]byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// textReader reads varints and texts; its first failure sticks.
type textReader struct {
	b   []byte
	bad bool
}

func (r *textReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *textReader) text() []byte {
	n := r.number()
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}
