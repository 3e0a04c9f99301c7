package transporttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a case waits for what must come. Only what hangs reaches it:
// a machine that has other work to do is slow, and not broken. The bar of I16, 10 s,
// is the benchmarks'.
var patience, errPatience = patienceOf(os.Getenv("WEIR_PATIENCE"))

// stuck is how long a call may take beyond the wait it was given.
var stuck = patience / 2

const (
	defaultPatience = time.Minute
	leastPatience   = time.Second
)

func patienceOf(text string) (time.Duration, error) {
	if text == "" {
		return defaultPatience, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < leastPatience {
		err = fmt.Errorf("it is less than %v", leastPatience)
	}
	if err != nil {
		return defaultPatience, fmt.Errorf("WEIR_PATIENCE=%s: want a duration such as 1m: %w", text, err)
	}
	return d, nil
}

// Ports of FreeAddress. They are below those that systems give to outgoing
// connections and to whoever listens on port 0, so that another process does not get
// one by chance before it is used, or while nobody listens on it for a moment.
const (
	firstPort = 12_000
	lastPort  = 30_000
	portTries = 100
)

// FreeAddress is an address of the loopback interface, host:port, where nobody
// listens. It stays free for a test that listens there later, or now and then.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := listenFree()
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

func listenFree() (net.Listener, error) {
	var err error
	for range portTries {
		var l net.Listener
		port := firstPort + rand.IntN(lastPort-firstPort)
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no free port among %d tried between %d and %d: %w", portTries, firstPort, lastPort, err)
}

// noLeaks fails where goroutines besides those of before are still there after a
// while: goleak alone gives them little more than a second to end.
func noLeaks(t *testing.T, before goleak.Option) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); ; {
		if err = goleak.Find(before); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Error(err)
			return
		}
	}
}
