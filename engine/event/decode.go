package event

import (
	"encoding/base64"
	"math"
	"strconv"
	"time"
)

// Decode reads one event. raw need not be valid JSON; what it returns shares
// raw's memory. An error is an *Error, or ErrTestEvent. An S3 notification
// with several records is an error here: see DecodeAll. An id may be absent
// (see Stamps); everything else that CloudEvents asks for must be there.
func Decode(raw []byte, c Codec, m Missing, lim Limits) (Event, error) {
	events, err := DecodeAll(raw, c, m, lim)
	if err != nil {
		return Event{}, err
	}
	if len(events) != 1 {
		return Event{}, &Error{Field: "Records", Reason: "holds " + strconv.Itoa(len(events)) + " events where one is wanted", Offset: -1}
	}
	return events[0], nil
}

// DecodeAll is Decode for what may be several events: an S3 notification makes
// one of each record, in order. Everything else makes one.
func DecodeAll(raw []byte, c Codec, m Missing, lim Limits) ([]Event, error) {
	if c.original {
		return nil, &Error{Reason: "cannot be decoded: codec original is for sinks only", Offset: -1}
	}
	if reason := c.misplaced(); reason != "" {
		return nil, &Error{Reason: "cannot be decoded: " + reason, Offset: -1}
	}
	if len(c.chain) == 1 && c.chain[0] == Raw {
		e, err := decodeRaw(raw, m, lim)
		if err != nil {
			return nil, err
		}
		return []Event{e}, nil
	}
	if err := validate(raw, lim); err != nil {
		return nil, err
	}
	raw = trim(raw)
	chain := c.chain
	if len(chain) == 0 {
		chain = detect(raw)
	}
	switch {
	case chain == nil:
		return nil, &Error{Reason: "stands in no envelope that is known", Offset: -1}
	case chain[len(chain)-1] == S3:
		return decodeS3(raw, chain, lim)
	}
	d := decoder{chain: chain, missing: m, limits: lim}
	e, err := d.decode(raw)
	if err != nil {
		return nil, err
	}
	return []Event{e}, nil
}

// detect finds the chain of codec auto, nil where no envelope is known.
func detect(raw []byte) []Envelope {
	for _, e := range detected {
		if !marked(raw, envelopes[e].marks) {
			continue
		}
		if e == EventBridge {
			detail := find(raw, envelopes[e].data)
			for _, inner := range within {
				marks := envelopes[inner].marks
				if envelopes[inner].inner != nil {
					marks = envelopes[inner].inner
				}
				if detail != nil && marked(detail, marks) {
					return []Envelope{e, inner}
				}
			}
		}
		return []Envelope{e}
	}
	if marked(raw, testEventLayout.Marks) {
		return []Envelope{S3}
	}
	return nil
}

func marked(raw []byte, marks []Mark) bool { return unmarked(raw, marks) == nil }

// unmarked is the first mark that does not hold.
func unmarked(raw []byte, marks []Mark) *Mark {
	for i := range marks {
		value := find(raw, marks[i].Path)
		if value == nil || marks[i].Object && value[0] != '{' {
			return &marks[i]
		}
	}
	return nil
}

// decoder reads one event of a known chain from valid JSON.
type decoder struct {
	chain   []Envelope
	missing Missing
	limits  Limits
	// timeText, where set, is the canonical time of an event whose own text is
	// no time without the configuration under which it was read first.
	timeText string

	tree tree
	ev   Event
}

func (d *decoder) decode(raw []byte) (Event, *Error) {
	var err *Error
	if d.tree, err = parseTree(raw, d.chain); err != nil {
		return Event{}, err
	}
	d.ev = Event{Chain: d.chain, Original: raw, missing: d.missing, limits: d.limits, readAs: d.timeText}
	d.ev.carried = d.tree.carried(d.limits)
	last := len(d.chain) - 1
	for i, e := range d.chain {
		if i == last || e == EventBridge {
			if err := d.extensions(i); err != nil {
				return Event{}, err
			}
		}
	}
	for _, p := range envelopes[d.chain[last]].places {
		if err := d.core(p); err != nil {
			return Event{}, err
		}
	}
	if err := d.data(); err != nil {
		return Event{}, err
	}
	if err := d.rest(); err != nil {
		return Event{}, err
	}
	return d.ev, d.complete()
}

// core reads one core attribute from the innermost envelope.
func (d *decoder) core(p place) *Error {
	inner := d.chain[len(d.chain)-1]
	value := d.tree.get(len(d.chain)-1, p.path)
	if value == nil || value[0] == 'n' {
		return nil
	}
	if p.name == "time" {
		return d.time(value, inner)
	}
	if p.name == "subject" && inner == EventBridge {
		return d.bridgeSubject(value)
	}
	if reason := notText(value, false); reason != "" {
		return d.wrong(p.name, reason, value)
	}
	text := unquote(value)
	if inner == EventHub {
		switch p.name {
		case "source":
			text = uriReference(text)
		case "type":
			if !nounVerb(text) {
				return d.wrong(p.name, "is not of the form noun:verb", value)
			}
		}
	}
	if p.name == "datacontenttype" && !mediaType(text) {
		return d.wrong(p.name, "is no media type", value)
	}
	*d.ev.core(p.name) = text
	return nil
}

// core is the place of a core attribute other than the time.
func (e *Event) core(name string) *string {
	switch name {
	case "id":
		return &e.ID
	case "source":
		return &e.Source
	case "type":
		return &e.Type
	case "subject":
		return &e.Subject
	case "datacontenttype":
		return &e.DataContentType
	}
	return &e.DataSchema
}

func (d *decoder) time(value []byte, inner Envelope) *Error {
	text := value
	if d.timeText != "" {
		text, inner = appendString(nil, d.timeText), CloudEvents
	}
	i, err := readTime(text, inner, d.missing)
	if err != nil {
		return d.wrong("time", err.Reason, value)
	}
	d.ev.Time = i.time()
	if text[0] == '"' {
		d.ev.TimeText = unquote(text)
	}
	return nil
}

// extensions reads the extension attributes that have a place in the i-th envelope.
func (d *decoder) extensions(i int) *Error {
	row := &envelopes[d.chain[i]]
	innerOpen := envelopes[d.chain[len(d.chain)-1]].open
	for _, p := range row.extensions {
		value := d.tree.get(i, p.path)
		if value == nil || value[0] == 'n' || p.name == "traceparent" && innerOpen {
			continue
		}
		switch p.name {
		case "awsresources":
			d.ev.Extensions = append(d.ev.Extensions, Attribute{p.name, string(value)})
			continue
		case "eventcount":
			if err := d.count(value); err != nil {
				return err
			}
			continue
		}
		attribute, ok := attributeValue(value)
		if !ok {
			continue // stays where it is, as a member that is no attribute
		}
		if p.name == "traceparent" {
			text, isText := attribute.(string)
			made, isTrace := TraceParent(text)
			if !isText || !isTrace {
				continue
			}
			attribute = made
		}
		d.ev.Extensions = append(d.ev.Extensions, Attribute{p.name, attribute})
	}
	if row.open {
		return d.openExtensions(i)
	}
	return nil
}

func (d *decoder) count(value []byte) *Error {
	n, ok := parseCount(value)
	if !ok {
		return d.wrong("eventcount", "is no integer between 0 and 4294967295", value)
	}
	d.ev.Version, d.ev.HasVersion = n, true
	var attribute any = strconv.FormatUint(uint64(n), 10) // CloudEvents integers have a sign
	if n <= math.MaxInt32 {
		attribute = int32(n)
	}
	d.ev.Extensions = append(d.ev.Extensions, Attribute{"eventcount", attribute})
	return nil
}

// attributeValue reads a string, bool or 32-bit integer.
func attributeValue(value []byte) (any, bool) {
	switch value[0] {
	case '"':
		return unquote(value), true
	case 't', 'f':
		return value[0] == 't', true
	case '{', '[', 'n':
		return nil, false
	}
	n, err := strconv.ParseInt(string(value), 10, 32)
	return int32(n), err == nil
}

func (d *decoder) data() *Error {
	last := len(d.chain) - 1
	if d.chain[last] == CloudEvents {
		if binary := d.tree.get(last, []string{"data_base64"}); binary != nil {
			return d.base64(binary)
		}
	}
	value := d.tree.get(last, envelopes[d.chain[last]].data)
	if value == nil {
		return nil
	}
	d.ev.Data, d.ev.DataKind = value[:len(value):len(value)], DataJSON
	if value[0] == '"' && d.ev.DataContentType != "" && !jsonMedia(d.ev.DataContentType) {
		d.ev.DataKind = DataText
	}
	return nil
}

func (d *decoder) base64(value []byte) *Error {
	if d.tree.get(len(d.chain)-1, []string{"data"}) != nil {
		return d.wrong("data", "data and data_base64 exclude each other", value)
	}
	if value[0] == 'n' {
		return nil
	}
	if value[0] != '"' {
		return d.wrong("data_base64", "is no string", value)
	}
	bytes, err := base64.StdEncoding.Strict().DecodeString(unquote(value))
	if err != nil {
		return d.wrong("data_base64", "is not base64", value)
	}
	d.ev.Data, d.ev.DataKind = bytes, DataBinary
	return nil
}

// rest is what single envelopes ask for beyond the table.
func (d *decoder) rest() *Error {
	switch d.chain[len(d.chain)-1] {
	case CloudEvents:
		return d.cloudEvent()
	case EventHub:
		return d.eventHub()
	}
	return nil
}

// complete checks the required attributes and fills from the configuration.
func (d *decoder) complete() *Error {
	if inner := d.chain[len(d.chain)-1]; inner == Metadata {
		if d.missing.Source == "" {
			return d.wrong("source", "is missing: the metadata envelope has none and missing.source is not set", nil)
		}
		d.ev.Source = d.missing.Source
	}
	switch limit := orDefault(d.limits.Attributes, DefaultAttributes); {
	case d.ev.Source == "":
		return d.wrong("source", "is missing", nil)
	case d.ev.Type == "":
		return d.wrong("type", "is missing", nil)
	case len(d.ev.Extensions) > limit:
		return d.wrong("", "has more than "+strconv.Itoa(limit)+" extension attributes", nil)
	}
	return nil
}

// wrong is an error about a value, which must be a slice of the raw bytes for
// its offset to be told.
func (d *decoder) wrong(field, reason string, value []byte) *Error {
	offset := -1
	// Slices that share an array and were not capped end at the same place.
	if n := cap(d.ev.Original) - cap(value); len(value) > 0 && n >= 0 && n < len(d.ev.Original) {
		offset = n
	}
	return &Error{Field: field, Reason: reason, Offset: offset}
}

// Validate says why an event is no valid CloudEvent, or nil: Decode lets
// events pass that will be stamped with an id.
func (e *Event) Validate() error {
	if e.ID == "" {
		return &Error{Field: "id", Reason: "is missing", Offset: -1}
	}
	if err := e.validate(); err != nil {
		return err
	}
	return nil
}

func (e *Event) validate() *Error {
	for _, name := range [...]string{"source", "type"} {
		if *e.core(name) == "" {
			return &Error{Field: name, Reason: "is missing", Offset: -1}
		}
	}
	if e.DataContentType != "" && !mediaType(e.DataContentType) {
		return &Error{Field: "datacontenttype", Reason: "is no media type", Offset: -1}
	}
	for i, a := range e.Extensions {
		switch a.Value.(type) {
		case string, bool, int32:
		default:
			return &Error{Field: a.Name, Reason: "is no string, bool or int32", Offset: -1}
		}
		if !validName(a.Name) || reservedName(a.Name) || isCore(a.Name) {
			return &Error{Field: a.Name, Reason: "is no name for an extension attribute", Offset: -1}
		}
		for j := range i {
			if e.Extensions[j].Name == a.Name {
				return &Error{Field: a.Name, Reason: "stands twice", Offset: -1}
			}
		}
	}
	if e.DataKind == DataJSON || e.DataKind == DataText {
		if err := validateJSON(e.Data, math.MaxInt); err != nil {
			err.Field = "data"
			return err
		}
	}
	if e.DataKind == DataText && trim(e.Data)[0] != '"' {
		return &Error{Field: "data", Reason: "is text but no JSON string", Offset: -1}
	}
	return nil
}

// Expired says whether an event's expirytime has passed at now, or its time
// lies more than after back (0 = no such limit). An expirytime that is no time
// does not expire.
func Expired(e *Event, after time.Duration, now time.Time) bool {
	if text, ok := e.Extension("expirytime").(string); ok {
		if i, bare, err := parseTime([]byte(text)); err == nil && !bare && !now.Before(i.time()) {
			return true
		}
	}
	return after > 0 && !e.Time.IsZero() && now.Sub(e.Time) > after
}

// ExpiredAt is Expired for times as CheckTime gives them; 0 = absent.
func ExpiredAt(expiry, eventTime int64, after time.Duration, now int64) bool {
	if expiry != 0 && now >= expiry {
		return true
	}
	return after > 0 && eventTime != 0 && now > eventTime && uint64(now)-uint64(eventTime) > uint64(after)
}
