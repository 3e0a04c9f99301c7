package http

import (
	"context"
	"errors"

	"github.com/weir-project/weir/transports"
)

// together sends the batch in one request for each destination, one after the other.
func (w *writing) together(ctx context.Context) {
	failed := map[string]bool{} // keys of which an entry was not taken
	fail := func(i int, r transports.Result) {
		w.results[i] = r
		if key := w.batch[i].Key; key != nil && r.Class != transports.OK {
			failed[string(key)] = true
		}
	}
	for _, g := range w.groups(fail, failed) {
		part := &writing{sink: w.sink, client: w.client}
		var places []int
		for _, i := range g.entries {
			halt := w.halted()
			switch {
			case halt != nil:
				fail(i, *halt)
			case failed[string(w.batch[i].Key)]:
				w.results[i] = transports.Result{Class: transports.Retry, Err: errEarlier}
			default:
				part.batch, places = append(part.batch, w.batch[i]), append(places, i)
			}
		}
		if len(places) == 0 {
			continue
		}
		part.results = make([]transports.Result, len(places))
		part.joined(ctx, g.to)
		for n, i := range places {
			fail(i, part.results[n])
			w.stop(&part.results[n])
		}
	}
}

// group is entries that go in one request.
type group struct {
	to      *destination
	entries []int
}

// groups finds which entries share a destination. Groups are sent in order, and none
// stands before one with an earlier entry of the same key. What has no destination
// fails, and with it the later entries of its key.
func (w *writing) groups(fail func(int, transports.Result), failed map[string]bool) (groups []group) {
	newest := map[string]int{} // by destination
	least := map[string]int{}  // by key: where its newest entry stands
	for i := range w.batch {
		e := &w.batch[i]
		if failed[string(e.Key)] {
			w.results[i] = transports.Result{Class: transports.Retry, Err: errEarlier}
			continue
		}
		to, err := w.sink.cfg.destination(e)
		if err != nil {
			fail(i, transports.Result{Class: transports.Poison, Err: err})
			continue
		}
		at, ok := newest[to.same]
		if !ok || e.Key != nil && at < least[string(e.Key)] {
			at = len(groups)
			newest[to.same] = at
			groups = append(groups, group{to: to})
		}
		groups[at].entries = append(groups[at].entries, i)
		if e.Key != nil {
			least[string(e.Key)] = at
		}
	}
	// An entry that has no destination must not hold back earlier entries of its key.
	clear(failed)
	return groups
}

// joined sends the batch as one request. Where that is refused for what is in it, the
// entries go one by one, so that only the one at fault dies.
func (w *writing) joined(ctx context.Context, to *destination) {
	header, body := w.sink.renderBatch(w.batch)
	r := w.sink.send(ctx, w.client, to, header, body, batchID(w.batch))
	if r.Class != transports.Poison || len(w.batch) == 1 || errors.Is(r.Err, errNowhere) {
		for i := range w.results {
			w.results[i] = r
		}
		return
	}
	for _, chain := range chainsOf(w.batch) {
		w.chainOfBatches(ctx, to, chain)
	}
}

// chainOfBatches sends the entries of one key in batches of one.
func (w *writing) chainOfBatches(ctx context.Context, to *destination, chain []int) {
	for n, i := range chain {
		alone := w.batch[i : i+1]
		header, body := w.sink.renderBatch(alone)
		r := w.sink.send(ctx, w.client, to, header, body, batchID(alone))
		w.results[i] = r
		if r.Class == transports.OK {
			continue
		}
		for _, later := range chain[n+1:] {
			w.results[later] = transports.Result{Class: transports.Retry, Err: errEarlier}
		}
		return
	}
}
