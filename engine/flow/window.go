package flow

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/dedup"
	"github.com/weir-project/weir/engine/journal"
)

// Examine runs a sample through the generation that is at work, with what the windows
// know now. It changes nothing. It may be called from any goroutine.
func (f *Flow) Examine(ctx context.Context, in Sample) ([]Examination, error) {
	f.swap.RLock()
	g := f.gen.Load()
	g.enter(1) // its plug-ins stay open meanwhile
	f.swap.RUnlock()
	defer g.left(1)
	return g.Examine(ctx, in, f.cfg.Now(), f.window)
}

// Generation is the one at work.
func (f *Flow) Generation() *Generation { return f.gen.Load() }

// window asks a source's window.
func (f *Flow) window(p *config.Source, x *Examination) (st dedup.State, known bool, note string) {
	s := f.ends.Load().source(p.Name)
	if s == nil || s.table == nil {
		return st, false, "the source is not at work"
	}
	now := f.log.Now()
	st = s.table.Look(now, x.Hi, x.Lo)
	switch {
	case st.InFlight && st.Followers > 0:
		note = fmt.Sprintf("an event of this identity is in flight, and %d more wait for it", st.Followers)
	case st.InFlight:
		note = "an event of this identity is in flight"
	case st.Committed:
		age := now - st.At
		note = fmt.Sprintf("the window knows it since %v and for %v more", age.Round(time.Second), max(0, p.Dedup.Window-age).Round(time.Second))
		if st.Version > 0 {
			note += fmt.Sprintf(", version %d", st.Version)
		}
	default:
		note = "the window does not know it"
	}
	return st, true, note
}

// JournalWindow answers for windows from the journal, where no engine runs: what was
// committed within the window's time is known. Engine time stands still with the
// engine, so "now" is the journal's end.
func JournalWindow(ctx context.Context, j *journal.Journal) Window {
	return func(p *config.Source, x *Examination) (st dedup.State, known bool, note string) {
		now, err := j.EngineTime(ctx)
		var l *journal.Line
		if err == nil {
			q := journal.Query{Source: p.Name, Hi: x.Hi, Lo: x.Lo, Claimed: true, Limit: 1, After: max(0, now-p.Dedup.Window)}
			if len(p.Dedup.ID) == 0 {
				q.ID = x.ID // identities of source and id are found by the index
			}
			var list []*journal.Line
			if list, err = j.All(ctx, q); len(list) > 0 {
				l = list[0]
			}
		}
		switch {
		case err != nil:
			return st, false, "the journal cannot be read: " + err.Error()
		case l == nil:
			return st, true, "the journal has no such event within the window of " + p.Dedup.Window.String()
		}
		st.Committed, st.Data, st.At = true, l.Data, l.At
		if l.Version != nil {
			st.Version = uint32(*l.Version)
		}
		age := now - l.At
		return st, true, fmt.Sprintf("the window knows it since %s, for %v more once the engine runs", l.Time.Local().Format(time.DateTime), max(0, p.Dedup.Window-age).Round(time.Second))
	}
}
