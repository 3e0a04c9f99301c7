package event

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestS3(t *testing.T) {
	record := func(name, key string) string {
		return `{"eventSource":"aws:s3","awsRegion":"eu-central-1","eventTime":"2026-01-02T03:04:05.678Z","eventName":"` + name +
			`","responseElements":{"x-amz-request-id":"R","x-amz-id-2":"H"},"s3":{"bucket":{"name":"b"},"object":{"key":"` + key + `"}}}`
	}
	one := `{"Records":[` + record("ObjectCreated:Put", "a+b%2Fc%C3%BC") + `]}`
	e, err := Decode([]byte(one), Codec{}, Missing{}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(e.ID, " ", e.Source, " ", e.Type, " ", e.Subject, " ", e.TimeText); got !=
		"R.H aws:s3.eu-central-1.b com.amazonaws.s3.ObjectCreated:Put a b/cü 2026-01-02T03:04:05.678Z" {
		t.Error(got)
	}
	if out, err := Encode(nil, &e, Codec{original: true}, Stamps{}); err != nil || string(out) != one {
		t.Errorf("%s, %v", out, err)
	}
	two := `{"Records":[` + record("s3:ObjectCreated:Put", "x") + `, ` + record("ObjectRemoved:Delete", "y") + `]}`
	events, err := DecodeAll([]byte(two), CodecOf(S3), Missing{}, Limits{})
	if err != nil || len(events) != 2 || events[0].Type != "com.amazonaws.s3.ObjectCreated:Put" || events[1].Subject != "y" {
		t.Fatal(events, err)
	}
	alone, err := Decode(events[1].Original, CodecOf(S3), Missing{}, Limits{})
	if err != nil || !equalEvents(&alone, &events[1]) {
		t.Error(alone, err)
	}
	for raw, want := range map[string]string{
		two:                                    "event: Records holds 2 events where one is wanted",
		`{"Records":[]}`:                       "event: Records is no array of 1 to 10000 records",
		`{"Records":[5]}`:                      "event: Records[0].responseElements.x-amz-request-id is missing",
		strings.Replace(one, "%2F", "%zz", 1):  "event: Records[0].s3.object.key is not percent-encoded",
		strings.Replace(one, "678Z", "678", 1): "event: Records[0].eventTime has no offset from UTC",
		`{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"t","Bucket":"b","RequestId":"r","HostId":"h"}`: "s3:TestEvent",
	} {
		if _, err := Decode([]byte(raw), Codec{}, Missing{}, Limits{}); errorText(err) != want {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
	if _, err := Decode([]byte(`{"Service":"","Event":"s3:TestEvent","Bucket":""}`), CodecOf(S3), Missing{}, Limits{}); !errors.Is(err, ErrTestEvent) {
		t.Error(err)
	}
}

func TestOriginalIsByteForByteUntilChanged(t *testing.T) {
	raw := " {\"specversion\" : \"1.0\",\"id\":\"1\", \"source\":\"/s\",\"type\":\"t\", \"data\": [1, 2] }"
	e, err := Decode([]byte(raw), Codec{}, Missing{}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	original := Codec{original: true}
	stamps := Stamps{Processed: time.Unix(0, 0)}
	if out, err := Encode(nil, &e, original, stamps); err != nil || string(out) != strings.TrimSpace(raw) {
		t.Errorf("%q, %v", out, err)
	}
	e.Data = []byte(`{}`)
	out, err := Encode(nil, &e, original, stamps)
	if want := `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{},"processedtime":"1970-01-01T00:00:00Z"}`; err != nil || string(out) != want {
		t.Errorf("%s, %v", out, err)
	}
}

func TestRefusals(t *testing.T) {
	cloud := func(rest string) string {
		return `{"specversion":"1.0","id":"1","source":"/s","type":"a:b"` + rest + `}`
	}
	for _, test := range []struct{ raw, codec, want string }{
		{cloud(`,"data":5`), "eventbridge", "event: data is no object, as the eventbridge envelope needs it"},
		{cloud(`,"data_base64":"eA=="`), "metadata", "event: data is binary, for which the metadata envelope has no place"},
		{strings.Replace(cloud(""), "a:b", "ab", 1), "eventhub", "event: type is not of the form noun:verb, as the eventhub envelope needs it"},
		{strings.Replace(cloud(""), `"id":"1",`, "", 1), "metadata", "event: id is missing"},
		{cloud(`,"ext":"` + strings.Repeat("x", MaxCarried) + `"`), "metadata", "event: weirenvelope would have 65653 bytes: the metadata envelope cannot carry what it has no place for"},
		{cloud(""), "s3", "event: cannot be encoded: codec: s3 is for sources only"},
		{cloud(""), "auto", "event: cannot be encoded: codec: auto is for sources only"},
	} {
		e, err := Decode([]byte(test.raw), Codec{}, Missing{}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCodec([]string{test.codec})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(test.want, carriedName) {
			if bare, err := Encode(nil, &e, c, Stamps{Bare: true}); err != nil || find(bare, []string{"Metadata", carriedName}) != nil {
				t.Errorf("bare: %s, %v", bare, err)
			}
		}
		out, err := Encode([]byte("kept"), &e, c, Stamps{})
		if errorText(err) != test.want || string(out) != "kept" {
			t.Errorf("%s: %v, want %s", test.codec, err, test.want)
		}
	}
}

func TestDecodeRefusals(t *testing.T) {
	for _, test := range []struct {
		raw  string
		lim  Limits
		want string
	}{
		{`{`, Limits{}, "event: is not JSON: unexpected end of JSON input (at byte 1)"},
		{"{\"a\":\"\xff\"}", Limits{}, "event: is not UTF-8 (at byte 6)"},
		{`{"specversion":"1.0"}`, Limits{Event: 10}, "event: has 21 bytes, more than the limit of 10 (at byte 10)"},
		{`{"a":[[[]]]}`, Limits{Depth: 3}, "event: is nested deeper than 3 (at byte 7)"},
		{`{"a":1}`, Limits{}, "event: stands in no envelope that is known"},
		{`[]`, Limits{}, "event: stands in no envelope that is known"},
		{`{"specversion":"1.0","id":"1","source":"/s","type":"t","a":"","b":""}`, Limits{Attributes: 1}, "event: has more than 1 extension attributes"},
		{`{"Metadata":{"event_type":"t"},"Data":{}}`, Limits{}, "event: source is missing: the metadata envelope has none and missing.source is not set"},
		{`{"attributes":{"eventId":"1","type":"t","source":"s","eventCount":4294967296}}`, Limits{}, "event: eventcount is no integer between 0 and 4294967295 (at byte 66)"},
		{`{"attributes":{"eventId":"1","type":"t","source":"s","eventTime":"2026-01-02T03:04:05"}}`, Limits{}, "event: time has no offset from UTC: set missing.zone (at byte 65)"},
		{`{"request_id":"1","name":"noun","source":"s"}`, Limits{}, "event: type is not of the form noun:verb (at byte 25)"},
		{`{"request_id":"1","name":"a:b","source":"s","timestamp":5}`, Limits{}, "event: time is a number: set missing.epoch_unit (at byte 56)"},
	} {
		if _, err := Decode([]byte(test.raw), Codec{}, Missing{}, test.lim); errorText(err) != test.want {
			t.Errorf("%s:\n%v, want\n%s", test.raw, err, test.want)
		}
	}
}

func TestBusinessDataInADetailStaysData(t *testing.T) {
	for detail, want := range map[string]string{
		`{"Metadata":"x","Data":"y"}`:                            "[eventbridge]",
		`{"request_id":"r","name":"n"}`:                          "[eventbridge]",
		`{"Records":[]}`:                                         "[eventbridge]",
		`{"attributes":{}}`:                                      "[eventbridge]",
		`{"attributes":{"eventId":"1","source":"s","type":"t"}}`: "[eventbridge attributes]",
		`{"specversion":"1.0","source":"s","type":"t"}`:          "[eventbridge cloudevents]",
		`{"request_id":"r","name":"a:b","timestamp":null,"payload":1,"source":"s"}`: "[eventbridge eventhub]",
	} {
		e, err := Decode([]byte(`{"detail-type":"T","source":"s","detail":`+detail+`}`), Codec{}, Missing{}, Limits{})
		if got := fmt.Sprint(e.Chain); err != nil || got != want {
			t.Errorf("%s: %s, %v", detail, got, err)
		}
	}
}

// A producer that is not trusted cannot have its carried source written out.
func TestIgnoreCarried(t *testing.T) {
	raw := `{"Metadata":{"event_id":"1","event_type":"t","weirenvelope":[{"codec":"cloudevents","envelope":{"specversion":"1.0","id":"1","source":"/forged","type":"t","data":null}}]},"Data":{}}`
	for ignore, want := range map[bool]string{false: "/forged", true: "/filled/in"} {
		e, err := Decode([]byte(raw), Codec{}, testMissing, Limits{IgnoreCarried: ignore})
		if err != nil || e.Source != "/filled/in" {
			t.Fatal(e.Source, err)
		}
		out, err := e.AppendCloudEvent(nil, Stamps{})
		if err != nil {
			t.Fatal(err)
		}
		if got := unquote(find(out, []string{"source"})); got != want {
			t.Errorf("ignore %v: %s", ignore, out)
		}
	}
}

func TestRawEvents(t *testing.T) {
	for raw, want := range map[string]DataKind{` {"a":1} `: DataJSON, "hello": DataText, "\xff\x00": DataBinary, "": DataText} {
		e, err := Decode([]byte(raw), CodecOf(Raw), Missing{Source: "/s"}, Limits{})
		if err != nil || e.DataKind != want || e.Type != RawType || e.Source != "/s" {
			t.Errorf("%q: %+v, %v", raw, e, err)
		}
		if out, err := Encode(nil, &e, Codec{original: true}, Stamps{}); err != nil || string(out) != raw {
			t.Errorf("%q: %q, %v", raw, out, err)
		}
		cloud, err := e.AppendCloudEvent(nil, Stamps{ID: "x"})
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(cloud, Codec{}, Missing{}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := Encode(nil, &back, CodecOf(Raw), Stamps{}); err != nil || string(out) != strings.TrimSpace(raw) {
			t.Errorf("%q: %s, %v", raw, out, err)
		}
	}
	if _, err := Decode([]byte("x"), CodecOf(Raw), Missing{}, Limits{}); err == nil {
		t.Error("no source")
	}
}

func TestChainsThatCannotBe(t *testing.T) {
	for _, chain := range [][]Envelope{{EventBridge, Raw}, {S3, Metadata}, {200}, {Metadata, Metadata}} {
		c := CodecOf(chain...)
		if _, err := Decode([]byte(`{"detail-type":"t","source":"s","detail":{}}`), c, testMissing, Limits{}); err == nil || !strings.Contains(err.Error(), "codec") {
			t.Errorf("%v: %v", chain, err)
		}
		e := Event{ID: "1", Source: "/s", Type: "a:b"}
		if _, err := Encode(nil, &e, c, Stamps{}); err == nil || !strings.Contains(err.Error(), "codec") {
			t.Errorf("%v: %v", chain, err)
		}
		if l := c.Layouts(testMissing); l != nil {
			t.Errorf("%v: %v", chain, l)
		}
	}
}

func TestExpired(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		expiry any
		age    time.Duration
		after  time.Duration
		want   bool
	}{
		{nil, time.Hour, 0, false},
		{nil, time.Hour, time.Hour, false},
		{nil, time.Hour + 1, time.Hour, true},
		{nil, -time.Hour, time.Hour, false},
		{"2026-01-02T00:00:00Z", 0, 0, true},
		{"2026-01-02T00:00:00.1Z", 0, 0, false},
		{"2026-01-02T01:00:00+01:00", 0, 0, true},
		{"soon", 0, 0, false},
		{int32(5), 0, 0, false},
	} {
		e := Event{Time: now.Add(-test.age)}
		e.SetExtension("expirytime", test.expiry)
		if got := Expired(&e, test.after, now); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
		var expiry int64
		if text, ok := test.expiry.(string); ok && text != "soon" {
			i, _, _ := parseTime([]byte(text))
			expiry = i.unixNano()
		}
		if got := ExpiredAt(expiry, e.Time.UnixNano(), test.after, now.UnixNano()); got != test.want {
			t.Errorf("%+v: at %v", test, got)
		}
	}
}

func TestTraceParent(t *testing.T) {
	const w3c = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
	for header, want := range map[string]string{
		"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1":          w3c,
		"Sampled=1; Parent=53995c3f42cd8ad8 ;Root=1-5759E988-bd862e3fe1be46a994272793;Self=x": w3c,
		"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8":                    w3c[:53] + "00",
		w3c: w3c,
		"Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1":                         "",
		"Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8;Sampled=1": "",
		"Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8":           "",
		"free text": "",
		"":          "",
	} {
		if got, ok := TraceParent(header); got != want || ok != (want != "") {
			t.Errorf("%s: %s %v", header, got, ok)
		}
	}
	header, ok := XRay(w3c)
	if got, _ := TraceParent(header); got != w3c || !ok {
		t.Error(got)
	}
	if header, ok := XRay("free text"); ok {
		t.Error(header)
	}
	for text, want := range map[string]bool{
		w3c: true, w3c + "-x": false, "01" + w3c[2:] + "-x": true, "ff" + w3c[2:]: false, strings.ToUpper(w3c): false,
		"00-" + strings.Repeat("0", 32) + w3c[35:]: false, w3c[:36] + strings.Repeat("0", 16) + "-01": false, w3c[:54]: false,
	} {
		if ValidTraceParent(text) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}

func TestStampID(t *testing.T) {
	id := StampID("orders", "0", []byte("p"), 7)
	if id != "37ee6ecf252fd84b2fda136f50f3c495" {
		t.Error(id)
	}
	seen := map[string]bool{id: true}
	for _, other := range []string{
		StampID("order", "s0", []byte("p"), 7), StampID("orders", "0p", nil, 7),
		StampID("orders", "0", []byte("p"), 8), StampID("orders", "0", []byte("q"), 7),
	} {
		if seen[other] {
			t.Error(other)
		}
		seen[other] = true
	}
	if StampID("orders", "0", []byte("p"), 7) != id {
		t.Error("differs")
	}
}

func TestEventHubIDs(t *testing.T) {
	decode := func(raw string) Event {
		e, err := Decode([]byte(raw), Codec{}, testMissing, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a := decode(`{"request_id":"r","source":"a b/ü%41%","name":"o:c","timestamp":1700000000123,"payload":{"n":1}}`)
	if a.ID != "r/25230948a67cee0b7d870566f0603360" || a.Source != "a%20b/%C3%BC%41%25" {
		t.Errorf("%s %s", a.ID, a.Source)
	}
	b := decode(`{"request_id":"r","source":"a","name":"o:c","timestamp":1700000000123,"payload":{"n":2}}`)
	if a.ID == b.ID {
		t.Error("one request's events share an id")
	}
	out, err := Encode(nil, &a, CodecOf(EventHub), Stamps{Processed: time.Unix(0, 0)})
	if err != nil || unquote(find(out, []string{"id"})) != a.ID || unquote(find(out, []string{"processed_timestamp"})) != "1970-01-01T00:00:00Z" {
		t.Errorf("%s, %v", out, err)
	}
	if again := decode(string(out)); again.ID != a.ID || again.Extension("processedtime") != "1970-01-01T00:00:00Z" || again.Extension("correlationid") != "r" {
		t.Error(again)
	}
}

func TestBinaryModeRefusals(t *testing.T) {
	headers := func(more ...Header) []Header {
		return append([]Header{{"CE-SpecVersion", "1.0"}, {"ce-id", "1"}, {"ce-source", "/s"}, {"ce-type", "t"}}, more...)
	}
	for _, test := range []struct {
		headers []Header
		data    string
		want    string
	}{
		{headers(), "", ""},
		{headers(Header{"ce-x", "a%20%22%C3%BC%zz"}), "", ""},
		{headers()[1:], "", "event: specversion is not 1.0"},
		{headers(Header{"CE-ID", "2"}), "", "event: id stands in a header that is not percent-encoded UTF-8, or stands twice"},
		{headers(Header{"ce-x", "%ff"}), "", "event: x stands in a header that is not percent-encoded UTF-8, or stands twice"},
		{headers(Header{"ce-a_b", "v"}), "", "event: a_b is no attribute name: only a-z and 0-9"},
		{headers(Header{"ce-subject", ""}), "", "event: subject is empty"},
		{headers(Header{"ce-time", "now"}), "", "event: time is not RFC 3339"},
		{headers(Header{"ce-data", "x"}), "", "event: data stands in a ce- header, where it has no meaning"},
		{headers(Header{"content-type", "json"}), "", "event: datacontenttype is no media type"},
		{headers(Header{"content-type", "application/json"}), "{", "event: data is not JSON: unexpected end of JSON input (at byte 1)"},
	} {
		e, err := DecodeBinary(test.headers, []byte(test.data), Limits{})
		if errorText(err) != test.want {
			t.Errorf("%v: %v, want %s", test.headers, err, test.want)
		}
		if x := e.Extension("x"); err == nil && x != nil && x != `a "ü%zz` {
			t.Errorf("%q", x)
		}
	}
	e := Event{ID: "a\r\nb: c", Source: `"%`, Type: "ü", DataKind: DataBinary, Data: []byte{0}}
	got, data, err := EncodeBinary(&e, Stamps{})
	if want := "[{ce-specversion 1.0} {ce-id a%0D%0Ab:%20c} {ce-source %22%25} {ce-type %C3%BC}]"; err != nil || fmt.Sprint(got) != want || len(data) != 1 {
		t.Errorf("%v %v", got, err)
	}
}
