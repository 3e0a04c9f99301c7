package http

import (
	"errors"
	"fmt"
	"mime"
	nethttp "net/http"
	"slices"
	"strings"

	"github.com/weir-project/weir/engine/event"
)

// framing is how events stand in a body.
type framing uint8

const (
	framingOne    framing = iota // one event, or an array of events
	framingBatch                 // an array of events
	framingLines                 // one event a line
	framingBinary                // the data of one event; its attributes are headers
)

const (
	mediaEvent = "application/cloudevents+json"
	mediaBatch = "application/cloudevents-batch+json"
	mediaJSON  = "application/json"
)

var mediaLines = []string{"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}

// framing tells from the headers what a body is.
func (s *source) framing(h nethttp.Header) (framing, *problem) {
	text := h.Get("Content-Type")
	media, params, err := mime.ParseMediaType(text)
	if err != nil && text != "" {
		return 0, &problem{status: nethttp.StatusUnsupportedMediaType, text: fmt.Sprintf("the content type %q is no media type", text)}
	}
	structured := strings.HasPrefix(media, "application/cloudevents")
	if h.Get("Ce-Specversion") != "" && !structured {
		return framingBinary, nil
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		return 0, &problem{status: nethttp.StatusUnsupportedMediaType, text: fmt.Sprintf("the charset %q is not known", charset), hint: "utf-8"}
	}
	switch {
	case media == mediaBatch:
		return framingBatch, nil
	case media == mediaEvent, media == mediaJSON, media == "", slices.Contains(s.cfg.contentTypes, media):
		return framingOne, nil
	case slices.Contains(mediaLines, media):
		return framingLines, nil
	case strings.HasSuffix(media, "+json") && !structured:
		return framingOne, nil
	}
	return 0, &problem{
		status: nethttp.StatusUnsupportedMediaType, text: fmt.Sprintf("the content type %q is not known", media),
		hint: strings.Join(append([]string{mediaJSON, mediaEvent, mediaBatch}, mediaLines[0]), ", ") + ", or any with ce- headers",
	}
}

// frame finds the events in a body, which it may rearrange.
func (s *source) frame(f framing, h nethttp.Header, body []byte, q *request) *problem {
	var err error
	switch f {
	case framingBinary:
		q.data, err = fromBinary(h, body, s.env.MaxEvent)
	case framingLines:
		q.data, q.ends = splitLines(body)
	case framingBatch:
		q.data, q.ends, err = splitArray(body)
	default:
		at := first(body)
		if at < 0 {
			return &problem{status: nethttp.StatusBadRequest, text: "the body is empty"}
		}
		if body[at] == '[' {
			q.data, q.ends, err = splitArray(body)
			break
		}
		q.data = body
	}
	if err != nil {
		return asProblem(err, nethttp.StatusBadRequest)
	}
	q.events = len(q.ends)
	if q.ends != nil || f == framingLines || f == framingBatch {
		if q.events > maxEvents {
			return &problem{status: nethttp.StatusRequestEntityTooLarge, text: fmt.Sprintf("%d events, at most %d are allowed in a request", q.events, maxEvents)}
		}
		return nil
	}
	q.events = 1
	if len(q.data) > s.env.MaxEvent {
		return &problem{status: nethttp.StatusRequestEntityTooLarge, text: fmt.Sprintf("an event of %d bytes, at most %d are allowed", len(q.data), s.env.MaxEvent)}
	}
	return nil
}

// fromBinary makes a structured CloudEvent of one in binary mode. Errors name the
// attribute that is wrong.
func fromBinary(h nethttp.Header, body []byte, limit int) ([]byte, error) {
	var headers []event.Header
	for name, values := range h {
		if name != "Content-Type" && !strings.HasPrefix(name, "Ce-") {
			continue
		}
		for _, v := range values {
			headers = append(headers, event.Header{Name: name, Value: v})
		}
	}
	// In one order, so that the same request always gives the same bytes.
	slices.SortFunc(headers, func(a, b event.Header) int { return strings.Compare(a.Name, b.Name) })
	e, err := event.DecodeBinary(headers, body, event.Limits{Event: limit})
	if err != nil {
		var wrong *event.Error
		if errors.As(err, &wrong) && wrong.Field != "" && wrong.Field != "data" {
			return nil, fmt.Errorf("header ce-%s: %w", wrong.Field, err)
		}
		return nil, err
	}
	if e.ID == "" {
		return nil, errors.New("header ce-id: is missing")
	}
	return e.AppendCloudEvent(nil, event.Stamps{})
}

func space(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// first is where a body's first byte stands that is no white space, -1 where there is none.
func first(body []byte) int {
	return slices.IndexFunc(body, func(c byte) bool { return !space(c) })
}

// splitLines moves the lines together, without line ends and blank lines.
func splitLines(body []byte) ([]byte, []uint32) {
	ends := []uint32{}
	to := 0
	for from := 0; from < len(body); {
		end := from
		for end < len(body) && body[end] != '\n' {
			end++
		}
		line := body[from:end]
		from = end + 1
		for len(line) > 0 && space(line[len(line)-1]) {
			line = line[:len(line)-1]
		}
		if first(line) < 0 {
			continue
		}
		to += copy(body[to:], line)
		ends = append(ends, uint32(to))
	}
	return body[:to], ends
}

// splitArray moves the elements of an array together, without what stands between
// them. It looks at brackets and strings alone: whether an element is right JSON is
// for the engine's scan to say. Of JSON that is right it finds the elements exactly.
func splitArray(body []byte) ([]byte, []uint32, error) {
	ends := []uint32{}
	at, to := 0, 0
	skip := func() {
		for at < len(body) && space(body[at]) {
			at++
		}
	}
	skip()
	if at == len(body) || body[at] != '[' {
		return nil, nil, fmt.Errorf("byte %d: an array must begin here", at)
	}
	at++
	skip()
	if at < len(body) && body[at] == ']' {
		at++
		return body[:0], ends, trailing(body, at)
	}
	for {
		end := valueEnd(body, at)
		if end == at {
			return nil, nil, fmt.Errorf("byte %d: event %d of the array must begin here", at, len(ends))
		}
		to += copy(body[to:], body[at:end])
		ends = append(ends, uint32(to))
		at = end
		skip()
		if at == len(body) {
			return nil, nil, fmt.Errorf("byte %d: the array has no end", at)
		}
		switch body[at] {
		case ']':
			at++
			return body[:to], ends, trailing(body, at)
		case ',':
			at++
		default:
			return nil, nil, fmt.Errorf("byte %d: neither a comma nor the end of the array", at)
		}
		skip()
	}
}

func trailing(body []byte, at int) error {
	for ; at < len(body); at++ {
		if !space(body[at]) {
			return fmt.Errorf("byte %d: text after the array", at)
		}
	}
	return nil
}

// valueEnd is where a value ends that begins at a place; the place itself where none
// does, and the end of the body where it has no end.
func valueEnd(body []byte, at int) int {
	switch {
	case at == len(body):
		return at
	case body[at] == '"':
		return stringEnd(body, at)
	case body[at] != '{' && body[at] != '[':
		for at < len(body) && !space(body[at]) && body[at] != ',' && body[at] != ']' && body[at] != '}' {
			at++
		}
		return at
	}
	depth := 0
	for at < len(body) {
		switch body[at] {
		case '"':
			at = stringEnd(body, at)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at + 1
			}
		}
		at++
	}
	return at
}

// stringEnd is behind the closing quote of a string that begins at a place.
func stringEnd(body []byte, at int) int {
	for at++; at < len(body); at++ {
		switch body[at] {
		case '\\':
			at++
		case '"':
			return at + 1
		}
	}
	return len(body)
}
