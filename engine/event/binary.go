package event

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Header is a header of the CloudEvents HTTP binding in binary mode.
type Header struct{ Name, Value string }

const (
	headerPrefix      = "ce-"
	headerContentType = "content-type"
)

// DecodeBinary reads an event in binary mode: attributes in ce- headers
// (names in any case; all values are strings), datacontenttype in
// content-type, the data beside them. Data of a JSON media type, and data
// without a content type that is JSON, becomes DataJSON; UTF-8 of a text type
// or of XML DataText; no data at all DataAbsent. An id may be absent.
func DecodeBinary(headers []Header, data []byte, lim Limits) (Event, error) {
	if limit := orDefault(lim.Event, DefaultEvent); len(data) > limit {
		return Event{}, &Error{Field: "data", Reason: "has " + strconv.Itoa(len(data)) + " bytes, more than the limit of " + strconv.Itoa(limit), Offset: limit}
	}
	e := Event{limits: lim}
	version := ""
	seen := make(map[string]bool, len(headers))
	for _, h := range headers {
		name := strings.ToLower(h.Name)
		if name == headerContentType {
			if !mediaType(h.Value) {
				return Event{}, &Error{Field: "datacontenttype", Reason: "is no media type", Offset: -1}
			}
			e.DataContentType = h.Value
			continue
		}
		name, ok := strings.CutPrefix(name, headerPrefix)
		if !ok {
			continue
		}
		value, err := headerText(h.Value)
		if err != nil || seen[name] {
			return Event{}, &Error{Field: name, Reason: "stands in a header that is not percent-encoded UTF-8, or stands twice", Offset: -1}
		}
		seen[name] = true
		if name == "specversion" {
			version = value
			continue
		}
		if err := e.setHeader(name, value); err != nil {
			return Event{}, err
		}
	}
	limit := orDefault(lim.Attributes, DefaultAttributes)
	switch {
	case version != "1.0":
		return Event{}, &Error{Field: "specversion", Reason: "is not 1.0", Offset: -1}
	case e.Source == "":
		return Event{}, &Error{Field: "source", Reason: "is missing", Offset: -1}
	case e.Type == "":
		return Event{}, &Error{Field: "type", Reason: "is missing", Offset: -1}
	case len(e.Extensions) > limit:
		return Event{}, &Error{Reason: "has more than " + strconv.Itoa(limit) + " extension attributes", Offset: -1}
	}
	if err := e.setBinaryData(data, lim); err != nil {
		return Event{}, err
	}
	return e, nil
}

func (e *Event) setHeader(name, value string) *Error {
	switch {
	case name == "datacontenttype" || name == "data" || name == "data_base64":
		return &Error{Field: name, Reason: "stands in a ce- header, where it has no meaning", Offset: -1}
	case !validName(name):
		return &Error{Field: name, Reason: "is no attribute name: only a-z and 0-9", Offset: -1}
	case value == "" && isCore(name):
		return &Error{Field: name, Reason: "is empty", Offset: -1}
	case name == "time", name == "expirytime":
		i, bare, err := parseTime([]byte(value))
		if err == nil && bare {
			err = errTimeBare
		}
		if err != nil {
			return &Error{Field: name, Reason: err.Reason, Offset: -1}
		}
		if name == "time" {
			e.Time, e.TimeText = i.time(), value
			return nil
		}
		fallthrough
	case !isCore(name):
		e.Extensions = append(e.Extensions, Attribute{name, value})
	default:
		*e.core(name) = value
	}
	return nil
}

func (e *Event) setBinaryData(data []byte, lim Limits) *Error {
	media := e.DataContentType
	switch {
	case len(data) == 0:
	case media != "" && jsonMedia(media):
		if err := validate(data, lim); err != nil {
			err.Field = "data"
			return err
		}
		e.Data, e.DataKind = trim(data), DataJSON
	case media == "" && json.Valid(data):
		if err := validate(data, lim); err != nil {
			err.Field = "data"
			return err
		}
		e.Data, e.DataKind = trim(data), DataJSON
	case textMedia(media) && utf8.Valid(data):
		e.Data, e.DataKind = appendString(nil, string(data)), DataText
	default:
		e.Data, e.DataKind = data, DataBinary
	}
	return nil
}

// EncodeBinary makes the headers and data of binary mode. Types of extension
// attributes are lost (all become text), and so is what weirenvelope carries:
// headers are too small for it. JSON data without a media type is said to be
// application/json.
func EncodeBinary(e *Event, stamps Stamps) ([]Header, []byte, error) {
	event := *e
	if event.ID == "" {
		event.ID = stamps.ID
	}
	if !stamps.Processed.IsZero() {
		event.SetExtension("processedtime", stamps.Processed.UTC().Format(time.RFC3339Nano))
	}
	if err := event.Validate(); err != nil {
		return nil, nil, err
	}
	headers := []Header{
		{"ce-specversion", "1.0"},
		{"ce-id", headerValue(event.ID)},
		{"ce-source", headerValue(event.Source)},
		{"ce-type", headerValue(event.Type)},
	}
	for _, h := range [...]Header{
		{"subject", event.Subject},
		{"time", event.timeText()},
		{"dataschema", event.DataSchema},
	} {
		if h.Value != "" {
			headers = append(headers, Header{headerPrefix + h.Name, headerValue(h.Value)})
		}
	}
	for _, a := range event.Extensions {
		headers = append(headers, Header{headerPrefix + a.Name, headerValue(attributeText(a.Value))})
	}
	media := event.DataContentType
	if media == "" && event.DataKind == DataJSON {
		media = "application/json"
	}
	if media != "" {
		headers = append(headers, Header{headerContentType, media})
	}
	return headers, event.rawData(), nil
}

// attributeText is an attribute's canonical text in CloudEvents.
func attributeText(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	return string(rawValue(value))
}

// textMedia says whether a media type is text by its name.
func textMedia(s string) bool {
	s, _, _ = strings.Cut(strings.ToLower(s), ";")
	s = strings.TrimSpace(s)
	return strings.HasPrefix(s, "text/") || strings.HasSuffix(s, "/xml") || strings.HasSuffix(s, "+xml")
}

// headerValue percent-encodes the space, the double quote, the percent sign
// and everything outside of printable ASCII, so that no value can end a header.
func headerValue(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		clean = clean && plainInHeader(s[i])
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s { // what is not UTF-8 becomes U+FFFD
		if r < utf8.RuneSelf && plainInHeader(byte(r)) {
			b.WriteByte(byte(r))
			continue
		}
		for _, c := range []byte(string(r)) {
			writePercent(&b, c)
		}
	}
	return b.String()
}

func plainInHeader(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }

// headerText reverses headerValue. As the binding asks, values in double
// quotes lose them, and a percent sign that begins no escape stays.
func headerText(s string) (string, error) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		inner := s[1 : len(s)-1]
		var b strings.Builder
		for i := 0; i < len(inner); i++ {
			if inner[i] == '\\' && i+1 < len(inner) {
				i++
			}
			b.WriteByte(inner[i])
		}
		s = b.String()
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", err
			}
			b.WriteByte(byte(n))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	if !utf8.ValidString(b.String()) {
		return "", &Error{Reason: "is not UTF-8", Offset: -1}
	}
	return b.String(), nil
}
