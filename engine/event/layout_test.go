package event

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func layoutOf(t *testing.T, m Missing, names ...string) Layout {
	t.Helper()
	c, err := ParseCodec(names)
	if err != nil {
		t.Fatal(err)
	}
	return c.Layouts(m)[0]
}

func TestResolve(t *testing.T) {
	const absent, decode = "absent", "decode"
	for _, test := range []struct{ codec, field, want string }{
		{"cloudevents", "id", "id"},
		{"cloudevents", "data.a.b", "data.a.b"},
		{"cloudevents", "detail.a", "data.a"},
		{"cloudevents", "detail-type", "type"},
		{"cloudevents", "account", "awsaccount"},
		{"cloudevents", "region", "awsregion"},
		{"cloudevents", "myext", "myext"},
		{"cloudevents", "My_ext", absent},
		{"cloudevents", "specversion", absent},
		{"cloudevents", "resources", absent},
		{"cloudevents", "version", absent},
		{"cloudevents", "id.x", absent},
		{"eventbridge", "type", "detail-type"},
		{"eventbridge", "subject", "first resources"},
		{"eventbridge", "resources", "resources"},
		{"eventbridge", "awsresources", "text resources"},
		{"eventbridge", "account", "account"},
		{"eventbridge", "awsaccount", "account"},
		{"eventbridge", "awsversion", "version"},
		{"eventbridge", "version", absent},
		{"eventbridge", "replayname", "replay-name"},
		{"eventbridge", "traceparent", "trace trace-header"},
		{"eventbridge", "awstraceheader", "trace-header"},
		{"eventbridge", "data.x", "detail.x"},
		{"eventbridge", "dataschema", absent},
		{"eventbridge", "other", absent},
		{"eventbridge>metadata", "id", "detail.Metadata.event_id"},
		{"eventbridge>metadata", "source", "const /shop\\\"s"},
		{"eventbridge>metadata", "data.x", "detail.Data.x"},
		{"eventbridge>metadata", "data", "detail.Data"},
		{"eventbridge>metadata", "detail", "detail"},
		{"eventbridge>metadata", "detail.Metadata.event_type", "detail.Metadata.event_type"},
		{"eventbridge>metadata", "detail-type", "detail-type"},
		{"eventbridge>metadata", "type", "detail.Metadata.event_type"},
		{"eventbridge>metadata", "subject", absent},
		{"eventbridge>metadata", "account", "account"},
		{"eventbridge>metadata", "traceparent", "trace trace-header"},
		{"eventbridge>metadata", "eventversion", "detail.Metadata.event_version"},
		{"eventbridge>cloudevents", "traceparent", "detail.traceparent"},
		{"eventbridge>cloudevents", "awsregion", "region"},
		{"attributes", "version", "attributes.eventCount"},
		{"attributes", "subject", "attributes.eventId"},
		{"attributes", "eventid", "attributes.eventId"},
		{"eventbridge>attributes", "version", "detail.attributes.eventCount"},
		{"eventhub", "id", decode},
		{"eventhub", "source", decode},
		{"eventhub", "type", "name"},
		{"eventhub", "data.q", "payload.q"},
		{"eventhub", "correlationid", "request_id"},
		{"s3", "id", decode},
		{"s3", "data.s3", decode},
		{"raw", "data", ""},
		{"raw", "data.x", "x"},
		{"raw", "id", absent},
		{"raw", "type", "const weir.raw"},
	} {
		l := layoutOf(t, Missing{Source: `/shop"s`}, strings.Split(test.codec, ">")...)
		ref := l.Resolve(strings.Split(test.field, "."))
		got := strings.Join(ref.Path, ".")
		switch ref.Kind {
		case RefAbsent:
			got = absent
		case RefDecode:
			got = decode
		case RefConst:
			got = "const " + ref.Const
		case RefFirst:
			got = "first " + got
		case RefText:
			got = "text " + got
		case RefTrace:
			got = "trace " + got
		}
		if got != test.want {
			t.Errorf("%s: %s = %q, want %q", test.codec, test.field, got, test.want)
		}
	}
}

func TestAutoLayoutsStandInTheOrderOfDetection(t *testing.T) {
	var got []string
	for _, l := range (Codec{}).Layouts(Missing{}) {
		text := chainText(l.Chain, ">") + ":"
		for _, m := range l.Marks {
			text += " " + strings.Join(m.Path, ".")
			if m.Object {
				text += "{}"
			}
		}
		if !l.Direct {
			text += " decode"
		}
		if l.Refuse != "" {
			text += " refused"
		}
		got = append(got, text)
	}
	want := []string{
		"cloudevents: specversion",
		"eventbridge>cloudevents: detail-type source detail.specversion",
		"eventbridge>metadata: detail-type source detail.Metadata{} detail.Data refused",
		"eventbridge>attributes: detail-type source detail.attributes.eventId",
		"eventbridge>eventhub: detail-type source detail.request_id detail.name detail.timestamp detail.payload decode",
		"eventbridge: detail-type source",
		"metadata: Metadata{} Data refused",
		"attributes: attributes.eventId",
		"eventhub: request_id name decode",
		"s3: Records decode",
		"s3: Service Event Bucket decode",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("layouts:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestParseCodec(t *testing.T) {
	for _, test := range []struct{ names, want, err string }{
		{"", "auto", ""},
		{"auto", "auto", ""},
		{"original", "original", ""},
		{"eventbridge attributes", "[eventbridge, attributes]", ""},
		{"cloudevents", "cloudevents", ""},
		{"cloudevent", "", `codec: no envelope "cloudevent" (did you mean "cloudevents"?)`},
		{"EventBridge", "", `codec: no envelope "EventBridge" (did you mean "eventbridge"?)`},
		{"zebra", "", `codec: no envelope "zebra"`},
		{"auto raw", "", `codec: "auto" stands alone`},
		{"eventbridge raw", "", `codec: "raw" stands alone`},
		{"s3 metadata", "", `codec: nothing stands inside "s3"`},
		{"metadata metadata", "", `codec: "metadata" stands in itself`},
		{"cloudevents eventbridge eventhub metadata attributes", "", "codec: 5 envelopes in each other, at most 4"},
	} {
		c, err := ParseCodec(strings.Fields(test.names))
		if text := errorText(err); text != test.err {
			t.Errorf("%s: error %q, want %q", test.names, text, test.err)
		} else if err == nil && c.String() != test.want {
			t.Errorf("%s: %s, want %s", test.names, c, test.want)
		}
	}
}

func TestCodecChecks(t *testing.T) {
	for _, test := range []struct {
		names, missing, source, sink string
	}{
		{"auto", "", "", "codec: auto is for sources only"},
		{"original", "", "codec: original is for sinks only", ""},
		{"s3", "", "", "codec: s3 is for sources only"},
		{"raw", "", "codec: raw has no source: set missing.source", ""},
		{"eventbridge metadata", "", "codec: metadata has no source: set missing.source", ""},
		{"eventbridge metadata", "/x", "", ""},
		{"cloudevents", "", "", ""},
	} {
		c, err := ParseCodec(strings.Fields(test.names))
		if err != nil {
			t.Fatal(err)
		}
		if got := errorText(c.CheckSource(Missing{Source: test.missing})); got != test.source {
			t.Errorf("%s: source %q, want %q", test.names, got, test.source)
		}
		if got := errorText(c.CheckSink()); got != test.sink {
			t.Errorf("%s: sink %q, want %q", test.names, got, test.sink)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestVerify(t *testing.T) {
	l := layoutOf(t, Missing{}, "cloudevents")
	a := layoutOf(t, Missing{}, "attributes")
	b := layoutOf(t, Missing{}, "eventbridge")
	for _, test := range []struct {
		layout              *Layout
		field, value, other string
		want                string
	}{
		{&l, "id", `"1"`, "", ""},
		{&l, "id", ``, "", ""},
		{&l, "id", `""`, "", "is empty"},
		{&l, "id", `5`, "", "is no string"},
		{&l, "source", `"/a"`, "", ""},
		{&l, "source", ``, "", "is missing"},
		{&l, "source", `null`, "", "is missing"},
		{&l, "subject", `null`, "", ""},
		{&l, "specversion", `"1.0"`, "", ""},
		{&l, "specversion", `"0.3"`, "", "is not 1.0"},
		{&l, "specversion", `1.0`, "", "is not 1.0"},
		{&l, "time", `"2026-01-02T03:04:05Z"`, "", ""},
		{&l, "time", `"lunch"`, "", "is not RFC 3339"},
		{&l, "time", `7`, "", "is not RFC 3339"},
		{&l, "data_base64", `""`, "", ""},
		{&l, "data_base64", `[]`, "", "is no string"},
		{&l, "data", `""`, "null", "data and data_base64 exclude each other"},
		{&l, "data", `""`, "", ""},
		{&a, "eventcount", `4294967295`, "", ""},
		{&a, "eventcount", `4294967296`, "", "is no integer between 0 and 4294967295"},
		{&a, "eventcount", `-1`, "", "is no integer between 0 and 4294967295"},
		{&b, "subject", `[]`, "", ""},
		{&b, "subject", `"x"`, "", "is no array"},
	} {
		found := false
		for i := range test.layout.Checks {
			c := &test.layout.Checks[i]
			if c.Field != test.field {
				continue
			}
			found = true
			var value, other []byte
			if test.value != "" {
				value = []byte(test.value)
			}
			if test.other != "" {
				other = []byte(test.other)
			}
			got := ""
			if err := c.Verify(value, other, test.layout, Missing{}); err != nil {
				got = err.Reason
			}
			if got != test.want {
				t.Errorf("%s %s: %q, want %q", test.field, test.value, got, test.want)
			}
		}
		if !found {
			t.Errorf("no check of %s", test.field)
		}
	}
}

func TestCheckTime(t *testing.T) {
	cairo := time.FixedZone("", 2*3600)
	for _, test := range []struct {
		codec, raw string
		zone       *time.Location
		unit       string
		want       string // RFC 3339 in UTC, or the error
	}{
		{codec: "cloudevents", raw: `"2026-01-02T03:04:05Z"`, want: "2026-01-02T03:04:05Z"},
		{codec: "cloudevents", raw: `2026-01-02T03:04:05Z`, want: "2026-01-02T03:04:05Z"},
		{codec: "cloudevents", raw: `"2026-01-02t03:04:05.5z"`, want: "2026-01-02T03:04:05.5Z"},
		{codec: "cloudevents", raw: `"2026-01-02T03:04:05.1234567891234+05:30"`, want: "2026-01-01T21:34:05.123456789Z"},
		{codec: "cloudevents", raw: `"2026-01-02T03:04:05-00:00"`, want: "2026-01-02T03:04:05Z"},
		{codec: "cloudevents", raw: `"2016-12-31T23:59:60Z"`, want: "2017-01-01T00:00:00Z"},
		{codec: "cloudevents", raw: `"2016-12-31T18:59:60.25-05:00"`, want: "2017-01-01T00:00:00.25Z"},
		{codec: "cloudevents", raw: `"2016-12-31T18:59:60Z"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2024-02-29T00:00:00Z"`, want: "2024-02-29T00:00:00Z"},
		{codec: "cloudevents", raw: `"2023-02-29T00:00:00Z"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2000-02-29T00:00:00Z"`, want: "2000-02-29T00:00:00Z"},
		{codec: "cloudevents", raw: `"1900-02-29T00:00:00Z"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2026-04-31T00:00:00Z"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2026-00-01T00:00:00Z"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2026-13-01T00:00:00Z"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2026-01-00T00:00:00Z"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2026-01-01T24:00:00Z"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2026-01-01T00:60:00Z"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2026-01-01T00:00:61Z"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2026-01-01T00:00:00+24:00"`, want: "is out of range"},
		{codec: "cloudevents", raw: `"2026-01-01T00:00:00.Z"`, want: "is not RFC 3339"},
		{codec: "cloudevents", raw: `"2026-01-01T00:00:00+05"`, want: "is not RFC 3339"},
		{codec: "cloudevents", raw: `"2026-01-01T00:00:00X"`, want: "is not RFC 3339"},
		{codec: "cloudevents", raw: `"2026-01-01 00:00:00Z"`, want: "is not RFC 3339"},
		{codec: "cloudevents", raw: `"2026-01-01T00:00Z"`, want: "is not RFC 3339"},
		{codec: "cloudevents", raw: `"20a6-01-01T00:00:00Z"`, want: "is not RFC 3339"},
		{codec: "cloudevents", raw: `"2026\u002d01-01T00:00:00Z"`, want: "2026-01-01T00:00:00Z"},
		{codec: "cloudevents", raw: `"`, want: "is not RFC 3339"},
		{codec: "cloudevents", raw: ``, want: "is not RFC 3339"},
		{codec: "cloudevents", raw: `null`, want: "is no string"},
		{codec: "cloudevents", raw: `"2026-01-02T03:04:05"`, zone: cairo, want: "has no offset from UTC"},
		{codec: "metadata", raw: `"2026-01-02T03:04:05"`, want: "has no offset from UTC: set missing.zone"},
		{codec: "metadata", raw: `"2026-01-02T03:04:05.5"`, zone: cairo, want: "2026-01-02T01:04:05.5Z"},
		{codec: "metadata", raw: `"2026-01-02T03:04:05\u002e5"`, zone: cairo, want: "2026-01-02T01:04:05.5Z"},
		{codec: "attributes", raw: `"2026-01-02T03:04:05"`, zone: time.UTC, want: "2026-01-02T03:04:05Z"},
		{codec: "metadata", raw: `1700000000`, unit: "s", want: "is not RFC 3339"},
		{codec: "eventhub", raw: `1700000000`, want: "is a number: set missing.epoch_unit"},
		{codec: "eventhub", raw: `1700000000`, unit: "s", want: "2023-11-14T22:13:20Z"},
		{codec: "eventhub", raw: `1700000000.25`, unit: "s", want: "2023-11-14T22:13:20.25Z"},
		{codec: "eventhub", raw: `1700000000250`, unit: "ms", want: "2023-11-14T22:13:20.25Z"},
		{codec: "eventhub", raw: `1700000000250001`, unit: "us", want: "2023-11-14T22:13:20.250001Z"},
		{codec: "eventhub", raw: `1700000000250001002`, unit: "ns", want: "2023-11-14T22:13:20.250001002Z"},
		{codec: "eventhub", raw: `-1.5`, unit: "s", want: "1969-12-31T23:59:58.5Z"},
		{codec: "eventhub", raw: `1e3`, unit: "s", want: "is not RFC 3339"},
		{codec: "eventhub", raw: `99999999999999`, unit: "s", want: "is out of range"},
		{codec: "eventhub", raw: `"1700000000"`, unit: "s", want: "is not RFC 3339"},
	} {
		l := layoutOf(t, Missing{}, test.codec)
		nanos, err := CheckTime([]byte(test.raw), &l, Missing{Zone: test.zone, EpochUnit: test.unit})
		got := time.Unix(0, nanos).UTC().Format(time.RFC3339Nano)
		if err != nil {
			got = err.Reason
		}
		if got != test.want {
			t.Errorf("%s %s: %s, want %s", test.codec, test.raw, got, test.want)
		}
	}
}

func TestCheckTimeSaturates(t *testing.T) {
	l := layoutOf(t, Missing{}, "cloudevents")
	for raw, want := range map[string]int64{
		"9999-12-31T23:59:59Z": 1<<63 - 1,
		"0000-01-01T00:00:00Z": -1 << 63,
	} {
		if got, err := CheckTime([]byte(raw), &l, Missing{}); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", raw, got, err, want)
		}
	}
}

func TestParseTimeAgainstTheStandardLibrary(t *testing.T) {
	for day := -719528; day < 2932897; day += 13 {
		want := time.Unix(int64(day)*86400+int64(day&0xffff), 0).UTC()
		got, _, err := parseTime(want.AppendFormat(nil, time.RFC3339))
		if err != nil || got.sec != want.Unix() {
			t.Fatalf("%s: %d, %v", want, got.sec, err)
		}
	}
}

func BenchmarkCheckTime(b *testing.B) {
	l := (Codec{}).Layouts(Missing{})[0]
	for _, text := range []string{`"2026-01-02T03:04:05Z"`, `"2026-01-02T03:04:05.123456Z"`, `"2026-01-02T03:04:05.123+05:30"`} {
		b.Run(text, func(b *testing.B) {
			raw := []byte(text)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := CheckTime(raw, &l, Missing{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The hot path allocates nothing for an event that is right.
func TestVerifyDoesNotAllocate(t *testing.T) {
	raw := []byte(`{"specversion":"1.0","id":"1","source":"/a","type":"t","subject":"s","time":"2026-01-02T03:04:05.123+05:30","datacontenttype":"application/json; charset=utf-8","dataschema":"https://example.com/schema/of/some/length","expirytime":"2026-01-02T03:04:05Z","data":{}}`)
	l := layoutOf(t, Missing{}, "cloudevents")
	values := make([][2][]byte, len(l.Checks))
	for i, c := range l.Checks {
		values[i] = [2][]byte{find(raw, c.Path), find(raw, c.Other)}
	}
	allocs := testing.AllocsPerRun(100, func() {
		for i := range l.Checks {
			if err := l.Checks[i].Verify(values[i][0], values[i][1], &l, Missing{}); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkVerify(b *testing.B) {
	raw := []byte(`{"specversion":"1.0","id":"1","source":"/a","type":"t","time":"2026-01-02T03:04:05Z","datacontenttype":"application/json","data":{}}`)
	l := CodecOf(CloudEvents).Layouts(Missing{})[0]
	values := make([][2][]byte, len(l.Checks))
	for i, c := range l.Checks {
		values[i] = [2][]byte{find(raw, c.Path), find(raw, c.Other)}
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range l.Checks {
			if err := l.Checks[i].Verify(values[i][0], values[i][1], &l, Missing{}); err != nil {
				b.Fatal(err)
			}
		}
	}
}
