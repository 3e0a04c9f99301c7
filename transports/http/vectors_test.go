package http

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	nethttp "net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/transports"
)

// vector is a case of the CloudEvents HTTP binding in binary mode. A line of the file
// holds headers and a body that come in, with the structured event that they are, or
// what is wrong about them; then what is sent for that event. "in" begins with the
// event instead. Attributes that all cases share are added: see shared.
type vector struct {
	Name       string         `json:"name"`
	Headers    map[string]any `json:"headers"` // a text, several texts, or null: taken away
	Body       string         `json:"body"`
	Body64     []byte         `json:"body64"`
	Event      map[string]any `json:"event"`
	Wrong      string         `json:"wrong"` // a part of the error
	In         map[string]any `json:"in"`
	Refused    string         `json:"refused"` // a part of the error for In
	Sent       map[string]any `json:"sent"`    // without it the same as Headers
	SentBody   string         `json:"sentBody"`
	SentBody64 []byte         `json:"sentBody64"`
	Back       map[string]any `json:"back"` // what In is after it was sent and received
}

// shared stands in every event.
var shared = map[string]any{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}

func vectors(t *testing.T) (list []vector) {
	t.Helper()
	f, err := os.Open("testdata/cloudevents.jsonl")
	must(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var v vector
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		must(t, d.Decode(&v))
		list = append(list, v)
	}
	if len(list) < 30 {
		t.Fatalf("only %d vectors", len(list))
	}
	return list
}

func headersOf(m map[string]any) nethttp.Header {
	h := nethttp.Header{}
	for name, v := range shared {
		h.Set("ce-"+name, v.(string))
	}
	for name, v := range m {
		h.Del(name)
		switch v := v.(type) {
		case string:
			h.Set(name, v)
		case []any:
			for _, one := range v {
				h.Add(name, one.(string))
			}
		}
	}
	return h
}

func whole(attributes map[string]any) map[string]any {
	m := maps.Clone(shared)
	maps.Copy(m, attributes)
	return m
}

func object(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var m map[string]any
	must(t, json.Unmarshal(data, &m))
	return m
}

// TestCloudEventsVectors runs the file through the source's reading and the sink's writing.
func TestCloudEventsVectors(t *testing.T) {
	s := newSink(testEnv(t, "out"), sinkConfig{mode: modeBinary})
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			if v.In != nil {
				sendVector(t, s, v)
				return
			}
			body := []byte(v.Body)
			if v.Body64 != nil {
				body = v.Body64
			}
			data, err := fromBinary(headersOf(v.Headers), body, 1<<20)
			if v.Wrong != "" {
				if err == nil || !strings.Contains(err.Error(), v.Wrong) {
					t.Errorf("%s, %v, want an error about %s", data, err, v.Wrong)
				}
				return
			}
			must(t, err)
			if got, want := object(t, data), whole(v.Event); !reflect.DeepEqual(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			want := v.Sent
			if want == nil {
				want = v.Headers
			}
			checkSent(t, s, data, headersOf(want), v)
		})
	}
}

func sendVector(t *testing.T, s *sink, v vector) {
	t.Helper()
	data, err := json.Marshal(whole(v.In))
	must(t, err)
	if v.Refused != "" {
		_, _, err := s.render(&transports.Entry{Data: data})
		if err == nil || !strings.Contains(err.Error(), v.Refused) {
			t.Errorf("%v, want an error about %s", err, v.Refused)
		}
		return
	}
	h := checkSent(t, s, data, headersOf(v.Sent), v)
	back, err := fromBinary(h, nil, 1<<20)
	must(t, err)
	if got, want := object(t, back), whole(v.Back); !reflect.DeepEqual(got, want) {
		t.Errorf("back: %v, want %v", got, want)
	}
}

func checkSent(t *testing.T, s *sink, data []byte, want nethttp.Header, v vector) nethttp.Header {
	t.Helper()
	h, body, err := s.render(&transports.Entry{Data: data})
	must(t, err)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if h.Get(name) != want.Get(name) {
			t.Errorf("header %s is %q, want %q", name, h.Get(name), want.Get(name))
		}
	}
	if len(h) != len(want) {
		t.Errorf("headers %v, want %v", h, want)
	}
	wantBody := []byte(v.SentBody)
	if v.SentBody64 != nil {
		wantBody = v.SentBody64
	}
	if !bytes.Equal(body, wantBody) {
		t.Errorf("body %q, want %q", body, wantBody)
	}
	return h
}

// TestBatchVectors: a batch is read as the events that it holds, and those alone.
func TestBatchVectors(t *testing.T) {
	one := `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":null}`
	for body, want := range map[string]int{`[]`: 0, "[" + one + "]": 1, "[" + one + "," + one + "]": 2} {
		data, ends, err := splitArray([]byte(body))
		must(t, err)
		events, err := event.DecodeBatch([]byte(body), event.Missing{}, event.Limits{})
		must(t, err)
		if len(ends) != want || len(events) != want {
			t.Errorf("%s: %d and %d events, want %d", body, len(ends), len(events), want)
		}
		from := uint32(0)
		for i, end := range ends {
			e, err := event.Decode(data[from:end], event.CodecOf(event.CloudEvents), event.Missing{}, event.Limits{})
			if err != nil || e.ID != events[i].ID || e.DataKind != event.DataJSON {
				t.Errorf("%s: event %d: %v, %v", body, i, e, err)
			}
			from = end
		}
	}
}
