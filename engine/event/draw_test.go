package event

import (
	"fmt"
	"strings"
	"time"

	"pgregory.net/rapid"
)

func quoted(s string) string { return string(appendString(nil, s)) }

// drawText draws a text that is not empty, sometimes with escapes and beyond ASCII.
func drawText(t *rapid.T, label string) string {
	return rapid.SampledFrom([]string{"a", "orders/17", `with "quotes"`, "ünïcödé", "tab\there", "%20", "x y", "\\", "<&>", "😀"}).Draw(t, label) +
		rapid.StringMatching(`[a-z0-9]{0,4}`).Draw(t, label)
}

func drawTime(t *rapid.T, bare bool) string {
	at := time.Unix(rapid.Int64Range(-62135596800, 253402200000).Draw(t, "sec"), 0).UTC()
	text := at.Format("2006-01-02T15:04:05")
	if rapid.Bool().Draw(t, "lower t") {
		text = strings.Replace(text, "T", "t", 1)
	}
	text += rapid.SampledFrom([]string{"", ".0", ".5", ".123456789", ".12345678901234567890", ".100"}).Draw(t, "fraction")
	offsets := []string{"Z", "z", "+00:00", "-00:00", "+05:30", "-23:59"}
	if bare {
		offsets = append(offsets, "")
	}
	if rapid.IntRange(0, 9).Draw(t, "leap") == 0 {
		return rapid.SampledFrom([]string{"2016-12-31T23:59:60Z", "2016-12-31t18:59:60.75-05:00"}).Draw(t, "leap second")
	}
	return text + rapid.SampledFrom(offsets).Draw(t, "offset")
}

// drawValue draws any JSON.
func drawValue(t *rapid.T, depth int) string {
	kinds := 7
	if depth <= 0 {
		kinds = 5
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return "null"
	case 1:
		return rapid.SampledFrom([]string{"true", "false"}).Draw(t, "bool")
	case 2:
		return rapid.SampledFrom([]string{"0", "-0", "1.0", "1e3", "12345678901234567890123", "0.1"}).Draw(t, "number")
	case 3, 4:
		return quoted(drawText(t, "string"))
	case 5:
		n := rapid.IntRange(0, 3).Draw(t, "length")
		var list []string
		for range n {
			list = append(list, drawValue(t, depth-1))
		}
		return "[" + strings.Join(list, " , ") + "]"
	}
	return drawObject(t, depth-1)
}

func drawObject(t *rapid.T, depth int) string {
	var list []string
	for i := range rapid.IntRange(0, 3).Draw(t, "members") {
		list = append(list, fmt.Sprintf("%s :%s", quoted(fmt.Sprintf("m%d", i)), drawValue(t, depth)))
	}
	return "{ " + strings.Join(list, ",") + "}"
}

// members collects an object's members and writes them in any order.
type members []string

func (m *members) add(name, value string) { *m = append(*m, quoted(name)+":"+value) }

func (m *members) maybe(t *rapid.T, name string, value func() string) {
	switch rapid.IntRange(0, 4).Draw(t, name+"?") {
	case 0:
	case 1:
		m.add(name, "null")
	default:
		m.add(name, value())
	}
}

func (m members) draw(t *rapid.T) string {
	order := rapid.Permutation(m).Draw(t, "order")
	return "{" + strings.Join(order, ", ") + "}"
}

// drawEvent draws an event in a chain of envelopes, with unknown members.
func drawEvent(t *rapid.T, chain []Envelope, object bool) string {
	data := ""
	switch {
	case len(chain) > 1:
		data = drawEvent(t, chain[1:], object)
	case object || chain[0] == EventBridge:
		data = drawObject(t, 2)
	default:
		data = drawValue(t, 2)
	}
	text := func() string { return quoted(drawText(t, "text")) }
	nounVerb := func() string {
		return quoted(rapid.SampledFrom([]string{"order:created", "ünit:läuft"}).Draw(t, "type"))
	}
	offsetTime := func() string { return quoted(drawTime(t, false)) }
	anyTime := func() string { return quoted(drawTime(t, true)) }
	value := func() string { return drawValue(t, 1) }
	var m members
	switch chain[0] {
	case CloudEvents:
		m.add("specversion", `"1.0"`)
		m.add("id", text())
		m.add("source", text())
		m.add("type", nounVerb())
		m.maybe(t, "subject", text)
		m.maybe(t, "time", offsetTime)
		m.maybe(t, "dataschema", text)
		m.maybe(t, "datacontenttype", func() string {
			return rapid.SampledFrom([]string{`"application/json"`, `"text/plain; charset=utf-8"`, `"x/y+json"`}).Draw(t, "media")
		})
		m.maybe(t, "traceparent", func() string {
			return rapid.SampledFrom([]string{`"00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"`, `"free"`}).Draw(t, "trace")
		})
		m.maybe(t, "awsaccount", text)
		m.maybe(t, "awsresources", func() string { return rapid.SampledFrom([]string{`"[\"a\"]"`, `"no"`}).Draw(t, "res") })
		m.maybe(t, "processedtime", text)
		m.maybe(t, "correlationid", text)
		m.maybe(t, "eventcount", func() string { return rapid.SampledFrom([]string{"7", "-7", "true", `"3000000000"`}).Draw(t, "count") })
		m.maybe(t, "ext1", func() string { return rapid.SampledFrom([]string{"true", "-2147483648", `""`, `"1"`}).Draw(t, "ext") })
		if object || len(chain) > 1 {
			m.add("data", data)
		} else {
			m.maybe(t, "data", func() string { return data })
		}
	case EventBridge:
		m.add("detail-type", nounVerb())
		m.add("source", text())
		m.maybe(t, "id", text)
		m.maybe(t, "time", offsetTime)
		m.maybe(t, "version", value)
		m.maybe(t, "account", value)
		m.maybe(t, "region", text)
		m.maybe(t, "resources", func() string {
			return rapid.SampledFrom([]string{`[]`, `["a"]`, `["a", "b"]`, `[ 5 ]`, `["\u0061"]`}).Draw(t, "resources")
		})
		m.maybe(t, "replay-name", text)
		m.maybe(t, "trace-header", func() string {
			return rapid.SampledFrom([]string{
				`"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"`,
				`"Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"`, `"free"`, `7`,
			}).Draw(t, "trace")
		})
		m.maybe(t, "other", value)
		m.add("detail", data)
	case EventHub:
		m.add("request_id", text())
		m.add("source", text())
		m.add("name", nounVerb())
		m.add("timestamp", rapid.SampledFrom([]string{offsetTime(), "1700000000123", "-5"}).Draw(t, "timestamp"))
		m.maybe(t, "id", text)
		m.maybe(t, "processed_timestamp", value)
		m.maybe(t, "Other", value)
		m.add("payload", data)
	case Metadata:
		var inner members
		inner.add("event_id", text())
		inner.add("event_type", nounVerb())
		inner.maybe(t, "event_version", value)
		inner.maybe(t, "event_time_iso8601", anyTime)
		inner.maybe(t, "other", value)
		m.add("Metadata", inner.draw(t))
		m.maybe(t, "other", value)
		m.add("Data", data)
	case Attributes:
		var inner members
		inner.add("eventId", text())
		inner.add("type", nounVerb())
		inner.add("source", text())
		inner.maybe(t, "eventTime", anyTime)
		inner.maybe(t, "eventCount", func() string { return rapid.SampledFrom([]string{"0", "17", "4294967295"}).Draw(t, "count") })
		inner.maybe(t, "other", value)
		m.add("attributes", inner.draw(t))
		m.maybe(t, "other", value)
		if object || len(chain) > 1 {
			m.add("data", data)
		} else {
			m.maybe(t, "data", func() string { return data })
		}
	}
	return m.draw(t)
}
