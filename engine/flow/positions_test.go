package flow

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
)

// posWorld is a brute-force model around positions: partitions with all their
// events, and a commit log that is a list of records.
type posWorld struct {
	t     *rapid.T
	parts []*posPartition

	log     [][]byte // durable records
	snaps   []posSnap
	durable map[posEvent]bool // what the records hold

	// The run under way.
	epoch     uint64
	p         *positions
	open      []*chunk
	applied   int // records whose Committed has run
	inFlight  []posTicket
	unwritten map[posEvent]ref // read, and in no ticket
}

type posEvent struct {
	part    int
	ordinal uint64
	sub     uint32
}

// posTicket is a durable record that has not been applied to the tables.
type posTicket struct{ refs []ref }

type posSnap struct {
	begin  int // record where replay begins
	slices [][]byte
}

// posPartition is all that a partition will ever hold.
type posPartition struct {
	index  int
	source *source
	name   string
	lines  bool // ordinals are byte offsets; else they have gaps
	units  []posUnit
	next   int // unit that the source gives next
}

type posUnit struct {
	ordinal uint64
	length  int
	subs    int
}

func posAt(ordinal uint64) transports.Position {
	return binary.BigEndian.AppendUint64(nil, ordinal)
}

func newPosWorld(t *rapid.T) *posWorld {
	w := &posWorld{t: t, durable: map[posEvent]bool{}}
	sources := []*source{{name: "a"}, {name: "b"}}
	for i := range rapid.IntRange(1, 3).Draw(t, "partitions") {
		pt := &posPartition{index: i, source: sources[i%2], name: fmt.Sprint("p", i/2), lines: rapid.Bool().Draw(t, "lines")}
		at := uint64(rapid.IntRange(0, 5).Draw(t, "first"))
		for range rapid.IntRange(1, 25).Draw(t, "units") {
			u := posUnit{ordinal: at, length: 1, subs: 1}
			if rapid.IntRange(0, 4).Draw(t, "several") == 0 {
				u.subs = 3
			}
			if pt.lines {
				u.length = rapid.IntRange(2, 9).Draw(t, "length")
			}
			at += uint64(u.length)
			if !pt.lines && rapid.IntRange(0, 3).Draw(t, "gap") == 0 {
				at += 3
			}
			pt.units = append(pt.units, u)
		}
		w.parts = append(w.parts, pt)
	}
	return w
}

// end is the position behind the n-th unit.
func (pt *posPartition) end(n int) uint64 {
	if n < len(pt.units) {
		return pt.units[n].ordinal
	}
	last := pt.units[len(pt.units)-1]
	return last.ordinal + uint64(last.length)
}

// start recovers as the engine does: the newest snapshot, then the records from its
// begin, some of them twice.
func (w *posWorld) start() {
	w.epoch++
	w.p = newPositions()
	w.open, w.inFlight, w.unwritten = nil, nil, map[posEvent]ref{}
	begin := 0
	if n := len(w.snaps); n > 0 && rapid.IntRange(0, 3).Draw(w.t, "snapshot lost") > 0 {
		s := w.snaps[n-1]
		begin = s.begin
		for _, slice := range s.slices {
			if err := w.p.Load(slice); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	visitor := journal.Visitor{Settled: func(epoch, _ uint64, s *journal.Section, e *journal.Entry) error {
		w.p.replay(epoch, s, e)
		return nil
	}}
	replay := func(record []byte) {
		if err := journal.Read(record, &visitor); err != nil {
			w.t.Fatal(err)
		}
	}
	for i := begin; i < len(w.log); i++ {
		replay(w.log[i])
		if rapid.IntRange(0, 4).Draw(w.t, "twice") == 0 {
			replay(w.log[i])
		}
	}
	w.p.begin()
	w.applied = len(w.log)
	w.checkLow("after recovery")
	for _, pt := range w.parts {
		pt.next = 0
		if low := w.p.resume(pt.source.name)[pt.name]; low != nil {
			at := binary.BigEndian.Uint64(low)
			pt.next = slices.IndexFunc(pt.units, func(u posUnit) bool { return u.ordinal >= at })
			if pt.next < 0 {
				pt.next = len(pt.units)
			}
		}
	}
}

// checkLow wants every event before a low mark to be in the log (I8).
func (w *posWorld) checkLow(when string) {
	for _, pt := range w.parts {
		low := w.p.resume(pt.source.name)[pt.name]
		if low == nil {
			continue
		}
		at := binary.BigEndian.Uint64(low)
		for _, u := range pt.units {
			for sub := range u.subs {
				e := posEvent{pt.index, u.ordinal, uint32(sub)}
				if u.ordinal < at && !w.durable[e] {
					w.t.Fatalf("%s: the low mark of partition %d is %d and passes %+v, which is not settled (I8)", when, pt.index, at, e)
				}
			}
		}
	}
}

// read gives a chunk of a partition to positions.
func (w *posWorld) read(pt *posPartition) {
	n := min(rapid.IntRange(1, 6).Draw(w.t, "chunk"), len(pt.units)-pt.next)
	if n <= 0 {
		return
	}
	units := pt.units[pt.next : pt.next+n]
	c := &chunk{source: pt.source}
	c.Partition, c.Ordinal = pt.name, units[0].ordinal
	c.Start, c.Chunk.End = posAt(units[0].ordinal), posAt(pt.end(pt.next+n))
	for i, u := range units {
		if pt.lines {
			c.Data = append(c.Data, make([]byte, u.length)...)
		} else {
			c.deliveries = append(c.deliveries, transports.Delivery{Ordinal: u.ordinal})
		}
		for sub := range u.subs {
			c.items = append(c.items, item{ordinal: u.ordinal, sub: uint32(sub), unit: uint32(i)})
		}
	}
	pt.next += n
	whole := w.p.open(c)
	left := 0
	for i := range c.items {
		e := posEvent{pt.index, c.items[i].ordinal, c.items[i].sub}
		settled := c.items[i].flags&flagSettled != 0
		if settled != w.durable[e] {
			w.t.Fatalf("%+v: recorded %v, skipped %v", e, w.durable[e], settled)
		}
		if !settled {
			w.unwritten[e] = ref{c, uint32(i)}
			left++
		}
	}
	if whole != (left == 0) {
		w.t.Fatalf("open said whole = %v, %d events are left", whole, left)
	}
	if whole {
		w.p.settle(c.span, nil)
	}
}

// record makes some events durable, in an order of its own.
func (w *posWorld) record() {
	keys := make([]posEvent, 0, len(w.unwritten))
	for e := range w.unwritten {
		keys = append(keys, e)
	}
	slices.SortFunc(keys, func(a, b posEvent) int {
		return slices.Compare([]uint64{uint64(a.part), a.ordinal, uint64(a.sub)}, []uint64{uint64(b.part), b.ordinal, uint64(b.sub)})
	})
	keys = rapid.Permutation(keys).Draw(w.t, "order")
	keys = keys[:rapid.IntRange(0, len(keys)).Draw(w.t, "events")]
	if len(keys) == 0 {
		return
	}
	var jw journal.Writer
	jw.Begin(w.epoch, 1)
	var ticket posTicket
	var at *chunk
	for _, e := range keys {
		r := w.unwritten[e]
		if r.c != at {
			at = r.c
			low, ordinal := w.p.low(at.span)
			s := at.span
			jw.Section(&journal.Section{
				Source: at.source.name, Partition: at.Partition, Low: low, LowOrdinal: ordinal,
				First: s.first, End: s.end, Total: uint64(s.total), Start: s.start, Next: s.next,
			})
		}
		jw.Entry(&journal.Entry{Ordinal: e.ordinal, Sub: e.sub, Outcome: journal.Delivered, ID: []byte("x")})
		ticket.refs = append(ticket.refs, r)
		delete(w.unwritten, e)
		if w.durable[e] {
			w.t.Fatalf("%+v is recorded twice (I5)", e)
		}
		w.durable[e] = true
	}
	jw.End()
	w.log = append(w.log, slices.Clone(jw.Bytes))
	w.inFlight = append(w.inFlight, ticket)
}

// apply runs what the commit log calls after the sync of the oldest record.
func (w *posWorld) apply() {
	if len(w.inFlight) == 0 {
		return
	}
	t := w.inFlight[0]
	w.inFlight = w.inFlight[1:]
	w.applied++
	for len(t.refs) > 0 {
		n := 1
		for n < len(t.refs) && t.refs[n].c == t.refs[0].c {
			n++
		}
		list := make([]uint32, n)
		for i := range list {
			list[i] = t.refs[i].i
		}
		w.p.settle(t.refs[0].c.span, list)
		t.refs = t.refs[n:]
	}
	w.checkLow("after a commit")
}

// snapshot writes a fuzzy one: the engine goes on between its slices.
func (w *posWorld) snapshot() {
	s := posSnap{begin: max(0, w.applied-rapid.IntRange(0, 2).Draw(w.t, "early"))}
	err := w.p.Snapshot(func(slice []byte) error {
		s.slices = append(s.slices, slices.Clone(slice))
		for range rapid.IntRange(0, 3).Draw(w.t, "between slices") {
			w.step(true)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.snaps = append(w.snaps, s)
}

func (w *posWorld) step(inSnapshot bool) {
	switch n := rapid.IntRange(0, 11).Draw(w.t, "step"); {
	case n < 4:
		w.read(w.parts[rapid.IntRange(0, len(w.parts)-1).Draw(w.t, "partition")])
	case n < 7:
		w.record()
	case n < 10:
		w.apply()
	case n == 10 && !inSnapshot:
		w.snapshot()
	}
}

// finish settles all and wants the low marks at the ends, with nothing left over.
func (w *posWorld) finish() {
	for _, pt := range w.parts {
		for pt.next < len(pt.units) {
			w.read(pt)
		}
	}
	for len(w.unwritten) > 0 {
		w.record()
	}
	for len(w.inFlight) > 0 {
		w.apply()
	}
	for _, pt := range w.parts {
		st := w.p.of(pt.source.name, pt.name)
		if want := posAt(pt.end(len(pt.units))); string(st.low) != string(want) {
			w.t.Fatalf("partition %d: all is settled, and the low mark is %x, want %x", pt.index, st.low, want)
		}
		if n := len(st.spans) + len(st.recovered) + len(st.ranges); n > 0 {
			w.t.Fatalf("partition %d: all is settled, and %d spans, %d events, %d ranges are kept (I15)", pt.index, len(st.spans), len(st.recovered), len(st.ranges))
		}
		total := 0
		for _, u := range pt.units {
			total += u.subs
		}
		if st.settled != uint64(total) {
			w.t.Fatalf("partition %d: %d events are counted as settled, want %d", pt.index, st.settled, total)
		}
	}
}

// TestPositionsAgainstModelI8 reads, settles, snapshots, crashes and recovers at
// random: no low mark ever passes an event that is not in the log, what is in the log
// is skipped, nothing else is, and partitions do not touch each other.
func TestPositionsAgainstModelI8(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newPosWorld(t)
		for range rapid.IntRange(1, 4).Draw(t, "runs") {
			w.start()
			for range rapid.IntRange(0, 40).Draw(t, "steps") {
				w.step(false)
			}
		}
		w.start()
		w.finish()
	})
}

// TestRecoveryStopsAtUnrecordedChunkI8: of three chunks the first and the last are
// recorded, the last one earlier. The one between has no record yet, so recovery does
// not know of it, and must all the same not move the low mark over it.
func TestRecoveryStopsAtUnrecordedChunkI8(t *testing.T) {
	p := newPositions()
	for _, first := range []uint64{20, 0} {
		p.replay(1, &journal.Section{
			Source: "s", Partition: "p", Low: posAt(0), LowOrdinal: 0,
			First: first, End: first + 10, Total: 1, Start: posAt(first), Next: posAt(first + 10),
		}, &journal.Entry{Ordinal: first, Outcome: journal.Delivered})
	}
	p.begin()
	if low := binary.BigEndian.Uint64(p.resume("s")["p"]); low != 10 {
		t.Errorf("the low mark is %d, want 10", low)
	}
}
