package flow

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/transports"
)

// stepLane is a lane that has scanned one event under a plan with one template, as a
// transform and as a reaction.
func stepLane(t testing.TB, codec, template string, raw []byte) (*lane, ref) {
	t.Helper()
	step := []config.Step{{Template: []byte(template)}}
	plan := &config.Plan{
		Node: config.Node{Limits: config.Limits{Event: 1 << 20, InFlight: 10, InFlightBytes: 1 << 20}},
		Routes: []config.Route{
			{Name: "change", From: []string{"in"}, Transform: step, To: []string{"out"}},
			{Name: "emit", From: []string{"in"}, React: step},
		},
		Sinks:   []config.Sink{{Name: "out", Codec: []string{"original"}}},
		Sources: []config.Source{{Name: "in", Codec: strings.Split(codec, ","), Missing: event.Missing{Source: "/missing", Zone: time.UTC}}},
	}
	g, err := Compile(plan, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &Flow{cfg: Config{Now: func() time.Time { return time.Unix(1, 0) }}}
	c := &chunk{
		Chunk:  transports.Chunk{Data: raw},
		source: &source{name: "in"}, gen: g, reading: g.readings[0], byLane: make([][]uint32, 1),
	}
	s := scanner{lanes: 1, now: f.cfg.Now}
	s.scan(c)
	if len(c.items) != 1 || len(c.faults) > 0 {
		t.Fatalf("%d events, faults %v of %s", len(c.items), c.faults, raw)
	}
	l := &lane{f: f, gen: g, descents: map[rootKey]*descent{}}
	return l, ref{c, 0}
}

// attributesOf is an event as decoded JSON, without what both ways may write or leave
// out: the stamp, and attributes that are null.
func attributesOf(t *rapid.T, data []byte) map[string]any {
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	for name, v := range m {
		if name == "processedtime" || v == nil && name != "data" {
			delete(m, name)
		}
	}
	return m
}

// drawCloudEvent draws a CloudEvent with members in any order.
func drawCloudEvent(t *rapid.T) []byte {
	members := []string{`"specversion":"1.0"`, `"source":"/s"`}
	add := func(name string, values ...string) {
		if v := rapid.SampledFrom(append(values, "")).Draw(t, name); v != "" {
			members = append(members, strconv.Quote(name)+":"+v)
		}
	}
	members = append(members, `"type":`+rapid.SampledFrom([]string{`"T"`, `"a \"b\" \u00e9"`}).Draw(t, "type"))
	add("id", `"e1"`, `"\u0041"`, `null`)
	add("subject", `"s"`, `"\n"`, `null`)
	add("time", `"2026-01-02T03:04:05.10Z"`, `"2026-01-02T03:04:05+01:00"`)
	add("datacontenttype", `"application/json"`, `"text/plain"`)
	add("dataschema", `"/schema"`)
	add("trace", `"t\\1"`, `5`, `true`)
	add("correlationid", `"c"`, `7`)
	add("replayname", `"again"`)
	add("hop", `3`)
	switch rapid.IntRange(0, 3).Draw(t, "data") {
	case 0:
		members = append(members, `"data_base64":"AAEC"`)
	case 1:
		add("data", `"text"`, `null`, `[1,{"a":2}]`)
	default:
		members = append(members, `"data":{"a":`+rapid.SampledFrom([]string{`1`, `"x\"y"`, `""`, `null`, `{"b":[1.0]}`, `true`, `-0`, `3e9`, `"2026-01-02T03:04:05Z"`, `"text/html"`}).Draw(t, "a")+`}`)
	}
	return []byte("{" + strings.Join(rapid.Permutation(members).Draw(t, "order"), ",") + "}")
}

func drawStep(t *rapid.T) string {
	var members []string
	for _, name := range []string{"type", "source", "subject", "time", "datacontenttype", "dataschema", "trace", "fresh", "data"} {
		if name == "type" || rapid.Bool().Draw(t, name) {
			v := rapid.SampledFrom([]string{`"lit"`, `<data.a>`, `"<data.a>"`, `"x <subject> <trace>"`, `<type>`, `null`, `<nothing>`, `<id>`, `5`, `true`, `[<data.a>]`, `<time>`, `"text/css"`}).Draw(t, "value")
			members = append(members, strconv.Quote(name)+":"+v)
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

// TestRewritingAgreesWithTheLongWay: whatever the event and the template, copying the
// bytes with members replaced gives the same JSON as decoding, changing and encoding, or
// both fail.
func TestRewritingAgreesWithTheLongWay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		raw, template := drawCloudEvent(rt), drawStep(rt)
		l, r := stepLane(t, "cloudevents", template, raw)
		if !r.c.plainCloud(r.item()) {
			rt.Skip("read the long way in any case")
		}
		whole, err := l.f.eventOf(r)
		if err != nil {
			rt.Fatal(err)
		}

		l.fields.of(l.f, r, 0, l.gen.routes[0].transforms[0])
		quick, quickErr := l.transformed(r)
		made, err := l.fields.makeEvent(whole)
		var slow []byte
		if err == nil {
			slow, err = event.Encode(nil, &made, l.gen.ends0(), event.Stamps{Processed: l.f.cfg.Now()})
		}
		if (err == nil) != (quickErr == nil) {
			rt.Fatalf("%s of %s: the long way says %v, rewriting %v", template, raw, err, quickErr)
		}
		if err == nil && !reflect.DeepEqual(attributesOf(rt, quick), attributesOf(rt, slow)) {
			rt.Fatalf("%s of %s\nrewritten %s\nlong way  %s", template, raw, quick, slow)
		}

		st := l.gen.routes[1].reactions[0]
		cause := causeOf(r)
		quickRecord, quickErr := l.derived(r, 1, 0, st, &cause)
		slowRecord, err := l.derived(r, 1, 0, st, &whole)
		if (err == nil) != (quickErr == nil) {
			rt.Fatalf("react %s of %s: the long way says %v, rewriting %v", template, raw, err, quickErr)
		}
		if err != nil {
			return
		}
		if a, b := attributesOf(rt, quickRecord.Data), attributesOf(rt, slowRecord.Data); !reflect.DeepEqual(a, b) {
			rt.Fatalf("react %s of %s\nrewritten %s\nlong way  %s", template, raw, quickRecord.Data, slowRecord.Data)
		}
		quickRecord.Data, slowRecord.Data = nil, nil
		if !reflect.DeepEqual(quickRecord, slowRecord) {
			rt.Fatalf("react %s of %s: %+v, the long way %+v", template, raw, quickRecord, slowRecord)
		}
	})
}

// ends0 is the codec that leaves events in their envelopes.
func (g *Generation) ends0() event.Codec {
	c, _ := event.ParseCodec([]string{"original"})
	return c
}

// TestDerivedEventsComeBackWhole: in the envelopes of whatever cause, a derived event is
// read back with all that the template gave it and the marks of its descent.
func TestDerivedEventsComeBackWhole(t *testing.T) {
	causes := map[string]string{
		"cloudevents":             `{"specversion":"1.0","id":"e1","source":"/s","type":"t:u","correlationid":"c","data":{"a":1}}`,
		"eventbridge":             `{"version":"0","id":"e1","detail-type":"t:u","source":"/s","account":"1","time":"2026-01-02T03:04:05Z","region":"r","resources":["arn:x"],"detail":{"a":1}}`,
		"metadata":                `{"Metadata":{"event_id":"e1","event_type":"t:u","event_version":"1","event_time_iso8601":"2026-01-02T03:04:05"},"Data":{"a":1}}`,
		"attributes":              `{"attributes":{"type":"t:u","source":"/s","eventId":"e1","eventTime":"2026-01-02T03:04:05Z","eventCount":7},"data":{"a":1}}`,
		"eventhub":                `{"id":"e1","request_id":"req","source":"/s","name":"t:u","timestamp":"2026-01-02T03:04:05Z","payload":{"a":1}}`,
		"eventbridge,metadata":    `{"version":"0","id":"outer","detail-type":"x","source":"s","account":"1","time":"2026-01-02T03:04:05Z","region":"r","resources":[],"detail":{"Metadata":{"event_id":"e1","event_type":"t:u","event_time_iso8601":"2026-01-02T03:04:05Z"},"Data":{"a":1}}}`,
		"eventbridge,attributes":  `{"version":"0","id":"outer","detail-type":"x","source":"s","account":"1","time":"2026-01-02T03:04:05Z","region":"r","resources":[],"detail":{"attributes":{"type":"t:u","source":"/s","eventId":"e1","eventTime":"2026-01-02T03:04:05Z","eventCount":7},"data":{"a":1}}}`,
		"eventbridge,cloudevents": `{"version":"0","id":"outer","detail-type":"x","source":"s","account":"1","time":"2026-01-02T03:04:05Z","region":"r","resources":[],"detail":{"specversion":"1.0","id":"e1","source":"/s","type":"t:u","data":{"a":1}}}`,
		"raw":                     `{"a":1}`,
	}
	for codec, raw := range causes {
		for _, template := range []string{`{"type":"v:w","data":{"b":<data.a>}}`, `{"type":"v:w","tenant":"acme","subject":"s"}`} {
			t.Run(codec+"/"+template, func(t *testing.T) {
				l, r := stepLane(t, codec, template, []byte(raw))
				cause, err := l.f.eventOf(r)
				if err != nil {
					t.Fatal(err)
				}
				rec, err := l.derived(r, 1, 0, l.gen.routes[1].reactions[0], &cause)
				if err != nil {
					t.Fatal(err)
				}
				codecNames := strings.Join(rec.Lineage.Envelopes, ",")
				if simple := !strings.Contains(template, "tenant"); simple && codecNames != codec && codec != "raw" {
					t.Errorf("it stands in %s", codecNames)
				}
				e, err := decodeDerived(rec.Data, &rec.Lineage, event.Limits{})
				if err != nil {
					t.Fatalf("%v: %s", err, rec.Data)
				}
				wantData := `{"b":1}`
				if strings.Contains(template, "tenant") {
					wantData = `{"a":1}`
					if e.Extension("tenant") != "acme" || e.Subject != "s" {
						t.Errorf("tenant %v, subject %q", e.Extension("tenant"), e.Subject)
					}
				}
				wantCorrelation := cause.ID
				if c, ok := cause.Extension("correlationid").(string); ok {
					wantCorrelation = c
				}
				if e.ID == cause.ID || len(e.ID) != 32 || e.Type != "v:w" || e.Source != cause.Source || string(e.Data) != wantData || !e.Time.Equal(cause.Time) {
					t.Errorf("%+v", e)
				}
				if e.Extension(derive.CauseAttribute) != cause.ID || e.Extension(derive.CorrelationAttribute) != wantCorrelation || e.Extension(derive.HopAttribute) != int32(1) {
					t.Errorf("marks %v %v %v", e.Extension(derive.CauseAttribute), e.Extension(derive.CorrelationAttribute), e.Extension(derive.HopAttribute))
				}
				again, err := l.derived(r, 1, 0, l.gen.routes[1].reactions[0], &cause)
				if err != nil || !reflect.DeepEqual(again, rec) {
					t.Errorf("a second time it is another one (I9): %+v, %v", again, err)
				}
			})
		}
	}
}

// TestEmissionsHaveIdsOfTheirOwn: each part of an emission's identity tells its id apart.
func TestEmissionsHaveIdsOfTheirOwn(t *testing.T) {
	first := derive.Emission{Source: "s", ID: "i", Version: 1, Replay: "r", Route: "a", Plugin: "p", Ordinal: 1}
	seen := map[string]string{first.EventID(): "first"}
	for i := range reflect.TypeFor[derive.Emission]().NumField() {
		other := first
		v := reflect.ValueOf(&other).Elem().Field(i)
		if v.Kind() == reflect.String {
			v.SetString("other")
		} else {
			v.Set(reflect.ValueOf(2).Convert(v.Type()))
		}
		name := reflect.TypeFor[derive.Emission]().Field(i).Name
		if before, ok := seen[other.EventID()]; ok {
			t.Errorf("another %s has the id of %s", name, before)
		}
		seen[other.EventID()] = name
	}
	if shifted := (&derive.Emission{Source: "si", Route: "a"}).EventID(); shifted == (&derive.Emission{Source: "s", ID: "i", Route: "a"}).EventID() {
		t.Error("parts run together")
	}
	if got := first.EventID(); len(got) != 32 {
		t.Errorf("id %q", got)
	}
}

func BenchmarkTransform(b *testing.B) {
	l, r := stepLane(b, "cloudevents", `{"type":"Ship","data":{"order":<data.order_id>,"to":<data.address>,"note":"to <data.address.city>"}}`,
		[]byte(`{"specversion":"1.0","id":"e0000001","source":"/shop/orders","type":"OrderCreated","time":"2026-01-02T03:04:05Z","datacontenttype":"application/json","data":{"order_id":1,"customer":"c-1","service_info":"delivery","total":1.50,"currency":"EUR","address":{"city":"Bern","street":"Ring 1"},"items":[{"sku":"S1","quantity":2},{"sku":"S2","quantity":1}]}}`))
	l.fields.of(l.f, r, 0, l.gen.routes[0].transforms[0])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.transformed(r); err != nil {
			b.Fatal(err)
		}
	}
}
