package faults_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
)

const refuseYAML = `
version: 1
node: {data: ./data, lanes: 2}
sources:
  in: {file: {path: in.ndjson, follow: true}, key: data.key}
routes:
  all: {to: [out, copy]}
sinks:
  out: {file: {path: out.ndjson}}
  copy: {local: {queue: copy}}
`

// refused runs the binary and wants it to refuse, with a code and texts in its error.
func (f *folder) refused(code int, texts ...string) {
	f.t.Helper()
	run := f.start()
	got := run.wait(f.t)
	if got != code {
		f.t.Errorf("exit code %d, want %d\n%s", got, code, &run.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(run.stderr.String(), text) {
			f.t.Errorf("the error does not say %q: %s", text, &run.stderr)
		}
	}
}

// issue appends events to the input and returns the first of them.
func (f *folder) issue(l *faults.Ledger, n int, sinks ...string) (first faults.Event) {
	f.t.Helper()
	var b []byte
	for i := range n {
		e := l.Issue(fmt.Sprintf("k%d", i%13), "T", sinks...)
		if i == 0 {
			first = e
		}
		b = append(append(b, e.Data...), '\n')
		l.Oblige(e)
	}
	f.append("in.ndjson", b)
	return first
}

// TestBadConfigurationI14: it does not start, all mistakes are told with their
// places, and nothing is made on disk.
func TestBadConfigurationI14(t *testing.T) {
	f := newFolder(t, strings.Replace(strings.Replace(refuseYAML, "[out, copy]", "[oot, copy]", 1), "follow", "folow", 1))
	before := f.names()
	f.refused(2, "weir.yaml:5:", "folow", "weir.yaml:7:", `"oot"`)
	if after := f.names(); after != before {
		t.Errorf("the folder held %s, and now %s", before, after)
	}
}

func (f *folder) names() string {
	f.t.Helper()
	var names []string
	must(f.t, filepath.WalkDir(f.dir, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	}))
	return strings.Join(names, " ")
}

// contents is every file with what it holds, but for the lock, which names its holder.
func (f *folder) contents() string {
	f.t.Helper()
	var all strings.Builder
	must(f.t, filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s %x\n", path, sha256.Sum256(b))
		return err
	}))
	return all.String()
}

// TestDamagedLog flips single bytes in groups of a data folder's log that are not the
// last: an alarm that names segment and offset, never a shorter log, and the folder
// is left as it is.
func TestDamagedLog(t *testing.T) {
	f := newFolder(t, refuseYAML)
	l := faults.NewLedger(seedOf(t))
	for range 3 {
		f.issue(l, 2000, "out", "copy")
		f.once()
	}
	groups, err := faults.Walk(vfs.OS{}, f.path("data/log"))
	must(t, err)
	if len(groups) < 4 {
		t.Fatalf("%d groups", len(groups))
	}
	newest := groups[len(groups)-1].Segment
	name := f.path(fmt.Sprintf("data/log/%020d.seg", newest))
	whole, err := os.ReadFile(name)
	must(t, err)
	tried := 0
	for i, g := range groups[:len(groups)-1] {
		if g.Segment != newest || i%max(1, len(groups)/6) != 0 {
			continue
		}
		tried++
		at := g.Offset + 57 // in the body
		if i%2 == 1 {
			at = g.Offset + 9 // in the header
		}
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		must(t, os.WriteFile(name, bad, 0o600))
		f.refused(3, filepath.Base(name), "damaged", fmt.Sprintf("byte %d", g.Offset))
		if left, err := os.ReadFile(name); err != nil || !bytes.Equal(left, bad) {
			t.Errorf("the damaged file was changed (%v)", err)
		}
	}
	if tried == 0 {
		t.Fatal("no group to damage in the newest file")
	}
	must(t, os.WriteFile(name, whole, 0o600))
	f.issue(l, 100, "out", "copy")
	f.once()
	must(t, verdict(l, f.places(map[string]string{"out": "out.ndjson"}, map[string]string{"copy": "copy"})))
}

// TestNewerFormatI14: a data folder of a newer program is refused by name and left alone.
func TestNewerFormatI14(t *testing.T) {
	f := newFolder(t, refuseYAML)
	l := faults.NewLedger(seedOf(t))
	f.issue(l, 100, "out", "copy")
	f.once()
	must(t, os.WriteFile(f.path("data/FORMAT"), []byte("weir-commit 2\n"), 0o600))
	before := f.contents()
	f.refused(3, "newer data format", "version 2", f.path("data"))
	if f.contents() != before {
		t.Error("the data folder of a newer program was changed")
	}
	must(t, os.WriteFile(f.path("data/FORMAT"), []byte("weir-commit 1\n"), 0o600))
	f.once()
	must(t, verdict(l, f.places(map[string]string{"out": "out.ndjson"}, map[string]string{"copy": "copy"})))
}

// TestSecondEngineI14: a second engine on a data folder in use is refused by name,
// and the first one, at work meanwhile, takes no harm.
func TestSecondEngineI14(t *testing.T) {
	f := newFolder(t, refuseYAML)
	l := faults.NewLedger(seedOf(t))
	f.issue(l, 1000, "out", "copy")
	first := f.start()
	for range 8 {
		f.issue(l, 2000, "out", "copy")
		f.refused(3, "held by process", f.path("data"))
	}
	f.awaitFreshAt(l)
	if code := first.stop(t); code != 0 {
		t.Fatalf("the first engine: exit code %d\n%s", code, &first.stderr)
	}
	f.once()
	must(t, verdict(l, f.places(map[string]string{"out": "out.ndjson"}, map[string]string{"copy": "copy"})))
}

// awaitFreshAt is awaitFresh for both sinks.
func (f *folder) awaitFreshAt(l *faults.Ledger) {
	f.t.Helper()
	e := l.Issue("fresh", "T", "out", "copy")
	f.append("in.ndjson", append(e.Data, '\n'))
	l.Oblige(e)
	f.awaitText("out.ndjson", e.ID)
}
