package flow

import (
	"context"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/poison"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
)

// Sizes of a lane.
const (
	ticketsALane = 24
	ticketEvents = 512 // events a record holds before it is handed to the commit log
	ticketStaged = 256 << 10
	nackDelay    = time.Second
)

const (
	conflictDuplicate = "duplicate"
	// outcomeTest marks an s3:TestEvent between scan and lane.
	outcomeTest = journal.Discarded
)

// lane is an ordered worker: events of one key meet one lane, in order. It owns
// its plug-in instances and scratch memory; nothing of it is shared but the mailbox.
type lane struct {
	f    *Flow
	id   int
	work chan *chunk
	soon chan *chunk // of the internal queue: before all others
	mail mailbox
	// readJobs and readFollowers are the memory of the mail that was read last, for the
	// mail after the next.
	readJobs      []*dispatch.Job
	readFollowers []dedup.Follower[ref]

	gen       *Generation
	instances []plugins.Instance
	aside     map[plugins.Plugin]plugins.Instance // of plug-ins that are not gen's
	answers   [][]uint32                          // by plug-in and place in the batch
	measures  []*pluginMeasures                   // by plug-in
	failures  []string                            // by plug-in: why its last call failed
	reasons   [][]string                          // by plug-in and place in the batch: why it failed on the event

	at          *chunk // at work
	done        int    // its events whose bytes are not needed any more
	batch       []ref
	requests    []dedup.Request[ref]
	claims      [batchEvents]dedup.Claim
	asked       []int
	verdicts    [batchEvents]uint32
	input       plugins.Batch
	source      guestSource
	entry       transports.Entry
	scratch     []byte
	record      journal.Entry
	outputs     []uint32 // of record
	letterBytes []byte

	fields    stepFields
	rewriting rewriting
	noted     *poison.Slot // what is at work, for the next process

	open     *ticket      // what the next record is made of
	free     chan *ticket // those that wait for nothing
	routedAt []uint32     // by route of open's generation: 1 + its place in open.routes, 0 = none

	// held keeps, by key, the events whose records must wait for an earlier one of
	// the key, the first of which still has deliveries under way.
	held      map[uint64][]ref
	following int             // events that wait for one in flight, and have later ones of their key wait
	jobs      []*dispatch.Job // free

	descents map[rootKey]*descent // of events that have derived ones in the internal queue
}

// mailbox is how others reach a lane: ended deliveries, followers' verdicts, and
// orders. What it holds is bounded by the events in flight, and one order at a time.
type mailbox struct {
	mu        sync.Mutex // guards all three
	jobs      []*dispatch.Job
	followers []dedup.Follower[ref]
	orders    []func(context.Context)
	bell      chan struct{}
}

func newLane(f *Flow, id int) *lane {
	l := &lane{
		f: f, id: id, work: make(chan *chunk, maxChunks), soon: make(chan *chunk, maxChunks), free: make(chan *ticket, ticketsALane),
		aside: map[plugins.Plugin]plugins.Instance{}, held: map[uint64][]ref{}, descents: map[rootKey]*descent{},
	}
	l.mail.bell = make(chan struct{}, 1)
	l.noted = f.poison.Slot(id)
	for range ticketsALane {
		l.free <- newTicket(l)
	}
	return l
}

// loop works until work is closed. Records are handed over when they are full
// and whenever there is nothing else to do.
func (l *lane) loop(ctx context.Context) {
	defer l.forget(context.WithoutCancel(ctx), func(plugins.Plugin) bool { return false })
	for l.next(ctx) {
		l.readMail(ctx)
		if len(l.work)+len(l.soon) == 0 {
			l.flush()
		}
	}
}

// next works on a chunk or wakes for mail; false = there will be no more.
func (l *lane) next(ctx context.Context) bool {
	select {
	case c := <-l.soon:
		l.chunk(ctx, c)
		return true
	default:
	}
	select {
	case c := <-l.soon:
		l.chunk(ctx, c)
	case c, ok := <-l.work:
		if !ok {
			return false
		}
		l.chunk(ctx, c)
	case <-l.mail.bell:
	}
	return true
}

// queueOf is where the lane takes chunks of a source from.
func (l *lane) queueOf(s *source) chan<- *chunk {
	if s == l.f.derived.source {
		return l.soon
	}
	return l.work
}

// readMail goes on with what came back.
func (l *lane) readMail(ctx context.Context) {
	l.mail.mu.Lock()
	jobs, followers, orders := l.mail.jobs, l.mail.followers, l.mail.orders
	l.mail.jobs, l.mail.followers, l.mail.orders = l.readJobs[:0], l.readFollowers[:0], nil
	l.mail.mu.Unlock()
	for _, j := range jobs {
		l.ended(j)
	}
	for _, fw := range followers {
		l.resolve(ctx, fw)
	}
	for _, do := range orders {
		do(ctx)
	}
	clear(jobs)
	clear(followers)
	l.readJobs, l.readFollowers = jobs, followers
}

// order has something done by the lane's own goroutine, between batches.
func (l *lane) order(do func(context.Context)) {
	l.mail.mu.Lock()
	l.mail.orders = append(l.mail.orders, do)
	l.mail.mu.Unlock()
	l.ring()
}

// Done takes an ended delivery; it is called by dispatchers.
func (l *lane) Done(j *dispatch.Job) {
	l.mail.mu.Lock()
	l.mail.jobs = append(l.mail.jobs, j)
	l.mail.mu.Unlock()
	l.ring()
}

func (l *lane) follow(fw dedup.Follower[ref]) {
	l.mail.mu.Lock()
	l.mail.followers = append(l.mail.followers, fw)
	l.mail.mu.Unlock()
	l.ring()
}

func (l *lane) ring() {
	select {
	case l.mail.bell <- struct{}{}:
	default:
	}
}

// offer gives a delivery to a sink's dispatcher.
func (l *lane) offer(r ref, route uint32, sink int) {
	it := r.item()
	j := l.job(r, route, sink)
	data, headers, err := l.f.render(r, route, r.c.gen.ends[sink])
	var texts []string
	if err == nil {
		texts, err = l.texts(r, route, sink)
	}
	if err != nil {
		l.letter(r, letter{reason: "encode_failed", detail: err.Error(), route: route, sink: uint32(sink)})
		return
	}
	j.Entry.Data, j.Entry.Headers, j.Entry.Rendered = data, headers, texts
	it.pending++
	r.c.gen.ends[sink].dispatcher.Offer(j)
}

// prepare renders an event for a local sink.
func (l *lane) prepare(r ref, route uint32, sink int) {
	data, headers, err := l.f.render(r, route, r.c.gen.ends[sink])
	var texts []string
	if err == nil {
		texts, err = l.texts(r, route, sink)
	}
	if err != nil {
		l.letter(r, letter{reason: "encode_failed", detail: err.Error(), route: route, sink: uint32(sink)})
	}
	x := r.item().more()
	x.rendered = append(x.rendered, rendering{route: route, sink: sink, data: data, headers: headers, texts: texts, failed: err != nil})
}

func (l *lane) job(r ref, route uint32, sink int) *dispatch.Job {
	var j *dispatch.Job
	if n := len(l.jobs); n > 0 {
		j = l.jobs[n-1]
		l.jobs = l.jobs[:n-1]
		*j = dispatch.Job{}
	} else {
		j = &dispatch.Job{}
	}
	it := r.item()
	j.Owner, j.Ref, j.Index, j.Tag = l, r.c, r.i, uint64(route)<<32|uint64(sink)
	j.Key = it.key
	j.Entry.Key = r.c.keyBytes(it)
	j.Entry.ID = string(l.entryID(r, route))
	j.Entry.Route = l.routeName(r.c.gen, route)
	return j
}

func (l *lane) routeName(g *Generation, route uint32) string { return routeName(g, route) }

func routeName(g *Generation, route uint32) string {
	if route == journal.NoRoute {
		return "unmatched"
	}
	return g.routes[route].name
}

// entryID is the idempotency key of an event at a route: the same after a crash.
func (l *lane) entryID(r ref, route uint32) []byte {
	l.scratch = append(l.scratch[:0], r.c.id(r.item())...)
	l.scratch = append(l.scratch, '/')
	l.scratch = append(l.scratch, l.routeName(r.c.gen, route)...)
	return l.scratch
}

// ended takes a delivery back from its dispatcher.
func (l *lane) ended(j *dispatch.Job) {
	r := ref{j.Ref.(*chunk), j.Index}
	it := r.item()
	it.pending--
	route, sink := uint32(j.Tag>>32), uint32(j.Tag)
	if e := traceOf(it); e != nil {
		l.traceEnded(e, j, r.c.gen.ends[sink].name)
	}
	switch {
	case j.Outcome == journal.Dead:
		l.letter(r, letter{reason: reasonOf(j.Reason), detail: j.Reason, route: route, sink: sink, attempts: j.Attempts, rendered: j.Entry.Data})
	case j.Outcome == journal.Parked:
		l.note(r, journal.Note{Route: route, Sink: sink, Outcome: journal.Parked, Attempts: uint32(j.Attempts)})
		x := it.more()
		x.parked = append(x.parked, j)
		l.finish(r)
		return
	}
	l.jobs = append(l.jobs, j)
	l.finish(r)
}

// finish settles an event if nothing of it is under way and no earlier event of its
// key waits: records of one key stand in event order.
func (l *lane) finish(r ref) {
	it := r.item()
	queue, waits := l.held[it.key]
	switch {
	case !waits && it.pending == 0:
		l.write(r)
	case it.flags&flagHeld == 0:
		l.keep(r)
	case queue[0] == r:
		l.advance(it.key)
	}
}

// keep puts an event at the end of its key's line.
func (l *lane) keep(r ref) {
	it := r.item()
	it.flags |= flagHeld
	l.held[it.key] = append(l.held[it.key], r)
}

// advance goes on with the events of a key that were held, as far as they may: up to
// one with deliveries under way, or one that follows an event in flight.
func (l *lane) advance(key uint64) {
	queue := l.held[key]
	for len(queue) > 0 {
		head := queue[0]
		it := head.item()
		if it.flags&flagFollows != 0 {
			break
		}
		if it.flags&flagDeferred != 0 {
			it.flags &^= flagDeferred
			l.dispatch(head)
		}
		if it.pending > 0 {
			break
		}
		queue = queue[1:]
		it.flags &^= flagHeld
		l.write(head) // its chunk may be free after this
	}
	if len(queue) == 0 {
		delete(l.held, key)
		return
	}
	l.held[key] = queue
}

// hold says that the later events of a key must wait for one that follows an event in
// flight: it may have effects of its own, should it turn out to be an update or the
// first attempt fail (I7).
func (l *lane) hold(r ref) bool {
	it := r.item()
	if it.flags&flagMayUpdate == 0 && !r.c.source.nacks {
		return false
	}
	it.flags |= flagFollows
	l.following++
	return true
}

// unhold takes an event out of its key's order, if it stands there.
func (l *lane) unhold(r ref) {
	it := r.item()
	if it.flags&flagHeld == 0 {
		return
	}
	it.flags &^= flagHeld
	key := it.key
	queue := l.held[key]
	if i := slices.Index(queue, r); i >= 0 {
		l.held[key] = slices.Delete(queue, i, i+1)
	}
	if len(l.held[key]) == 0 {
		delete(l.held, key)
	}
}

// mustWait says that an earlier event of the key may still turn out to have effects.
func (l *lane) mustWait(r ref) bool {
	if l.following == 0 {
		return false // the usual case: a line may be as long as the in-flight limit
	}
	for _, earlier := range l.held[r.item().key] {
		if earlier == r {
			return false
		}
		if earlier.item().flags&flagFollows != 0 {
			return true
		}
	}
	return false
}

// resolve takes an event back that followed: it has a verdict of its own now.
func (l *lane) resolve(ctx context.Context, fw dedup.Follower[ref]) {
	it := fw.Ref.item()
	key, held := it.key, it.flags&flagFollows != 0
	it.flags &^= flagFollows | flagDeferred
	if held {
		l.following--
	}
	if held && !fw.Verdict.Holds() {
		l.unhold(fw.Ref) // it has no effects
	}
	if l.judged(fw.Ref, fw.Verdict, fw.Token) {
		l.adopt(fw.Ref.c.gen)
		l.batch = append(l.batch[:0], fw.Ref)
		l.goOnNoted(ctx)
	}
	if held {
		l.advance(key)
	}
}

// settle ends an event that a rule dropped.
func (l *lane) settle(r ref, outcome journal.Outcome, reason string) {
	it := r.item()
	it.outcome, it.reason = outcome, reason
	it.routeCount = 0
	l.write(r)
}

// bury ends an event in the dead letters.
func (l *lane) bury(r ref, outcome journal.Outcome, reason, detail string) {
	it := r.item()
	it.outcome, it.reason, it.routeCount = outcome, reason, 0
	it.flags &^= flagUnmatched
	l.letter(r, letter{reason: reason, detail: detail, route: journal.NoRoute, sink: journal.NoRoute})
	if it.pending == 0 {
		l.unhold(r)
		l.write(r) // not behind later events of its key, by which it would be judged anew after a crash
		return
	}
	l.finish(r)
}

// bytesText views bytes as a string for the length of a call.
func bytesText(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
