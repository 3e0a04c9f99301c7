package flow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/vfs"
)

// disk watches the room that the data folder has: sources wait well before it is used
// up, so that what is in flight, snapshots and retention still find some.
type disk struct {
	limit int64
	used  atomic.Int64 // bytes of the data folder's files
	free  atomic.Int64 // bytes left on its device
	full  atomic.Int64 // since when sources wait, in nanoseconds since 1970; 0 = they do not
	blind atomic.Bool  // the last look failed

	taken atomic.Int64  // bytes received since the last look
	bell  chan struct{} // rung when so many were that it is time for a look
}

// Parts of the disk limit that are left free.
const (
	diskMargin  = 16        // this part of the limit, for what comes between two looks
	maxMargin   = 512 << 20 // bytes of it at most
	freeMargin  = 128 << 20 // bytes of it that are to be free on the disk, at most
	diskTaken   = 8         // so much of the margin may be received between two looks
	diskRelief  = 4         // sources go on when this part of the margin is free again
	snapshotsUp = 2         // snapshots that there is room for
	diskFiles   = 1 << 20   // of the data folder that are counted; more is an error
)

func (d *disk) margin() int64 { return min(d.limit/diskMargin, maxMargin) }

// kept is how many bytes of the limit must stay free.
func (d *disk) kept(snapshot int64) int64 { return d.margin() + snapshotsUp*snapshot }

// keptFree is how many bytes must stay free on the disk, which others use too.
func (d *disk) keptFree(snapshot int64) int64 {
	return min(d.margin(), freeMargin) + snapshotsUp*snapshot
}

// took counts what was received: a fast source must not fill the disk between looks.
func (d *disk) took(bytes int) {
	if d.taken.Add(int64(bytes)) < d.margin()/diskTaken {
		return
	}
	select {
	case d.bell <- struct{}{}:
	default:
	}
}

// look measures, and says whether sources must wait.
func (d *disk) look(f *Flow) {
	d.taken.Store(0)
	files := diskFiles
	used, err := usedBytes(f.cfg.FS, f.node.Data, &files)
	free, freeErr := f.cfg.FS.Free(f.node.Data)
	if err = errors.Join(err, freeErr); err != nil {
		if !d.blind.Swap(true) {
			f.cfg.Log.Warn("the room of the data folder could not be measured; node.limits.disk has no effect until it can", "error", err)
		}
		return
	}
	d.blind.Store(false)
	d.used.Store(used)
	d.free.Store(free)
	snapshot := f.log.SnapshotSize()
	room := min(d.limit-used-d.kept(snapshot), free-d.keptFree(snapshot))
	waiting := d.full.Load() != 0
	switch {
	case !waiting && room <= 0:
		d.full.Store(time.Now().UnixNano())
		f.cfg.Log.Warn("the data folder is nearly full: sources wait", "used", used, "limit", d.limit, "kept", d.kept(snapshot), "free_on_disk", free, "kept_on_disk", d.keptFree(snapshot))
	case waiting && room > d.margin()/diskRelief:
		d.full.Store(0)
		f.cfg.Log.Info("the data folder has room again: sources go on", "used", used, "limit", d.limit)
	}
}

// usedBytes adds up the files of a folder. Files that go meanwhile do not count.
func usedBytes(fsys vfs.FS, dir string, files *int) (sum int64, err error) {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if *files--; *files < 0 {
			return 0, fmt.Errorf("the data folder has more than %d files", diskFiles)
		}
		at := filepath.Join(dir, name)
		info, err := fsys.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return 0, err
		case info.Dir:
			below, err := usedBytes(fsys, at, files)
			if err != nil {
				return 0, err
			}
			sum += below
		default:
			sum += info.Size
		}
	}
	return sum, nil
}

// diskHasRoom waits while the data folder is nearly full; false when ctx is done. What
// is in the internal queue is on the disk already: it does not wait.
func (f *Flow) diskHasRoom(ctx context.Context, s *source) bool {
	for f.disk.full.Load() != 0 && s != f.derived.source {
		select {
		case <-time.After(fullPause):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// why says what a nearly full disk is short of.
func (d *disk) why(snapshot int64) string {
	if used := d.used.Load(); d.limit-used-d.kept(snapshot) <= d.free.Load()-d.keptFree(snapshot) {
		return fmt.Sprintf("node.limits.disk: %d of %d bytes are used, and %d are kept free", used, d.limit, d.kept(snapshot))
	}
	return fmt.Sprintf("%d bytes are left on the disk of the data folder, and %d are kept free", d.free.Load(), d.keptFree(snapshot))
}
