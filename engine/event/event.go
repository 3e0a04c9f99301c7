// Package event is the canonical event of Weir and the envelopes in which
// events come and go. It promises that there is one table of envelopes with
// two views that always agree: Layouts say where in the raw bytes the fields
// stand (nothing is built, for the hot path), Decode builds an Event. And that
// conversion is no loss: an event that is encoded in other envelopes and back
// is the same JSON as before, but for what was changed on purpose.
//
// # The envelopes
//
//	cloudevents  {"specversion":"1.0","id":..,"source":..,"type":..,..,"data":..}
//	eventbridge  {"version":"0","id":..,"detail-type":type,"source":..,"account":..,"time":..,
//	              "region":..,"resources":[subject],"detail":data}
//	eventhub     {"request_id":..,"source":..,"name":"noun:verb","timestamp":..,"payload":data}
//	metadata     {"Metadata":{"event_id":..,"event_type":..,"event_version":..,"event_time_iso8601":..},"Data":data}
//	attributes   {"attributes":{"type":..,"source":..,"eventId":..,"eventTime":..,"eventCount":..},"data":data}
//	s3           {"Records":[{..,"s3":{..}},..]}, decoded only
//	raw          the data alone
//
// An envelope may stand as the data of another; the identity is then that of
// the innermost, and attributes come from there. From an EventBridge envelope
// further out come awsversion, awsaccount, awsregion, awsresources (the JSON
// text of resources), replayname, awstraceheader (the trace-header as it is)
// and, unless a CloudEvent is inside, the traceparent made of it. A JSON null
// is an absent attribute; members of another kind than an attribute can have
// are no attributes and stay where they are.
//
// # What an envelope has no place for
//
// Encode adds to new envelopes one member, weirenvelope: the attribute of a
// CloudEvent (as a string of JSON), else a member beside the other attributes:
//
//	[{"codec":"eventbridge>metadata",      the envelopes in which the event stood before
//	  "absent":true,                       it had no data
//	  "source":"/shop",                    its source, where the envelopes have none
//	  "time":"2026-01-02T03:04:05Z",       its time, where its own text is no full RFC 3339
//	  "envelope":{..}},..]                 the event of then with null for its data;
//	                                       left out where encoding anew gives the same
//
// oldest first. An event that came in such an envelope is read by the table
// alone; weirenvelope counts only when it is encoded back into envelopes that
// are listed there. Attributes that were changed since are then brought over;
// those without a place anywhere are kept in an entry for cloudevents.
//
// Lost, because nothing can carry it: everything but the data in raw; types of
// extension attributes and weirenvelope in binary mode; weirenvelope with
// Stamps.Bare, and where an event passes through the real EventBridge, which
// keeps only its own members (use [eventbridge, cloudevents] there). Refused:
// see Encode. Absent data is written as {} where an envelope needs data.
package event

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Event is an event in its canonical form, the model of CloudEvents 1.0.2. It
// shares memory with the bytes that it was decoded from. Its methods may be
// called concurrently as long as nobody changes it.
type Event struct {
	ID              string // "" where the envelope has none: stamp it
	Source          string
	Type            string
	Subject         string // "" = absent, as for the next two
	DataContentType string // absent means JSON
	DataSchema      string
	Time            time.Time   // zero = absent
	TimeText        string      // the time as it came, "" for a number; see Encode
	Extensions      []Attribute // each name at most once
	// Data is raw JSON, or bytes where DataKind is DataBinary; for DataText the
	// raw JSON string, with its quotes.
	Data     []byte
	DataKind DataKind
	// Version orders events of one id for dedup, where the envelope has one.
	Version    uint32
	HasVersion bool
	// Chain holds the envelopes that the event came in, outermost first; nil
	// for an event that was made, or came in binary mode.
	Chain []Envelope
	// Original is the event as it came, nil where it did not come as JSON. Of
	// an S3 notification with several records it holds this record alone.
	Original []byte

	missing Missing // how Original was read, to read it so again
	limits  Limits
	readAs  string    // its time, where missing no longer says what its text means
	carried []carried // what earlier conversions could not place
}

// Attribute is an extension attribute. Value is a string, a bool or an int32.
type Attribute struct {
	Name  string
	Value any
}

// DataKind says what Event.Data holds.
type DataKind uint8

// Kinds of data. JSON null is data; it differs from absent.
const (
	DataAbsent DataKind = iota
	DataJSON
	DataText // a JSON string whose content is the data, of a media type that is not JSON
	DataBinary
)

// Stamps are what encoding adds. The zero value adds only weirenvelope.
type Stamps struct {
	ID        string    // where the event has none; see StampID
	Processed time.Time // processedtime, or Event-Hub's processed_timestamp; other envelopes have no place for it
	// Bare leaves weirenvelope out of new envelopes: what they have no place
	// for is lost, and there is no way back to the event's own.
	Bare bool
}

// Extension is the value of an extension attribute, nil where there is none.
func (e *Event) Extension(name string) any {
	for i := range e.Extensions {
		if e.Extensions[i].Name == name {
			return e.Extensions[i].Value
		}
	}
	return nil
}

// SetExtension sets an extension attribute to a string, bool or int32, or
// removes it for nil.
func (e *Event) SetExtension(name string, value any) {
	e.Extensions = slices.Clone(e.Extensions) // copies of an Event share them
	for i := range e.Extensions {
		if e.Extensions[i].Name != name {
			continue
		}
		if value == nil {
			e.Extensions = slices.Delete(e.Extensions, i, i+1)
			return
		}
		e.Extensions[i].Value = value
		return
	}
	if value != nil {
		e.Extensions = append(e.Extensions, Attribute{name, value})
	}
}

// Limits bound what Decode takes. Zero values mean the defaults.
type Limits struct {
	Event      int // bytes of one event, default 1 MiB
	Depth      int // of nested objects and arrays, default 64
	Attributes int // extension attributes, default 256
	// IgnoreCarried leaves alone what an earlier conversion carried in a
	// weirenvelope attribute: for producers that are not trusted to say how the
	// event looked before.
	IgnoreCarried bool
}

// Defaults of Limits.
const (
	DefaultEvent      = 1 << 20
	DefaultDepth      = 64
	DefaultAttributes = 256
)

// Error says which field of an event is wrong, why, and where.
type Error struct {
	Field  string // canonical name, or "" for the event as a whole
	Reason string
	Offset int // in the raw bytes, -1 where unknown
}

func (e *Error) Error() string {
	text := "event: "
	if e.Field != "" {
		text += e.Field + " "
	}
	text += e.Reason
	if e.Offset >= 0 {
		text += fmt.Sprintf(" (at byte %d)", e.Offset)
	}
	return text
}

// ErrTestEvent is what Decode returns for an s3:TestEvent, which S3 sends when
// a notification is set up: drop it by this name.
var ErrTestEvent = errors.New("s3:TestEvent")
