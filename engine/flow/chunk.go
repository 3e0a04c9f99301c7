package flow

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/trace"
	"github.com/weir-project/weir/transports"
)

// chunk is a run of events of one partition on its way through the path. A
// scanner fills it, then lanes share it: each works on its own items. It is
// recycled when all its events are settled and durable.
type chunk struct {
	transports.Chunk
	source  *source
	gen     *Generation
	reading *reading
	span    *span

	items   []item
	byLane  [][]uint32    // items of each lane, in order
	matched []uint32      // routes, by item.routes
	taken   []uint32      // beside matched: the outputs taken, for routes that choose by outputs
	kept    []field.Value // by item.kept
	texts   []byte        // the events' ids and short kept fields, one after the other: lanes read nothing else of most events
	cold    []coldEvent   // events that only Decode can read
	faults  []fault

	deliveries []transports.Delivery // of a source without chunks: the unit of each item
	units      []uint32              // beside Ends: in which delivery that is

	records []derive.Record // of the internal queue: one for each unit

	at      time.Time // when it came
	scanned atomic.Bool
	left    atomic.Int32 // items not finished; the chunk is free at 0
	unrun   atomic.Int32 // lanes that have not run it
	bytes   int64        // held against the in-flight limit
	guess   int          // events held against it
}

// item is one event of a chunk.
type item struct {
	start, end  uint32 // its bytes in the chunk's data
	idAt, idLen uint32 // its id in chunk.texts
	hi, lo      uint64 // fingerprint of its identity
	data        uint64 // hash of its data
	key         uint64 // hash of its key
	ordinal     uint64
	version     uint32
	sub         uint32 // which event of a unit that holds several
	routes      uint32 // first in chunk.matched
	routeCount  uint16
	flags       uint16
	kept        uint32 // first in chunk.kept
	layout      int16  // in the reading's layouts, -1 = canonical
	cold        uint32 // 1 + index in chunk.cold, 0 = none
	fault       uint32 // 1 + index in chunk.faults, 0 = none
	unit        uint32 // delivery it came in
	pending     int32  // deliveries that have not ended; the lane's
	outcome     journal.Outcome
	token       dedup.Token
	reason      string // with outcome
	extra       *extra // nil for the usual event
}

// extra is what the unusual event carries to its record.
type extra struct {
	trace   *trace.Event // nil = not sampled
	notes   []journal.Note
	letters []letter    // dead letters to stage
	made    []madeEvent // by route: what its transforms made
	// emitted holds records for the internal queue, framed.
	emitted   []byte
	emissions int
	parked    []*dispatch.Job // deliveries to stage in park queues
	// rendered holds what local sinks get that do not take the original bytes. It is
	// made before the record, since what cannot be rendered is a dead letter.
	rendered []rendering
}

// rendering is an event as a sink wants it.
type rendering struct {
	route   uint32
	sink    int
	data    []byte
	headers []transports.Header
	texts   []string
	failed  bool // dead-lettered instead
}

func (x *extra) renderingOf(route uint32, sink int) *rendering {
	for i := range x.rendered {
		if m := &x.rendered[i]; m.route == route && m.sink == sink {
			return m
		}
	}
	return &rendering{failed: true} // send made one for every such delivery
}

func (it *item) more() *extra {
	if it.extra == nil {
		it.extra = &extra{}
	}
	return it.extra
}

// flags of an item.
const (
	flagIdentified = 1 << iota // hi, lo are set
	flagVersion                // version is set
	flagMayUpdate
	flagSettled // it was settled before the engine started: skip
	flagExpired
	flagClaimed // it holds a claim
	flagKeyed   // its key is a field or the transport's, not the identity
	flagUnmatched
	flagFollows  // it follows an event in flight, and later ones of its key wait for it
	flagDeferred // it waits for an earlier event of its key that follows one in flight
	flagHeld     // it stands in its key's line in lane.held
)

// coldEvent is an event whose attributes had to be made by Decode.
type coldEvent struct {
	event event.Event
	doc   []byte // the event as a CloudEvent, for patterns and plug-ins
	raw   []byte // the event's own bytes, where they are not the unit's
}

// fault is why an event is refused.
type fault struct {
	reason string // a stable name
	detail string // in words, with the place
}

// ref names an item across the path.
type ref struct {
	c *chunk
	i uint32
}

func (r ref) item() *item { return &r.c.items[r.i] }

// raw is the event as it came.
func (c *chunk) raw(it *item) []byte {
	if it.cold != 0 {
		if r := c.cold[it.cold-1].raw; r != nil {
			return r
		}
	}
	return c.Data[it.start:it.end:it.end]
}

// doc is the event as its layout has it.
func (c *chunk) doc(it *item) []byte {
	if it.cold != 0 {
		return c.cold[it.cold-1].doc
	}
	return c.Data[it.start:it.end:it.end]
}

// id is the event's own, or the stamped one. An event that was refused before its id
// was found has a stamped one too.
func (c *chunk) id(it *item) []byte {
	if it.idLen == 0 {
		return []byte(stampID(c, it))
	}
	return c.texts[it.idAt : it.idAt+it.idLen]
}

func (c *chunk) layout(it *item) *layout {
	switch it.layout {
	case layoutCanonical:
		return &c.reading.canonical
	case layoutBridged:
		return &c.reading.bridged
	}
	return &c.reading.layouts[it.layout]
}

// field is the i-th kept field of an item. Strings stand without quotes; the
// bytes are nil where the field is absent.
func (c *chunk) field(it *item, i int) (field.Value, []byte) {
	v := c.kept[int(it.kept)+i]
	switch {
	case v.Kind == field.Absent:
		return v, nil
	case v.Flags&constField != 0:
		s := c.layout(it).consts[v.Off]
		return field.Value{Kind: field.String, Flags: field.Escaped}, unsafe.Slice(unsafe.StringData(s), len(s))
	}
	return v, v.Raw(c.within(it, v))
}

// within is what a kept field that is no constant lies in.
func (c *chunk) within(it *item, v field.Value) []byte {
	if v.Flags&textField != 0 {
		return c.texts
	}
	return c.doc(it)
}

// Layouts of items that are not among the reading's.
const (
	layoutCanonical = -1
	layoutBridged   = -2
)

// Marks of kept fields.
const (
	constField = 1 << 7 // a constant of the layout, Off being its index
	textField  = 1 << 6 // Off is a place in chunk.texts
	keptText   = 64     // bytes up to which a field stands there
)

// keyBytes is what sinks get as the key, nil where configuration and transport name none.
func (c *chunk) keyBytes(it *item) []byte {
	if it.flags&flagKeyed == 0 {
		return nil
	}
	if c.reading.key >= 0 {
		v, b := c.field(it, 0)
		if v.Kind == field.String && v.Flags&field.Escaped != 0 && bytes.IndexByte(b, '\\') >= 0 {
			return field.AppendUnescaped(nil, b)
		}
		return b
	}
	return c.deliveries[it.unit].Key
}

func (c *chunk) routesOf(it *item) []uint32 {
	return c.matched[it.routes : it.routes+uint32(it.routeCount)]
}

func (c *chunk) fail(it *item, reason, detail string) {
	c.faults = append(c.faults, fault{reason: reason, detail: detail})
	it.fault = uint32(len(c.faults))
}

// reset readies a recycled chunk for other events.
func (c *chunk) reset() {
	c.Chunk = transports.Chunk{Data: c.Data[:0]}
	c.unscan()
	clear(c.deliveries)
	clear(c.records)
	c.deliveries, c.records, c.units = c.deliveries[:0], c.records[:0], c.units[:0]
	c.scanned.Store(false)
	c.guess = 0
	c.span, c.gen, c.reading = nil, nil, nil
}

// unscan forgets what the scan found.
func (c *chunk) unscan() {
	clear(c.items)
	c.items, c.matched, c.taken, c.kept, c.texts = c.items[:0], c.matched[:0], c.taken[:0], c.kept[:0], c.texts[:0]
	clear(c.cold)
	c.cold, c.faults = c.cold[:0], c.faults[:0]
	for i := range c.byLane {
		c.byLane[i] = c.byLane[i][:0]
	}
}

// freeChunks keeps recycled chunks, the last one given first: its memory is most
// likely still in a cache.
type freeChunks struct {
	mu   sync.Mutex // guards list, which holds at most maxChunks
	list []*chunk
}

func (f *freeChunks) take() *chunk {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.list)
	if n == 0 {
		return nil
	}
	c := f.list[n-1]
	f.list[n-1] = nil
	f.list = f.list[:n-1]
	return c
}

func (f *freeChunks) give(c *chunk) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) < maxChunks {
		f.list = append(f.list, c)
	}
}
