package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/derive"
)

// runOptions are the flags of run.
type runOptions struct {
	once    bool
	watch   bool
	drain   time.Duration
	profile string
}

func (p *program) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the configuration until every source has ended or a signal comes",
		Long: "Run the configuration. It ends by itself when every source has ended and all is\n" +
			"settled. SIGINT or SIGTERM stop intake and wait for what is in flight; a second\n" +
			"signal quits at once, which loses nothing: what was not settled comes again.\n" +
			"SIGHUP reads the configuration anew and puts it to work while events flow.",
		Args: cobra.NoArgs,
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			load := func() (*config.Plan, error) {
				plan, err := p.load(cmd)
				if err != nil {
					return nil, err
				}
				if o.once {
					endFollowing(plan)
				}
				return plan, needsProgram(plan)
			}
			plan, err := load()
			if err != nil {
				return answer{}, err
			}
			stop, err := profileTo(o.profile)
			if err != nil {
				return answer{}, err
			}
			defer stop()
			return p.runPlan(ctx, plan, load, o, cmd.Flags().Changed("config"))
		}),
	}
	cmd.Flags().BoolVar(&o.once, "once", false, "end when what is there now is settled, also where sources would wait for more")
	cmd.Flags().BoolVar(&o.watch, "watch", false, "reload when a file of the configuration, or of a plug-in, has changed")
	cmd.Flags().DurationVar(&o.drain, "drain", 30*time.Second, "how long a stop waits for events in flight")
	cmd.Flags().StringVar(&o.profile, "cpuprofile", "", "write a CPU profile of the run to a file")
	return cmd
}

// runPlan runs a plan to its end and sums up.
func (p *program) runPlan(ctx context.Context, plan *config.Plan, load func() (*config.Plan, error), o runOptions, configGiven bool) (answer, error) {
	for _, m := range plan.Warnings {
		fmt.Fprintln(p.diag, p.paint(yellow, "warning: ")+m.String())
	}
	log := newLog(p.diag, plan.Node.Log)
	cfg := engine.Config{Plan: plan, Load: load, Transports: p.transports, Plugins: p.hosts, Log: log, DrainLimit: o.drain}
	traces, err := startTraces(&cfg)
	if err != nil {
		return answer{}, err
	}
	eng, err := engine.New(cfg)
	if err != nil {
		return answer{}, errors.Join(err, endTraces(traces))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer p.watchSignals(stop, o.drain)()
	watch := newWatch(eng.Status, p.progressTo())
	if o.once {
		watch.idle = stop
	}
	closeAdmin, err := p.serveAdmin(eng, log, traces)
	if err != nil {
		return answer{}, errors.Join(err, eng.Close(), endTraces(traces))
	}
	endReloads, err := p.reloads(eng, o.watch, log)
	if err != nil {
		return answer{}, errors.Join(err, closeAdmin(), eng.Close(), endTraces(traces))
	}
	start := time.Now()
	endWatch := watch.start()
	err = eng.Run(ctx)
	endWatch()
	endReloads()
	err = errors.Join(err, closeAdmin(), endTraces(traces))
	s := summarize(eng.Status(), time.Since(start))
	if err == nil {
		s.next = nextCommands(eng.Plan(), s, p.configFlag(configGiven))
	}
	if err != nil && s.Events == 0 {
		return answer{result: s}, err // it did nothing: an empty table would only hide why
	}
	return answer{result: s, text: s.print}, err
}

// profileTo begins a CPU profile; the function it returns ends it.
func profileTo(name string) (stop func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("cpu profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("cpu profile %s: %w", name, err), f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a profile that is cut short says so when it is read
	}, nil
}

// endFollowing turns waiting for more off where a source has such a setting.
func endFollowing(plan *config.Plan) {
	for _, s := range plan.Sources {
		if s.Settings.Bool("follow") {
			s.Settings["follow"] = false
		}
	}
}

// echoTime is how long after a signal another one counts as the same.
const echoTime = 300 * time.Millisecond

// watchSignals calls stop at the first signal and leaves at the second. The
// function it returns ends the watch.
func (p *program) watchSignals(stop context.CancelFunc, drain time.Duration) (end func()) {
	signals := make(chan os.Signal, 2)
	forget := p.signals(signals)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
			return
		case s := <-signals:
			fmt.Fprintf(p.diag, "weir: %v: stopping, at most %v; again to quit at once\n", s, drain)
			stop()
		}
		// timeout(1), make and the like pass a signal on that the process has got from the
		// terminal or the group as well: that is one wish, told twice.
		select {
		case <-done:
			return
		case <-time.After(echoTime):
		}
		for len(signals) > 0 {
			<-signals
		}
		select {
		case <-done:
		case <-signals:
			fmt.Fprintln(p.diag, "weir: quitting at once; what was not settled comes again at the next start")
			p.exit(exitEnvironment)
		}
	}()
	return func() {
		forget()
		close(done)
		<-ended
	}
}

// summarize adds up what the engine counted.
func summarize(st engine.Status, elapsed time.Duration) summary {
	s := summary{
		Seconds:     elapsed.Seconds(),
		InFlight:    uint64(max(st.InFlight, 0)),
		Outcomes:    map[string]uint64{},
		DeadLetters: st.DeadLetters,
		Routes:      []routeCount{},
		Parked:      map[string]uint64{},
	}
	for name, source := range st.Sources {
		s.Before += source.Before
		for outcome, n := range source.Outcomes {
			s.Outcomes[outcome] += n
			s.Events += n
			if name == derive.Name {
				s.Derived += n
			}
		}
	}
	if s.Seconds > 0 {
		s.PerSecond = float64(s.Events) / s.Seconds
	}
	for name, n := range st.Routes {
		s.Routes = append(s.Routes, routeCount{name, n})
	}
	slices.SortFunc(s.Routes, func(a, b routeCount) int { return strings.Compare(a.Name, b.Name) })
	for name, sink := range st.Sinks {
		if sink.Parked > 0 {
			s.Parked[name] = uint64(sink.Parked)
		}
	}
	if s.DeadLetters == nil {
		s.DeadLetters = map[string]uint64{}
	}
	return s
}

// configFlag repeats -c for commands that are suggested.
func (p *program) configFlag(given bool) string {
	if !given {
		return ""
	}
	return " -c " + p.configFile
}

// maxNext is how many commands a summary suggests.
const maxNext = 4

// nextCommands suggests how to look at where events went.
func nextCommands(plan *config.Plan, s summary, configFlag string) []string {
	var next []string
	sinks := slices.Clone(plan.Sinks)
	if len(s.DeadLetters) > 0 {
		sinks = append([]config.Sink{plan.DeadLetters.Sink}, sinks...)
	}
	for _, sink := range sinks {
		switch path, queue := sink.Settings.String("path"), sink.Settings.String("queue"); {
		case sink.Transport == "file" && path != "" && path != "-":
			next = append(next, "head -n 3 "+relative(path))
		case sink.Transport == "local" && queue != "":
			next = append(next, fmt.Sprintf("weir queue receive %s --max 3 --ack=false%s", queue, configFlag))
		}
	}
	return next[:min(len(next), maxNext)]
}

// relative shortens a path where it lies below the working directory.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(wd, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// progressTo is where progress is shown: nowhere with --json.
func (p *program) progressTo() progress {
	if p.json {
		return progress{w: io.Discard}
	}
	return progress{w: p.diag, terminal: isTerminal(p.diag)}
}
