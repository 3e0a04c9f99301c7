package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/engine/pattern"
	"github.com/weir-project/weir/engine/trace"
)

// scanner turns chunks into items: everything that needs no order. One a
// goroutine; its scratch memory is reused from event to event.
type scanner struct {
	tracer trace.Tracer // nil = no event is traced
	lanes  int
	now    func() time.Time
	values field.Values
	match  pattern.Scratch
	view   pattern.View
	hash   []byte
	wall   int64
	chunks []*chunk // of the turn
}

// Reasons for which an event is refused at the edge.
const (
	reasonJSON     = "invalid_json"
	reasonUTF8     = "invalid_utf8"
	reasonDepth    = "too_deep"
	reasonSize     = "too_large"
	reasonKeys     = "duplicate_key"
	reasonElements = "too_many_values"
	reasonEnvelope = "unknown_envelope"
	reasonField    = "invalid_field"
)

// scan splits a chunk and reads every event of it.
func (s *scanner) scan(c *chunk) {
	s.wall = s.now().UnixNano()
	s.split(c)
	if c.reading.chooses {
		c.taken = append(c.taken[:0], make([]uint32, len(c.matched))...)
	}
}

func (s *scanner) split(c *chunk) {
	if c.Oversize > 0 {
		it := s.add(c, 0, len(c.Data))
		it.ordinal = c.Ordinal
		c.fail(it, reasonSize, fmt.Sprintf("%d bytes, at most %d are allowed; the first %d are kept", c.Oversize, c.reading.maxEvent, len(c.Data)))
		s.place(c, it)
		return
	}
	if c.Ends == nil {
		s.lines(c)
		return
	}
	start, first := 0, 0
	for i, end := range c.Ends {
		ordinal, unit := c.Ordinal+uint64(i), uint32(i)
		switch {
		case i < len(c.units):
			if unit = c.units[i]; unit != c.units[first] {
				first = i
			}
			ordinal = c.deliveries[unit].Ordinal + uint64(i-first)
		case i < len(c.deliveries):
			ordinal = c.deliveries[i].Ordinal
		}
		s.unit(c, start, int(end), ordinal, unit)
		start = int(end)
	}
}

func (s *scanner) lines(c *chunk) {
	for start := 0; start < len(c.Data); {
		end := len(c.Data)
		next := end
		if n := bytes.IndexByte(c.Data[start:], '\n'); n >= 0 {
			end, next = start+n, start+n+1
		}
		if end > start && c.Data[end-1] == '\r' {
			end--
		}
		if !blank(c.Data[start:end]) {
			s.unit(c, start, end, c.Ordinal+uint64(start), 0)
		}
		start = next
	}
}

func blank(line []byte) bool {
	for _, b := range line {
		if b != ' ' && b != '\t' && b != '\r' {
			return false
		}
	}
	return true
}

// add appends an item. Those past the end are zero.
func (s *scanner) add(c *chunk, start, end int) *item {
	n := len(c.items)
	if n == cap(c.items) {
		c.items = slices.Grow(c.items, max(1, c.guess+c.guess/8-n))
		clear(c.items[n:cap(c.items)])
	}
	c.items = c.items[:n+1]
	it := &c.items[n]
	it.start, it.end = uint32(start), uint32(end)
	it.kept, it.routes = uint32(len(c.kept)), uint32(len(c.matched))
	return it
}

// unit reads what stands between two offsets: one event, or several where its
// envelope holds several.
func (s *scanner) unit(c *chunk, start, end int, ordinal uint64, unit uint32) {
	r := c.reading
	it := s.add(c, start, end)
	it.ordinal, it.unit = ordinal, unit
	doc := c.Data[start:end]
	if s.readRecord(c, it, doc) {
		return
	}
	switch {
	case end-start > r.maxEvent:
		c.fail(it, reasonSize, fmt.Sprintf("%d bytes, at most %d are allowed", end-start, r.maxEvent))
	default:
		if err := r.program.Scan(doc, &s.values); err != nil {
			s.refuse(c, it, err)
			break
		}
		l := r.detect(&s.values)
		if l >= 0 && doc[0] != '{' && r.layouts[l].Chain[0] != event.Raw && array(doc) {
			l = -1 // what was seen are the members of the array's elements
		}
		if l < 0 || !r.layouts[l].direct || s.odd(&r.layouts[l]) {
			s.decode(c, it, doc)
			return
		}
		it.layout = int16(l)
		s.read(c, it, doc, &r.layouts[l])
	}
	s.place(c, it)
}

func (s *scanner) refuse(c *chunk, it *item, err error) {
	reason := reasonJSON
	var bad *field.Error
	if errors.As(err, &bad) {
		switch bad.Reason {
		case field.ReasonUTF8:
			reason = reasonUTF8
		case field.ReasonDepth:
			reason = reasonDepth
		case field.ReasonSize:
			reason = reasonSize
		case field.ReasonDuplicateKey:
			reason = reasonKeys
		case field.ReasonElements:
			reason = reasonElements
		}
	}
	c.fail(it, reason, err.Error())
}

// detect finds the first layout whose marks are all there, -1 = none.
func (r *reading) detect(v *field.Values) int {
	for i := range r.layouts {
		if r.layouts[i].fits(v) {
			return i
		}
	}
	return -1
}

func (l *layout) fits(v *field.Values) bool {
	for _, m := range l.marks {
		k := v.Get(m.slot).Kind
		if k == field.Absent || m.object && k != field.Object || m.inner && v.Get(m.slot).Elem != 0 {
			return false
		}
	}
	return true
}

// odd says that an event has what only Decode judges rightly.
func (s *scanner) odd(l *layout) bool {
	return l.cloud && (s.values.RootOdd() || s.values.RootMembers() > event.DefaultAttributes)
}

// decode reads a unit the long way: envelopes whose attributes must be made,
// units with several events, and whatever looks unusual.
func (s *scanner) decode(c *chunk, it *item, doc []byte) {
	r := c.reading
	batch := s.batch(r, doc)
	decode := event.DecodeAll
	if batch {
		decode = decodeBatch
	}
	events, err := decode(doc, r.codec, r.missing, r.limits)
	first, unit := *it, len(c.items)-1
	if err != nil || len(events) == 0 {
		reason := reasonField
		switch {
		case err == nil:
			it.outcome, it.reason = outcomeTest, "empty_batch"
		case errors.Is(err, event.ErrTestEvent):
			it.outcome, it.reason = outcomeTest, "s3:TestEvent"
		default:
			var bad *event.Error
			if errors.As(err, &bad) && bad.Field == "" && (r.detect(&s.values) < 0 || array(doc)) {
				reason = reasonEnvelope
			}
			c.fail(it, reason, err.Error())
		}
		s.place(c, it)
		return
	}
	*it, c.items = item{}, c.items[:unit]
	for i := range events {
		it = s.add(c, 0, 0)
		*it = first
		it.sub, it.kept = uint32(i), uint32(len(c.kept))
		s.canonical(c, it, &events[i], batch || len(events) > 1)
		s.place(c, it)
	}
}

const jsonSpace = " \t\r\n"

// array says that a unit is one; what is in it counts for nothing else.
func array(doc []byte) bool {
	doc = bytes.TrimLeft(doc, jsonSpace)
	return len(doc) > 0 && doc[0] == '['
}

// batch says that a unit, which was scanned, is an array of CloudEvents, or empty.
func (s *scanner) batch(r *reading, doc []byte) bool {
	if !array(doc) || !r.codec.IsAuto() && !r.cloudOnly {
		return false
	}
	if _, rest, _ := bytes.Cut(doc, []byte{'['}); r.cloudOnly || bytes.TrimLeft(rest, jsonSpace)[0] == ']' {
		return true
	}
	l := r.detect(&s.values)
	return l >= 0 && r.layouts[l].cloud
}

func decodeBatch(doc []byte, _ event.Codec, m event.Missing, lim event.Limits) ([]event.Event, error) {
	return event.DecodeBatch(doc, m, lim)
}

// canonical reads an item off the CloudEvent that Decode made of it.
func (s *scanner) canonical(c *chunk, it *item, e *event.Event, several bool) {
	r := c.reading
	if e.ID == "" {
		e.ID = stampID(c, it)
	}
	doc, err := e.AppendCloudEvent(nil, event.Stamps{})
	if err != nil {
		c.fail(it, reasonField, err.Error())
		return
	}
	l := &r.canonical
	it.layout = layoutCanonical
	if len(e.Chain) > 1 && e.Chain[0] == event.EventBridge {
		doc = appendBridge(doc, c.Data[it.start:it.end])
		l, it.layout = &r.bridged, layoutBridged
	}
	cold := coldEvent{event: *e, doc: doc}
	if several {
		cold.raw = e.Original
	}
	c.cold = append(c.cold, cold)
	it.cold = uint32(len(c.cold))
	if err := r.canonicalProgram.Scan(doc, &s.values); err != nil {
		s.refuse(c, it, err)
		return
	}
	s.read(c, it, doc, l)
	if e.HasVersion && r.version == fieldVersion {
		it.version, it.flags = e.Version, it.flags|flagVersion
	}
}

// bridgeNames are EventBridge's own names, by which rules may know an event that
// stands inside of an EventBridge envelope.
var bridgeNames = [...]string{"detail", "detail-type", "resources", "account", "region"}

// appendBridge adds the outer envelope's own members to an event's CloudEvent.
func appendBridge(doc, raw []byte) []byte {
	var outer map[string]json.RawMessage
	if json.Unmarshal(raw, &outer) != nil {
		return doc // it was decoded as an envelope before, so this does not happen
	}
	doc = doc[:len(doc)-1]
	for _, name := range bridgeNames {
		if v, ok := outer[name]; ok {
			doc = append(append(doc, `,"`+name+`":`...), v...)
		}
	}
	return append(doc, '}')
}

// place gives an item to its lane.
func (s *scanner) place(c *chunk, it *item) {
	lane := int((it.key >> 32) * uint64(s.lanes) >> 32)
	c.byLane[lane] = append(c.byLane[lane], uint32(len(c.items)-1))
}
