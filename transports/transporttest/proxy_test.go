package transporttest_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-project/weir/transports/transporttest"
)

// TestProxy looks at each mode from the outside.
func TestProxy(t *testing.T) {
	var reached atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	}))
	defer server.Close()
	p, err := transporttest.NewProxy(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	get := func() (status int, body string, err error) {
		client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://" + p.Address())
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text), err
	}
	tests := []struct {
		mode    transporttest.Mode
		status  int // 0 = an error
		reaches bool
	}{
		{transporttest.Healthy, 200, true},
		{transporttest.Refuse, 0, false},
		{transporttest.Reset, 0, false},
		{transporttest.BlackHole, 0, false},
		{transporttest.Trickle, 200, true},
		{transporttest.Throttle, 200, true},
		{transporttest.LoseReply, 0, true},
		{transporttest.ServerError, 503, false},
		{transporttest.TooMany, 429, false},
		{transporttest.HalfFail, 500, false},
		{transporttest.HalfFail, 200, true},
		{transporttest.Healthy, 200, true},
	}
	for _, tt := range tests {
		if err := p.Set(tt.mode); err != nil {
			t.Fatalf("%v: %v", tt.mode, err)
		}
		before := reached.Load()
		began := time.Now()
		status, body, err := get()
		if (err == nil) != (tt.status != 0) || err == nil && status != tt.status {
			t.Errorf("%v: status %d and %v, want %d", tt.mode, status, err, tt.status)
		}
		if status == 200 && len(body) != 100 {
			t.Errorf("%v: %d bytes came through, want 100", tt.mode, len(body))
		}
		var timeout net.Error
		if hole := errors.As(err, &timeout) && timeout.Timeout(); hole != (tt.mode == transporttest.BlackHole) {
			t.Errorf("%v: %v after %v", tt.mode, err, time.Since(began))
		}
		if (reached.Load() > before) != tt.reaches {
			t.Errorf("%v: the server was reached: %v, want %v", tt.mode, reached.Load() > before, tt.reaches)
		}
	}
	if p.Connections() < uint64(len(tests)-1) || p.Requests() == 0 {
		t.Errorf("%d connections and %d requests were counted", p.Connections(), p.Requests())
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
