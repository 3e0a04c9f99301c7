package commit

import (
	"errors"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
)

// TestTake: a held folder is nobody else's, an open log of it leaves the lock to its
// holder, and a hold that was given back opens nothing.
func TestTake(t *testing.T) {
	mem := vfs.NewMem()
	h, err := Take(mem, "data")
	must(t, err)
	if _, err := Take(mem, "data"); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("a second Take: %v", err)
	}
	l, err := Open(Config{FS: mem, Dir: "data", Hold: h}, nil, nil)
	must(t, err)
	must(t, l.Close(t.Context()))
	if _, err := Take(mem, "data"); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("Take after the log was closed: %v", err)
	}
	if _, err := Open(Config{FS: mem, Dir: "other", Hold: h}, nil, nil); err == nil {
		t.Error("a hold opened another folder")
	}
	must(t, h.Close())
	must(t, h.Close())
	if _, err := Open(Config{FS: mem, Dir: "data", Hold: h}, nil, nil); err == nil {
		t.Error("a hold that was given back opened the folder")
	}
	h, err = Take(mem, "data")
	must(t, err)
	must(t, h.Close())
}
