package faults_test

import (
	"bytes"
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
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
)

// patience is how long a test waits for a process to do what it must. It is more than
// ten times the 10 s of I16: only a hang gets there, and not a machine that is busy.
const patience = 2 * time.Minute

// program is the binary under test, built once.
var program struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if program.dir != "" {
		if err := os.RemoveAll(program.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// weirBinary builds cmd/weir.
func weirBinary(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		skip(t, "go tool")
	}
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "weir-faults"); program.err != nil {
			return
		}
		program.path = filepath.Join(program.dir, "weir")
		if out, err := exec.Command("go", "build", "-o", program.path, "../../cmd/weir").CombinedOutput(); err != nil {
			program.err = fmt.Errorf("build weir: %w\n%s", err, out)
		}
	})
	must(t, program.err)
	return program.path
}

// folder is a working folder in which the real binary runs: a process of its own,
// so that it can be killed.
type folder struct {
	t      *testing.T
	dir    string
	binary string
}

// text is what a process has said so far.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// process is a run of the binary.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr text
	ended          chan struct{}
	err            error
}

func newFolder(t *testing.T, yaml string) *folder {
	t.Helper()
	f := &folder{t: t, dir: t.TempDir(), binary: weirBinary(t)}
	must(t, os.WriteFile(f.path("weir.yaml"), []byte(yaml), 0o600))
	return f
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

// start runs the binary's run command.
func (f *folder) start(args ...string) *process {
	f.t.Helper()
	p := &process{cmd: exec.Command(f.binary, append([]string{"run", "-c", "weir.yaml"}, args...)...), ended: make(chan struct{})}
	p.cmd.Dir = f.dir
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	must(f.t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	f.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended unless the test failed
		<-p.ended
	})
	return p
}

// kill ends the process as a crash does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself, which the caller sees in code
	<-p.ended
}

// stop asks the process to stop and returns its exit code.
func (p *process) stop(t *testing.T) int {
	t.Helper()
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	return p.wait(t)
}

// over says whether it has ended.
func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.kill()
		t.Fatalf("it did not end within %v\n%s", patience, &p.stderr)
	}
	return p.code()
}

// awaitSaid waits until the process has said something on its standard error.
func (p *process) awaitSaid(t *testing.T, what string) {
	t.Helper()
	late, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(p.stderr.String(), what) {
		select {
		case <-tick.C:
		case <-p.ended:
			t.Fatalf("it ended without saying %q\n%s", what, &p.stderr)
		case <-late:
			t.Fatalf("it did not say %q within %v\n%s", what, patience, &p.stderr)
		}
	}
}

func (p *process) code() int {
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	if p.err != nil {
		return -1
	}
	return 0
}

// once runs until all that is there now is settled.
func (f *folder) once(args ...string) {
	f.t.Helper()
	p := f.start(append([]string{"--once"}, args...)...)
	if code := p.wait(f.t); code != 0 {
		f.t.Fatalf("weir run --once: exit code %d\n%s", code, &p.stderr)
	}
}

// append writes to a file of the folder.
func (f *folder) append(name string, data []byte) {
	f.t.Helper()
	file, err := os.OpenFile(f.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(f.t, err)
	_, err = file.Write(data)
	must(f.t, errors.Join(err, file.Close()))
}

// awaitFresh gives the running engine a new event and wants it at a file sink (I16).
func (f *folder) awaitFresh(l *faults.Ledger, in, sink, out string) {
	f.t.Helper()
	e := l.Issue("fresh", "T", sink)
	f.append(in, append(e.Data, '\n'))
	l.Oblige(e)
	f.awaitText(out, e.ID)
}

// awaitText waits until a file holds a text.
func (f *folder) awaitText(name, text string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(f.path(name))
		if err == nil && bytes.Contains(b, []byte(text)) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.t.Fatalf("%s did not come to %s within %v", text, name, patience)
		}
	}
}

func (f *folder) places(files, queues map[string]string) faults.Places {
	at := map[string]string{}
	for sink, name := range files {
		at[sink] = f.path(name)
	}
	return faults.Places{FS: vfs.OS{}, Data: f.path("data"), Files: at, Queues: queues, Dead: "dead"}
}
