package http_test

import (
	"encoding/json"
	"fmt"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/http"
)

// TestAddressesOfEvents: fields of events decide on path, query and headers of requests,
// and on nothing else; an event that would lead elsewhere, or lacks a field, is a dead
// letter (I1).
func TestAddressesOfEvents(t *testing.T) {
	var mu sync.Mutex // guards seen
	var seen []string
	receiver := httptest.NewServer(nethttp.HandlerFunc(func(_ nethttp.ResponseWriter, r *nethttp.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf("%s who=%s", r.RequestURI, r.Header.Get("X-Who")))
	}))
	t.Cleanup(receiver.Close)
	dir := t.TempDir()
	text := `version: 1
sources: {in: {file: {path: in.ndjson}}}
routes: {all: {to: [shops]}}
sinks:
  shops: {http: {url: "` + receiver.URL + `/shops/<data.region>/orders?id=<id>", headers: ["X-Who: <data.who>"]}}
dead_letters: {file: {path: dead.ndjson}}
`
	var events []byte
	for i, e := range [][2]string{{"eu", "Ann"}, {"a/b?c#d", "Zoë 1"}, {"..", "x"}, {"eu", "a\r\nX-Evil: 1"}, {"", "x"}} {
		line, err := json.Marshal(map[string]any{"specversion": "1.0", "id": fmt.Sprint("&", i), "source": "/s", "type": "T", "data": map[string]string{"region": e[0], "who": e[1]}})
		must(t, err)
		events = append(append(events, line...), '\n')
	}
	events = append(events, `{"specversion":"1.0","id":"6","source":"/s","type":"T","data":{"who":"x"}}`+"\n"...)
	must(t, os.WriteFile(filepath.Join(dir, "in.ndjson"), events, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "weir.yaml"), []byte(text), 0o600))
	eng, err := engine.New(engine.Config{File: filepath.Join(dir, "weir.yaml"), Transports: []transports.Transport{http.New(), file.New()}})
	must(t, err)
	must(t, eng.Run(t.Context()))
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(seen)
	want := []string{"/shops/a%2Fb%3Fc%23d/orders?id=%261 who=Zo%C3%AB%201", "/shops/eu/orders?id=%260 who=Ann"}
	if !slices.Equal(seen, want) {
		t.Errorf("requests %q, want %q", seen, want)
	}
	reasons := map[string]int{}
	for _, line := range lines(t, filepath.Join(dir, "dead.ndjson")) {
		var letter struct {
			Data struct{ Reason, Detail string }
		}
		must(t, json.Unmarshal([]byte(line), &letter))
		reasons[letter.Data.Reason+": "+letter.Data.Detail]++
	}
	for _, want := range []string{
		"poison: poison: url: segment 2 of the path holds .. and would lead out of the path",
		"poison: poison: headers: X-Who: the event brings a control character, such as the end of a line, which no header may hold",
		"poison: poison: url: segment 2 of the path is empty for this event",
		"encode_failed: url: the event has no data.region",
	} {
		if reasons[want] != 1 {
			t.Errorf("%d dead letters %q in %v", reasons[want], want, reasons)
		}
	}
}
