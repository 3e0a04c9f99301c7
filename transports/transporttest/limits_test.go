package transporttest

import (
	"net"
	"testing"
	"time"
)

func TestPatience(t *testing.T) {
	for text, want := range map[string]time.Duration{"": defaultPatience, "5s": 5 * time.Second, "1s": time.Second, "999ms": 0, "soon": 0, "-1m": 0, "10": 0} {
		got, err := patienceOf(text)
		if (err == nil) != (want != 0) || err == nil && got != want {
			t.Errorf("WEIR_PATIENCE=%q: %v and %v, want %v", text, got, err, want)
		}
	}
}

// TestFreeAddress: what it gives can be listened on, again and again.
func TestFreeAddress(t *testing.T) {
	address := FreeAddress(t)
	for range 3 {
		l, err := net.Listen("tcp", address)
		must(t, err)
		must(t, l.Close())
	}
}
