package flow

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/engine/template"
)

// step makes an event out of another one: a template of a route.
type step struct {
	template *template.Event
	refs     []template.Ref // what it wants, by slot

	// early numbers the steps that see the event as it came: their fields are part of
	// the one scan, see reading.steps. The others read the event that the step before
	// them made.
	early   int
	program *field.Program
	slots   []slotRef // of program, by the template's slots
}

// late is the number of steps that are not early.
const late = -1

// steps compiles a route's transforms and reactions. The first transform sees the
// event as it came, and so do the reactions where there is no transform.
func (g *Generation) steps(r *config.Route, c *route) error {
	for i, s := range r.Transform {
		st, err := g.step(&s, i == 0)
		if err != nil {
			return fmt.Errorf("transform: %w", err)
		}
		c.transforms = append(c.transforms, st)
	}
	for _, s := range r.React {
		st, err := g.step(&s, len(r.Transform) == 0)
		if err != nil {
			return fmt.Errorf("react: %w", err)
		}
		c.reactions = append(c.reactions, st)
	}
	g.makes = g.makes || len(c.transforms)+len(c.reactions) > 0
	return nil
}

func (g *Generation) step(s *config.Step, early bool) (*step, error) {
	t, err := template.ParseEvent(s.Template, template.Options{Paths: s.Paths})
	if err != nil {
		return nil, err
	}
	st, err := g.wanting(t.Refs(), early)
	if err == nil {
		st.template = t
	}
	return st, err
}

// wanting is a step that wants some fields, of the event as it came or of one made of it.
func (g *Generation) wanting(refs []template.Ref, early bool) (*step, error) {
	st := &step{refs: refs, early: late}
	if early {
		st.early = len(g.early)
		g.early = append(g.early, st)
		return st, nil
	}
	var raw paths
	cloud := layout{Layout: &event.CodecOf(event.CloudEvents).Layouts(event.Missing{})[0]}
	for _, ref := range refs {
		at := absent
		if ref.Known == template.NotKnown {
			at = cloud.resolve(ref.Path, &raw)
		}
		st.slots = append(st.slots, at)
	}
	var err error
	st.program, err = field.Compile(raw.list, field.Options{})
	return st, err
}

// wantSteps adds the fields of the early steps to what the scan keeps.
func (r *reading) wantSteps(g *Generation, add func(path field.Path) int) {
	for _, st := range g.early {
		var kept []int
		for _, ref := range st.refs {
			at := -1
			if ref.Known == template.NotKnown {
				at = len(r.kept)
				r.kept = append(r.kept, add(ref.Path))
			}
			kept = append(kept, at)
		}
		r.steps = append(r.steps, kept)
	}
}

// stepFields are the values of one event for a step's template.
type stepFields struct {
	f      *Flow
	r      ref
	route  uint32
	step   *step
	doc    []byte // the event that the step before made
	values field.Values
	quoted []byte
}

// Value implements template.Source.
func (s *stepFields) Value(slot int) []byte {
	ref := &s.step.refs[slot]
	if ref.Known != template.NotKnown {
		return s.known(ref.Known)
	}
	var value []byte
	if s.step.early == late {
		if at := s.step.slots[slot]; at >= 0 {
			value = jsonOf(s.values.Get(int(at)), s.doc)
		}
	} else {
		value = s.early(slot)
	}
	root := ref.Path[0]
	switch {
	case value == nil && root == "id":
		s.quoted = template.AppendString(s.quoted[:0], string(s.r.c.id(s.r.item())))
		return s.quoted
	case len(value) == 4 && value[0] == 'n' && root != "data" && root != "detail":
		return nil // null is no attribute
	}
	return value
}

// early is a value out of the one scan.
func (s *stepFields) early(slot int) []byte {
	c, it := s.r.c, s.r.item()
	at := c.reading.steps[s.step.early][slot]
	v := c.kept[int(it.kept)+at]
	if v.Flags&constField == 0 || v.Kind == field.Absent {
		return jsonOf(v, c.within(it, v))
	}
	s.quoted = append(append(append(s.quoted[:0], '"'), c.layout(it).consts[v.Off]...), '"')
	return s.quoted
}

// jsonOf is a value's JSON; what only came through an array has no place of its own.
func jsonOf(v field.Value, doc []byte) []byte {
	if v.Elem != 0 {
		return nil
	}
	return v.JSON(doc)
}

func (s *stepFields) known(k template.Known) []byte {
	c, it := s.r.c, s.r.item()
	switch k {
	case template.WholeEvent:
		return c.raw(it)
	case template.WithoutData:
		s.quoted = withoutData(s.quoted[:0], c.raw(it), c.envelope(it).DataMember())
		return s.quoted
	case template.WorkTime:
		s.quoted = s.f.cfg.Now().UTC().AppendFormat(append(s.quoted[:0], '"'), time.RFC3339Nano)
		s.quoted = append(s.quoted, '"')
		return s.quoted
	case template.RouteName:
		s.quoted = template.AppendString(s.quoted[:0], routeName(c.gen, s.route))
		return s.quoted
	case template.RouteAddress:
		s.quoted = template.AppendString(s.quoted[:0], "urn:weir:route:"+routeName(c.gen, s.route))
		return s.quoted
	}
	return nil
}

// of readies the fields of an event for a step of a route.
func (s *stepFields) of(f *Flow, r ref, route uint32, st *step) {
	s.f, s.r, s.route, s.step = f, r, route, st
}

// envelope is the outermost one of an event.
func (c *chunk) envelope(it *item) event.Envelope {
	chain := c.layout(it).Chain
	if it.cold != 0 {
		chain = c.cold[it.cold-1].event.Chain
	}
	if len(chain) == 0 {
		return event.CloudEvents
	}
	return chain[0]
}

// withoutData copies an event but for the members that hold its data.
func withoutData(dst, raw []byte, data string) []byte {
	dst = append(dst, '{')
	if data == "" || len(raw) == 0 || raw[0] != '{' {
		return append(dst, '}')
	}
	template.Members(raw, func(name, member []byte) bool {
		if string(name) == data || data == "data" && string(name) == "data_base64" {
			return true
		}
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst = append(append(append(append(dst, '"'), name...), '"', ':'), member...)
		return true
	})
	return append(dst, '}')
}

// readMade finds the step's fields in an event that an earlier step made.
func (s *stepFields) readMade(m *madeEvent) (err error) {
	if m.event == nil {
		s.doc = append(s.doc[:0], m.raw...)
	} else if s.doc, err = m.event.AppendCloudEvent(s.doc[:0], event.Stamps{}); err != nil {
		return err
	}
	return s.step.program.Scan(s.doc, &s.values)
}

// makeEvent runs a step: e with what the template says. It fails if the template gives
// an attribute a value that it cannot have, or more bytes than an event may have.
func (s *stepFields) makeEvent(e event.Event) (event.Event, error) {
	t := s.step.template
	limit := s.r.c.reading.maxEvent
	if s.step.early == late {
		if err := s.readMade(&madeEvent{event: &e}); err != nil {
			return e, err
		}
	}
	names := t.Names()
	for i, name := range names {
		value, there, err := t.Append(nil, i, s, limit)
		switch {
		case err != nil:
			return e, fmt.Errorf("%s: %w: %d bytes", name, err, limit)
		case !there:
			continue
		case name == "data":
			e.Data, e.DataKind = value, event.DataJSON
			// What described the old data does not describe the new.
			if !slices.Contains(names, "datacontenttype") {
				e.DataContentType = ""
			}
			if !slices.Contains(names, "dataschema") {
				e.DataSchema = ""
			}
			continue
		}
		if err := setAttribute(&e, name, value); err != nil {
			return e, fmt.Errorf("%s %w", name, err)
		}
	}
	return e, nil
}

var (
	errNoAttribute = errors.New("would be an object or array, and attributes hold texts, numbers and booleans")
	errEmpty       = errors.New("would be empty")
	errNoTime      = errors.New("would be no time such as 2026-01-02T03:04:05Z")
	errNoMedia     = errors.New("would be no media type such as application/json")
)

// attributeValue is what an attribute is set to by a JSON value: a string, which is what
// all but extensions hold, a bool, an int32, or nil, which takes it away.
func attributeValue(name string, value []byte) (any, error) {
	core := slices.Contains(coreAttributes[:], name)
	var v any
	switch value[0] {
	case '{', '[':
		return nil, errNoAttribute
	case 'n':
		if name == "source" || name == "type" {
			return nil, errEmpty
		}
		return nil, nil
	case '"':
		v = string(field.AppendUnescaped(nil, value[1:len(value)-1]))
	case 't', 'f':
		v = value[0] == 't'
	default:
		n, err := strconv.ParseInt(string(value), 10, 32)
		if v = any(int32(n)); err != nil || string(value) == "-0" {
			v = string(value)
		}
	}
	if core {
		return coreValue(name, v, value)
	}
	return v, nil
}

// coreAttributes are those that hold texts only.
var coreAttributes = [...]string{"source", "type", "subject", "time", "datacontenttype", "dataschema"}

var mediaCheck = event.Check{Field: "datacontenttype", Need: event.NeedMedia}

func coreValue(name string, v any, value []byte) (any, error) {
	text, isText := v.(string)
	if !isText {
		text = string(value)
	}
	switch name {
	case "subject":
		if text == "" {
			return nil, nil
		}
	case "time":
		if _, err := time.Parse(time.RFC3339Nano, strings.ToUpper(text)); err != nil {
			return nil, errNoTime
		}
	case "datacontenttype":
		if !isText || mediaCheck.Verify(value, nil, nil, event.Missing{}) != nil {
			return nil, errNoMedia
		}
	}
	if text == "" {
		return nil, errEmpty
	}
	return text, nil
}

// setAttribute sets an attribute to a JSON value; null takes it away.
func setAttribute(e *event.Event, name string, value []byte) error {
	v, err := attributeValue(name, value)
	if err != nil {
		return err
	}
	text, _ := v.(string)
	switch name {
	case "source":
		e.Source = text
	case "type":
		e.Type = text
	case "subject":
		e.Subject = text
	case "datacontenttype":
		e.DataContentType = text
	case "dataschema":
		e.DataSchema = text
	case "time":
		e.Time, e.TimeText = time.Time{}, text
		if text != "" {
			e.Time, _ = time.Parse(time.RFC3339Nano, strings.ToUpper(text)) // attributeValue has seen to it
		}
	default:
		e.SetExtension(name, v)
	}
	return nil
}
