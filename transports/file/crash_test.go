package file

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

var crashSeed = flag.Uint64("seed", 1, "seed of the crash tests")

const crashEntries = 40

// crashRun is what outlives a crash: the disk, and the mark of the commit log,
// which the engine makes durable before it calls Publish.
type crashRun struct {
	mem       *vfs.Mem
	committed transports.Mark
	rng       *rand.Rand
	settings  transports.Settings
}

// live runs the sink from the committed mark until all entries are committed
// or a fault stops it.
func (r *crashRun) live(t *testing.T, fsys vfs.FS) error {
	s, err := restoredSink(context.Background(), New(), testEnv(t, fsys), r.settings, r.committed)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close(context.Background()) }()
	for r.committed.Entries < crashEntries {
		next := r.committed.Entries
		for range 1 + r.rng.IntN(3) { // appends of one commit
			var framed []byte
			count := min(1+r.rng.IntN(3), crashEntries-int(next))
			for range count {
				framed = s.Frame(framed, &transports.Entry{Data: fmt.Appendf(nil, `{"entry":%d}`, next)})
				next++
			}
			if err := s.Append(framed, count); err != nil {
				return err
			}
		}
		m, err := s.Sync()
		if err != nil {
			return err
		}
		if r.rng.IntN(20) == 0 {
			return vfs.ErrCrashed // between the sink's fsync and the log's
		}
		r.committed = m
		if err := s.Publish(m); err != nil {
			return err
		}
	}
	return nil
}

// everything is the contents of all files of the sink, in order.
func everything(t *testing.T, fsys vfs.FS) string {
	t.Helper()
	names, err := fsys.List("/d/out")
	must(t, err)
	var all strings.Builder
	for _, name := range names { // rotated files carry their number; "live.x" sorts last
		all.WriteString(get(t, fsys, filepath.Join("/d/out", name)))
	}
	return all.String()
}

func wantEntries(before string) string {
	var all strings.Builder
	all.WriteString(before)
	for i := range crashEntries {
		fmt.Fprintf(&all, "{\"entry\":%d}\n", i)
	}
	return all.String()
}

// I5: over crashes at every operation of the disk, also of the recovery, each
// entry stands in the sink exactly once and what was there before is untouched.
func TestStagedSinkSurvivesEveryCrash(t *testing.T) {
	for name, c := range map[string]struct {
		settings transports.Settings
		before   string
	}{
		"plain":         {transports.Settings{"path": "out/live.x"}, ""},
		"onto old file": {transports.Settings{"path": "out/live.x"}, "old line\n"},
		"rotated":       {transports.Settings{"path": "out/live.x", "rotate_size": int64(64), "name": "f{number}"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			fresh := func(seed uint64) *crashRun {
				r := &crashRun{mem: vfs.NewMem(), rng: rand.New(rand.NewPCG(*crashSeed, seed)), settings: c.settings}
				if c.before != "" {
					put(t, r.mem, "/d/out/live.x", c.before)
					must(t, errors.Join(r.mem.SyncDir("/d"), r.mem.SyncDir("/")))
				}
				return r
			}
			learn := vfs.NewFaults(fresh(0).mem, vfs.Fault{})
			if err := fresh(0).live(t, learn); err != nil && !errors.Is(err, vfs.ErrCrashed) {
				t.Fatal(err)
			}
			crashes := 0
			for k := uint64(1); k <= max(learn.Ops(), 150); k++ {
				r := fresh(k)
				// The first life ends at operation k, later ones at random ones.
				for life, at := 0, k; ; life++ {
					if life > 200 {
						t.Fatalf("k %d: does not get on", k)
					}
					err := r.live(t, vfs.NewFaults(r.mem, vfs.Fault{At: at}))
					if err == nil {
						break
					}
					if !errors.Is(err, vfs.ErrCrashed) {
						t.Fatalf("seed %d, k %d, life %d: %v", *crashSeed, k, life, err)
					}
					crashes++
					r.mem = r.mem.Crash(r.rng.Uint64())
					at = 1 + uint64(r.rng.IntN(60))
				}
				if have, want := everything(t, r.mem), wantEntries(c.before); have != want {
					t.Fatalf("seed %d, k %d: have\n%s\nwant\n%s", *crashSeed, k, have, want)
				}
			}
			t.Logf("%d crashes", crashes)
		})
	}
}

// I4: after any failed call to the disk the sink takes nothing more, and the
// next start recovers.
func TestStagedSinkStopsAfterFault(t *testing.T) {
	set := transports.Settings{"path": "out/live.x", "rotate_size": int64(64), "name": "f{number}"}
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		for k := uint64(1); k < 120; k++ {
			r := &crashRun{mem: vfs.NewMem(), rng: rand.New(rand.NewPCG(*crashSeed, k)), settings: set}
			faults := vfs.NewFaults(r.mem, vfs.Fault{At: k, Err: fault})
			s, err := restoredSink(t.Context(), New(), testEnv(t, faults), set, transports.Mark{})
			if err == nil {
				err = pushUntilFault(s, r)
			}
			if err == nil {
				continue
			}
			if !errors.Is(err, fault) {
				t.Fatalf("k %d: %v does not say %v", k, err, fault)
			}
			if s != nil && s.broken != nil {
				if err := s.Append([]byte("more\n"), 1); !errors.Is(err, transports.ErrFatal) {
					t.Fatalf("k %d: append after a fault: %v", k, err)
				}
				if _, err := s.Sync(); !errors.Is(err, transports.ErrFatal) {
					t.Fatalf("k %d: sync after a fault: %v", k, err)
				}
			}
			for err := r.live(t, r.mem); err != nil; err = r.live(t, r.mem) {
				if !errors.Is(err, vfs.ErrCrashed) {
					t.Fatalf("k %d: after the fault: %v", k, err)
				}
			}
			if have, want := everything(t, r.mem), wantEntries(""); have != want {
				t.Fatalf("k %d: have\n%s\nwant\n%s", k, have, want)
			}
		}
	}
}

func pushUntilFault(s *sink, r *crashRun) error {
	for i := r.committed.Entries; i < 20; i++ {
		if err := s.Append(fmt.Appendf(nil, "{\"entry\":%d}\n", i), 1); err != nil {
			return err
		}
		m, err := s.Sync()
		if err != nil {
			return err
		}
		r.committed = m
		if err := s.Publish(m); err != nil {
			return err
		}
	}
	return nil
}

// What a crash leaves of names: the rotated files are numbered without a gap.
func TestRotatedNames(t *testing.T) {
	fsys := vfs.NewMem()
	env := testEnv(t, fsys)
	s := openSink(t, env, transports.Settings{"path": "out/a.ndjson", "rotate_size": int64(4), "name": "{stem}.{number}{ext}"}, transports.Mark{})
	for _, line := range []string{"one", "two", "three"} {
		must(t, s.Publish(stage(t, s, line)))
	}
	must(t, s.Close(t.Context()))
	names, err := fsys.List("/d/out")
	must(t, err)
	if want := []string{"a.000001.ndjson", "a.000002.ndjson", "a.000003.ndjson", "a.ndjson"}; !slices.Equal(names, want) {
		t.Errorf("names %v, want %v", names, want)
	}
}
