package event

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// carriedName is the member that carries what an envelope has no place for.
const carriedName = "weirenvelope"

// MaxCarried is how many bytes one event may carry of its earlier envelopes.
const MaxCarried = 64 << 10

// carried is one entry of weirenvelope: an envelope that the event stood in.
type carried struct {
	chain    []Envelope
	envelope []byte // the event of then with its data set to null; nil where a fresh encoding gives it
	absent   bool   // the event had no data
	source   string // the source, where the envelope itself has none
	time     string // the time, where the envelope's own text needed configuration
	raw      []byte // the entry as it stands in JSON
}

// carried reads the member, nil where there is none or where it is not Weir's.
func (t *tree) carried(lim Limits) []carried {
	value := t.attributes().get(carriedName)
	if value == nil || lim.IgnoreCarried || len(value) > 2*MaxCarried {
		return nil
	}
	if t.chain[t.last()] == CloudEvents {
		if value[0] != '"' {
			return nil
		}
		value = []byte(unquote(value))
		if validateJSON(value, orDefault(lim.Depth, DefaultDepth)+4) != nil {
			return nil
		}
	}
	entries, ok := parseArray(value)
	if !ok || len(entries) == 0 || len(entries) > 16 {
		return nil
	}
	list := make([]carried, len(entries))
	for i, raw := range entries {
		if list[i], ok = parseCarried(raw); !ok {
			return nil
		}
	}
	return list
}

func parseCarried(raw []byte) (c carried, ok bool) {
	o, ok := parseObject(raw)
	if !ok {
		return c, false
	}
	text := func(name string) string {
		if v := o.get(name); v != nil && v[0] == '"' {
			return unquote(v)
		}
		return ""
	}
	codec, err := ParseCodec(strings.Split(text("codec"), ">"))
	if err != nil || codec.CheckSink() != nil || codec.original || codec.chain[0] == Raw {
		return c, false
	}
	c = carried{
		chain: codec.chain, envelope: o.get("envelope"), absent: o.get("absent") != nil,
		source: text("source"), time: text("time"), raw: raw,
	}
	if c.envelope != nil {
		// What does not decode, nobody has carried. The event's own envelopes
		// of before stand in the list, not in the entry.
		m := Missing{Source: "weir:missing"}
		d := decoder{chain: c.chain, missing: m, limits: unlimited, timeText: c.time}
		d.limits.IgnoreCarried = true
		if _, err := d.decode(c.envelope); err != nil {
			return c, false
		}
	}
	return c, true
}

// full is an entry that holds the whole envelope; e is what t decodes to.
func (t *tree) full(e *Event) carried {
	skeleton := t.clone()
	last := skeleton.last()
	names := [...]string{envelopes[t.chain[last]].data[0], "data_base64"}
	for _, name := range names[:] {
		isData := name == names[0] || t.chain[last] == CloudEvents && e.DataKind == DataBinary
		if isData && skeleton.levels[last].get(name) != nil {
			skeleton.levels[last].set(name, []byte("null"))
		}
	}
	if len(e.carried) > 0 && skeleton.attributes().get(carriedName) != nil {
		skeleton.attributes().set(carriedName, []byte("null"))
	}
	c := carried{chain: t.chain, envelope: skeleton.bytes(), absent: e.DataKind == DataAbsent}
	if t.chain[last] == Metadata {
		c.source = e.Source
	}
	if !e.Time.IsZero() && e.timeText() != e.TimeText {
		c.time = e.timeText()
	}
	return c.withRaw()
}

func (c carried) withRaw() carried {
	raw := appendString([]byte(`{"codec":`), chainText(c.chain, ">"))
	if c.absent && c.envelope != nil {
		raw = append(raw, `,"absent":true`...)
	}
	if c.source != "" {
		raw = appendString(append(raw, `,"source":`...), c.source)
	}
	if c.time != "" {
		raw = appendString(append(raw, `,"time":`...), c.time)
	}
	if c.envelope != nil {
		raw = append(append(raw, `,"envelope":`...), c.envelope...)
	}
	c.raw = append(raw, '}')
	return c
}

func (t *tree) clone() tree {
	c := tree{chain: t.chain, levels: make([]object, len(t.levels)), nested: make([]object, len(t.nested))}
	for i := range t.levels {
		c.levels[i], c.nested[i] = slices.Clone(t.levels[i]), slices.Clone(t.nested[i])
	}
	return c
}

// setCarried writes the member, or leaves the tree alone for an empty list.
func (t *tree) setCarried(list []carried) *Error {
	if len(list) == 0 {
		return nil
	}
	raws := make([][]byte, len(list))
	for i := range list {
		raws[i] = list[i].raw
	}
	value := append(append([]byte("["), bytes.Join(raws, []byte(","))...), ']')
	if len(value) > MaxCarried {
		return &Error{Field: carriedName, Reason: "would have " + strconv.Itoa(len(value)) + " bytes: the " +
			chainText(t.chain, " in ") + " envelope cannot carry what it has no place for", Offset: -1}
	}
	if t.chain[t.last()] == CloudEvents {
		value = appendString(nil, string(value))
	}
	t.attributes().set(carriedName, value)
	return nil
}

// indexCarried is where a chain stands in the list, or -1.
func indexCarried(list []carried, chain []Envelope) int {
	return slices.IndexFunc(list, func(c carried) bool { return slices.Equal(c.chain, chain) })
}

// attach adds attributes that no envelope of the event has a place for to the
// list's CloudEvent, which is made of e where there is none.
func attach(list []carried, e *Event, unplaced []change) ([]carried, *Error) {
	if len(unplaced) == 0 {
		return list, nil
	}
	chain := []Envelope{CloudEvents}
	i := indexCarried(list, chain)
	if i >= 0 && list[i].envelope != nil {
		t, err := parseTree(list[i].envelope, chain)
		if err != nil {
			return nil, err
		}
		for _, c := range unplaced {
			t.put(c.name, c.value)
		}
		entry := list[i]
		entry.envelope = t.bytes()
		list = slices.Clone(list)
		list[i] = entry.withRaw()
		return list, nil
	}
	t, _, err := fresh(e, chain, false)
	if err != nil {
		return nil, err
	}
	bare := *e
	bare.carried = nil
	entry := t.full(&bare)
	entry.time = ""
	if i >= 0 {
		list = slices.Delete(slices.Clone(list), i, i+1)
	}
	return append(slices.Clone(list), entry.withRaw()), nil
}
