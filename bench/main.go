// Bench measures Weir beside what a user would otherwise write or pick.
//
//	go run ./bench NAME... [--only case] [--seed N] [--quick] [--dir folder]
//
// Each case prints one line: name, figure, unit, the yardstick of the same run,
// the ratio, and the bar with ok or MISSED. The exit code is 1 when a bar was
// missed, 2 on wrong usage, 3 when a benchmark could not run.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/weir-project/weir/bench/dedup"
	"github.com/weir-project/weir/bench/http"
	"github.com/weir-project/weir/bench/journal"
	"github.com/weir-project/weir/bench/local"
	"github.com/weir-project/weir/bench/pipeline"
	"github.com/weir-project/weir/bench/reload"
	"github.com/weir-project/weir/bench/report"
	"github.com/weir-project/weir/bench/scan"
	"github.com/weir-project/weir/bench/yardstick"
)

// bench is one benchmark by name.
type bench struct {
	name    string
	durable bool // needs a disk
	run     func(report.Options) ([]report.Line, error)
}

var benches = []bench{
	{"scan", false, runScan},
	{"dedup", false, dedup.Run},
	{"local", true, runLocal},
	{"journal", true, journal.Run},
	{"pipeline", true, pipeline.Run},
	{"http", true, http.Run},
	{"observe", true, pipeline.Observe},
	{"reload", true, reload.Run},
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == yardstick.Hidden {
		if err := yardstick.Main(os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == http.Hidden {
		fmt.Fprintln(os.Stderr, http.Yardstick(os.Args[2:]))
		os.Exit(3)
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, out, diag io.Writer) int {
	chosen, o, err := parse(args, diag)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(diag, "bench:", err)
		}
		usage(diag)
		return 2
	}
	o.Log = diag
	code := 0
	for _, b := range chosen {
		lines, err := measure(b, o)
		for _, l := range lines {
			fmt.Fprintf(out, "%s: %s\n", b.name, l)
			if l.Missed() && code == 0 {
				code = 1
			}
		}
		if err != nil {
			fmt.Fprintf(diag, "bench: %s: %v\n", b.name, err)
			code = 3
		}
	}
	return code
}

// measure runs one benchmark after the lines that say where it runs.
func measure(b bench, o report.Options) ([]report.Line, error) {
	if b.durable {
		if err := report.RefuseMemory(o.Dir); err != nil {
			return nil, err
		}
	}
	sync, err := report.SyncLine(o.Dir)
	if err != nil {
		return nil, err
	}
	sync.Note = fmt.Sprintf("%s; %s %s/%s, %d cores", sync.Note, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0))
	lines, err := b.run(o)
	return append([]report.Line{sync}, lines...), err
}

func parse(args []string, diag io.Writer) ([]bench, report.Options, error) {
	o := report.Options{Dir: filepath.Join(os.TempDir(), "weir-bench")}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(diag)
	f.Usage = func() {}
	f.StringVar(&o.Only, "only", "", "")
	f.StringVar(&o.Dir, "dir", o.Dir, "")
	f.Uint64Var(&o.Seed, "seed", 1, "")
	f.BoolVar(&o.Quick, "quick", false, "")
	var chosen []bench
	for len(args) > 0 {
		if strings.HasPrefix(args[0], "-") {
			if err := f.Parse(args); err != nil {
				return nil, o, err
			}
			args = f.Args()
			continue
		}
		b, err := find(args[0])
		if err != nil {
			return nil, o, err
		}
		chosen = append(chosen, b...)
		args = args[1:]
	}
	if len(chosen) == 0 {
		return nil, o, errors.New("which benchmark?")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, o, err
	}
	o.Dir = dir
	return chosen, o, os.MkdirAll(dir, 0o700)
}

func find(name string) ([]bench, error) {
	if name == "all" {
		return benches, nil
	}
	for _, b := range benches {
		if b.name == name {
			return []bench{b}, nil
		}
	}
	return nil, fmt.Errorf("no benchmark %q", name)
}

func usage(w io.Writer) {
	names := []string{"all"}
	for _, b := range benches {
		names = append(names, b.name)
	}
	fmt.Fprintf(w, `usage: go run ./bench NAME... [flags]
  NAME         %s
  --only CASE  this case only; * and ? as in file names
  --seed N     of what is generated, default 1
  --quick      smaller and fewer, for a first look
  --dir DIR    for files, on a disk; default below the system's folder for temporary files
`, strings.Join(names, ", "))
}

// runScan tells the results of a package that keeps to itself.
func runScan(o report.Options) ([]report.Line, error) {
	so := scan.Options{Seed: o.Seed}
	if o.Quick {
		so.Pairs = 11
	}
	results, err := scan.Run(so)
	if err != nil {
		return nil, err
	}
	var lines []report.Line
	for _, r := range results {
		if !o.Wants(r.Case) {
			continue
		}
		l := report.Line{
			Name: r.Case, Figure: r.Scan / 1e9, Unit: "GB/s", Yardstick: r.Valid / 1e9, Ratio: r.Ratio,
			Note: fmt.Sprintf("%v an event; json.Valid; anchor: crc32 of the same bytes %.2f GB/s", r.PerScan, r.Anchor/1e9),
		}
		if r.Bar > 0 {
			l.Of, l.Bar, l.AtLeast = report.Ratio, r.Bar, true
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func runLocal(o report.Options) ([]report.Line, error) {
	all, err := local.Run(o.Dir, o.Quick)
	var lines []report.Line
	for _, l := range all {
		if o.Wants(l.Name) {
			lines = append(lines, l)
		}
	}
	return lines, err
}
