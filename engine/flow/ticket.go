package flow

import (
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/transports"
)

// ticket collects what a lane hands to the commit log at once: the record of its
// settled events and the bytes that they put into local sinks. It is the lane's
// until Submit and again after committed.
type ticket struct {
	commit.Ticket
	lane    *lane
	writer  journal.Writer
	chunk   *chunk // of the open section
	refs    []ref  // the record's events, in order
	staged  int    // bytes
	stageOf []int  // by commit stage: 1 + index in Stages
	tokens  []dedup.Token
	follows []dedup.Follower[ref]
	routes  []uint64 // events by route of gen
	gen     *Generation
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
		l.open.begin(l.f.epoch)
	}
	return l.open
}

func (t *ticket) begin(epoch uint64) {
	t.writer.Begin(epoch, 0)
	t.chunk, t.staged = nil, 0
	clear(t.refs)
	t.refs = t.refs[:0]
	clear(t.stageOf)
	for i := range t.Stages {
		t.Stages[i].Framed, t.Stages[i].Count = t.Stages[i].Framed[:0], 0
	}
	t.Stages = t.Stages[:0]
}

// write makes an event part of the next record: its entry, and its bytes in the
// local sinks that it goes to.
func (l *lane) write(r ref) {
	it, c := r.item(), r.c
	if l.open != nil && l.open.chunk != nil && l.open.chunk.gen != c.gen {
		l.flush()
	}
	t := l.current()
	if t.chunk == nil {
		t.writer.Begin(l.f.epoch, c.gen.Number)
		t.gen = c.gen
		t.routes = append(t.routes[:0], make([]uint64, len(c.gen.routes))...)
	}
	if t.chunk != c {
		t.section(c)
	}
	l.stageAll(t, r)
	t.count(c, it)
	l.entryOf(r)
	t.writer.Entry(&l.record)
	t.refs = append(t.refs, r)
	if len(t.refs) >= ticketEvents || t.staged >= ticketStaged {
		l.flush()
	}
}

// count notes which routes take the event.
func (t *ticket) count(c *chunk, it *item) {
	for _, route := range c.routesOf(it) {
		t.routes[route]++
	}
}

func (t *ticket) section(c *chunk) {
	t.chunk = c
	low, ordinal := t.lane.f.positions.low(c)
	s := c.span
	t.writer.Section(&journal.Section{
		Source: c.source.name, Partition: c.Partition, Low: low, LowOrdinal: ordinal,
		First: s.first, End: s.end, Total: uint64(s.total), Start: s.start, Next: s.next,
	})
}

// entryOf fills the lane's journal entry.
func (l *lane) entryOf(r ref) {
	it, c := r.item(), r.c
	l.record = journal.Entry{
		Ordinal: it.ordinal, Sub: it.sub, Outcome: it.outcome,
		Identified: it.flags&flagIdentified != 0, Claimed: it.flags&flagClaimed != 0, HasVersion: it.flags&(flagVersion|flagClaimed) == flagVersion|flagClaimed,
		Hi: it.hi, Lo: it.lo, Data: it.data, Version: it.version, Key: it.key,
		ID: c.id(it), Reason: it.reason,
	}
	if it.routeCount > 0 {
		l.record.Routes = c.routesOf(it)
	}
	if it.extra != nil {
		l.record.Notes = it.extra.notes
	}
}

// stageAll puts an event's bytes where they take part in the commit: local sinks,
// park queues and dead letters.
func (l *lane) stageAll(t *ticket, r ref) {
	it, c := r.item(), r.c
	if it.routeCount > 0 || it.flags&flagUnmatched != 0 && it.outcome == journal.Unmatched {
		l.each(r, func(route uint32, sink int) {
			if s := l.f.sinks[sink]; s.staged != nil {
				l.stage(t, r, route, sink)
			}
		})
	}
	if it.extra == nil {
		return
	}
	for _, w := range it.extra.letters {
		l.stageLetter(t, r, &w)
	}
	for _, j := range it.extra.parked {
		s := l.f.sinks[uint32(j.Tag)]
		run := t.run(s.parkStage)
		run.Framed = s.park.FrameJob(run.Framed, j, l.f.letterContext(c, it, uint32(j.Tag>>32)))
		run.Count++
		l.jobs = append(l.jobs, j)
	}
	it.extra.parked = nil
}

// stage frames an event for a local sink.
func (l *lane) stage(t *ticket, r ref, route uint32, sink int) {
	s, it := l.f.sinks[sink], r.item()
	data, headers := r.c.raw(it), []transports.Header(nil)
	if !s.original {
		var err error
		if data, headers, err = l.f.render(r, s); err != nil {
			l.stageLetter(t, r, &letter{reason: "encode_failed", detail: err.Error(), route: route, sink: uint32(sink)})
			l.note(r, journal.Note{Route: route, Sink: uint32(sink), Outcome: journal.Dead, Reason: "encode_failed"})
			return
		}
	}
	l.entry = transports.Entry{
		ID: bytesText(l.entryID(r, route)), Key: r.c.keyBytes(it), Data: data, Headers: headers,
		Route: l.routeName(r.c.gen, route), Attempt: 1,
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
	if t == nil || len(t.refs) == 0 {
		return
	}
	l.open = nil
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

// committed runs on the commit log's goroutine once the record is durable: now the
// ids enter the window, positions move, and sources may be acked.
func (t *ticket) committed(err error) {
	f := t.lane.f
	if err != nil {
		f.fail(err)
		t.lane.free <- t
		return
	}
	for route, n := range t.routes {
		if n > 0 {
			f.routeCounts.addN(t.gen.routes[route].name, n)
		}
	}
	t.eachChunk(t.settle)
	t.lane.free <- t
}

// acknowledge settles the ticket's events with their sources only.
func (t *ticket) acknowledge() {
	t.eachChunk(func(c *chunk, refs []ref) { t.lane.f.settled(c, refs) })
}

func (t *ticket) eachChunk(do func(c *chunk, refs []ref)) {
	for from := 0; from < len(t.refs); {
		c := t.refs[from].c
		to := from + 1
		for to < len(t.refs) && t.refs[to].c == c {
			to++
		}
		do(c, t.refs[from:to])
		from = to
	}
}

func (t *ticket) settle(c *chunk, refs []ref) {
	f := t.lane.f
	t.tokens = t.tokens[:0]
	var counts [len(c.source.outcomes)]uint64
	for _, r := range refs {
		it := r.item()
		counts[it.outcome]++
		if it.flags&flagClaimed != 0 {
			t.tokens = append(t.tokens, it.token)
		}
	}
	if len(t.tokens) > 0 {
		t.follows = c.source.table.Commit(f.log.Now(), t.tokens, t.follows[:0])
		f.route(t.follows)
		clear(t.follows)
	}
	for o, n := range counts {
		if n > 0 {
			c.source.outcomes[o].Add(n)
		}
	}
	f.settled(c, refs)
	f.finished(c, len(refs))
}
