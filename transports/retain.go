package transports

import "time"

// Retaining is an optional power of local sinks that others read from: they drop what
// is oldest, read or not. The engine calls it for its dead letters, from one goroutine,
// beside the other methods.
type Retaining interface {
	// Retain drops entries that were accepted longer than keep ago, and the oldest ones
	// beyond max bytes; 0 = no bound. Room is freed in larger pieces, so some entries stay
	// longer. It says what went, also together with an error.
	Retain(keep time.Duration, max int64) (Dropped, error)
}

// Dropped is what a sink has dropped by its retention.
type Dropped struct {
	Entries uint64
	Unread  uint64 // of them: no reader had settled them
	Bytes   int64
}
