package journal

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
)

// dropped is a log that retention has emptied since its bounds were asked for.
type dropped struct{ Store }

func (dropped) Records(from uint64) (*commit.Records, error) {
	return nil, fmt.Errorf("record %d: %w", from, segment.ErrDropped)
}

// TestFollowTellsWhatItMissed: a reader that is slower than retention is told, and not
// given the rest as if it were all. A query of what is held goes on.
func TestFollowTellsWhatItMissed(t *testing.T) {
	w := newWorld(t)
	defer w.close()
	w.fill(1)
	j, err := Open(Config{Store: dropped{w.log}, FS: vfs.NewMem(), Dir: "elsewhere"})
	must(t, err)
	none := func(l *Line) error { return fmt.Errorf("got %s", l.ID) }
	if err := j.FollowFrom(t.Context(), Query{}, 0, none); !errors.Is(err, segment.ErrDropped) {
		t.Errorf("follow: %v, want %v", err, segment.ErrDropped)
	}
	if _, err := j.Find(context.Background(), Query{}, none); err != nil {
		t.Errorf("find: %v", err)
	}
}
