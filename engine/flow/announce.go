package flow

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/journal"
)

// announcement is the record of what the indices in a generation's records stand for.
func (f *Flow) announcement(g *Generation) []byte {
	return journal.AppendGeneration(nil, f.namesOf(g))
}

func (f *Flow) namesOf(g *Generation) *journal.Generation {
	return &journal.Generation{
		Epoch: f.epoch, Number: g.Number, Digest: g.Digest, Routes: g.routeNames(), Sinks: g.sinks,
		Exits: g.exits(), Unmatched: indices(g.unmatched),
	}
}

// announcements are those of all generations that records may be written under.
func (f *Flow) announcements() [][]byte {
	var list [][]byte
	for _, g := range *f.named.Load() {
		list = append(list, f.announcement(g))
	}
	return list
}

// exits are the sinks of each route, as the journal tells them.
func (g *Generation) exits() []journal.Exit {
	list := make([]journal.Exit, len(g.routes))
	for i := range g.routes {
		rt := &g.routes[i]
		if rt.choice < 0 {
			list[i].To = indices(rt.to)
			continue
		}
		for bit, name := range g.plugins[rt.choice].loaded.Manifest().Outputs {
			list[i].Outputs = append(list[i].Outputs, journal.Output{Name: name, To: indices(rt.outputs[bit])})
		}
		list[i].Else = indices(rt.rest)
	}
	return list
}

func indices(sinks []int) []uint32 {
	list := make([]uint32, len(sinks))
	for i, s := range sinks {
		list[i] = uint32(s)
	}
	return list
}

// outputsOf are the outputs by which an event's routes chose their sinks, nil where
// no route of the generation does.
func (l *lane) outputsOf(r ref) []uint32 {
	it, c := r.item(), r.c
	if !c.reading.chooses {
		return nil
	}
	l.outputs = l.outputs[:0]
	for k, route := range c.routesOf(it) {
		taken := uint32(journal.NoOutputs)
		if c.gen.routes[route].choice >= 0 {
			taken = c.taken[int(it.routes)+k]
		}
		l.outputs = append(l.outputs, taken)
	}
	return l.outputs
}

// nameParked says in the record of a parked delivery's end which event it was of.
func nameParked(r *journal.Redelivery, e *dispatch.Ended) {
	r.Route = e.Entry.Route
	r.ID = strings.TrimSuffix(e.Entry.ID, "/"+e.Entry.Route)
	r.Source = contextSource(e.Context)
}

// contextSource is the source's name in what letterContext wrote, of which it is the
// first member.
func contextSource(context []byte) string {
	d := json.NewDecoder(bytes.NewReader(append([]byte{'{'}, bytes.TrimPrefix(context, []byte{','})...)))
	for range 2 { // the brace and the member's name
		if _, err := d.Token(); err != nil {
			return ""
		}
	}
	name, _ := d.Token()
	text, _ := name.(string)
	return text
}
