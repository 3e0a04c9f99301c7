package faults_test

import (
	"flag"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/faults"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
)

var seedFlag = flag.Uint64("seed", 0, "seed of randomised tests; 0 = a new one")

// seedOf returns the seed of a test's run and prints it.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (repeat with -seed %d)", seed, seed)
	return seed
}

// skip leaves a test out for want of what can be installed, by name; where all is
// required it fails.
func skip(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("WEIR_REQUIRE") == "all" {
		t.Fatalf("WEIR_REQUIRE=all, and there is no %s", what)
	}
	skipAlways(t, what)
}

// skipAlways leaves a test out for want of what a machine cannot be given, such as
// root and loop devices, also where all is required.
func skipAlways(t *testing.T, what string) {
	t.Helper()
	t.Skipf("SKIPPED %s: no %s", t.Name(), what)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is an engine in this process on any file system.
type rig struct {
	fs    vfs.FS
	yaml  string
	lanes int
	// extra are transports and plug-in hosts besides file and local.
	extra  []transports.Transport
	hosts  []plugins.Host
	chunk  int
	drain  time.Duration
	park   int64
	commit commit.Config
	log    *slog.Logger
}

// open makes the engine. Every engine gets transports of its own, as another
// process would.
func (r *rig) open() (*engine.Engine, error) {
	all := append([]transports.Transport{file.New(), local.New()}, r.extra...)
	var hosts []string
	for _, h := range r.hosts {
		hosts = append(hosts, h.Name())
	}
	plan, err := config.Load(config.Options{File: "/w/weir.yaml", Data: []byte(r.yaml), Transports: all, Hosts: hosts})
	if err != nil {
		return nil, err
	}
	plan.Node.Lanes = max(1, r.lanes)
	chunk, drain := r.chunk, r.drain
	if chunk == 0 {
		chunk = 1 << 10
	}
	if drain == 0 {
		drain = time.Second
	}
	return engine.New(engine.Config{
		Plan: plan, Transports: all, Plugins: r.hosts, FS: r.fs, ChunkBytes: chunk, DrainLimit: drain,
		ParkBytes: r.park, Commit: r.commit, Log: r.log, Seed: 1,
	})
}

// newDisk is a disk in memory with the folder /w and some files in it, all durable.
func newDisk(t *testing.T, files map[string][]byte) *vfs.Mem {
	t.Helper()
	mem := vfs.NewMem()
	must(t, mem.MkdirAll("/w"))
	for name, data := range files {
		write(t, mem, "/w/"+name, data)
	}
	must(t, mem.SyncDir("/"))
	must(t, mem.SyncDir("/w"))
	return mem
}

// write appends to a file and makes it durable.
func write(t *testing.T, fsys vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fsys.Append(name)
	must(t, err)
	_, err = f.Write(data)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

// verdict reads what came out of an engine and compares it with the ledger.
func verdict(l *faults.Ledger, p faults.Places, repeatsOK ...string) error {
	found, err := faults.Collect(p)
	if err != nil {
		return err
	}
	return l.Check(found, repeatsOK...).Err()
}
