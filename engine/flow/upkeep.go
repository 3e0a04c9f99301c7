package flow

import (
	"context"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/transports"
)

// How often upkeep looks.
const (
	diskEvery      = 500 * time.Millisecond
	retentionEvery = time.Minute
)

// Bounds of how the log is cut into files and snapshots, so that retention can work.
const (
	journalFiles     = 8  // at least so many files make journal.max
	journalSnapshots = 4  // and so many snapshots are taken while it is written
	keepFiles        = 16 // files in journal.keep
	minSegment       = 1 << 20
	maxSegment       = 64 << 20
	minSnapshot      = 4 << 20
	maxSnapshot      = 256 << 20
)

// journalMax is the bound of the journal: half of the data folder's at most, so that
// there is room for queues and letters beside it.
func journalMax(p *config.Plan) int64 { return min(p.Journal.Max, p.Node.Limits.Disk/2) }

// retention is what is kept of the log for the journal.
func retention(p *config.Plan) commit.Retention {
	return commit.Retention{Keep: p.Journal.Keep, Max: journalMax(p)}
}

// lettersMax is the bound of the dead letters: a quarter of the data folder's at most.
func lettersMax(p *config.Plan) int64 { return min(p.DeadLetters.Max, p.Node.Limits.Disk/4) }

// sizes sets how the log is cut into files, where the program that embeds the engine
// has not.
func sizes(c commit.Config, p *config.Plan) commit.Config {
	most := journalMax(p)
	if c.SegmentBytes == 0 {
		c.SegmentBytes = min(max(most/journalFiles, minSegment), maxSegment)
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = min(max(most/journalSnapshots, minSnapshot), maxSnapshot)
	}
	if c.SegmentAge == 0 {
		c.SegmentAge = p.Journal.Keep / keepFiles
	}
	return c
}

// upkeep removes what is kept no longer and watches the disk, until stop is called. The
// disk is watched beside the other, which may write at a snapshot for long.
func (f *Flow) upkeep() (stop func()) {
	ctx, cancel := context.WithCancel(f.life)
	var wait sync.WaitGroup
	f.disk.look(f)
	wait.Go(func() { f.watchDisk(ctx) })
	wait.Go(func() { f.keepRetaining(ctx) })
	return func() {
		cancel()
		wait.Wait()
	}
}

// watchDisk looks at the disk now and then, and whenever much was received.
func (f *Flow) watchDisk(ctx context.Context) {
	every := time.NewTicker(diskEvery)
	defer every.Stop()
	for {
		select {
		case <-f.disk.bell:
			f.disk.look(f)
		case <-every.C:
			f.disk.look(f)
			f.saveSuspects()
		case <-ctx.Done():
			return
		}
	}
}

func (f *Flow) keepRetaining(ctx context.Context) {
	every := time.NewTicker(retentionEvery)
	defer every.Stop()
	for {
		f.retain(ctx)
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// retain drops what is too old or too much of journal and dead letters. Whatever fails
// here is tried again: events do not wait for it unless the disk gets full.
func (f *Flow) retain(ctx context.Context) {
	p := f.gen.Load().plan
	f.log.Retain(retention(p))
	if err := f.log.Upkeep(ctx); err != nil && ctx.Err() == nil {
		f.cfg.Log.Warn("the journal's oldest records could not be removed; tried again in a minute", "error", err)
	}
	s := f.ends.Load().sink(config.DeadLettersName)
	if s == nil {
		return
	}
	gone, err := s.retain(p.DeadLetters.Keep, lettersMax(p))
	if gone.Entries > 0 {
		f.lettersGone.Add(gone.Entries)
		f.cfg.Log.Warn("dead letters were dropped: dead_letters.keep and dead_letters.max",
			"letters", gone.Entries, "never_read", gone.Unread, "bytes", gone.Bytes, "keep", p.DeadLetters.Keep, "max", lettersMax(p))
	}
	if err != nil {
		f.cfg.Log.Warn("the oldest dead letters could not be dropped; tried again in a minute", "error", err)
	}
}

// retain lets a sink that can drop what is oldest do so, unless it is being closed.
func (s *sink) retain(keep time.Duration, max int64) (transports.Dropped, error) {
	s.tending.Lock()
	defer s.tending.Unlock()
	r, ok := s.end.(transports.Retaining)
	if !ok || s.shut {
		return transports.Dropped{}, nil
	}
	return r.Retain(keep, max)
}
