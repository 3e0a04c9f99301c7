package flow

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/zeebo/xxh3"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/engine/pattern"
)

// This file is what a scanner reads off the projection of an event: checks, identity,
// expiry, the fields that lanes need, and routes.

// get is a canonical field of the event that was just scanned.
func (s *scanner) get(l *layout, i int) field.Value {
	if at := l.refs[i]; at >= 0 {
		return s.values.Get(int(at))
	}
	return field.Value{}
}

// bytes is a canonical field's content: strings without quotes and escapes.
func (s *scanner) bytes(l *layout, doc []byte, i int) []byte {
	at := l.refs[i]
	if at <= firstConst {
		return []byte(l.consts[firstConst-at])
	}
	v := s.get(l, i)
	if v.Kind == field.String && v.Flags&field.Escaped != 0 {
		return field.AppendUnescaped(nil, v.Raw(doc))
	}
	if v.Kind == field.Absent || v.Kind == field.Null {
		return nil
	}
	return v.Raw(doc)
}

// read fills an item from the projection of an event whose attributes stand in
// its bytes.
func (s *scanner) read(c *chunk, it *item, doc []byte, l *layout) {
	if l.Refuse != "" {
		c.fail(it, reasonField, l.Refuse)
		return
	}
	s.verify(c, it, doc, l)
	s.identify(c, it, doc, l)
	s.keep(c, it, doc, l) // dead letters carry the key as well
	if s.tracer != nil {
		s.sample(c, it, doc, l)
	}
	if it.fault != 0 {
		return
	}
	s.expire(c, it, doc, l)
	s.route(c, it, doc, l)
}

// verify makes the layout's checks. Most values are what they usually are, and a
// look at kind and length says so.
func (s *scanner) verify(c *chunk, it *item, doc []byte, l *layout) {
	first := s.values.First()
	for i := range l.checks {
		k := &l.checks[i]
		v := &first[k.slot]
		switch {
		case v.Kind == field.Absent:
			if !k.required {
				continue
			}
		case v.Kind != field.String || v.Len == 0:
		case k.usual == usualText:
			continue
		case k.usual == usualSame && string(v.Raw(doc)) == k.want:
			continue
		}
		var other []byte
		if k.other >= 0 {
			other = first[k.other].JSON(doc)
		}
		if err := k.Verify(v.JSON(doc), other, l.Layout, c.reading.missing); err != nil {
			c.fail(it, reasonField, err.Error())
			return
		}
	}
}

// identify sets id, fingerprints, version and key. It works on refused events
// as far as they go.
func (s *scanner) identify(c *chunk, it *item, doc []byte, l *layout) {
	r := c.reading
	id := &s.values.First()[max(l.refs[fieldID], 0)]
	it.idAt = uint32(len(c.texts))
	switch {
	case l.refs[fieldID] < 0 || id.Kind != field.String || id.Len == 0:
		c.texts = append(c.texts, stampID(c, it)...)
	case id.Flags&field.Escaped != 0:
		c.texts = field.AppendUnescaped(c.texts, id.Raw(doc))
	default:
		c.texts = append(c.texts, id.Raw(doc)...)
	}
	it.idLen = uint32(len(c.texts)) - it.idAt
	s.fingerprint(c, it, doc, l)
	if data := s.get(l, fieldData); data.Kind != field.Absent {
		it.data = xxh3.Hash(data.Raw(doc))
	} else if data = s.get(l, fieldData64); data.Kind != field.Absent {
		it.data = xxh3.HashSeed(data.Raw(doc), 1)
	}
	if v := s.get(l, r.version); v.Kind != field.Absent && v.Kind != field.Null {
		n, err := strconv.ParseUint(string(v.JSON(doc)), 10, 32)
		switch {
		case err == nil:
			it.version, it.flags = uint32(n), it.flags|flagVersion
		case r.version != fieldVersion && it.fault == 0:
			c.fail(it, reasonField, fmt.Sprintf("%s is no integer between 0 and 4294967295, as dedup.version asks", r.fields[r.version]))
		}
	}
	switch {
	case r.updates == nil && it.flags&flagVersion != 0, r.updates != nil && r.mayUpdate(s.bytes(l, doc, fieldType)):
		it.flags |= flagMayUpdate
	}
	it.key = it.hi
	if r.key >= 0 {
		if key := s.bytes(l, doc, r.key); key != nil {
			it.key, it.flags = xxh3.Hash(key), it.flags|flagKeyed
		}
	} else if int(it.unit) < len(c.deliveries) && c.deliveries[it.unit].Key != nil {
		it.key, it.flags = xxh3.Hash(c.deliveries[it.unit].Key), it.flags|flagKeyed
	}
	if rec := c.record(it); rec != nil && rec.Keyed {
		it.key = rec.KeyHash // order is its cause's
	}
}

// stampID is the id of an event that came without: the same whenever it is read again.
func stampID(c *chunk, it *item) string {
	if rec := c.record(it); rec != nil {
		return event.StampID(rec.Source, rec.Partition, binary.LittleEndian.AppendUint64(nil, rec.Ordinal), uint64(rec.Sub))
	}
	return event.StampID(c.source.name, c.Partition, binary.LittleEndian.AppendUint64(nil, it.ordinal), uint64(it.sub))
}

// fingerprint hashes the identity: source and id, or the fields configured
// instead. Each part goes in with its length, so that parts cannot run together.
func (s *scanner) fingerprint(c *chunk, it *item, doc []byte, l *layout) {
	r := c.reading
	b := s.hash[:0]
	if r.identity == nil {
		source := s.get(l, fieldSource)
		if source.Kind == field.String && source.Flags&field.Escaped == 0 {
			b = append(b, source.Raw(doc)...)
		} else {
			b = append(b, s.bytes(l, doc, fieldSource)...)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(b)))
		b = append(b, c.id(it)...)
	}
	for _, i := range r.identity {
		v := s.get(l, i)
		at := len(b)
		b = append(b, byte(v.Kind))
		b = append(b, s.bytes(l, doc, i)...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(b)-at))
	}
	s.hash = b
	h := xxh3.Hash128(b)
	it.hi, it.lo = h.Hi, h.Lo
	it.flags |= flagIdentified
}

// expire notes that an event is past its expiry.
func (s *scanner) expire(c *chunk, it *item, doc []byte, l *layout) {
	r := c.reading
	if !r.expire.On || len(c.records) > 0 {
		return
	}
	if v := s.get(l, fieldExpiry); v.Kind == field.String {
		if at, err := event.CheckTime(v.JSON(doc), l.Layout, r.missing); err == nil && at < s.wall {
			it.flags |= flagExpired
		}
	}
	if r.expire.After == 0 {
		return
	}
	if v := s.get(l, fieldTime); v.Kind != field.Absent {
		if at, err := event.CheckTime(v.JSON(doc), l.Layout, r.missing); err == nil && at < s.wall-int64(r.expire.After) {
			it.flags |= flagExpired
		}
	}
}

// keep notes the fields that lanes need: of short values the bytes, of others the place.
func (s *scanner) keep(c *chunk, it *item, doc []byte, l *layout) {
	for _, i := range c.reading.kept {
		v := s.get(l, i)
		switch at := l.refs[i]; {
		case at <= firstConst:
			v = field.Value{Kind: field.String, Off: uint32(firstConst - at), Flags: constField}
		case v.Kind == field.Absent || v.Kind == field.Object || v.Kind == field.Array || v.Len > keptText:
		default:
			text := v.JSON(doc) // with a string's quotes
			v.Off, v.Flags = uint32(len(c.texts)), v.Flags|textField
			if v.Kind == field.String {
				v.Off++
			}
			c.texts = append(c.texts, text...)
		}
		c.kept = append(c.kept, v)
	}
}

// route matches the patterns.
func (s *scanner) route(c *chunk, it *item, doc []byte, l *layout) {
	r := c.reading
	at := len(c.matched)
	it.routes = uint32(at)
	c.matched = append(c.matched, r.always...)
	if len(r.routes) > 0 {
		s.view = pattern.View{Doc: doc, Values: &s.values, Slots: l.slots, Consts: l.consts}
		rules := len(c.matched)
		c.matched = r.set.Match(&s.view, &s.match, c.matched)
		for i := rules; i < len(c.matched); i++ {
			c.matched[i] = r.routes[c.matched[i]]
		}
	}
	if rec := c.record(it); rec != nil && rec.Attempts > 0 && !c.again(it, rec, at) {
		return
	}
	n := len(c.matched) - at
	it.routeCount = uint16(n)
	if n == 0 {
		it.flags |= flagUnmatched
	}
}
