package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/program"
	"github.com/weir-project/weir/transports"
)

// This file joins an engine to the program that it is part of.

// Handler is a sink in the program itself: it takes events and returns what became
// of each, in their order. ctx ends at the sink's timeout. Events of one key come
// one at a time. An event may come again: after a result that is not OK, after a
// panic, after a call that did not return in time, and after a crash.
type Handler = program.Handler

// PublishError says which events of a Publish are not durable, and why.
type PublishError = program.PublishError

// ErrOutcomeUnknown is the reason of an event that was handed over, and whose
// publisher stopped waiting before it was known to be durable.
var ErrOutcomeUnknown = program.ErrOutcomeUnknown

// Handle makes a function of this program the sink of a name, for which the
// configuration says `program: {}`. It is called once a sink, before Run; "dead_letters"
// is the sink of dead letters. The handler is called from one goroutine at a time,
// but for calls that did not return within the sink's timeout.
func (e *Engine) Handle(sink string, h Handler) error {
	names := programSinks(e.Plan())
	if !slices.Contains(names, sink) {
		return fmt.Errorf("handle %s: no such sink has program: {} in the configuration; those that have: [%s]", sink, strings.Join(names, ", "))
	}
	return e.program.Handle(sink, h)
}

// Publish gives events to a source for which the configuration says `program: {}`,
// in their order, and returns when each is durable: delivered, parked, a dead letter
// or dropped by a named rule. The events' bytes are the caller's again then. It
// waits for Run to begin, and while the source is full; ctx ends the waiting. The
// error is a *PublishError by index, or says that there is no such source. It may
// be called from any goroutine.
func (e *Engine) Publish(ctx context.Context, source string, events []event.Event) error {
	if s := e.Plan().Source(source); s == nil || s.Transport != program.Name {
		return fmt.Errorf("publish to %s: no such source has program: {} in the configuration", source)
	}
	return e.program.Publish(ctx, source, events)
}

// programSinks are the names of a plan's sinks that lie in the program.
func programSinks(plan *config.Plan) []string {
	var names []string
	for i := range plan.Sinks {
		if plan.Sinks[i].Transport == program.Name {
			names = append(names, plan.Sinks[i].Name)
		}
	}
	if plan.DeadLetters.Sink.Transport == program.Name {
		names = append(names, config.DeadLettersName)
	}
	return names
}

// withOwn puts the engine's own transport in the place of any other of its name.
func withOwn(list []transports.Transport, own *program.Transport) []transports.Transport {
	others := slices.DeleteFunc(slices.Clone(list), func(t transports.Transport) bool { return t.Name() == program.Name })
	return append(others, own)
}
