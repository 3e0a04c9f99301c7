package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/admin"
	"github.com/weir-project/weir/engine/config"
)

// finding is what doctor saw at one place.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"` // ok, note, warning or fault
	Found string `json:"found"`
	Do    string `json:"do,omitempty"` // what to do about it
}

// States of findings.
const (
	stateOK      = "ok"
	stateNote    = "note"
	stateWarning = "warning"
	stateFault   = "fault"
)

// doctor collects findings about one configuration on this machine.
type doctor struct {
	plan     *config.Plan
	running  bool
	findings []finding
}

func (d *doctor) say(check, state, found, do string) {
	d.findings = append(d.findings, finding{check, state, found, do})
}

func (p *program) doctorCommand() *cobra.Command {
	var connect bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at this machine with the eyes of the configuration (exit 1 if something is wrong)",
		Long: "Look at what the configuration needs of this machine: the data folder and its rights,\n" +
			"room and speed of its disk, file limits, clocks, ports that it listens at, tools for\n" +
			"plug-ins; with --connect also its brokers. Each finding says what to do about it. It\n" +
			"writes one small file into the data folder and removes it. Exit 1 if something is wrong.",
		Args: cobra.NoArgs,
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			plan, err := p.load(cmd)
			if err != nil {
				return answer{}, err
			}
			d := &doctor{plan: plan}
			d.examine(ctx)
			all, mistakes := makeEnds(plan, p.transports)
			for _, m := range append(mistakes, all.look(plan)...) {
				d.say(m.Path, stateWarning, m.Error, m.Hint)
			}
			if connect {
				d.brokers(all.connect(ctx))
			}
			wrong := slices.ContainsFunc(d.findings, func(f finding) bool { return f.State == stateFault })
			return answer{result: d.findings, no: wrong, text: func(w io.Writer) { p.printFindings(w, d.findings) }}, nil
		}),
	}
	cmd.Flags().BoolVar(&connect, "connect", false, "also try what is reached over a network")
	return cmd
}

func (p *program) printFindings(w io.Writer, all []finding) {
	wide := 0
	for _, f := range all {
		wide = max(wide, len(f.Check))
	}
	for _, f := range all {
		fmt.Fprintf(w, "%-8s %-*s  %s\n", f.State, wide, f.Check, f.Found)
		if f.Do != "" {
			fmt.Fprintf(w, "%-8s %-*s  -> %s\n", "", wide, "", f.Do)
		}
	}
}

func (d *doctor) examine(ctx context.Context) {
	d.instance(ctx)
	if d.folder() {
		d.room()
		d.speed()
	}
	d.files()
	d.memory()
	d.clocks()
	d.ports()
	d.tools()
}

// instance asks whether an engine runs on the data folder.
func (d *doctor) instance(ctx context.Context) {
	c, err := admin.DialSocket(ctx, d.plan.Node.Data)
	if err == nil {
		d.running = true
		_ = c.Close() // nothing was sent
		d.say("instance", stateNote, "one runs on "+d.plan.Node.Data, "")
		return
	}
	d.say("instance", stateOK, "none runs on "+d.plan.Node.Data, "")
}

// folder looks at the data folder; true = files can be made in it.
func (d *doctor) folder() bool {
	const check = "data folder"
	dir := d.plan.Node.Data
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent := filepath.Dir(dir)
		for !exists(parent) {
			parent = filepath.Dir(parent)
		}
		if probe, err := os.MkdirTemp(parent, ".weir-doctor-*"); err != nil {
			d.say(check, stateFault, fmt.Sprintf("%s is not there and cannot be made: %v", dir, reason(err)), "give this user the right to write in "+parent+", or set node.data")
		} else {
			_ = os.Remove(probe)
			d.say(check, stateOK, dir+" is not there yet; the first run makes it", "")
		}
		return false
	case err != nil:
		d.say(check, stateFault, reason(err).Error(), "set node.data to a folder that this user can read")
		return false
	case !info.IsDir():
		d.say(check, stateFault, dir+" is no folder", "set node.data to a folder")
		return false
	}
	f, err := os.CreateTemp(dir, ".weir-doctor-*")
	if err != nil {
		d.say(check, stateFault, fmt.Sprintf("nothing can be written to %s: %v", dir, reason(err)), "give this user the right to write there")
		return false
	}
	_ = errors.Join(f.Close(), os.Remove(f.Name()))
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		d.say(check, stateWarning, fmt.Sprintf("%s has mode %04o: others on this machine can look into it", dir, mode), "chmod 700 "+dir)
		return true
	}
	d.say(check, stateOK, dir, "")
	return true
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// reason is an error of the file system without the path.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// lowRoom is below what free room a warning is due: room for snapshots and queues.
const lowRoom = 1 << 30

func (d *doctor) room() {
	free, kind, ok := diskOf(d.plan.Node.Data)
	if !ok {
		d.say("disk", stateNote, "how much is free cannot be told on this system", "")
		return
	}
	used, _ := folderSize(d.plan.Node.Data) // what cannot be read counts as nothing
	limits := d.plan.Node.Limits
	limit := limits.Disk
	found := fmt.Sprintf("%s free, %s in use, limit %s", bytesText(free), bytesText(used), bytesText(limit))
	switch {
	case free < lowRoom:
		d.say("disk", stateFault, found, "make room: when a write fails nothing is acked any more and the engine stops")
	case free < limit-used:
		d.say("disk", stateWarning, found, "the disk is full before node.limits.disk is reached: lower that, or make room")
	default:
		d.say("disk", stateOK, found, "")
	}
	switch kind {
	case "tmpfs", "ramfs":
		d.say("file system", stateFault, kind+": it is gone after a restart of the machine", "set node.data to a folder on a disk")
	case "nfs", "cifs", "fuse":
		d.say("file system", stateWarning, kind+": locks and fsync over a network are as good as the server", "a local disk is faster, and keeps what it says")
	case "":
	default:
		d.say("file system", stateOK, kind, "")
	}
}

func folderSize(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// Bounds of what a sync may take.
const (
	syncs    = 25
	slowSync = 20 * time.Millisecond
	fakeSync = 5 * time.Microsecond
)

// speed measures what each group commit waits for.
func (d *doctor) speed() {
	median, worst, err := syncTime(d.plan.Node.Data)
	if err != nil {
		d.say("fsync", stateFault, err.Error(), "a disk that cannot sync keeps no promise: look at the system's log")
		return
	}
	found := fmt.Sprintf("%v, at worst %v of %d", median.Round(time.Microsecond), worst.Round(time.Microsecond), syncs)
	switch {
	case median > slowSync:
		d.say("fsync", stateWarning, found, "each group of events waits so long before it is acked; throughput stays, latency suffers")
	case median < fakeSync:
		d.say("fsync", stateWarning, found, "no disk is that fast: is it in memory, or are syncs turned off?")
	default:
		d.say("fsync", stateOK, found, "")
	}
}

func syncTime(dir string) (median, worst time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".weir-doctor-*")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	page := make([]byte, 4096)
	var times []time.Duration
	for range syncs {
		if _, err := f.Write(page); err != nil {
			return 0, 0, err
		}
		begun := time.Now()
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		times = append(times, time.Since(begun))
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)-1], nil
}

// Files that an engine holds open besides those of its ends.
const (
	ownFiles = 64
	endFiles = 16 // at most, for most ends
)

func (d *doctor) files() {
	limit, ok := fileLimit()
	if !ok {
		return
	}
	needs := uint64(ownFiles + endFiles*(len(d.plan.Sources)+len(d.plan.Sinks)+1))
	found := fmt.Sprintf("%s may be open, about %d are needed", thousands(limit), needs)
	if limit < needs {
		d.say("files", stateFault, found, fmt.Sprintf("ulimit -n %d, or LimitNOFILE= in the service", max(4096, 2*needs)))
		return
	}
	d.say("files", stateOK, found, "")
}

func (d *doctor) memory() {
	cores := runtime.GOMAXPROCS(0)
	total, ok := memoryOf()
	if !ok {
		d.say("machine", stateOK, fmt.Sprintf("%d cores", cores), "")
		return
	}
	var window int64
	const idBytes = 40
	for _, s := range d.plan.Sources {
		if s.Dedup != nil {
			window += int64(s.Dedup.MaxIDs) * idBytes
		}
	}
	needs := window + d.plan.Node.Limits.InFlightBytes
	found := fmt.Sprintf("%d cores, %s of memory; full dedup windows and events in flight take %s", cores, bytesText(total), bytesText(needs))
	if needs > total/2 {
		d.say("machine", stateWarning, found, "lower dedup.max_ids or node.limits.in_flight_bytes")
		return
	}
	d.say("machine", stateOK, found, "")
}

func (d *doctor) clocks() {
	now := time.Now()
	if year := now.Year(); year < 2025 || year > 2100 {
		d.say("clock", stateFault, "it is "+now.UTC().Format(time.RFC3339)+" here", "set the clock: expiry and stamps go by it")
		return
	}
	switch synced, known := clockSynced(); {
	case known && !synced:
		d.say("clock", stateWarning, now.UTC().Format(time.RFC3339)+", not synchronised", "run chrony, ntpd or systemd-timesyncd: expiry and stamps go by this clock; order and de-duplication do not")
	default:
		d.say("clock", stateOK, now.UTC().Format(time.RFC3339), "")
	}
}

// ports tries what the configuration listens at.
func (d *doctor) ports() {
	addresses := map[string]string{"node.admin.listen": d.plan.Node.Admin.Listen}
	for _, s := range d.plan.Sources {
		addresses["sources."+s.Name] = s.Settings.String("listen")
	}
	for _, path := range slices.Sorted(maps.Keys(addresses)) {
		address := addresses[path]
		if address == "" {
			continue
		}
		if d.running {
			d.say(path, stateNote, address+" is not tried while an instance runs", "")
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			d.say(path, stateFault, fmt.Sprintf("%s: %v", address, lastCause(err)), "choose another port, or stop what listens there")
			continue
		}
		_ = l.Close()
		d.say(path, stateOK, address+" is free", "")
	}
}

// lastCause is the error at the end of a chain.
func lastCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func (d *doctor) brokers(all []connection) {
	for _, c := range all {
		switch {
		case !c.Tried:
		case c.OK:
			d.say(c.End, stateOK, c.text(), "")
		default:
			d.say(c.End, stateFault, c.Error, "is it up, is the address right, and may this user in?")
		}
	}
}

// toolchains are the languages of plug-ins with the tools that build them.
var toolchains = []struct {
	language string
	tools    []string
	how      string
}{
	{"Go", []string{"go"}, "https://go.dev/dl"},
	{"Rust", []string{"cargo", "rustc"}, "https://rustup.rs, then: rustup target add wasm32-unknown-unknown"},
	{"AssemblyScript", []string{"node", "npx"}, "Node.js, then: npm install assemblyscript"},
	{"C", []string{"clang", "wasm-ld"}, "clang and lld of your system"},
	{"Zig", []string{"zig"}, "https://ziglang.org/download"},
	{"Python (processes)", []string{"python3"}, "python3 of your system"},
}

// tools looks for what builds plug-ins. To run them none is needed.
func (d *doctor) tools() {
	for _, t := range toolchains {
		var missing []string
		for _, tool := range t.tools {
			if !installed(tool) {
				missing = append(missing, tool)
			}
		}
		if len(missing) > 0 {
			d.say("plug-ins", stateNote, t.language+": not here: "+strings.Join(missing, ", "), "to build some in "+t.language+": "+t.how)
			continue
		}
		d.say("plug-ins", stateOK, t.language+": "+strings.Join(t.tools, ", "), "")
	}
}

// installed finds a tool, also under a name with a version, as Debian has it.
func installed(tool string) bool {
	if _, err := exec.LookPath(tool); err == nil {
		return true
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if found, err := filepath.Glob(filepath.Join(dir, tool+"-[0-9]*")); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}
