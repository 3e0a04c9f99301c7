package flow

import (
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/trace"
	"github.com/weir-project/weir/transports"
)

// ticket collects what a lane hands to the commit log at once: the record of its
// settled events and the bytes that they put into local sinks. It is the lane's
// until Submit and again after committed.
type ticket struct {
	commit.Ticket
	lane    *lane
	writer  journal.Writer
	parts   []part        // the record's sections, in order
	items   []uint32      // of all parts
	tokens  []dedup.Token // of all parts
	staged  int           // bytes
	stageOf []int         // by commit stage: 1 + index in Stages
	follows []dedup.Follower[ref]
	routes  []routed // those of gen that its events took
	traces  []*trace.Event
	gen     *Generation
}

// part is what a ticket holds of one chunk. What the commit needs to know of its
// events is noted while the lane has them at hand.
type part struct {
	span   *span
	items  int // in ticket.items, up to here
	tokens int // in ticket.tokens, up to here
	counts [journal.Discarded + 1]uint32
}

// routed counts the events that took a route. There may be far more routes than events
// in a record, so a record counts those only that occur in it.
type routed struct {
	route  uint32
	events uint64
}

func newTicket(l *lane) *ticket {
	t := &ticket{lane: l}
	t.Ticket.Committed = t.committed
	return t
}

// current is the ticket that is being filled.
func (l *lane) current() *ticket {
	if l.open == nil {
		l.open = <-l.free
		l.open.begin()
	}
	return l.open
}

// begin empties the ticket; its record begins with its first part.
func (t *ticket) begin() {
	t.staged, t.traces = 0, t.traces[:0]
	clear(t.parts)
	t.parts, t.items, t.tokens = t.parts[:0], t.items[:0], t.tokens[:0]
	clear(t.stageOf)
	for i := range t.Stages {
		t.Stages[i].Framed, t.Stages[i].Count = t.Stages[i].Framed[:0], 0
	}
	t.Stages, t.routes = t.Stages[:0], t.routes[:0]
}

// write makes an event part of the next record: its entry, and its bytes in the
// local sinks that it goes to.
func (l *lane) write(r ref) {
	it, c := r.item(), r.c
	if l.open != nil && len(l.open.parts) > 0 && l.open.gen != c.gen {
		l.flush()
	}
	t := l.current()
	p := t.part(c)
	l.stageAll(t, r)
	if rec := c.record(it); rec != nil {
		l.settledDerived(rec)
	}
	if it.extra != nil && l.allDied(r) {
		it.outcome = journal.Dead
	}
	if e := traceOf(it); e != nil {
		l.traceRecord(t, e, r)
	}
	l.entryOf(r)
	if taps := l.f.taps.Load(); taps != nil {
		l.tap(*taps, r)
	}
	t.writer.Entry(&l.record)
	t.items = append(t.items, r.i)
	p.items++
	p.counts[it.outcome]++
	if it.flags&flagClaimed != 0 {
		t.tokens = append(t.tokens, it.token)
		p.tokens++
	}
	for _, route := range c.routesOf(it) {
		t.took(route)
	}
	l.doneWith(c)
	if len(t.items) >= ticketEvents || t.staged >= ticketStaged {
		l.flush()
	}
}

// part is the open section if it is the chunk's, else a new one.
func (t *ticket) part(c *chunk) *part {
	n := len(t.parts)
	if n > 0 && t.parts[n-1].span == c.span {
		return &t.parts[n-1]
	}
	if n == 0 {
		t.writer.Begin(t.lane.f.epoch, c.gen.Number)
		t.gen = c.gen
		if n := len(c.gen.routes); len(t.lane.routedAt) < n {
			t.lane.routedAt = make([]uint32, n)
		}
	}
	t.section(c)
	t.parts = append(t.parts, part{span: c.span, items: len(t.items), tokens: len(t.tokens)})
	return &t.parts[n]
}

// took counts an event of a route.
func (t *ticket) took(route uint32) {
	at := &t.lane.routedAt[route]
	if *at == 0 {
		t.routes = append(t.routes, routed{route: route})
		*at = uint32(len(t.routes))
	}
	t.routes[*at-1].events++
}

func (t *ticket) section(c *chunk) {
	s := c.span
	low, ordinal := t.lane.f.positions.low(s)
	t.writer.Section(&journal.Section{
		Source: c.source.name, Partition: c.Partition, Low: low, LowOrdinal: ordinal,
		First: s.first, End: s.end, Total: uint64(s.total), Start: s.start, Next: s.next,
	})
}

// allDied says that an event had deliveries and that each of them is a dead letter.
func (l *lane) allDied(r ref) bool {
	it := r.item()
	if it.outcome != journal.Delivered && it.outcome != journal.Unmatched {
		return false
	}
	deliveries, dead := 0, 0
	l.each(r, func(route uint32, sink int) {
		deliveries++
		for _, n := range it.extra.notes {
			if n.Outcome == journal.Dead && n.Route == route && n.Sink == uint32(sink) {
				dead++
				return
			}
		}
	})
	return deliveries > 0 && dead == deliveries
}

// entryOf fills the lane's journal entry, field by field: it is the same one for
// every event, and a literal would be made beside it and copied.
func (l *lane) entryOf(r ref) {
	it, c, e := r.item(), r.c, &l.record
	e.Ordinal, e.Sub, e.Outcome = it.ordinal, it.sub, it.outcome
	e.Identified, e.Claimed = it.flags&flagIdentified != 0, it.flags&flagClaimed != 0
	e.HasVersion = it.flags&(flagVersion|flagClaimed) == flagVersion|flagClaimed
	e.Hi, e.Lo, e.Data, e.Version, e.Key = it.hi, it.lo, it.data, it.version, it.key
	e.ID, e.Reason, e.Routes, e.Taken, e.Notes = c.id(it), it.reason, nil, nil, nil
	if it.routeCount > 0 {
		e.Routes, e.Taken = c.routesOf(it), l.outputsOf(r)
	}
	if it.extra != nil {
		e.Notes = it.extra.notes
	}
}

// stageAll puts an event's bytes where they take part in the commit: local sinks,
// park queues and dead letters.
func (l *lane) stageAll(t *ticket, r ref) {
	it, c := r.item(), r.c
	if it.routeCount > 0 || it.flags&flagUnmatched != 0 && it.outcome == journal.Unmatched {
		l.each(r, func(route uint32, sink int) {
			if s := c.gen.ends[sink]; s.staged != nil {
				l.stage(t, r, route, sink)
			}
		})
	}
	if it.extra == nil {
		return
	}
	l.stageEmitted(t, it.extra)
	for _, w := range it.extra.letters {
		l.stageLetter(t, r, &w)
	}
	for _, j := range it.extra.parked {
		s := c.gen.ends[uint32(j.Tag)]
		run := t.run(s.parkStage)
		run.Framed = s.park.FrameJob(run.Framed, j, l.f.letterContext(c, it, uint32(j.Tag>>32)))
		run.Count++
		l.jobs = append(l.jobs, j)
	}
	it.extra.parked = nil
}

// stage frames an event for a local sink.
func (l *lane) stage(t *ticket, r ref, route uint32, sink int) {
	s, it := r.c.gen.ends[sink], r.item()
	data, headers := r.c.raw(it), []transports.Header(nil)
	var texts []string
	if !s.original || it.madeFor(route) != nil || r.c.gen.texts[sink] != nil {
		m := it.extra.renderingOf(route, sink)
		if m.failed {
			return
		}
		data, headers, texts = m.data, m.headers, m.texts
	}
	l.entry = transports.Entry{
		ID: bytesText(l.entryID(r, route)), Key: r.c.keyBytes(it), Data: data, Headers: headers,
		Route: l.routeName(r.c.gen, route), Attempt: 1, Rendered: texts,
	}
	run := t.run(s.stage)
	at := len(run.Framed)
	run.Framed = s.staged.Frame(run.Framed, &l.entry)
	run.Count++
	t.staged += len(run.Framed) - at
}

// run is the ticket's bytes for one commit stage.
func (t *ticket) run(stage int) *commit.StagedRun {
	for len(t.stageOf) <= stage {
		t.stageOf = append(t.stageOf, 0)
	}
	if t.stageOf[stage] == 0 {
		if n := len(t.Stages); n < cap(t.Stages) {
			t.Stages = t.Stages[:n+1] // keeps the bytes of the run that was here before
		} else {
			t.Stages = append(t.Stages, commit.StagedRun{})
		}
		t.Stages[len(t.Stages)-1].Stage = stage
		t.stageOf[stage] = len(t.Stages)
	}
	return &t.Stages[t.stageOf[stage]-1]
}

// flush hands the open ticket to the commit log. It waits while the log's queue is full.
func (l *lane) flush() {
	t := l.open
	if t == nil || len(t.items) == 0 {
		return
	}
	l.open = nil
	for _, r := range t.routes {
		l.routedAt[r.route] = 0
	}
	t.writer.End()
	t.Record = t.writer.Bytes
	if bugAckBeforeSync {
		t.acknowledge()
	}
	if err := l.f.log.Submit(l.f.life, &t.Ticket); err != nil {
		l.f.fail(err)
		l.free <- t // nothing of it is settled
	}
}

// committed runs on a goroutine of the commit log once the record is durable: now the
// ids enter the window, positions move, and sources may be acked.
func (t *ticket) committed(err error) {
	f := t.lane.f
	if err != nil {
		f.fail(err)
		t.lane.free <- t
		return
	}
	for _, r := range t.routes {
		f.routeCounts.addN(t.gen.routes[r.route].name, r.events)
	}
	t.traced()
	t.eachPart(t.settle)
	t.lane.free <- t
}

// acknowledge settles the ticket's events with their sources only.
func (t *ticket) acknowledge() {
	t.eachPart(func(p *part, items []uint32, _ []dedup.Token) { t.lane.f.settled(p.span, items) })
}

// eachPart calls do for every part, with its events and tokens.
func (t *ticket) eachPart(do func(p *part, items []uint32, tokens []dedup.Token)) {
	items, tokens := 0, 0
	for i := range t.parts {
		p := &t.parts[i]
		do(p, t.items[items:p.items], t.tokens[tokens:p.tokens])
		items, tokens = p.items, p.tokens
	}
}

func (t *ticket) settle(p *part, items []uint32, tokens []dedup.Token) {
	f, s := t.lane.f, p.span.source
	if len(tokens) > 0 {
		t.follows = s.table.Commit(f.log.Now(), tokens, t.follows[:0])
		f.route(t.follows)
		clear(t.follows)
	}
	for o, n := range p.counts {
		if n > 0 {
			s.outcomes[o].Add(uint64(n))
		}
	}
	s.measures.durable(p.span.came, len(items))
	f.settled(p.span, items)
	f.leave(t.gen, s, len(items))
}
