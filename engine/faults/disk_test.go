package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
)

const diskYAML = `
version: 1
node: {data: /w/data}
sources:
  in: {watched: {queue: in}, key: data.key}
routes:
  all: {to: [out, copy]}
sinks:
  out: {file: {path: out.ndjson}}
  copy: {local: {queue: copy}}
`

// watched is the memory transport, as a source that notes when acks came.
type watched struct {
	*memory.Transport
	mu   sync.Mutex
	acks []string
}

func (*watched) Name() string { return "watched" }

func (w *watched) NewSource(env transports.Env, s transports.Settings) (transports.Source, error) {
	under, err := w.Transport.NewSource(env, s)
	return &watchedSource{Source: under, w: w}, err
}

type watchedSource struct {
	transports.Source
	w *watched
}

func (s *watchedSource) Settle(ctx context.Context, list []transports.Settlement) []error {
	s.w.mu.Lock()
	for i := range list {
		if !list[i].Nack {
			s.w.acks = append(s.w.acks, list[i].ID)
		}
	}
	s.w.mu.Unlock()
	return s.Source.Settle(ctx, list)
}

func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acks)
}

// TestFailedDiskI4 fails one write or sync of each file while the engine works: from
// then on nothing is acked, Run ends with an error that names the file, and after
// the next start on a good disk all is there, once.
func TestFailedDiskI4(t *testing.T) {
	seed := seedOf(t)
	for _, c := range []struct {
		name string
		file string // part of the failing file's name
		op   string
		err  error
	}{
		{"EIO on a sync of the log", "/data/log/", "sync", syscall.EIO},
		{"EIO on a write of the log", "/data/log/", "write", syscall.EIO},
		{"EIO on a sync of a file sink", "/out.ndjson", "sync", syscall.EIO},
		{"ENOSPC on a write of a file sink", "/out.ndjson", "write", syscall.ENOSPC},
		{"EIO on a sync of a queue", "/queues/copy/segments/", "sync", syscall.EIO},
		{"ENOSPC on a write of a queue", "/queues/copy/segments/", "write", syscall.ENOSPC},
		{"ENOSPC on a write of the log", "/data/log/", "write", syscall.ENOSPC},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { failOnce(t, seed, c.file, c.op, c.err) })
		})
	}
}

// failAt makes the next such operation on such a file fail, once.
type failAt struct {
	vfs.FS
	file, op string
	err      error

	mu    sync.Mutex
	armed bool
	hit   string // the file that failed
}

type failFile struct {
	vfs.File
	f    *failAt
	name string
}

func (f *failAt) fails(op, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.armed || op != f.op || !strings.Contains(name, f.file) {
		return nil
	}
	f.armed, f.hit = false, name
	return &os.PathError{Op: op, Path: name, Err: f.err}
}

func (f *failAt) Create(name string) (vfs.File, error) { return f.wrap(name)(f.FS.Create(name)) }
func (f *failAt) Append(name string) (vfs.File, error) { return f.wrap(name)(f.FS.Append(name)) }

func (f *failAt) Overwrite(name string, at int64) (vfs.File, error) {
	return f.wrap(name)(f.FS.Overwrite(name, at))
}

func (f *failAt) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(file vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		return &failFile{file, f, name}, nil
	}
}

func (f *failFile) Write(p []byte) (int, error) {
	if err := f.f.fails("write", f.name); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f *failFile) Sync() error {
	if err := f.f.fails("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func failOnce(t *testing.T, seed uint64, file, op string, cause error) {
	l, disk, w := faults.NewLedger(seed), newDisk(t, nil), &watched{Transport: memory.New()}
	put := func(n int) {
		for i := range n {
			e := l.Issue(fmt.Sprintf("k%d", i%7), "T", "out", "copy")
			must(t, w.Queue("in").Put(transports.Entry{Data: e.Data}))
			l.Oblige(e)
		}
	}
	bad := &failAt{FS: disk, file: file, op: op, err: cause}
	e, err := (&rig{fs: bad, yaml: diskYAML, extra: []transports.Transport{w}, lanes: 2}).open()
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- e.Run(t.Context()) }()
	put(50)
	time.Sleep(quiet)
	before := w.count()
	if before != 50 {
		t.Fatalf("%d acks before the fault, want 50", before)
	}
	bad.mu.Lock()
	bad.armed = true
	bad.mu.Unlock()
	put(50)
	select {
	case err = <-done:
	case <-time.After(patience):
		t.Fatal("the engine runs on")
	}
	switch {
	case !errors.Is(err, cause):
		t.Errorf("Run returned %v, want %v in it", err, cause)
	case !strings.Contains(err.Error(), bad.hit):
		t.Errorf("Run returned %v, which does not name %s", err, bad.hit)
	}
	if after := w.count(); after != before {
		t.Errorf("%d acks after the disk failed", after-before)
	}
	// The memory queue is the broker: it gives again what was not acked.
	left := disk.Crash(seed)
	must(t, runQuietly(&rig{fs: left, yaml: diskYAML, extra: []transports.Transport{w}, lanes: 3}))
	must(t, verdict(l, faults.Places{
		FS: left, Data: "/w/data", Files: map[string]string{"out": "/w/out.ndjson"}, Queues: map[string]string{"copy": "copy"}, Dead: "dead",
	}))
}

// TestDiskFills runs the real binary on a small file system until that is full. Where
// that is faster than it looks at the room: exit code 3, an error that names a file; so
// at a start on a full disk. With a little room it starts, waits for more and says so;
// then the rest arrives.
func TestDiskFills(t *testing.T) {
	f := newFolder(t, `
version: 1
node: {data: ./small/data, lanes: 2, limits: {disk: 64MiB}}
sources:
  in: {file: {path: in.ndjson}, key: data.key}
routes:
  all: {to: [out, copy]}
sinks:
  out: {file: {path: small/out.ndjson}}
  copy: {local: {queue: copy}}
`)
	small := mount(t, f.path("small"), "5m")
	l := faults.NewLedger(seedOf(t))
	var in []byte
	for i := range 60_000 {
		e := l.Issue(fmt.Sprintf("k%d", i%50), "T", "out", "copy")
		in = append(append(in, e.Data...), '\n')
		l.Oblige(e)
	}
	f.append("in.ndjson", in)
	const nearlyFull = "the data folder is nearly full: sources wait"
	run := f.start()
	waitFor(t, "the end of the room", func() bool { return run.over() || strings.Contains(run.stderr.String(), nearlyFull) })
	if run.over() {
		if code := run.wait(t); code != 3 {
			t.Errorf("exit code %d with a full disk, want 3\n%s", code, &run.stderr)
		}
		if text := run.stderr.String(); !strings.Contains(text, "no space left on device") || !strings.Contains(text, f.path("small")) {
			t.Errorf("the error names no file or no cause: %s", text)
		}
	} else {
		run.kill() // it has seen the end coming: another one takes the rest of the room
	}
	ballast := f.path("small/ballast")
	fillDisk(t, ballast)
	run = f.start()
	if code := run.wait(t); code != 3 {
		t.Errorf("exit code %d at a start on a full disk, want 3\n%s", code, &run.stderr)
	}
	must(t, os.Remove(ballast))
	small("8m")
	// What is in flight when it looks is small beside the room that it keeps.
	run = f.start("--once", "--node.limits.in_flight=500")
	run.awaitSaid(t, nearlyFull)
	small("128m")
	if code := run.wait(t); code != 0 {
		t.Errorf("exit code %d after a wait for room, want 0\n%s", code, &run.stderr)
	}
	must(t, verdict(l, faults.Places{
		FS: vfs.OS{}, Data: f.path("small/data"), Files: map[string]string{"out": f.path("small/out.ndjson")},
		Queues: map[string]string{"copy": "copy"}, Dead: "dead",
	}))
}

// fillDisk writes until there is no room.
func fillDisk(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	for b := make([]byte, 4096); err == nil; {
		_, err = f.Write(b)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// mount puts a file system in memory on a new folder; the function it returns
// gives it another size.
func mount(t *testing.T, dir, size string) func(size string) {
	t.Helper()
	if os.Getuid() != 0 {
		skipAlways(t, "root, to mount a small file system")
	}
	tool, err := exec.LookPath("mount")
	if err != nil {
		skipAlways(t, "mount")
	}
	must(t, os.MkdirAll(dir, 0o700))
	if out, err := exec.Command(tool, "-t", "tmpfs", "-o", "size="+size, "weir-faults", dir).CombinedOutput(); err != nil {
		skipAlways(t, fmt.Sprintf("right to mount a tmpfs (%v: %s)", err, strings.TrimSpace(string(out))))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", filepath.Clean(dir)).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return func(size string) {
		t.Helper()
		if out, err := exec.Command(tool, "-o", "remount,size="+size, dir).CombinedOutput(); err != nil {
			t.Fatalf("remount: %v: %s", err, out)
		}
	}
}
