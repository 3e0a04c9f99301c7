// Package trace is what became of single events and when: the engine notes it for
// those that are sampled, and hands it to a Tracer, such as that of package otlp.
//
// Promise: without a Tracer nothing of this costs anything. With one, an event that is
// not sampled costs a look at its traceparent. Nothing here waits for a Tracer.
package trace

import "time"

// Tracer takes what became of events. Its methods are called from many goroutines and
// must not block.
type Tracer interface {
	// Sample says whether an event is to be traced. parent is its traceparent as it
	// came, nil where it has none; hash is of the event's identity, so that an event
	// is traced whole or not at all however often it is run.
	Sample(parent []byte, hash uint64) bool
	// Done takes an event that has ended. It is the Tracer's from then on.
	Done(*Event)
}

// Event is a sampled event on its way. It belongs to one goroutine at a time.
type Event struct {
	Parent    string // traceparent, "" where it has none
	ID        string
	Source    string // of the configuration
	Partition string
	Routes    []string
	Outcome   string // as the journal names it; nacked = given back to the source
	Reason    string
	Received  time.Time
	Ended     time.Time // durable, or given back
	Steps     []Step
}

// maxSteps bounds what is kept of one event, such as one that goes to very many sinks.
const maxSteps = 128

// Kind is what a step is.
type Kind string

// The kinds of steps.
const (
	Receive Kind = "receive" // from receipt until it was read: decode, validate
	Plugin  Kind = "plugin"  // a call with the batch in which the event was
	Deliver Kind = "deliver" // from the first offer to a sink until it arrived or was given up
	Commit  Kind = "commit"  // from the record until it was durable
)

// Step is a part of an event's way.
type Step struct {
	Kind     Kind
	Name     string // of the plug-in or sink
	Began    time.Time
	Ended    time.Time
	Outcome  string // yes, no, failed of a plug-in; of a delivery as the journal names it
	Reason   string
	Attempts int
}

// Add notes a step.
func (e *Event) Add(s Step) {
	if len(e.Steps) < maxSteps {
		e.Steps = append(e.Steps, s)
	}
}

// Stats are what a Tracer has done with the events that it took.
type Stats struct {
	Sent    uint64 // spans that the receiver took
	Dropped uint64 // events that found the queue full
	Failed  uint64 // spans that the receiver did not take
	Queued  int    // events that wait
	Queue   int    // how many may
}
