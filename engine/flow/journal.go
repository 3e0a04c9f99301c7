package flow

import (
	"context"

	"github.com/weir-project/weir/engine/journal"
)

// Journal reads what became of the events, up to what is durable. It may be called
// from any goroutine while the flow is open.
func (f *Flow) Journal() *journal.Journal { return f.journal }

// openJournal readies the journal of the log.
func (f *Flow) openJournal() (err error) {
	f.journal, err = journal.Open(journal.Config{Store: f.log, FS: f.cfg.FS, Dir: f.node.Data, Log: f.cfg.Log})
	return err
}

// keepJournal builds the journal's indexes beside the path until stop is called.
func (f *Flow) keepJournal() (stop func()) {
	ctx, cancel := context.WithCancel(f.life)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.journal.Keep(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}
