package transports

import "context"

// Looker is an optional power of sources and sinks that are not open: Look says what
// Open would fail at and what can be seen on this machine without connecting to
// anything, in the same words. It changes nothing and takes no locks.
type Looker interface{ Look() error }

// Prober is an optional power of sources and sinks that are not open: Probe reaches
// the other side with the configured credentials and says what Open would fail at.
// It takes no events, sends none, and leaves nothing open.
type Prober interface {
	Probe(ctx context.Context) error
}
