package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/dispatch"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/transports"
)

// The journal goes to the sinks of journal.to as CloudEvents, one a line:
//
//	id       weir.journal/IDENTITY-RECORD-ENTRY: the log's identity in hexadecimal, the ordinal of
//	         the record in it, the line's number in that: the same whenever it is sent again
//	source   /weir/journal
//	type     weir.journal, with a journal.Line as data; or weir.journal_gap, with
//	         {"from", "to"}: records that the journal let go before they were exported
//	time     of the commit
//
// Each sink has an exporter of its own beside the path. It reads what is durable, sends
// a batch, waits until it has arrived, and commits how far it is: a local sink's batch
// in the same commit, so that it stands there once. A sink that is down holds up its
// exporter only. Lines of events that are the journal's own are left out, so that an
// export that comes back in does not feed on itself.

// Types of exported events, and what their ids begin with.
const (
	JournalType    = "weir.journal"
	JournalGapType = "weir.journal_gap"
	journalIDs     = JournalType + "/"
)

// Limits of an exporter.
const (
	exportLines  = 256         // of a batch
	exportRetry  = time.Second // until a batch that could not be begun is tried again
	exportEvery  = time.Second // between looks whether journal.to has changed
	exportPoll   = 100 * time.Millisecond
	finishPoll   = 5 * time.Millisecond
	exportFinish = 5 * time.Second  // what exporters may take to catch up when the flow ends
	exportKeys   = 0x6a6f75726e616c // keeps keys of exports apart from those of events
)

// exporter sends the journal to one sink.
type exporter struct {
	f      *Flow
	sink   string
	reader *journal.Reader
}

// export runs an exporter for each sink of journal.to until ctx ends.
func (f *Flow) export(ctx context.Context) {
	running := map[string]context.CancelFunc{}
	var wait sync.WaitGroup
	defer wait.Wait()
	timer := time.NewTicker(exportEvery)
	defer timer.Stop()
	for {
		want := map[string]bool{}
		for _, name := range f.gen.Load().plan.Journal.To {
			want[name] = true
			if running[name] != nil {
				continue
			}
			var one context.Context
			one, running[name] = context.WithCancel(ctx)
			x := &exporter{f: f, sink: name}
			wait.Go(func() { x.run(one) })
		}
		for name, stop := range running {
			if !want[name] {
				stop()
				delete(running, name)
				f.exports.forget(name)
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return
		case <-timer.C:
		}
	}
}

// startExports begins to export; finish waits a while until all is exported that is
// durable when it is called, and ends.
func (f *Flow) startExports() (finish func()) {
	for _, name := range f.gen.Load().plan.Journal.To {
		// Before the first event, so that none is missed; an error comes again in run.
		_ = (&exporter{f: f, sink: name}).begin(f.life)
	}
	ctx, cancel := context.WithCancel(f.life)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.export(ctx)
	}()
	return func() {
		defer func() {
			cancel()
			<-done
		}()
		if len(f.gen.Load().plan.Journal.To) == 0 {
			return
		}
		limit := time.NewTimer(min(exportFinish, f.cfg.DrainLimit))
		defer limit.Stop()
		end := f.settledEnd()
		for !f.exportedUpTo(end) {
			select {
			case <-limit.C:
				f.cfg.Log.Warn("the journal's export has not caught up; it goes on at the next start")
				return
			case <-f.life.Done():
				return
			case <-time.After(finishPoll):
			}
		}
	}
}

// settledEnd is where the journal ends with all events that are settled now. The log
// tells of a group before the group can be read: two empty tickets later, it can.
func (f *Flow) settledEnd() uint64 {
	for range 2 {
		done := make(chan error, 1)
		if f.log.Submit(f.life, &commit.Ticket{Committed: func(err error) { done <- err }}) != nil || <-done != nil {
			break // the flow has failed, and nothing is exported any more
		}
	}
	return f.journal.End()
}

// exportedUpTo says whether all before an ordinal has arrived in all sinks of journal.to.
func (f *Flow) exportedUpTo(end uint64) bool {
	all := f.exports.status()
	for _, name := range f.gen.Load().plan.Journal.To {
		if st := all[name]; st.upTo < end {
			return false
		}
	}
	return true
}

// run exports until ctx ends.
func (x *exporter) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := x.begin(ctx)
		for err == nil {
			err = x.step(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		x.f.cfg.Log.Warn("export of the journal; it is tried again", "sink", x.sink, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(exportRetry):
		}
	}
}

// begin finds where the export goes on. One that never began begins with what is
// committed from now on.
func (x *exporter) begin(ctx context.Context) error {
	at, known := x.f.exports.position(x.sink)
	if !known {
		at = x.f.journal.End()
		if err := x.commit(ctx, &commit.Ticket{}, at); err != nil {
			return err
		}
	}
	x.reader = x.f.journal.Reader(at)
	x.f.exports.note(x.sink, func(st *ExportStatus) { st.Behind, st.upTo = x.behind(), at })
	return nil
}

func (x *exporter) behind() uint64 {
	end := x.f.journal.End()
	return end - min(end, x.reader.Position())
}

// step exports one batch, waiting for there to be one.
func (x *exporter) step(ctx context.Context) error {
	from := x.reader.Position()
	lines, err := x.reader.Read(ctx, exportLines)
	var entries []transports.Entry
	if errors.Is(err, segment.ErrDropped) {
		missed := x.reader.SkipDropped()
		x.f.cfg.Log.Warn("the journal let records go before they were exported", "sink", x.sink, "records", missed)
		x.f.exports.note(x.sink, func(st *ExportStatus) { st.Lost += missed })
		entries, err = append(entries, x.gap(from, x.reader.Position())), nil
	}
	if err != nil {
		return err
	}
	for _, l := range lines {
		if !strings.HasPrefix(l.ID, journalIDs) {
			entries = append(entries, x.entry(l))
		}
	}
	if len(entries) == 0 {
		x.f.exports.note(x.sink, func(st *ExportStatus) { st.Behind, st.upTo = x.behind(), x.reader.Position() })
		if x.behind() > 0 {
			return nil
		}
		return x.reader.Wait(ctx)
	}
	x.f.exports.note(x.sink, func(st *ExportStatus) { st.Since, st.Behind = time.Now(), x.behind() })
	for err = x.send(ctx, entries); errors.Is(err, errSendAgain); err = x.send(ctx, entries) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(exportPoll):
		}
	}
	if err != nil {
		return err
	}
	x.f.exports.note(x.sink, func(st *ExportStatus) {
		st.Exported, st.Since = st.Exported+uint64(len(entries)), time.Time{}
		st.Behind, st.upTo = x.behind(), x.reader.Position()
	})
	return nil
}

// entry is a line as an event.
func (x *exporter) entry(l *journal.Line) transports.Entry {
	id := fmt.Sprintf("%s%016x-%d-%d", journalIDs, x.f.journal.Identity(), l.Record, l.Entry)
	return x.event(id, JournalType, l.Time, l, l.ID)
}

func (x *exporter) gap(from, to uint64) transports.Entry {
	id := fmt.Sprintf("%s%016x-%d-gap", journalIDs, x.f.journal.Identity(), from)
	return x.event(id, JournalGapType, x.f.cfg.Now(), map[string]uint64{"from": from, "to": to}, "")
}

func (x *exporter) event(id, kind string, at time.Time, data any, key string) transports.Entry {
	b := append([]byte(nil), `{"specversion":"1.0","id":`...)
	b = appendJSON(b, id)
	b = append(b, `,"source":"/weir/journal","type":"`+kind+`","time":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","datacontenttype":"application/json","data":`...)
	text, _ := json.Marshal(data) // texts, numbers and times always marshal
	b = append(append(b, text...), '}')
	e := transports.Entry{ID: id, Data: b, Route: "journal", Attempt: 1}
	if key != "" {
		e.Key = []byte(key)
	}
	return e
}

// errSendAgain: the sink was replaced, or is full, or a reload waits.
var errSendAgain = errors.New("send again")

// send delivers a batch and commits how far the export is then. The generation is held
// meanwhile, so that its sinks stay.
func (x *exporter) send(ctx context.Context, entries []transports.Entry) error {
	f := x.f
	if f.stilling.Load() {
		return errSendAgain
	}
	f.swap.RLock()
	g, s := f.gen.Load(), f.ends.Load().sink(x.sink)
	g.enter(1)
	f.swap.RUnlock()
	defer f.through(g)
	if s == nil {
		return fmt.Errorf("there is no sink %s", x.sink)
	}
	batch := x.encoded(entries, s)
	if s.staged == nil {
		if err := x.dispatch(ctx, g, s, batch); err != nil {
			return err
		}
		return x.commit(ctx, &commit.Ticket{}, x.reader.Position())
	}
	run := commit.StagedRun{Stage: s.stage, Count: len(batch)}
	for i := range batch {
		run.Framed = s.staged.Frame(run.Framed, &batch[i])
	}
	if s.bounded != nil && s.bounded.Room() < int64(len(run.Framed)) {
		return errSendAgain
	}
	return x.commit(ctx, &commit.Ticket{Stages: []commit.StagedRun{run}}, x.reader.Position())
}

// encoded is a batch as the sink's codec wants it. What that cannot hold is left out
// and counted.
func (x *exporter) encoded(entries []transports.Entry, s *sink) []transports.Entry {
	if s.original {
		return entries
	}
	batch := make([]transports.Entry, 0, len(entries))
	for _, e := range entries {
		ev, err := event.Decode(e.Data, event.CodecOf(event.CloudEvents), event.Missing{}, event.Limits{Event: len(e.Data)})
		if err == nil {
			e.Data, err = event.Encode(nil, &ev, s.codec, event.Stamps{Processed: x.f.cfg.Now()})
		}
		if err != nil {
			x.refused(e.ID, err.Error())
			continue
		}
		batch = append(batch, e)
	}
	return batch
}

func (x *exporter) refused(id, why string) {
	x.f.exports.note(x.sink, func(st *ExportStatus) { st.Refused++ })
	x.f.cfg.Log.Warn("a line of the journal is not taken by its sink", "sink", x.sink, "id", id, "reason", why)
}

// dispatch delivers a batch by the sink's dispatcher and waits until all of it has
// arrived. Where the sink goes meanwhile, or a reload waits for what is in flight, the
// batch is to be sent again, with the same ids.
func (x *exporter) dispatch(ctx context.Context, g *Generation, s *sink, batch []transports.Entry) error {
	w := waiter{done: make(chan *dispatch.Job, len(batch))}
	for i := range batch {
		s.dispatcher.Offer(&dispatch.Job{Entry: batch[i], Key: xxh3.HashString(batch[i].ID) ^ exportKeys, Owner: w, Patient: true})
	}
	timer := time.NewTicker(exportPoll)
	defer timer.Stop()
	for left := len(batch); left > 0; {
		select {
		case j := <-w.done:
			left--
			if j.Outcome != journal.Delivered {
				x.refused(j.Entry.ID, j.Reason)
			}
		case <-timer.C:
			if g.old.Load() || x.f.stilling.Load() {
				return errSendAgain
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// commit makes durable that all before an ordinal is exported.
func (x *exporter) commit(ctx context.Context, t *commit.Ticket, ordinal uint64) error {
	to := journal.Exported{Sink: x.sink, Ordinal: ordinal}
	done := make(chan error, 1)
	t.Record = journal.AppendExported(nil, to)
	t.Committed = func(err error) {
		if err == nil {
			x.f.exports.replay(to)
		}
		done <- err
	}
	if err := x.f.log.Submit(ctx, t); err != nil {
		return err
	}
	return <-done // the log always tells
}
