package event

import (
	"encoding/json"
	"unicode/utf8"
)

// decodeRaw takes an event without an envelope: the whole of it is the data.
// Bytes that are not JSON are binary data, or text where they are UTF-8.
func decodeRaw(raw []byte, m Missing, lim Limits) (Event, error) {
	if m.Source == "" {
		return Event{}, &Error{Field: "source", Reason: "is missing: the raw envelope has none and missing.source is not set", Offset: -1}
	}
	e := Event{
		Source: m.Source, Type: RawType, Data: raw, DataKind: DataBinary,
		Chain: []Envelope{Raw}, Original: raw, missing: m, limits: lim,
	}
	switch {
	case json.Valid(raw):
		if err := validate(raw, lim); err != nil {
			return Event{}, err
		}
		e.Data, e.DataKind = trim(raw), DataJSON
	case len(raw) > orDefault(lim.Event, DefaultEvent):
		return Event{}, validate(raw, lim)
	case utf8.Valid(raw):
		e.Data, e.DataKind, e.DataContentType = appendString(nil, string(raw)), DataText, "text/plain"
	default:
		e.DataContentType = "application/octet-stream"
	}
	return e, nil
}

// rawData is the data as bytes outside of JSON: text without its quotes.
func (e *Event) rawData() []byte {
	if e.DataKind == DataText {
		return []byte(unquote(e.Data))
	}
	return e.Data
}
