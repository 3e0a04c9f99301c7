package event

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"time"
)

// Encode appends the event to dst in the envelopes of a codec, as one JSON
// value without white space between the envelope's members.
//
// original appends an event that was not changed byte for byte as it came,
// without stamps; a changed one in its own envelopes. An event whose envelopes
// are the codec's own keeps every member in its place, known or not, that
// nobody changed. Other codecs: see the package comment. Refused are binary
// data outside of CloudEvents, an EventBridge detail that is no object, an
// Event-Hub name that is not noun:verb, an event without an id (see Stamps),
// and more than MaxCarried to carry. Errors are *Error; dst is then returned as it was.
func Encode(dst []byte, e *Event, to Codec, stamps Stamps) ([]byte, error) {
	if err := to.CheckSink(); err != nil {
		return dst, &Error{Reason: "cannot be encoded: " + err.Error(), Offset: -1}
	}
	chain := to.chain
	if to.original {
		changed, err := e.changed()
		if err != nil {
			return dst, err
		}
		if !changed {
			return append(dst, e.Original...), nil
		}
		if chain = e.Chain; len(chain) == 0 {
			chain = []Envelope{CloudEvents}
		}
		if chain[len(chain)-1] == S3 {
			return dst, &Error{Reason: "was changed and cannot be written as s3 again: name another codec", Offset: -1}
		}
	}
	if reason := CodecOf(chain...).misplaced(); reason != "" {
		return dst, &Error{Reason: "cannot be encoded: " + reason, Offset: -1}
	}
	if len(chain) == 1 && chain[0] == Raw {
		return append(dst, e.rawData()...), nil
	}
	if e.ID == "" && stamps.ID != "" {
		stamped := *e
		stamped.ID = stamps.ID
		e = &stamped
	}
	if err := e.validate(); err != nil {
		return dst, err
	}
	t, err := e.encode(chain, stamps.Bare)
	if err == nil {
		err = t.stamp(e, stamps)
	}
	if err != nil {
		return dst, err
	}
	return append(dst, t.bytes()...), nil
}

// AppendCloudEvent appends the event as structured CloudEvents JSON.
func (e *Event) AppendCloudEvent(dst []byte, stamps Stamps) ([]byte, error) {
	return Encode(dst, e, CodecOf(CloudEvents), stamps)
}

// stamp writes the stamps that the envelope has a place for.
func (t *tree) stamp(e *Event, stamps Stamps) *Error {
	if stamps.Processed.IsZero() {
		return nil
	}
	switch inner := t.chain[t.last()]; inner {
	case CloudEvents, EventHub:
		t.put("processedtime", stamps.Processed.UTC().Format(time.RFC3339Nano))
		if inner == EventHub {
			t.put("id", e.ID)
		}
	}
	return nil
}

// decoded says that the event has an original that can be patched.
func (e *Event) decoded() bool {
	if len(e.Chain) == 0 || e.Original == nil {
		return false
	}
	inner := e.Chain[len(e.Chain)-1]
	return inner != Raw && inner != S3
}

// changed says whether the event differs from its original.
func (e *Event) changed() (bool, error) {
	switch {
	case e.Original == nil:
		return true, nil
	case e.decoded():
		first, err := e.first()
		if err != nil {
			return false, err
		}
		return len(changes(e, &first)) > 0 || e.dataChanged(&first), nil
	case e.Chain[len(e.Chain)-1] == Raw:
		return string(e.rawData()) != string(e.Original) && string(e.Data) != string(trim(e.Original)), nil
	}
	events, err := decodeS3(e.Original, e.Chain, e.limits)
	if err != nil {
		return false, err
	}
	return len(events) != 1 || len(changes(e, &events[0])) > 0 || e.dataChanged(&events[0]), nil
}

// encode makes the tree in one of three ways: from the original, from what was
// carried of these envelopes, or new.
func (e *Event) encode(chain []Envelope, bare bool) (tree, *Error) {
	if e.decoded() && slices.Equal(e.Chain, chain) {
		t, unplaced, err := e.current()
		if err != nil {
			return t, err
		}
		if len(unplaced) == 0 {
			return t, nil
		}
		list, err := attach(e.carried, e, unplaced)
		if err != nil {
			return t, err
		}
		return t, t.setCarried(list)
	}
	if i := indexCarried(e.carried, chain); i >= 0 {
		return e.restore(i)
	}
	t, _, err := fresh(e, chain, true)
	if err != nil || bare {
		return t, err
	}
	list, err := e.carry(&t)
	if err != nil {
		return t, err
	}
	return t, t.setCarried(list)
}

// current is the event in its own envelopes with all that was changed since,
// and what of it they have no place for. An event without envelopes of its own
// is a CloudEvent.
func (e *Event) current() (tree, []change, *Error) {
	if !e.decoded() {
		return fresh(e, []Envelope{CloudEvents}, false)
	}
	d := decoder{chain: e.Chain, missing: e.missing, limits: e.limits, timeText: e.readAs}
	first, err := d.decode(e.Original)
	if err != nil {
		return tree{}, nil, err
	}
	unplaced, err := d.tree.apply(e, &first)
	return d.tree, unplaced, err
}

// change is an attribute that differs; a nil value = removed.
type change struct {
	name  string
	value any
}

// changes lists the attributes of e that differ from those of first. Where two
// of them stand in one member (an EventBridge subject in the resources, a
// traceparent in the trace header), the one that Weir reads comes last.
func changes(e, first *Event) []change {
	var list, late []change
	for _, a := range e.Extensions {
		if first.Extension(a.Name) == a.Value {
			continue
		}
		if a.Name == "traceparent" {
			late = append(late, change{a.Name, a.Value})
			continue
		}
		list = append(list, change{a.Name, a.Value})
	}
	for _, a := range first.Extensions {
		if e.Extension(a.Name) == nil {
			list = append(list, change{a.Name, nil})
		}
	}
	list = append(list, late...)
	if version := e.versionValue(); version != nil && e.Extension("eventcount") != version &&
		(!first.HasVersion || first.Version != e.Version) {
		list = append(list, change{"eventcount", version})
	}
	for _, name := range [...]string{"id", "source", "type", "subject", "datacontenttype", "dataschema"} {
		if value := *e.core(name); value != *first.core(name) {
			list = append(list, change{name, orNil(value)})
		}
	}
	if text := e.timeText(); text != first.timeText() {
		list = append(list, change{"time", orNil(text)})
	}
	return list
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// versionValue is the version as an attribute: CloudEvents integers have a sign.
func (e *Event) versionValue() any {
	switch {
	case !e.HasVersion:
		return nil
	case e.Version > math.MaxInt32:
		return strconv.FormatUint(uint64(e.Version), 10)
	}
	return int32(e.Version)
}

func (e *Event) dataChanged(first *Event) bool {
	return e.DataKind != first.DataKind || string(e.Data) != string(first.Data)
}

// timeText is the time as RFC 3339 with an offset and upper-case letters: as
// it came, unless Time was changed or the text is less than that.
func (e *Event) timeText() string {
	if e.Time.IsZero() && e.TimeText == "" {
		return ""
	}
	i, bare, err := parseTime([]byte(e.TimeText))
	if err != nil || bare || !i.time().Equal(e.Time) {
		return e.Time.Format(time.RFC3339Nano)
	}
	upper := []byte(e.TimeText)
	upper[10] = 'T'
	if upper[len(upper)-1] == 'z' {
		upper[len(upper)-1] = 'Z'
	}
	return string(upper)
}

// apply writes what differs between e and first, and says what has no place.
func (t *tree) apply(e, first *Event) (unplaced []change, err *Error) {
	for _, c := range changes(e, first) {
		if c.name == "type" && t.chain[t.last()] == EventHub && (c.value == nil || !nounVerb(c.value.(string))) {
			return nil, notNounVerb
		}
		if !t.put(c.name, c.value) {
			unplaced = append(unplaced, c)
		}
	}
	if e.dataChanged(first) {
		if err := t.putData(e, true); err != nil {
			return nil, err
		}
	}
	t.keepHubID(e)
	return unplaced, nil
}

var notNounVerb = &Error{Field: "type", Reason: "is not of the form noun:verb, as the eventhub envelope needs it", Offset: -1}

// keepHubID writes the id of an Event-Hub event that the content does not give.
func (t *tree) keepHubID(e *Event) {
	if last := t.last(); t.chain[last] == EventHub && t.levels[last].get("id") == nil && t.hubID() != e.ID {
		t.put("id", e.ID)
	}
}

// putData writes the data. strict refuses what the envelope's own readers
// would not take.
func (t *tree) putData(e *Event, strict bool) *Error {
	last := t.last()
	inner := t.chain[last]
	level := &t.levels[last]
	if inner == CloudEvents {
		switch e.DataKind {
		case DataAbsent:
			level.set("data", nil)
			level.set("data_base64", nil)
		case DataBinary:
			level.set("data", nil)
			level.set("data_base64", appendString(nil, base64.StdEncoding.EncodeToString(e.Data)))
		default:
			level.set("data_base64", nil)
			level.set("data", e.Data)
		}
		return nil
	}
	name := envelopes[inner].data[0]
	data := trim(e.Data)
	switch {
	case e.DataKind == DataBinary:
		return &Error{Field: "data", Reason: "is binary, for which the " + inner.String() + " envelope has no place", Offset: -1}
	case e.DataKind == DataAbsent:
		data = nil
		// EventBridge needs a detail, Metadata is known by its Data.
		if inner == EventBridge || inner == Metadata || inner == EventHub && last > 0 {
			data = []byte("{}")
		}
	case inner == EventBridge && strict && data[0] != '{':
		return &Error{Field: "data", Reason: "is no object, as the eventbridge envelope needs it", Offset: -1}
	}
	level.set(name, data)
	return nil
}

// fresh writes an event into new envelopes, and says what has no place there.
func fresh(e *Event, chain []Envelope, strict bool) (tree, []change, *Error) {
	t := newTree(chain)
	if e.ID == "" && strict {
		return t, nil, &Error{Field: "id", Reason: "is missing", Offset: -1}
	}
	for i, envelope := range chain {
		t.begin(i, envelope, e)
	}
	var unplaced []change
	for _, c := range changes(e, &Event{}) {
		if !t.put(c.name, c.value) {
			unplaced = append(unplaced, c)
		}
	}
	if err := t.putData(e, strict); err != nil {
		return t, nil, err
	}
	t.keepHubID(e)
	for i, envelope := range chain {
		t.finish(i, envelope)
		if (envelope == EventHub) && strict && !nounVerb(e.Type) {
			return t, nil, notNounVerb
		}
	}
	if _, err := parseTree(t.bytes(), chain); err != nil {
		err.Reason = "is missing: the envelope is known by it"
		return t, nil, err
	}
	return t, unplaced, nil
}

// begin writes what an envelope has in any case; an outer one repeats the
// attributes of the event inside it.
func (t *tree) begin(i int, envelope Envelope, e *Event) {
	level := &t.levels[i]
	switch envelope {
	case CloudEvents:
		level.set("specversion", []byte(`"1.0"`))
	case EventBridge:
		level.set("version", []byte(`"0"`))
		level.set("resources", []byte("[]"))
	case EventHub:
		level.set("request_id", appendString(nil, e.ID))
	}
	if i == t.last() {
		return
	}
	for _, p := range envelopes[envelope].places {
		value := e.timeText()
		if p.name != "time" {
			value = *e.core(p.name)
		}
		if p.name == "subject" || value == "" {
			continue
		}
		t.set(i, p.path, appendString(nil, value))
	}
}

func (t *tree) finish(i int, envelope Envelope) {
	switch envelope {
	case CloudEvents:
		t.levels[i] = t.levels[i].order("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
	case EventBridge:
		t.levels[i] = t.levels[i].order(bridgeOrder...)
	case EventHub:
		if i > 0 && t.levels[i].get("timestamp") == nil {
			t.levels[i].set("timestamp", []byte("null")) // inside another, the envelope is known by it
		}
		t.levels[i] = t.levels[i].order("id", "request_id", "source", "name", "timestamp", "processed_timestamp", "payload")
	case Metadata:
		t.nested[i] = t.nested[i].order("event_id", "event_type", "event_version", "event_time_iso8601")
	case Attributes:
		t.nested[i] = t.nested[i].order("type", "source", "eventId", "eventTime", "eventCount")
	}
}
