package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
)

// How Keep paces itself: indexes are a convenience and never get in the way of events.
const (
	keepEvery = time.Second     // between looks for a file that wants an index
	keepFirst = 3 * time.Second // before the first look
	restRatio = 15              // rest this many times as long as was worked
	hurryOver = 8               // with more files than this behind, rest restHurry times as long
	restHurry = 3
	stint     = 2 * time.Millisecond // of work between rests
)

// Keep builds the indexes of files that have none, one after the other and
// unhurried, and removes those of files that are gone, until ctx ends. Only the
// program that holds the data folder may run it. What fails is logged and tried again.
func (j *Journal) Keep(ctx context.Context) {
	timer := time.NewTimer(keepFirst)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := j.Build(ctx, true); err != nil && ctx.Err() == nil {
			j.cfg.Log.Warn("build the journal's indexes; look-ups read the log itself", "error", err)
		}
		timer.Reset(keepEvery)
	}
}

// Build makes the indexes that are missing or damaged and removes those of files
// that are gone. With rest it works for a twentieth of the time only.
func (j *Journal) Build(ctx context.Context, rest bool) error {
	missing, err := j.missing()
	if err != nil {
		return err
	}
	for i := range missing {
		if err := j.buildOne(ctx, &missing[i], pace{on: rest, behind: len(missing) - i}); err != nil && !gone(err) {
			return fmt.Errorf("journal index of segment %d: %w", missing[i].Number, err)
		}
	}
	return nil
}

// missing lists the files that want an index and removes indexes without a file.
func (j *Journal) missing() ([]part, error) {
	parts := j.parts()
	if len(parts) == 0 || !parts[0].sealed {
		return nil, nil // the disk is not asked for nothing
	}
	dir := filepath.Join(j.cfg.Dir, indexFolder)
	found, err := j.cfg.FS.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	var list []part
	for _, p := range parts {
		if !p.sealed {
			continue
		}
		name := filepath.Base(indexPath(j.cfg.Dir, p.Number))
		if k := slices.Index(found, name); k >= 0 {
			found = slices.Delete(found, k, k+1)
			x, err := j.index(&p)
			if x != nil {
				err = x.close()
			}
			if err != nil {
				return nil, err
			}
			if x != nil {
				continue
			}
		}
		list = append(list, p)
	}
	for _, name := range found {
		digits, ok := strings.CutSuffix(strings.TrimSuffix(name, tmpSuffix), indexSuffix)
		if _, err := strconv.ParseUint(digits, 10, 64); !ok || err != nil {
			continue
		}
		if err := j.cfg.FS.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return list, nil
}

// pace keeps work from taking more than its share of a core.
type pace struct {
	on     bool
	behind int
	since  time.Time
}

// rest is called between records.
func (p *pace) rest(ctx context.Context) error {
	worked := time.Since(p.since)
	if !p.on || worked < stint {
		return nil
	}
	ratio := restRatio
	if p.behind > hurryOver {
		ratio = restHurry
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(worked * time.Duration(ratio)):
	}
	p.since = time.Now()
	return nil
}

// buildOne reads a file and writes its index.
func (j *Journal) buildOne(ctx context.Context, p *part, pace pace) error {
	records, err := j.cfg.Store.Records(p.First)
	if err != nil {
		return err
	}
	b := newBuilder(j.cfg.Store.Identity(), p.Info, p.end)
	names := newNames()
	pace.since = time.Now()
	sequence := ^uint64(0)
	for {
		rec, err := records.Next()
		if errors.Is(err, segment.ErrCaughtUp) || err == nil && rec.Ordinal >= p.end {
			break
		}
		if err == nil {
			err = pace.rest(ctx)
		}
		if err == nil && rec.Sequence != sequence {
			sequence = rec.Sequence
			b.group(records.Group(), rec.Wall)
		}
		if err == nil {
			err = b.record(rec.Ordinal, rec.Data, names)
		}
		if err != nil {
			return errors.Join(err, records.Close())
		}
	}
	if err := records.Close(); err != nil {
		return err
	}
	return j.store(p.Number, b.finish())
}

// store writes a side file. It is not synced: what a crash leaves is made anew.
func (j *Journal) store(number uint64, x *index) error {
	if err := vfs.EnsureDir(j.cfg.FS, filepath.Join(j.cfg.Dir, indexFolder)); err != nil {
		return err
	}
	name := indexPath(j.cfg.Dir, number)
	f, err := j.cfg.FS.Create(name + tmpSuffix)
	if err != nil {
		return err
	}
	_, err = f.Write(x.encode())
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return j.cfg.FS.Rename(name+tmpSuffix, name)
}
