package http

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestRequests: they are what a server reads, each with 100 events.
func TestRequests(t *testing.T) {
	requests, all := makeRequests(1, 3)
	total := 0
	for _, raw := range requests {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		total += len(body)
		var events []json.RawMessage
		if err := json.Unmarshal(body, &events); err != nil || len(events) != eventsABatch {
			t.Fatalf("%d events, %v", len(events), err)
		}
	}
	if total != len(all) {
		t.Errorf("%d bytes in requests, %d in all", total, len(all))
	}
}

func TestReadAnswer(t *testing.T) {
	const body = `{"accepted":100}`
	for text, ok := range map[string]bool{
		"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + body:           true,
		"HTTP/1.1 200 OK\r\ncontent-length:16\r\n\r\n" + body:            true,
		"HTTP/1.1 429 No\r\nContent-Length: 16\r\n\r\n" + body:           false,
		"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"accepted\":99}": false,
		"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n" + body:           false,
	} {
		if err := readAnswer(bufio.NewReader(strings.NewReader(text))); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
