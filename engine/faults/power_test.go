//go:build unix

package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

var powerCuts = flag.Int("cuts", 4, "power cuts of TestI1I3PowerCut")

const powerYAML = `
version: 1
node: {data: data, lanes: 2, limits: {disk: 64MiB}}
sources:
  in: {counting: {}, key: data.key}
routes:
  all: {to: [out, copy]}
sinks:
  out: {file: {path: out.ndjson}}
  copy: {local: {queue: copy, segment: 64KiB}}
`

// counting is a transport whose source gives events with running numbers from a first
// one on, as fast as they are taken, and tells on the process's own output which ones
// it was acked for. Nothing of it is on the disk that is cut off.
type counting struct {
	first, last uint64 // last 0 = without end
}

func (*counting) Name() string                                { return "counting" }
func (*counting) Options() (source, sink []transports.Option) { return []transports.Option{}, nil }
func (*counting) NewSink(transports.Env, transports.Settings) (transports.Sink, error) {
	return nil, errors.New("there are no such sinks")
}

func (c *counting) NewSource(transports.Env, transports.Settings) (transports.Source, error) {
	return &countingSource{counting: c, next: c.first}, nil
}

type countingSource struct {
	*counting
	next uint64
}

func (*countingSource) Capabilities() transports.Capabilities {
	return transports.Capabilities{Positions: transports.KeptByBroker, Finite: true}
}
func (*countingSource) Close(context.Context) error { return nil }
func (*countingSource) Open(_ context.Context, _ map[string]transports.Position, l transports.Listener) error {
	l.Assigned("0")
	return nil
}

func (s *countingSource) Receive(ctx context.Context, max int, _ time.Duration) (list []transports.Delivery, err error) {
	for range min(max, 20) {
		if s.last > 0 && s.next >= s.last {
			return list, io.EOF
		}
		n := s.next
		s.next++
		data := fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/power","type":"T","data":{"key":"k%d","fill":%q}}`, n, n%7, strings.Repeat("f", int(n%200)))
		list = append(list, transports.Delivery{ID: strconv.FormatUint(n, 10), Partition: "0", Ordinal: n, Data: []byte(data), Attempt: 1})
	}
	return list, ctx.Err()
}

// Settle tells each ack in a line. What it returns for is settled and durable, or the
// engine breaks I3.
func (s *countingSource) Settle(_ context.Context, list []transports.Settlement) []error {
	var b []byte
	for _, st := range list {
		if !st.Nack && st.ID != "" {
			b = append(append(b, "acked "+st.ID...), '\n')
		}
	}
	if _, err := os.Stdout.Write(b); err != nil {
		panic(err) // nobody listens
	}
	return nil
}

// forgetful is a file system that does not sync: the control of the experiment.
type forgetful struct{ vfs.OS }

type forgetfulFile struct{ vfs.File }

func (forgetfulFile) Sync() error      { return nil }
func (forgetful) SyncDir(string) error { return nil }
func (forgetful) keep(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return forgetfulFile{f}, nil
}
func (f forgetful) Create(name string) (vfs.File, error) { return f.keep(f.OS.Create(name)) }
func (f forgetful) Append(name string) (vfs.File, error) { return f.keep(f.OS.Append(name)) }
func (f forgetful) Overwrite(name string, at int64) (vfs.File, error) {
	return f.keep(f.OS.Overwrite(name, at))
}

// The environment of the process that loses its power.
const (
	powerFolder = "WEIR_TEST_POWER_FOLDER"
	powerFirst  = "WEIR_TEST_POWER_FIRST"
	powerLast   = "WEIR_TEST_POWER_LAST"
	powerNoSync = "WEIR_TEST_POWER_NO_SYNC"
)

// TestPowerProcess is that process.
func TestPowerProcess(t *testing.T) {
	dir := os.Getenv(powerFolder)
	if dir == "" {
		t.Skip("it is started by TestI1I3PowerCut")
	}
	t.Chdir(dir)
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(os.Getenv(name), 10, 64)
		must(t, err)
		return n
	}
	cfg := engine.Config{File: "weir.yaml", Transports: []transports.Transport{file.New(), local.New(), &counting{first: number(powerFirst), last: number(powerLast)}}}
	if os.Getenv(powerNoSync) != "" {
		cfg.FS = forgetful{}
	}
	e, err := engine.New(cfg)
	must(t, err)
	must(t, e.Run(t.Context()))
}

// powered is such a process at work, and what it was acked for so far.
type powered struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu    sync.Mutex
	acked []uint64
	told  time.Time // when the last ack was read
	said  string    // what else the process has said
}

func startPowered(t *testing.T, dir string, first, last uint64, env ...string) *powered {
	t.Helper()
	p := &powered{cmd: exec.Command(os.Args[0], "-test.run", "^TestPowerProcess$", "-test.timeout", "5m"), ended: make(chan struct{})}
	p.cmd.Stderr = os.Stderr
	p.cmd.Env = append(append(os.Environ(), powerFolder+"="+dir, fmt.Sprint(powerFirst, "=", first), fmt.Sprint(powerLast, "=", last)), env...)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			id, isAck := strings.CutPrefix(lines.Text(), "acked ")
			n, err := strconv.ParseUint(id, 10, 64)
			p.mu.Lock()
			if isAck && err == nil {
				p.acked, p.told = append(p.acked, n), time.Now()
			} else {
				p.said += lines.Text() + "\n"
			}
			p.mu.Unlock()
		}
		_ = p.cmd.Wait() // it is killed, as a rule
	}()
	t.Cleanup(func() { p.end() })
	return p
}

func (p *powered) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.acked)
}

// stop halts the process and returns once it stands still.
func (p *powered) stop(t *testing.T) {
	t.Helper()
	must(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	waitFor(t, "the process to stand still", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		must(t, err)
		_, state, _ := strings.Cut(string(b), ") ")
		return strings.HasPrefix(state, "T")
	})
}

func (p *powered) end() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	late, tick := time.After(patience), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// loopDisk is an ext4 file system in a file.
type loopDisk struct {
	t     *testing.T
	image string
	dir   string
	loop  string
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// mountImage mounts an image; replaying the file system's journal is part of that.
func mountImage(t *testing.T, image, dir string) *loopDisk {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o700))
	d := &loopDisk{t: t, image: image, dir: dir}
	out, err := exec.Command("losetup", "--direct-io=on", "--show", "-f", image).CombinedOutput()
	if err != nil {
		skipAlways(t, fmt.Sprintf("loop device (%v: %s)", err, strings.TrimSpace(string(out))))
	}
	d.loop = strings.TrimSpace(string(out))
	if out, err := exec.Command("mount", "-t", "ext4", d.loop, dir).CombinedOutput(); err != nil {
		command(t, "losetup", "-d", d.loop)
		skipAlways(t, fmt.Sprintf("right to mount ext4 (%v: %s)", err, strings.TrimSpace(string(out))))
	}
	t.Cleanup(d.unmount)
	return d
}

func (d *loopDisk) unmount() {
	if d.loop == "" {
		return
	}
	command(d.t, "umount", "-l", d.dir)
	command(d.t, "losetup", "-d", d.loop)
	d.loop = ""
}

// TestI1I3PowerCut stops a process at work, takes the disk as it is at that moment,
// without what the system had not written yet, and starts on that: whatever was acked
// is there, once. The same without syncs loses acked events, so that it is known that
// the cut bites.
func TestI1I3PowerCut(t *testing.T) {
	if os.Getuid() != 0 {
		skipAlways(t, "root, to mount a disk")
	}
	for _, tool := range []string{"losetup", "mkfs.ext4", "mount", "umount", "cp"} {
		if _, err := exec.LookPath(tool); err != nil {
			skipAlways(t, tool)
		}
	}
	rng := rand.New(rand.NewPCG(seedOf(t), 0))
	for cut := range *powerCuts {
		acked, found := cutPower(t, rng, cut)
		if n := lost(acked, found); n > 0 {
			t.Errorf("cut %d: %d of %d acked events are lost", cut, n, len(acked))
		}
	}
	acked, found := cutPower(t, rng, *powerCuts, powerNoSync+"=1")
	if lost(acked, found) == 0 {
		t.Errorf("without syncs all %d acked events are there: the cut does not bite", len(acked))
	}
}

func lost(acked []uint64, found map[string]map[uint64]int) (n int) {
	for _, id := range acked {
		if found["out"][id] == 0 || found["copy"][id] == 0 {
			n++
		}
	}
	return n
}

// cutPower runs a process on a new disk, cuts, recovers on what was on the disk, and
// returns what was acked before the cut and how often each number stands in the sinks.
func cutPower(t *testing.T, rng *rand.Rand, cut int, env ...string) (acked []uint64, found map[string]map[uint64]int) {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "disk")
	command(t, "truncate", "-s", "96M", image)
	command(t, "mkfs.ext4", "-q", "-F", image)
	disk := mountImage(t, image, filepath.Join(dir, "mounted"))
	must(t, os.WriteFile(filepath.Join(disk.dir, "weir.yaml"), []byte(powerYAML), 0o600))
	command(t, "sync", "-f", disk.dir)

	p := startPowered(t, disk.dir, 0, 0, env...)
	enough := 500 + rng.IntN(15_000)
	waitFor(t, fmt.Sprint(enough, " acks"), func() bool { return p.count() >= enough })
	p.stop(t)
	waitFor(t, "the last acks to be read", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return time.Since(p.told) > 100*time.Millisecond
	})
	p.mu.Lock()
	acked = p.acked
	p.mu.Unlock()
	after := filepath.Join(dir, "after-cut")
	command(t, "cp", "--sparse=always", image, after)
	p.end()
	disk.unmount()
	must(t, os.Remove(image))

	left := mountImage(t, after, disk.dir) // paths are as they were
	if len(env) > 0 {
		return acked, count(t, left.dir, false) // it may not even start
	}
	const more = 50
	first := uint64(1 << 40)
	again := startPowered(t, left.dir, first, first+more)
	<-again.ended
	if n := again.count(); n != more {
		t.Fatalf("cut %d: %d of %d fresh events were acked after the recovery\n%s", cut, n, more, again.said)
	}
	found = count(t, left.dir, true)
	left.unmount()
	for sink, list := range found {
		for id, n := range list {
			if n != 1 || id < first && id > acked[len(acked)-1]+20_000 {
				t.Errorf("cut %d: the event %d stands %d times in %s", cut, id, n, sink)
			}
		}
	}
	return acked, found
}

// count says how often each number stands in the sinks; unless all must be whole, what
// cannot be read counts as lost.
func count(t *testing.T, dir string, whole bool) map[string]map[uint64]int {
	t.Helper()
	found := map[string]map[uint64]int{"out": {}, "copy": {}}
	note := func(sink string, data []byte) {
		var e struct{ ID string }
		if err := json.Unmarshal(data, &e); err != nil {
			if whole {
				t.Errorf("%s holds %.100q: %v", sink, data, err)
			}
			return
		}
		n, _ := strconv.ParseUint(e.ID, 10, 64)
		found[sink][n]++
	}
	lines, err := faults.WalkLines(vfs.OS{}, filepath.Join(dir, "out.ndjson"))
	if err != nil && whole {
		t.Error(err)
	}
	for _, line := range lines {
		note("out", line)
	}
	entries, err := faults.WalkQueue(vfs.OS{}, filepath.Join(dir, "data"), "copy")
	if err != nil && whole {
		t.Error(err)
	}
	for i := range entries {
		note("copy", entries[i].Data)
	}
	return found
}
