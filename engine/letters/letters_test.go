package letters

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
)

const sample = `{"specversion":"1.0","id":"e/r/s/poison","source":"/weir/dead_letters","type":"weir.dead_letter","time":"2026-01-02T03:04:05Z","data":{"reason":"poison","detail":"no","source":"in","partition":"p","ordinal":7,"sub":2,"event_id":"e","generation":3,"route":"r","sink":"s","attempts":4,"original_base64":"AAE=","rendered":"x"}}`

func letter(t *testing.T) *Letter {
	t.Helper()
	l, err := Parse(&transports.Delivery{Ordinal: 9, Key: []byte("k"), Data: []byte(sample)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestParse(t *testing.T) {
	l := letter(t)
	if l.Number != 9 || l.Key != "k" || l.Attempts != 4 || string(l.Event()) != "\x00\x01" || string(l.Sent()) != "x" || l.Way() != ToSink || l.Sub != 2 {
		t.Errorf("%+v", l)
	}
	for _, other := range []string{"{", `{"type":"Order"}`, `[]`, `{"type":"weir.dead_letter","data":{"ordinal":-1}}`} {
		if _, err := Parse(&transports.Delivery{Data: []byte(other)}); err == nil {
			t.Errorf("%s is a dead letter", other)
		}
	}
}

// TestWays: only bytes that were sent can be sent again.
func TestWays(t *testing.T) {
	for _, test := range []struct {
		change func(*Letter)
		want   Way
	}{
		{func(*Letter) {}, ToSink},
		{func(l *Letter) { l.Rendered = nil }, Reenter},
		{func(l *Letter) { l.Rendered, l.RenderedBase64 = nil, []byte{1} }, ToSink},
		{func(l *Letter) { l.Sink = "" }, Reenter},
	} {
		l := letter(t)
		test.change(l)
		if got := l.Way(); got != test.want {
			t.Errorf("way %s, want %s", got, test.want)
		}
	}
}

func TestFilter(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		filter Filter
		want   bool
	}{
		{Filter{}, true},
		{Filter{Reason: "poison", Route: "r", Sink: "s", Source: "in", Key: "k", ID: "e"}, true},
		{Filter{ID: "e/r/s/poison"}, true},
		{Filter{ID: "r"}, false},
		{Filter{Reason: "pois"}, false},
		{Filter{Route: "s"}, false},
		{Filter{Sink: "r"}, false},
		{Filter{Source: "e"}, false},
		{Filter{Key: "in"}, false},
		{Filter{Since: at, Until: at.Add(1)}, true},
		{Filter{Since: at.Add(1)}, false},
		{Filter{Until: at}, false},
		{Filter{Numbers: []uint64{3, 9}}, true},
		{Filter{Numbers: []uint64{3}}, false},
		{Filter{From: 9, End: 10}, true},
		{Filter{From: 10}, false},
		{Filter{End: 9}, false},
	} {
		if got := test.filter.Takes(letter(t)); got != test.want {
			b, _ := json.Marshal(test.filter)
			t.Errorf("%s takes it: %v", b, got)
		}
		if err := test.filter.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []Order{
		{Filter: Filter{Since: at, Until: at}},
		{Filter: Filter{Numbers: make([]uint64, maxNumbers+1)}},
		{Limit: -1},
		{Rate: -1},
		{Rate: MaxRate + 1},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestCounts(t *testing.T) {
	c := NewCounts()
	c.Add(letter(t))
	other := letter(t)
	other.Sink, other.Number, other.Reason = "", 12, "invalid_json"
	c.Add(other)
	if c.Letters != 2 || c.ByReason["poison"] != 1 || c.ByWay["to sink s"] != 1 || c.ByWay["as from source in"] != 1 || c.End != 13 {
		t.Errorf("%+v", c)
	}
}

// FuzzParse: whatever stands in the queue is a letter or an error, and a letter can be
// written out.
func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(`{"type":"weir.dead_letter","data":{"original":"\ud800","lineage":{}}}`))
	f.Add([]byte(`{"type":"weir.dead_letter"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse(&transports.Delivery{Data: data})
		if err != nil {
			return
		}
		if _, err := json.Marshal(l); err != nil {
			t.Error(err)
		}
		NewCounts().Add(l)
	})
}
