package flow

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/weir-project/weir/transports"
)

// Pauses before a source that returned an error is asked again.
const (
	againMin = 100 * time.Millisecond
	againMax = 5 * time.Second
)

// trouble is why a source gives nothing, and since when.
type trouble struct {
	why   string
	since time.Time
	next  time.Duration // the pause after the next error
}

// again waits until a source that returned an error may be asked again: every error is
// taken for one that the source gets over, but for those that say otherwise. It is
// called in the source's turn.
func (f *Flow) again(ctx context.Context, s *source, err error) bool {
	if s == f.derived.source || errors.Is(err, io.EOF) || errors.Is(err, transports.ErrFatal) || errors.Is(err, transports.ErrClosed) {
		return false
	}
	t := trouble{why: err.Error(), since: time.Now(), next: againMin}
	if before := s.trouble.Load(); before != nil {
		t.since, t.next = before.since, min(2*before.next, againMax)
	} else {
		f.cfg.Log.Warn("source failed: it is asked again until it works", "source", s.name, "error", err)
	}
	s.trouble.Store(&t)
	timer := time.NewTimer(t.next)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

// well notes that a source works.
func (f *Flow) well(s *source) {
	if s.trouble.Load() == nil {
		return
	}
	if t := s.trouble.Swap(nil); t != nil {
		f.cfg.Log.Info("source works again", "source", s.name, "after", time.Since(t.since))
	}
}

// waits is what a source waits for.
func (s *source) waits() []Wait {
	if t := s.trouble.Load(); t != nil {
		return []Wait{{What: "source " + s.name, For: "the other side", Why: t.why, Since: t.since}}
	}
	return nil
}
