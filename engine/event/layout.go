package event

import (
	"bytes"
	"encoding/json"
	"time"
)

// Missing fills what an envelope lacks. Its zero value fills nothing: such
// events are refused.
type Missing struct {
	// Source stands in for the source that Metadata and Raw have no place for.
	Source string
	// Zone is where times without an offset were written (Metadata, Attributes).
	Zone *time.Location
	// EpochUnit is the unit of numeric Event-Hub timestamps: s, ms, us or ns.
	EpochUnit string
}

// Layout says where, in the raw bytes of one kind of event, the canonical
// fields stand, so that an engine can read them without building an Event.
// Layouts are immutable and safe for concurrent use.
type Layout struct {
	// Chain holds the envelopes, outermost first.
	Chain []Envelope
	// Marks are all present <=> an event has this layout, unless an earlier
	// layout of the list fits as well.
	Marks []Mark
	// Direct says that Resolve finds every attribute. Otherwise the id, the
	// source or more must be made by Decode; Resolve answers RefDecode for those.
	Direct bool
	// Refuse, where not empty, is the reason why every event of this layout is
	// refused: missing does not hold what the envelope lacks.
	Refuse string
	// Checks are what must hold of the attributes of a direct layout; see
	// Check.Verify.
	Checks []Check

	source string // JSON string content of Missing.Source
}

// Mark is a raw path that must be present with any JSON value (null too), or
// with an object.
type Mark struct {
	Path   []string
	Object bool
}

// RefKind says what a Ref refers to.
type RefKind uint8

// Kinds of references.
const (
	RefAbsent RefKind = iota // the layout has no such field
	RefPath                  // the value at Path; an empty Path is the whole event; JSON null at an attribute = absent
	RefConst                 // always Const
	RefFirst                 // the only element of the array at Path; absent unless there is exactly one and it is a string
	RefText                  // a string attribute whose text is the JSON at Path, whatever its kind
	RefTrace                 // a traceparent made by TraceParent from the string at Path; absent where that says false
	RefDecode                // only Decode can tell
)

// Ref is where a canonical field lies in the raw bytes.
type Ref struct {
	Path  []string
	Const string // raw JSON string content, without quotes
	Kind  RefKind
}

// Layouts lists the layouts that events of a codec may have, in the order in
// which to try them; an event that fits none is refused. The codec original
// and chains that cannot be have none.
func (c Codec) Layouts(m Missing) []Layout {
	if c.original || c.misplaced() != "" {
		return nil
	}
	var list []Layout
	if len(c.chain) > 0 {
		list = append(list, newLayout(c.chain, m))
		if len(c.chain) == 1 && c.chain[0] == S3 {
			list = append(list, testEventLayout)
		}
		return list
	}
	for _, e := range detected {
		if e == EventBridge {
			for _, inner := range within {
				list = append(list, newLayout([]Envelope{EventBridge, inner}, m))
			}
		}
		list = append(list, newLayout([]Envelope{e}, m))
		if e == S3 {
			list = append(list, testEventLayout)
		}
	}
	return list
}

func newLayout(chain []Envelope, m Missing) Layout {
	l := Layout{Chain: chain, Direct: true, source: stringContent(m.Source)}
	var prefix []string
	for i, e := range chain {
		row := &envelopes[e]
		marks := row.marks
		if i > 0 && row.inner != nil {
			marks = row.inner
		}
		for _, mark := range marks {
			l.Marks = append(l.Marks, Mark{Path: join(prefix, mark.Path), Object: mark.Object})
		}
		l.Direct = l.Direct && row.direct
		prefix = join(prefix, row.data)
	}
	inner := chain[len(chain)-1]
	if (inner == Metadata || inner == Raw) && m.Source == "" {
		l.Refuse = "the " + inner.String() + " envelope has no source: set missing.source"
	}
	if l.Direct {
		l.Checks = l.checks()
	}
	return l
}

// prefix is where the i-th envelope of the chain stands.
func (l *Layout) prefix(i int) []string {
	var p []string
	for _, e := range l.Chain[:i] {
		p = join(p, envelopes[e].data)
	}
	return p
}

func (l *Layout) inner() Envelope { return l.Chain[len(l.Chain)-1] }

// bridge is the index of EventBridge in the chain, or -1.
func (l *Layout) bridge() int {
	for i, e := range l.Chain {
		if e == EventBridge {
			return i
		}
	}
	return -1
}

// Resolve says where a canonical field lies: id, source, type, subject, time,
// datacontenttype, dataschema, version (the version for dedup), an extension
// attribute, data and what is inside it; and the EventBridge names
// detail-type, detail, account, region and resources. Outside of EventBridge
// those are other words for type, data, awsaccount and awsregion.
//
// Core attributes come from the innermost envelope only: an outer EventBridge
// id, source or type is not the event's own. The data that a CloudEvent holds
// as data_base64 is not found.
func (l *Layout) Resolve(canonical []string) Ref {
	if len(canonical) == 0 {
		return Ref{}
	}
	name, rest := canonical[0], canonical[1:]
	if l.inner() == S3 {
		return Ref{Kind: RefDecode}
	}
	bridge := l.bridge()
	switch name {
	case "data":
		return l.pathAt(len(l.Chain), rest)
	case "detail":
		if bridge >= 0 {
			return l.pathAt(bridge+1, rest)
		}
		return l.pathAt(len(l.Chain), rest)
	case "resources":
		if bridge < 0 {
			return Ref{}
		}
		return Ref{Kind: RefPath, Path: join(l.prefix(bridge), canonical)}
	}
	if len(rest) > 0 {
		return Ref{} // attributes hold nothing inside
	}
	switch name {
	case "detail-type":
		if bridge >= 0 {
			return l.pathAt(bridge, []string{name})
		}
		name = "type"
	case "account", "region":
		name = "aws" + name
	case "version":
		if l.inner() != Attributes {
			return Ref{}
		}
		name = "eventcount"
	}
	return l.attribute(name)
}

// pathAt is a path inside the i-th envelope, or inside the data for i = len(Chain).
func (l *Layout) pathAt(i int, path []string) Ref {
	return Ref{Kind: RefPath, Path: join(l.prefix(i), path)}
}

func (l *Layout) attribute(name string) Ref {
	last, row := len(l.Chain)-1, &envelopes[l.inner()]
	for _, p := range row.places {
		if p.name != name {
			continue
		}
		ref := l.pathAt(last, p.path)
		switch {
		case l.inner() == EventHub && (name == "id" || name == "source" || name == "time"):
			return Ref{Kind: RefDecode}
		case l.inner() == EventBridge && name == "subject":
			ref.Kind = RefFirst
		}
		return ref
	}
	switch {
	case name == "source" && l.source != "":
		return Ref{Kind: RefConst, Const: l.source}
	case name == "type" && l.inner() == Raw:
		return Ref{Kind: RefConst, Const: RawType}
	case isCore(name):
		return Ref{}
	}
	if b := l.bridge(); b >= 0 && (bridgeOwns(name) || name == "traceparent" && !row.open) {
		return l.extension(b, name)
	}
	return l.extension(last, name)
}

func (l *Layout) extension(i int, name string) Ref {
	row := &envelopes[l.Chain[i]]
	for _, p := range row.extensions {
		if p.name != name {
			continue
		}
		ref := l.pathAt(i, p.path)
		switch name {
		case "awsresources":
			ref.Kind = RefText
		case "traceparent":
			ref.Kind = RefTrace
		}
		return ref
	}
	if row.open && validName(name) && name != "specversion" {
		return l.pathAt(i, []string{name})
	}
	return Ref{}
}

// bridgeOwns says that an extension attribute is EventBridge's wherever an
// EventBridge envelope is in the chain, whatever stands inside it.
func bridgeOwns(name string) bool {
	switch name {
	case "awsversion", "awsaccount", "awsregion", "awsresources", "awstraceheader", "replayname":
		return true
	}
	return false
}

func isCore(name string) bool {
	switch name {
	case "id", "source", "type", "subject", "time", "datacontenttype", "dataschema":
		return true
	}
	return false
}

// validName says whether a name is an attribute name of CloudEvents.
func validName(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// Need says what a check asks of a value.
type Need uint8

// What a check may ask for.
const (
	NeedText   Need = iota // a string that is not empty
	NeedTime               // a time; see CheckTime
	NeedCount              // an integer of 32 bits without sign
	NeedEqual              // exactly the string Const
	NeedArray              // an array
	NeedString             // a string, also an empty one
	NeedMedia              // a string that is a media type
	NeedAlone              // absent wherever Other is present
)

// Check is one condition on an attribute of a direct layout.
type Check struct {
	Field    string   // the canonical attribute, for the error
	Path     []string // in the raw bytes
	Need     Need
	Required bool     // absent (and JSON null, which is the same for attributes) is an error
	Const    string   // NeedEqual
	Other    []string // NeedAlone: the path of the other member
}

func (l *Layout) checks() []Check {
	last := len(l.Chain) - 1
	prefix := l.prefix(last)
	var list []Check
	for _, p := range envelopes[l.inner()].places {
		c := Check{Field: p.name, Path: join(prefix, p.path), Required: p.name == "source" || p.name == "type"}
		switch {
		case p.name == "time":
			c.Need = NeedTime
		case p.name == "datacontenttype":
			c.Need = NeedMedia
		case p.name == "subject" && l.inner() == EventBridge:
			c.Need = NeedArray
		case p.name == "subject" && l.inner() == Attributes:
			continue // the id again
		}
		list = append(list, c)
	}
	switch l.inner() {
	case CloudEvents:
		list = append(list,
			Check{Field: "specversion", Path: join(prefix, []string{"specversion"}), Need: NeedEqual, Const: "1.0", Required: true},
			Check{Field: "expirytime", Path: join(prefix, []string{"expirytime"}), Need: NeedTime},
			Check{Field: "data_base64", Path: join(prefix, []string{"data_base64"}), Need: NeedString},
			Check{Field: "data", Path: join(prefix, []string{"data_base64"}), Need: NeedAlone, Other: join(prefix, []string{"data"})})
	case Attributes:
		list = append(list, Check{Field: "eventcount", Path: join(prefix, []string{"attributes", "eventCount"}), Need: NeedCount})
	}
	return list
}

// Verify checks the value that stands at c.Path, nil where there is none;
// other is what stands at c.Other. Values are raw JSON (valid, without white
// space around them). Nothing is allocated unless it fails.
func (c *Check) Verify(value, other []byte, l *Layout, m Missing) *Error {
	if c.Need == NeedAlone {
		if value != nil && other != nil {
			return &Error{Field: c.Field, Reason: "data and data_base64 exclude each other", Offset: -1}
		}
		return nil
	}
	if len(value) == 0 || value[0] == 'n' {
		if c.Required {
			return &Error{Field: c.Field, Reason: "is missing", Offset: -1}
		}
		return nil
	}
	reason := ""
	switch c.Need {
	case NeedText:
		reason = notText(value, false)
	case NeedString:
		reason = notText(value, true)
	case NeedTime:
		if _, err := CheckTime(value, l, m); err != nil {
			reason = err.Reason
		}
	case NeedCount:
		if _, ok := parseCount(value); !ok {
			reason = "is no integer between 0 and 4294967295"
		}
	case NeedEqual:
		if text := content(value); string(text) != c.Const {
			reason = "is not " + c.Const
		}
	case NeedMedia:
		if reason = notText(value, false); reason == "" && !mediaType(content(value)) {
			reason = "is no media type"
		}
	case NeedArray:
		if value[0] != '[' {
			reason = "is no array"
		}
	}
	if reason == "" {
		return nil
	}
	return &Error{Field: c.Field, Reason: reason, Offset: -1}
}

// content is a JSON string's content, nil for other values. It allocates only
// where there are escapes.
func content(value []byte) []byte {
	if value[0] != '"' {
		return nil
	}
	if bytes.IndexByte(value, '\\') >= 0 {
		return []byte(unquote(value))
	}
	return value[1 : len(value)-1]
}

func notText(value []byte, empty bool) string {
	switch {
	case value[0] != '"':
		return "is no string"
	case len(value) <= 2 && !empty:
		return "is empty"
	}
	return ""
}

// parseCount reads a plain decimal integer of 32 bits.
func parseCount(value []byte) (uint32, bool) {
	if len(value) == 0 || len(value) > 10 {
		return 0, false
	}
	var n uint64
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return uint32(n), n <= 1<<32-1
}

// join makes a new path of two.
func join(a, b []string) []string {
	if len(a)+len(b) == 0 {
		return nil
	}
	p := make([]string, 0, len(a)+len(b))
	return append(append(p, a...), b...)
}

// stringContent is a string as JSON writes it, without the quotes.
func stringContent(s string) string {
	q, _ := json.Marshal(s) // strings always marshal
	return string(q[1 : len(q)-1])
}
