package flow

import (
	"fmt"
	"slices"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/engine/pattern"
)

// reading is how a generation reads the events of one source: which raw paths
// one scan must project, and, for each layout that an event may have, where the
// fields that anybody wants then lie.
type reading struct {
	source  string
	codec   event.Codec
	missing event.Missing
	limits  event.Limits

	program *field.Program
	layouts []layout
	// canonical is the layout of the CloudEvent that Decode makes of events
	// whose attributes cannot be read off the bytes.
	// bridged is the same for those that stood inside an EventBridge envelope.
	canonical, bridged layout
	canonicalProgram   *field.Program

	set    *pattern.Set
	routes []uint32 // route of each rule of the set
	always []uint32 // routes without a pattern

	fields   []field.Path // canonical fields that are wanted besides the set's
	key      int          // index in fields, -1 = the transport's key, else the identity
	identity []int        // indices in fields; nil = source and id
	version  int          // index in fields
	kept     []int        // indices in fields of what lanes need: the key, then each plug-in's slots
	trace    int          // index in fields of the traceparent, -1 = nobody asks
	plugins  []int        // by plug-in: where its slots begin in kept
	steps    [][]int      // by early step and slot of its template: index in kept, -1 = no field
	dedup    *config.Dedup
	updates  map[string]struct{} // types that may update; nil = all
	expire   config.Expire
	maxEvent int

	chooses   bool // some route chooses by outputs
	cloudOnly bool // the codec is cloudevents and no more: batches of them may come too
}

// Fields that every reading wants, at fixed indices of reading.fields.
const (
	fieldID = iota
	fieldSource
	fieldType
	fieldTime
	fieldVersion
	fieldExpiry
	fieldData
	fieldData64
	fixedFields
)

var fixed = [fixedFields]string{"id", "source", "type", "time", "version", "expirytime", "data", "data_base64"}

// layout is an event.Layout with every path turned into a slot.
type layout struct {
	*event.Layout
	marks   []mark
	checks  []check
	refs    []slotRef // by index in reading.fields
	slots   []int32   // pattern.View.Slots for the set
	consts  []string
	direct  bool
	bridged bool // a CloudEvent made by Decode that has EventBridge's own names beside its attributes
	cloud   bool // the event itself is a CloudEvent: its members are judged
}

type mark struct {
	slot   int
	object bool
	inner  bool // below the top: an array there is no envelope, though patterns look into it
}

type check struct {
	*event.Check
	slot, other int
	want        string
	usual       usual
	required    bool
}

// usual is the quick look at a check's value that lets nearly every event pass; what
// does not pass is for Check.Verify to judge.
type usual uint8

const (
	usualNone usual = iota
	usualText       // a string that is not empty
	usualSame       // exactly want
)

// slotRef says where a field is: a slot (>= 0), nowhere (absent) or a constant (<= firstConst).
type slotRef int32

const (
	absent     slotRef = -1
	firstConst slotRef = -2
)

// paths collects raw paths and numbers them as slots.
type paths struct {
	list []field.Path
	slot map[string]int
}

func (p *paths) add(path []string) int {
	name := fmt.Sprintf("%q", path)
	if i, ok := p.slot[name]; ok {
		return i
	}
	if p.slot == nil {
		p.slot = map[string]int{}
	}
	p.slot[name] = len(p.list)
	p.list = append(p.list, slices.Clone(path))
	return len(p.list) - 1
}

func (g *Generation) newReading(plan *config.Plan, s *config.Source, patterns []*pattern.Pattern) (*reading, error) {
	codec, err := event.ParseCodec(s.Codec)
	if err != nil {
		return nil, err
	}
	r := &reading{
		source: s.Name, codec: codec, dedup: s.Dedup, expire: s.Expire, maxEvent: plan.Node.Limits.Event,
		missing: event.Missing{Source: s.Missing.Source, Zone: s.Missing.Zone, EpochUnit: s.Missing.EpochUnit},
		limits:  event.Limits{Event: plan.Node.Limits.Event},

		cloudOnly: slices.Equal(s.Codec, []string{event.CloudEvents.String()}),
	}
	var rules []*pattern.Pattern
	for i := range plan.Routes {
		if !slices.Contains(plan.Routes[i].From, s.Name) {
			continue
		}
		if patterns[i] == nil {
			r.always = append(r.always, uint32(i))
			continue
		}
		rules = append(rules, patterns[i])
		r.routes = append(r.routes, uint32(i))
	}
	r.set = pattern.NewSet(rules)
	r.chooses = slices.ContainsFunc(g.routes, func(rt route) bool { return rt.choice >= 0 })
	r.want(g, s)
	return r, r.compile()
}

// want lists the canonical fields.
func (r *reading) want(g *Generation, s *config.Source) {
	for _, name := range fixed {
		r.fields = append(r.fields, field.Path{name})
	}
	add := func(path string) int {
		p := field.ParsePath(path)
		if i := slices.IndexFunc(r.fields, func(f field.Path) bool { return slices.Equal(f, p) }); i >= 0 {
			return i
		}
		r.fields = append(r.fields, p)
		return len(r.fields) - 1
	}
	r.key, r.version = -1, fieldVersion
	if s.Key != "" {
		r.key = add(s.Key)
		r.kept = append(r.kept, r.key)
	}
	if s.Dedup != nil {
		for _, path := range s.Dedup.ID {
			r.identity = append(r.identity, add(path))
		}
		if s.Dedup.Version != "" {
			r.version = add(s.Dedup.Version)
		}
		if s.Dedup.UpdateTypes != nil {
			r.updates = map[string]struct{}{}
			for _, t := range s.Dedup.UpdateTypes {
				r.updates[t] = struct{}{}
			}
		}
	}
	for i := range g.plugins {
		r.plugins = append(r.plugins, len(r.kept))
		m := g.plugins[i].loaded.Manifest()
		for _, path := range m.Fields {
			r.kept = append(r.kept, add(path))
		}
		if m.Data {
			r.kept = append(r.kept, fieldData)
		}
	}
	if r.trace = -1; g.traced {
		r.trace = add(traceField)
	}
	r.wantSteps(g, func(path field.Path) int { return add(path.String()) })
}

func (r *reading) compile() error {
	var raw, canonical paths
	list := r.codec.Layouts(r.missing)
	for i := range list {
		r.layouts = append(r.layouts, r.newLayout(&list[i], &raw, false))
	}
	cloud := event.CodecOf(event.CloudEvents).Layouts(event.Missing{})
	r.canonical = r.newLayout(&cloud[0], &canonical, false)
	r.bridged = r.newLayout(&cloud[0], &canonical, true)
	var err error
	if r.program, err = field.Compile(raw.list, field.Options{Root: true}); err != nil {
		return err
	}
	r.canonicalProgram, err = field.Compile(canonical.list, field.Options{Root: true})
	return err
}

func (r *reading) newLayout(l *event.Layout, raw *paths, bridged bool) layout {
	c := layout{Layout: l, direct: l.Direct, bridged: bridged, cloud: l.Chain[0] == event.CloudEvents}
	for _, m := range l.Marks {
		c.marks = append(c.marks, mark{slot: raw.add(m.Path), object: m.Object, inner: m.Object || len(m.Path) > 1})
	}
	for i := range l.Checks {
		k := check{Check: &l.Checks[i], slot: raw.add(l.Checks[i].Path), other: -1, required: l.Checks[i].Required}
		switch k.Need {
		case event.NeedText, event.NeedString:
			k.usual = usualText
		case event.NeedEqual:
			k.usual, k.want = usualSame, k.Const
		case event.NeedMedia:
			k.usual, k.want = usualSame, "application/json"
		}
		if len(k.Other) > 0 {
			k.other = raw.add(k.Other)
		}
		c.checks = append(c.checks, k)
	}
	for i, f := range r.fields {
		if i == fieldData64 {
			c.refs = append(c.refs, c.base64(raw))
			continue
		}
		c.refs = append(c.refs, c.resolve(f, raw))
	}
	for _, f := range r.set.Fields() {
		c.slots = append(c.slots, int32(c.resolve(f, raw)))
	}
	return c
}

// resolve turns a canonical path into a slot or constant. A field that has to
// be converted first makes the whole layout one for Decode.
func (c *layout) resolve(path field.Path, raw *paths) slotRef {
	if c.bridged && slices.Contains(bridgeNames[:], path[0]) {
		return slotRef(raw.add(path))
	}
	at := c.Resolve(path)
	switch at.Kind {
	case event.RefPath:
		return slotRef(raw.add(at.Path))
	case event.RefConst:
		c.consts = append(c.consts, at.Const)
		return firstConst - slotRef(len(c.consts)-1)
	case event.RefAbsent:
		return absent
	}
	c.direct = false
	return absent
}

// base64 is where a CloudEvent's binary data stands.
func (c *layout) base64(raw *paths) slotRef {
	if c.Chain[len(c.Chain)-1] != event.CloudEvents {
		return absent
	}
	at := c.Resolve(field.Path{"data"})
	if at.Kind != event.RefPath || len(at.Path) == 0 {
		return absent
	}
	path := append(slices.Clone(at.Path[:len(at.Path)-1]), "data_base64")
	return slotRef(raw.add(path))
}

// mayUpdate says whether an event of a type may replace an earlier version.
func (r *reading) mayUpdate(eventType []byte) bool {
	_, ok := r.updates[string(eventType)]
	return ok
}
