package event

import (
	"math"
	"slices"
)

// carry lists what the new tree t must carry so that the event's own envelopes
// can be had back from it.
func (e *Event) carry(t *tree) ([]carried, *Error) {
	own, unplaced, err := e.current()
	if err != nil {
		return nil, err
	}
	if slices.Equal(own.chain, t.chain) {
		return e.carried, nil
	}
	list := e.carried
	if !envelopes[t.chain[t.last()]].open {
		if list, err = attach(list, e, unplaced); err != nil {
			return nil, err
		}
	}
	entry := own.full(e)
	if own.follows(t, e) {
		entry = carried{chain: own.chain}.withRaw()
	}
	if i := indexCarried(list, own.chain); i >= 0 {
		list = slices.Delete(slices.Clone(list), i, i+1)
	}
	return append(slices.Clone(list), entry), nil
}

// follows says whether t read back and encoded anew gives own again.
func (own *tree) follows(t *tree, e *Event) bool {
	if len(e.carried) > 0 || len(own.chain) > 1 || !envelopes[t.chain[t.last()]].open {
		return false // hardly ever, and not worth the try
	}
	d := decoder{chain: t.chain, missing: Missing{Source: "weir:missing"}, limits: unlimited}
	back, err := d.decode(t.bytes())
	if err != nil {
		return false
	}
	again, _, err := fresh(&back, own.chain, false)
	return err == nil && equalJSON(again.bytes(), own.bytes())
}

// unlimited is for what Decode has accepted before.
var unlimited = Limits{Event: math.MaxInt, Depth: math.MaxInt - 8, Attributes: math.MaxInt}

// restore makes the envelopes of a carried entry again and brings over what
// was changed since: how e differs from what those envelopes give when they
// are converted the same way. It goes back entry by entry, as the event came.
func (e *Event) restore(i int) (tree, *Error) {
	last := len(e.carried) - 1
	if i < last {
		t, err := e.restore(last)
		if err != nil {
			return t, err
		}
		before, err := e.carried[last].read(&t, e.Source)
		if err != nil {
			return t, err
		}
		before.carried = e.carried[:last:last]
		if now := t.carried(unlimited); len(now) == last { // with what this step had no place for
			before.carried = now
		}
		return before.restore(i)
	}
	came, err := e.first()
	if err != nil {
		return tree{}, err
	}
	entry := &e.carried[i]
	t, err := entry.tree(&came)
	if err != nil {
		return t, err
	}
	then, err := entry.read(&t, e.Source)
	if err != nil {
		return t, err
	}
	converted, _, err := fresh(&then, e.Chain, false)
	if err != nil {
		return t, err
	}
	here := carried{chain: e.Chain, source: e.missing.Source}
	unchanged, err := here.read(&converted, e.Source)
	if err != nil {
		return t, err
	}
	unchanged.Data, unchanged.DataKind = came.Data, came.DataKind // in place already
	unplaced, err := t.apply(e, &unchanged)
	if err != nil {
		return t, err
	}
	list, err := attach(e.carried[:i:i], e, unplaced)
	if err != nil {
		return t, err
	}
	return t, t.setCarried(list)
}

// first is the event as it was decoded.
func (e *Event) first() (Event, *Error) {
	d := decoder{chain: e.Chain, missing: e.missing, limits: e.limits, timeText: e.readAs}
	return d.decode(e.Original)
}

// tree is the entry's envelope with the event's data.
func (c *carried) tree(e *Event) (tree, *Error) {
	if c.envelope == nil {
		t, _, err := fresh(e, c.chain, false)
		return t, err
	}
	t, err := parseTree(c.envelope, c.chain)
	if err != nil || c.absent && (e.DataKind == DataAbsent || string(e.Data) == "{}") {
		return t, err
	}
	return t, t.putData(e, false)
}

// read decodes a tree as the entry's event was decoded when it came.
func (c *carried) read(t *tree, source string) (Event, *Error) {
	if c.source != "" {
		source = c.source
	}
	d := decoder{chain: c.chain, missing: Missing{Source: source}, limits: unlimited, timeText: c.time}
	return d.decode(t.bytes())
}
