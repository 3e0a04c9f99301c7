package file

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// followRig is a following source over a file system in memory, in virtual time.
type followRig struct {
	*testing.T
	fsys   *vfs.Mem
	s      *source
	resume map[string]transports.Position
	parts  []string
}

const logPath = "/d/app.log"

var followSet = transports.Settings{"path": "app.log", "follow": true}

func follow(t *testing.T, settings transports.Settings, scenario func(r *followRig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &followRig{T: t, fsys: vfs.NewMem()}
		must(t, r.fsys.MkdirAll("/d"))
		r.start(settings)
		scenario(r)
		must(t, r.s.Close(context.Background()))
	})
}

func (r *followRig) start(settings transports.Settings) {
	if r.s != nil {
		must(r, r.s.Close(r.Context()))
	}
	src, err := New().NewSource(testEnv(r, r.fsys), settings)
	must(r, err)
	r.s = src.(*source)
	must(r, r.s.Open(r.Context(), r.resume, nil))
}

// want reads until nothing came for three seconds.
func (r *followRig) want(lines ...string) {
	r.Helper()
	if r.resume == nil {
		r.resume = map[string]transports.Position{}
	}
	var have []string
	for {
		c := transports.Chunk{Data: make([]byte, 0, 64)}
		must(r, r.s.ReceiveChunk(r.Context(), &c, 3*time.Second))
		if len(c.Data) == 0 {
			break
		}
		have = append(have, texts(split(&c))...)
		r.resume[c.Partition] = c.End
		if !slices.Contains(r.parts, c.Partition) {
			r.parts = append(r.parts, c.Partition)
		}
	}
	if !slices.Equal(have, lines) {
		r.Errorf("have %q, want %q", have, lines)
	}
}

func (r *followRig) append(text string)     { r.Helper(); add(r, r.fsys, logPath, text) }
func (r *followRig) rename(from, to string) { r.Helper(); must(r, r.fsys.Rename(from, to)) }
func (r *followRig) put(path, text string)  { r.Helper(); put(r, r.fsys, path, text) }
func (r *followRig) partitions(want int) {
	r.Helper()
	if len(r.parts) != want {
		r.Errorf("%d partitions, want %d: %v", len(r.parts), want, r.parts)
	}
}

func (r *followRig) truncate(path, text string) {
	r.Helper()
	f, err := r.fsys.Append(path)
	must(r, err)
	must(r, f.Truncate(0))
	_, err = f.Write([]byte(text))
	must(r, errors.Join(err, f.Close()))
}

func TestFollow(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings transports.Settings
		scenario func(r *followRig)
	}{
		{"waits for the file, growth and whole lines", followSet, func(r *followRig) {
			r.want()
			r.put(logPath, "one\ntw")
			r.want("one")
			r.append("o\n")
			r.want("two")
			r.append("three\n")
			r.want("three")
			r.partitions(1)
		}},
		{"rename: the old file first, then the new", followSet, func(r *followRig) {
			r.put(logPath, "one\n")
			r.want("one")
			r.rename(logPath, logPath+".1")
			r.put(logPath, "three\n")
			add(r, r.fsys, logPath+".1", "two\nrest")
			r.want("two", "rest", "three")
			r.partitions(2)
		}},
		{"a renamed file that is still written to is waited for", followSet, func(r *followRig) {
			r.put(logPath, "one\n")
			r.want("one")
			r.rename(logPath, logPath+".1")
			r.put(logPath, "three\n")
			add(r, r.fsys, logPath+".1", "be")
			for range 5 { // each pause is too short for the file to count as finished
				c := transports.Chunk{}
				must(r, r.s.ReceiveChunk(r.Context(), &c, rotateQuiet*3/4))
				if len(c.Data) > 0 {
					r.Errorf("have %q of a line that is being written", c.Data)
				}
				add(r, r.fsys, logPath+".1", ".")
			}
			add(r, r.fsys, logPath+".1", "low\n")
			r.want("be.....low", "three")
		}},
		{"two renames between looks keep the order of those seen", followSet, func(r *followRig) {
			r.put(logPath, "one\n")
			r.want("one")
			r.rename(logPath, logPath+".1")
			r.put(logPath, "two\n")
			r.want("two")
			r.rename(logPath, logPath+".2")
			r.put(logPath, "three\n")
			r.want("three")
			r.partitions(3)
		}},
		{"removed: what was read stays read, the new file comes", followSet, func(r *followRig) {
			r.put(logPath, "one\n")
			r.want("one")
			must(r, r.fsys.Remove(logPath))
			r.want()
			r.put(logPath, "two\n")
			r.want("two")
		}},
		{"copytruncate: smaller", followSet, func(r *followRig) {
			r.put(logPath, "one\ntwo\n")
			r.want("one", "two")
			r.truncate(logPath, "x\n")
			r.want("x")
			r.append("y\n")
			r.want("y")
			r.partitions(2)
		}},
		{"copytruncate: the same beginning is another partition", followSet, func(r *followRig) {
			r.put(logPath, "one\ntwo\n")
			r.want("one", "two")
			r.truncate(logPath, "")
			r.want()
			r.append("one\ntwo\n")
			r.want("one", "two")
			r.partitions(2)
		}},
		{"copytruncate: grown past the old end between looks", followSet, func(r *followRig) {
			r.put(logPath, "one\n")
			r.want("one")
			r.truncate(logPath, "other\nlines\n")
			r.want("other", "lines")
			r.partitions(2)
		}},
		{"pattern: files that come later, each a partition", transports.Settings{"path": "*.log", "follow": true}, func(r *followRig) {
			r.put("/d/a.log", "a1\n")
			r.want("a1")
			r.put("/d/b.log", "b1\n")
			r.want("b1")
			add(r, r.fsys, "/d/a.log", "a2\n")
			r.want("a2")
			r.partitions(2)
		}},
		{"pattern that matches the rotated file too", transports.Settings{"path": "app.log*", "follow": true}, func(r *followRig) {
			r.put(logPath, "one\n")
			r.want("one")
			r.rename(logPath, logPath+".1")
			r.put(logPath, "two\n")
			r.want("two")
			r.want()
			add(r, r.fsys, logPath+".1", "late\n")
			r.want("late")
			r.partitions(2)
		}},
		{"packed files are left alone", transports.Settings{"path": "app.log*", "follow": true}, func(r *followRig) {
			r.put(logPath+".gz", "\x1f\x8b rest of a packed file\n")
			r.put(logPath, "one\n")
			r.want("one")
		}},
		{"a line above the limit", followSet, func(r *followRig) {
			r.put(logPath, "one\n"+strings.Repeat("x", 5000))
			r.want("one")
			r.append(strings.Repeat("x", 5000) + "\ntwo\n")
			r.want(strings.Repeat("x", 1024), "two")
		}},
		{"restart: goes on where it was", followSet, func(r *followRig) {
			r.put(logPath, "one\n")
			r.want("one")
			r.append("two\n")
			r.start(followSet)
			r.want("two")
			r.partitions(1)
		}},
		{"restart: renamed while away", followSet, func(r *followRig) {
			r.put(logPath, "one\n")
			r.want("one")
			r.append("two\nrest")
			r.rename(logPath, logPath+".1")
			r.put(logPath, "three\n")
			r.start(followSet)
			r.want("two", "rest", "three")
			r.partitions(2)
			r.start(followSet)
			r.want()
		}},
		{"restart: emptied while away", followSet, func(r *followRig) {
			r.put(logPath, "one\ntwo\n")
			r.want("one", "two")
			r.truncate(logPath, "one\n")
			r.start(followSet)
			r.want("one")
			r.partitions(2)
			r.append("more\n")
			r.start(followSet)
			r.want("more")
			r.partitions(2)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { follow(t, c.settings, c.scenario) })
	}
}

func TestFollowIdlesCheaply(t *testing.T) {
	follow(t, followSet, func(r *followRig) {
		r.put(logPath, "one\n")
		r.want("one")
		faults := vfs.NewFaults(r.fsys, vfs.Fault{})
		r.s.env.FS = faults
		before := faults.Ops()
		c := transports.Chunk{Data: make([]byte, 0, 64)}
		must(r, r.s.ReceiveChunk(r.Context(), &c, time.Minute))
		// One look a second for names; reads of the open file are not counted here.
		if ops := faults.Ops() - before; ops > 4*60 {
			r.Errorf("%d calls in an idle minute", ops)
		}
	})
}

// I15: rotation for ever does not grow the source's memory.
func TestFollowForgetsOldPartitions(t *testing.T) {
	follow(t, followSet, func(r *followRig) {
		for i := range maxRemembered + 100 {
			r.put(logPath+".new", fmt.Sprintf("%d\n", i))
			r.rename(logPath+".new", logPath)
			for range 2 { // the line; then the old file's end
				c := transports.Chunk{Data: make([]byte, 0, 64)}
				must(r, r.s.ReceiveChunk(r.Context(), &c, rescan+rotateQuiet))
			}
		}
		if n := len(r.s.known); n > maxRemembered+10 || n < maxRemembered {
			r.Errorf("knows %d partitions", n)
		}
		if n := len(r.s.resume); n > maxRemembered+10 {
			r.Errorf("remembers %d positions", n)
		}
		if n := len(r.s.files); n > 2 {
			r.Errorf("has %d open files", n)
		}
		if n := len(r.s.follow.finished); n > 2 {
			r.Errorf("remembers %d finished files", n)
		}
	})
}

func TestCloseUnblocksReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		must(t, fsys.MkdirAll("/d"))
		s := openSource(t, testEnv(t, fsys), followSet, nil)
		done := make(chan error)
		receive := func(ctx context.Context) {
			c := transports.Chunk{}
			done <- s.ReceiveChunk(ctx, &c, time.Hour)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go receive(ctx)
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		go receive(t.Context())
		synctest.Wait()
		must(t, s.Close(t.Context()))
		if err := <-done; !errors.Is(err, transports.ErrClosed) {
			t.Errorf("closed: %v, want ErrClosed", err)
		}
		must(t, s.Close(t.Context()))
	})
}
