package scenarios_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
)

// put is an event that was put into a queue of the memory transport.
type put struct {
	queue string
	entry transports.Entry
}

// examineAll explains, dry, every event that was put into a queue, and holds what that
// says against what the journal says has happened. Where an event was judged by what
// came before it (duplicates and the like) there is nothing to compare.
func (w *world) examineAll() {
	if w.plan == nil || w.t.Failed() || w.reloaded != "" {
		return
	}
	plan := *w.plan
	i, err := engine.NewInspector(engine.Config{Plan: &plan, Plugins: []plugins.Host{w.host}, FS: w.mem})
	must(w.t, err)
	defer func() { must(w.t, i.Close()) }()
	for _, p := range w.put {
		for _, s := range plan.Sources {
			if s.Transport != "memory" || s.Settings.String("queue") != p.queue {
				continue
			}
			x, err := i.Explain(context.Background(), engine.Query{Source: s.Name, Event: p.entry.Data, Key: p.entry.Key})
			must(w.t, err)
			for k := range x.Events {
				w.compareExamined(i, s.Name, &x.Events[k], p.entry.Data)
			}
		}
	}
}

// judgedByOthers are outcomes that an event's own bytes do not decide.
var judgedByOthers = []string{"duplicate", "stale", "conflict", "expired"}

func (w *world) compareExamined(i *engine.Inspector, source string, e *flow.Examination, data []byte) {
	if e.Stamped || e.Outcome == "refused" && !bytes.Contains(data, []byte(e.ID)) {
		return // the id is made of where the event stood
	}
	x, err := i.Explain(context.Background(), engine.Query{ID: e.ID, Source: source})
	if errors.Is(err, engine.ErrNotFound) {
		return // it was never settled
	}
	must(w.t, err)
	if slices.ContainsFunc(e.Steps, func(s flow.Step) bool { return strings.HasSuffix(s.Why, "on_error: retry") }) {
		return // the plug-in has failed for a while only
	}
	outcome := e.Outcome
	if slices.Contains(judgedByOthers, outcome) {
		outcome = e.Anew
	}
	want := exits(e.Deliveries)
	for _, l := range x.Recorded {
		if slices.Contains(judgedByOthers, l.Outcome) || l.Redelivered {
			continue
		}
		if got := exits(l.Deliveries); slices.Equal(got, want) && (l.Outcome == outcome || l.Outcome == "dead" && outcome == "delivered") {
			continue
		}
		w.t.Errorf("explain says %s of %s, to %q; the journal says %s, to %q\n%+v", outcome, e.ID, want, l.Outcome, exits(l.Deliveries), e.Steps)
	}
}

// exits are the routes and sinks of deliveries, but for dead letters.
func exits(list []journal.Delivery) (names []string) {
	for _, d := range list {
		if d.Sink != "" && d.Sink != "dead_letters" {
			names = append(names, d.Route+">"+d.Sink)
		}
	}
	slices.Sort(names)
	return names
}
