package transports

// Holder is an optional power of sinks whose entries stay here until they are taken
// off, such as local queues: they can be looked at and taken off by number, also
// while the sink is written. Both methods may be called from any goroutine after Open.
type Holder interface {
	Placed
	// Held visits, in order, the entries from a number on that are published and were
	// not taken off, until visit returns false. Ordinal is the number. What it is given
	// is visit's to keep.
	Held(from uint64, visit func(*Delivery) (more bool, err error)) error
	// TakeOff takes entries off, durably; of those that were taken off before nothing
	// is said. It fails where somebody else reads the entries at the same time.
	TakeOff(numbers []uint64) error
}
