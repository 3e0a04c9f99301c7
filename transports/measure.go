package transports

// Measured is an optional power of sources and sinks: they say what only they can see
// of their other side. Measures may be called at any time between Open and Close, from
// any goroutine, and returns at once: no requests are made for it.
type Measured interface{ Measures() Measures }

// Measures are counts since Open.
type Measures struct {
	// Lag is how many events wait at the other side, -1 where it is not known.
	Lag int64
	// Reconnects counts connections that were made anew.
	Reconnects uint64
	// Throttled counts requests that the other side turned away for the moment, and
	// that no Result or error has told of.
	Throttled uint64
}
