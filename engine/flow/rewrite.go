package flow

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/engine/template"
)

// Most events that steps change are CloudEvents as they came. Of these the bytes are
// copied, member by member, with others in the place of those that change: nothing is
// decoded, and the data is not looked into. The result is the same JSON as the long
// way's (makeEvent and event.Encode) but for the order of members.

// rewriting lists what changes of a CloudEvent.
type rewriting struct {
	members []rewritten
	buf     []byte // values, one after the other
}

type rewritten struct {
	name     string
	from, to int  // in buf; equal = the member goes
	unless   bool // only where the event has none
	done     bool
}

func (w *rewriting) reset() { w.members, w.buf = w.members[:0], w.buf[:0] }

// added makes the bytes that were appended to buf from an offset on a member's value.
func (w *rewriting) added(name string, from int) {
	w.members = append(w.members, rewritten{name: name, from: from, to: len(w.buf)})
}

func (w *rewriting) drop(name string) { w.members = append(w.members, rewritten{name: name}) }

func (w *rewriting) text(name, value string) {
	from := len(w.buf)
	w.buf = template.AppendString(w.buf, value)
	w.added(name, from)
}

// append writes the event to dst. Members that it has and that change keep their place,
// others come before the data.
func (w *rewriting) append(dst, raw []byte) []byte {
	dst = append(dst, '{')
	template.Members(raw, func(name, member []byte) bool {
		if string(name) == "data" || string(name) == "data_base64" {
			dst = w.rest(dst, false)
		}
		i := slices.IndexFunc(w.members, func(m rewritten) bool { return m.name == string(name) })
		if i < 0 {
			dst = appendMember(dst, name, member)
			return true
		}
		m := &w.members[i]
		value := w.buf[m.from:m.to]
		if m.unless && string(member) != "null" {
			value = member
		}
		if len(value) > 0 && !m.done {
			dst = appendMember(dst, name, value)
		}
		m.done = true
		return true
	})
	return append(w.rest(dst, true), '}')
}

// rest writes members that the event has not had so far; those that it may still have on
// its own, and the data, come at the end.
func (w *rewriting) rest(dst []byte, end bool) []byte {
	for i := range w.members {
		m := &w.members[i]
		if m.done || m.from == m.to || !end && (m.unless || m.name == "data") {
			continue
		}
		dst = appendMember(dst, m.name, w.buf[m.from:m.to])
		m.done = true
	}
	return dst
}

func appendMember[N ~string | ~[]byte](dst []byte, name N, value []byte) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return append(dst, value...)
}

// plainCloud says that an event came as a CloudEvent whose attributes stand in its bytes.
func (c *chunk) plainCloud(it *item) bool {
	return it.cold == 0 && it.layout >= 0 && len(c.reading.layouts[it.layout].Chain) == 1 && c.reading.layouts[it.layout].cloud
}

// step adds what a step changes. It fails as makeEvent does.
func (w *rewriting) step(s *stepFields) error {
	t := s.step.template
	limit := s.r.c.reading.maxEvent
	names := t.Names()
	for i, name := range names {
		from := len(w.buf)
		var there bool
		var err error
		if w.buf, there, err = t.Append(w.buf, i, s, from+limit); err != nil {
			return fmt.Errorf("%s: %w: %d bytes", name, err, limit)
		}
		if !there {
			w.buf = w.buf[:from]
			continue
		}
		if name == "data" {
			w.added(name, from)
			w.drop("data_base64")
			for _, described := range [...]string{"datacontenttype", "dataschema"} {
				if !slices.Contains(names, described) {
					w.drop(described)
				}
			}
			continue
		}
		v, err := attributeValue(name, w.buf[from:])
		if err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
		if text, isText := v.(string); isText && w.buf[from] != '"' {
			w.buf = strconv.AppendQuote(w.buf[:from], text) // a number or word: nothing to escape
		}
		if v == nil {
			w.buf = w.buf[:from]
		}
		w.added(name, from)
	}
	return nil
}

// transformed is an event as the only transform of a route leaves it, in its own envelope.
func (l *lane) transformed(r ref) ([]byte, error) {
	l.rewriting.reset()
	if err := l.rewriting.step(&l.fields); err != nil {
		return nil, err
	}
	l.stampedID(r)
	from := len(l.rewriting.buf)
	l.rewriting.buf = l.f.cfg.Now().UTC().AppendFormat(append(l.rewriting.buf, '"'), time.RFC3339Nano)
	l.rewriting.buf = append(l.rewriting.buf, '"')
	l.rewriting.added("processedtime", from)
	raw := r.c.raw(r.item())
	return l.rewriting.append(make([]byte, 0, len(raw)+len(l.rewriting.buf)+64), raw), nil
}

// stampedID gives the event the id that it was stamped with, where it came without.
func (l *lane) stampedID(r ref) {
	l.rewriting.text("id", bytesText(r.c.id(r.item())))
	l.rewriting.members[len(l.rewriting.members)-1].unless = true
}

// causeOf is what a derived event must know of a CloudEvent that causes it.
func causeOf(r ref) event.Event {
	e := event.Event{ID: string(r.c.id(r.item()))}
	template.Members(r.c.raw(r.item()), func(name, member []byte) bool {
		if len(member) < 2 || member[0] != '"' {
			return true
		}
		text := func() string { return string(field.AppendUnescaped(nil, member[1:len(member)-1])) }
		switch string(name) {
		case "source":
			e.Source = text()
		case "replayname", derive.CorrelationAttribute:
			e.SetExtension(string(name), text())
		}
		return true
	})
	return e
}

// derivedCloud writes the event that a step makes of a CloudEvent, and returns its source.
func (l *lane) derivedCloud(r ref, n *derive.Lineage, id string, source string) ([]byte, string, error) {
	w := &l.rewriting
	w.reset()
	if err := w.step(&l.fields); err != nil {
		return nil, "", err
	}
	for i := range w.members {
		if m := &w.members[i]; m.name == "source" && m.from < m.to {
			source = string(field.AppendUnescaped(nil, w.buf[m.from+1:m.to-1]))
		}
	}
	// The marks come before what the template says of their names.
	marks := len(w.members)
	w.text("id", id)
	w.text(derive.CauseAttribute, n.Cause)
	w.text(derive.CorrelationAttribute, n.Correlation)
	from := len(w.buf)
	w.buf = strconv.AppendUint(w.buf, uint64(n.Hop), 10)
	w.added(derive.HopAttribute, from)
	w.drop("weirenvelope") // how its cause looked before
	slices.Reverse(w.members[:marks])
	slices.Reverse(w.members[marks:])
	slices.Reverse(w.members) // the two parts have changed places
	raw := r.c.raw(r.item())
	return w.append(make([]byte, 0, len(raw)+len(w.buf)+64), raw), source, nil
}
