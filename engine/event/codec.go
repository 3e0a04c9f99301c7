package event

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Envelope is one way in which an event's attributes and data stand in JSON.
type Envelope uint8

// The envelopes.
const (
	CloudEvents Envelope = iota
	EventBridge
	EventHub
	Metadata
	Attributes
	S3  // decode only
	Raw // no envelope: the whole JSON value is the data
)

// MaxChain is how many envelopes may stand in each other.
const MaxChain = 4

// RawType is the type of events that came without any envelope.
const RawType = "weir.raw"

// attribute places: where, within its envelope, a canonical attribute stands.
type place struct {
	name string   // canonical name
	path []string // within the envelope
}

// envelope is a row of the table that both views, Layout and Event, read.
type envelope struct {
	name string
	// marks tell the envelope from others at the top, inner inside a detail,
	// where business data of any shape may stand as well.
	marks, inner []Mark
	data         []string // within the envelope
	places       []place  // core attributes, in the order in which they are written
	extensions   []place  // extension attributes with a place of their own
	open         bool     // every other member is an extension attribute (CloudEvents)
	zone         bool     // times without an offset are legal where missing.zone is set
	direct       bool     // attributes can be read from the bytes as they stand
}

func at(path ...string) Mark       { return Mark{Path: path} }
func objectAt(path ...string) Mark { return Mark{Path: path, Object: true} }

// envelopes is the table of the design, indexed by Envelope.
var envelopes = [...]envelope{
	CloudEvents: {
		name: "cloudevents", direct: true, open: true,
		marks: []Mark{at("specversion")},
		data:  []string{"data"},
		places: []place{
			{"id", []string{"id"}},
			{"source", []string{"source"}},
			{"type", []string{"type"}},
			{"subject", []string{"subject"}},
			{"time", []string{"time"}},
			{"datacontenttype", []string{"datacontenttype"}},
			{"dataschema", []string{"dataschema"}},
		},
	},
	EventBridge: {
		name: "eventbridge", direct: true,
		marks: []Mark{at("detail-type"), at("source")},
		data:  []string{"detail"},
		places: []place{
			{"id", []string{"id"}},
			{"type", []string{"detail-type"}},
			{"source", []string{"source"}},
			{"time", []string{"time"}},
			{"subject", []string{"resources"}}, // the only one, if there is exactly one
		},
		extensions: []place{
			{"awsversion", []string{"version"}},
			{"awsaccount", []string{"account"}},
			{"awsregion", []string{"region"}},
			{"awsresources", []string{"resources"}}, // the array's JSON text
			{"replayname", []string{"replay-name"}},
			{"traceparent", []string{"trace-header"}}, // made from it where it is X-Ray's
			{"awstraceheader", []string{"trace-header"}},
		},
	},
	EventHub: {
		name:  "eventhub",
		marks: []Mark{at("request_id"), at("name")},
		inner: []Mark{at("request_id"), at("name"), at("timestamp"), at("payload")},
		data:  []string{"payload"},
		places: []place{
			{"id", []string{"id"}}, // else made from request_id, name, timestamp and payload
			{"source", []string{"source"}},
			{"type", []string{"name"}},
			{"time", []string{"timestamp"}},
		},
		extensions: []place{
			{"correlationid", []string{"request_id"}},
			{"processedtime", []string{"processed_timestamp"}},
		},
	},
	Metadata: {
		name: "metadata", direct: true, zone: true,
		marks: []Mark{objectAt("Metadata"), at("Data")},
		data:  []string{"Data"},
		places: []place{
			{"id", []string{"Metadata", "event_id"}},
			{"type", []string{"Metadata", "event_type"}},
			{"time", []string{"Metadata", "event_time_iso8601"}},
		},
		extensions: []place{{"eventversion", []string{"Metadata", "event_version"}}},
	},
	Attributes: {
		name: "attributes", direct: true, zone: true,
		marks: []Mark{at("attributes", "eventId")},
		data:  []string{"data"},
		places: []place{
			{"id", []string{"attributes", "eventId"}},
			{"source", []string{"attributes", "source"}},
			{"type", []string{"attributes", "type"}},
			{"time", []string{"attributes", "eventTime"}},
			{"subject", []string{"attributes", "eventId"}},
		},
		extensions: []place{
			{"eventcount", []string{"attributes", "eventCount"}},
			{"eventid", []string{"attributes", "eventId"}},
		},
	},
	S3: {
		name:  "s3",
		marks: []Mark{at("Records")},
	},
	Raw: {name: "raw", direct: true, data: []string{}},
}

// detected is the order in which `auto` tries envelopes at the top, within
// those inside an EventBridge detail. S3 is left out there: only its records
// tell it from business data, and a layout's marks do not reach into arrays.
var (
	detected = []Envelope{CloudEvents, EventBridge, Metadata, Attributes, EventHub, S3}
	within   = []Envelope{CloudEvents, Metadata, Attributes, EventHub}
)

// String is the envelope's name in configuration.
func (e Envelope) String() string {
	if int(e) < len(envelopes) {
		return envelopes[e].name
	}
	return fmt.Sprintf("envelope(%d)", uint8(e))
}

func envelopeNamed(name string) (Envelope, bool) {
	for i := range envelopes {
		if envelopes[i].name == name {
			return Envelope(i), true
		}
	}
	return 0, false
}

// Codec says in which envelopes events stand. The zero Codec is auto: each
// event's own members tell.
type Codec struct {
	chain    []Envelope // outermost first; empty for auto and original
	original bool
}

// ParseCodec reads a configuration's `codec`: nothing or "auto"; "original"
// (sinks only); or one or more envelopes from the outside in, such as
// "eventbridge", "attributes". Errors name the nearest right name.
func ParseCodec(names []string) (Codec, error) {
	if len(names) == 0 {
		return Codec{}, nil
	}
	var c Codec
	for _, name := range names {
		if name == "auto" || name == "original" {
			if len(names) > 1 {
				return Codec{}, fmt.Errorf("codec: %q stands alone", name)
			}
			return Codec{original: name == "original"}, nil
		}
		e, ok := envelopeNamed(name)
		if !ok {
			return Codec{}, fmt.Errorf("codec: no envelope %q%s", name, suggestion(name))
		}
		c.chain = append(c.chain, e)
	}
	if reason := c.misplaced(); reason != "" {
		return Codec{}, errors.New(reason)
	}
	return c, nil
}

// CodecOf is the codec of a chain of envelopes, outermost first, such as
// Event.Chain. A chain that ParseCodec would refuse is refused at its use.
func CodecOf(chain ...Envelope) Codec { return Codec{chain: chain} }

// misplaced says why the chain cannot be, or "".
func (c Codec) misplaced() string {
	for i, e := range c.chain {
		switch {
		case int(e) >= len(envelopes):
			return "codec: no " + e.String()
		case e == Raw && len(c.chain) > 1:
			return "codec: \"raw\" stands alone"
		case e == S3 && i < len(c.chain)-1:
			return "codec: nothing stands inside \"s3\""
		case slices.Contains(c.chain[:i], e):
			return "codec: " + strconv.Quote(e.String()) + " stands in itself"
		}
	}
	if len(c.chain) > MaxChain {
		return fmt.Sprintf("codec: %d envelopes in each other, at most %d", len(c.chain), MaxChain)
	}
	return ""
}

// IsAuto says that each event's own members tell its envelopes.
func (c Codec) IsAuto() bool { return len(c.chain) == 0 && !c.original }

// IsOriginal says that events are written as they came.
func (c Codec) IsOriginal() bool { return c.original }

// String is the codec as configuration writes it.
func (c Codec) String() string {
	switch {
	case c.original:
		return "original"
	case len(c.chain) == 0:
		return "auto"
	case len(c.chain) == 1:
		return c.chain[0].String()
	}
	return "[" + chainText(c.chain, ", ") + "]"
}

// CheckSource says why a source cannot have this codec, or nil. It refuses
// what would refuse every single event.
func (c Codec) CheckSource(m Missing) error {
	if c.original {
		return errors.New("codec: original is for sinks only")
	}
	if len(c.chain) == 0 || m.Source != "" {
		return nil
	}
	if e := c.chain[len(c.chain)-1]; e == Metadata || e == Raw {
		return fmt.Errorf("codec: %s has no source: set missing.source", e)
	}
	return nil
}

// CheckSink says why a sink cannot have this codec, or nil.
func (c Codec) CheckSink() error {
	if c.IsAuto() {
		return errors.New("codec: auto is for sources only")
	}
	if slices.Contains(c.chain, S3) {
		return errors.New("codec: s3 is for sources only")
	}
	return nil
}

func chainText(chain []Envelope, sep string) string {
	names := make([]string, len(chain))
	for i, e := range chain {
		names[i] = e.String()
	}
	return strings.Join(names, sep)
}

// suggestion is ` (did you mean "x"?)` where a known name is near.
func suggestion(name string) string {
	best, near := 4, "" // more than three edits is another word
	for _, known := range [...]string{
		"auto", "original", "cloudevents", "eventbridge", "eventhub", "metadata", "attributes", "s3", "raw",
	} {
		if d := editDistance(strings.ToLower(name), known); d < best && d < len(known) {
			best, near = d, known
		}
	}
	if near == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", near)
}

func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// DataMember is the member of the envelope that the data stands in, "" for Raw and S3.
func (e Envelope) DataMember() string {
	if int(e) < len(envelopes) && len(envelopes[e].data) > 0 {
		return envelopes[e].data[0]
	}
	return ""
}
