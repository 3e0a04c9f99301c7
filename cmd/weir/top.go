package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weir-project/weir/engine/admin"
	"github.com/weir-project/weir/engine/flow"
)

// Limits of top.
const (
	minEvery   = 10 * time.Millisecond
	maxSamples = 10_000 // that --json holds in memory
)

// sample is how an instance did between two looks at it.
type sample struct {
	At         time.Time    `json:"at"`
	Seconds    float64      `json:"seconds"` // between the looks
	Phase      string       `json:"phase"`
	Failure    string       `json:"failure,omitempty"`
	PerSecond  float64      `json:"events_per_second"` // settled
	InFlight   admin.Use    `json:"in_flight"`
	Commit     pace         `json:"commit"` // groups
	LaneQueues []admin.Lane `json:"lane_queues"`
	Sources    []sourcePace `json:"sources"`
	Sinks      []sinkPace   `json:"sinks"`
	Slowest    string       `json:"slowest_sink,omitempty"` // by mean time of a delivery
	Waits      []flow.Wait  `json:"waits"`
	DeadPerSec float64      `json:"dead_letters_per_second"`
}

// pace is how often something happened, and how long it took each time.
type pace struct {
	PerSecond float64 `json:"per_second"`
	Mean      float64 `json:"mean_seconds"`
}

// sourcePace is a source's part of a sample.
type sourcePace struct {
	Name     string  `json:"name"`
	Received float64 `json:"received_per_second"`
	Settled  float64 `json:"settled_per_second"`
	Latency  float64 `json:"mean_latency_seconds"` // from receipt to durable
	InFlight int64   `json:"in_flight"`
	Lag      *int64  `json:"lag,omitempty"`
	Ended    bool    `json:"ended"`
}

// sinkPace is a sink's part of a sample.
type sinkPace struct {
	Name      string  `json:"name"`
	Delivered float64 `json:"delivered_per_second"`
	Latency   float64 `json:"mean_latency_seconds"` // from the first offer to arrival; of local sinks the commit's
	Queue     int     `json:"queue"`
	Parked    int     `json:"parked"`
	State     string  `json:"state"`
}

// topOptions are the flags of top.
type topOptions struct {
	every time.Duration
	count int
}

func (p *program) topCommand() *cobra.Command {
	var f *instanceFlags
	var o topOptions
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch a running instance: rates, lag, queues, the slowest sink, what is blocked",
		Long: "Watch a running instance: at a terminal as a picture that is drawn anew, elsewhere as\n" +
			"a line each time. With --json it looks twice and prints what happened in between.\n" +
			"Ctrl-C ends it.",
		Args: cobra.NoArgs,
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			if o.every < minEvery || o.count < 0 || p.json && o.count > maxSamples {
				return answer{}, usageError{fmt.Errorf("--every must be at least %v, --count between 0 and %d", minEvery, maxSamples)}
			}
			c, err := p.connect(cmd, f)
			if err != nil {
				return answer{}, err
			}
			defer c.Close()
			ctx, stop := context.WithCancel(ctx)
			defer stop()
			defer p.stopAtSignal(stop)()
			if p.json {
				return p.topJSON(ctx, c, o)
			}
			return answer{}, p.top(ctx, c, o)
		}),
	}
	f = p.instanceFlags(cmd)
	cmd.Flags().DurationVar(&o.every, "every", time.Second, "time between two looks")
	cmd.Flags().IntVar(&o.count, "count", 0, "end after so many samples (default: never; with --json 1)")
	return cmd
}

// stopAtSignal calls stop at a signal; the function it returns ends that.
func (p *program) stopAtSignal(stop context.CancelFunc) (end func()) {
	signals := make(chan os.Signal, 1)
	forget := p.signals(signals)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-signals:
			stop()
		case <-done:
		}
	}()
	return func() {
		forget()
		close(done)
		<-ended
	}
}

// samples looks at the instance again and again and calls each with what happened,
// until each fails, ctx is done or count samples were taken (0 = no limit).
func samples(ctx context.Context, c *client, every time.Duration, count int, each func(*admin.Status, *sample) error) error {
	var last admin.Status
	if err := c.get(ctx, "/status", nil, &last); err != nil {
		return err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; count == 0 || n < count; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		var st admin.Status
		if err := c.get(ctx, "/status", nil, &st); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, admin.ErrNotRunning) {
				return fmt.Errorf("the instance has ended: %w", err)
			}
			return err
		}
		if err := each(&st, compareStatus(&last, &st)); err != nil {
			return err
		}
		last = st
	}
	return nil
}

func (p *program) topJSON(ctx context.Context, c *client, o topOptions) (answer, error) {
	list := []*sample{}
	err := samples(ctx, c, o.every, max(o.count, 1), func(_ *admin.Status, s *sample) error {
		list = append(list, s)
		return nil
	})
	return answer{result: list}, err
}

func (p *program) top(ctx context.Context, c *client, o topOptions) error {
	screen, ok := p.out.(*os.File)
	if !ok || !isTerminal(p.out) {
		return samples(ctx, c, o.every, o.count, func(_ *admin.Status, s *sample) error {
			fmt.Fprintln(p.out, s.line())
			return nil
		})
	}
	const enter, leave, home = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[H"
	begun := false
	defer func() {
		if begun {
			fmt.Fprint(screen, leave)
		}
	}()
	return samples(ctx, c, o.every, o.count, func(st *admin.Status, s *sample) error {
		width, height, err := term.GetSize(int(screen.Fd()))
		if err != nil {
			width, height = 80, 24
		}
		if !begun {
			begun = true
			fmt.Fprint(screen, enter)
		}
		var b strings.Builder
		s.draw(&b, st)
		_, err = io.WriteString(screen, home+fit(b.String(), width, height))
		return err
	})
}

// fit cuts a text to a screen; each line clears what stood there before.
func fit(text string, width, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	lines = lines[:min(len(lines), max(1, height-1))]
	for i, line := range lines {
		if letters := []rune(line); len(letters) > width {
			line = string(letters[:width])
		}
		lines[i] = line + "\x1b[K"
	}
	return strings.Join(lines, "\r\n") + "\x1b[J"
}

// compareStatus says what happened between two looks. Where the instance was started
// anew in between, it counts from that start.
func compareStatus(before, now *admin.Status) *sample {
	if !now.Started.Equal(before.Started) {
		before = &admin.Status{Uptime: 0}
	}
	s := &sample{
		At: now.Started.Add(time.Duration(now.Uptime * float64(time.Second))).UTC(), Seconds: now.Uptime - before.Uptime,
		Phase: now.Phase, Failure: now.Failure, InFlight: now.Node.InFlight, LaneQueues: now.Node.LaneQueues,
		Sources: []sourcePace{}, Sinks: []sinkPace{}, Waits: now.Waits,
	}
	per := func(n uint64) float64 {
		if s.Seconds <= 0 {
			return 0
		}
		return float64(n) / s.Seconds
	}
	s.Commit = pace{per(now.Node.Commit.Groups - min(before.Node.Commit.Groups, now.Node.Commit.Groups)), between(before.Node.Commit.Write, now.Node.Commit.Write)}
	for _, source := range now.Sources {
		old := find(before.Sources, func(o *admin.Source) bool { return o.Name == source.Name })
		settled := sum(source.Outcomes) - min(sum(old.Outcomes), sum(source.Outcomes))
		s.PerSecond += per(settled)
		s.Sources = append(s.Sources, sourcePace{
			Name: source.Name, Received: per(source.Received - min(old.Received, source.Received)), Settled: per(settled),
			Latency: between(old.Latency, source.Latency), InFlight: source.InFlight, Lag: source.Lag, Ended: source.Ended,
		})
	}
	slowest := 0.0
	for _, sink := range now.Sinks {
		old := find(before.Sinks, func(o *admin.Sink) bool { return o.Name == sink.Name })
		k := sinkPace{
			Name: sink.Name, Delivered: per(sink.Delivered - min(old.Delivered, sink.Delivered)), Latency: between(old.Latency, sink.Latency),
			Queue: sink.Queue, Parked: sink.Waiting, State: stateOf(&sink),
		}
		if sink.Local && k.Delivered > 0 {
			k.Latency = s.Commit.Mean
		}
		if k.Latency > slowest {
			s.Slowest, slowest = k.Name, k.Latency
		}
		s.Sinks = append(s.Sinks, k)
	}
	dead := sum(now.Dead)
	s.DeadPerSec = per(dead - min(sum(before.Dead), dead))
	return s
}

func find[T any](list []T, is func(*T) bool) T {
	if i := slices.IndexFunc(list, func(v T) bool { return is(&v) }); i >= 0 {
		return list[i]
	}
	var none T
	return none
}

func sum(counts map[string]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// between is the mean of what was measured between two looks.
func between(before, now admin.Times) float64 {
	if now.Count <= before.Count {
		return 0
	}
	return max(0, (now.Mean*float64(now.Count)-before.Mean*float64(before.Count))/float64(now.Count-before.Count))
}

// stateOf is a sink's state in a word or two.
func stateOf(s *admin.Sink) string {
	switch {
	case s.Fatal:
		return "a person must act"
	case s.Down:
		return "down"
	case s.Waiting > 0:
		return "behind"
	}
	return "ok"
}

// line is a sample where there is no terminal.
func (s *sample) line() string {
	parts := []string{
		s.At.Format("15:04:05"), s.Phase, fmt.Sprintf("%s events/s", thousands(uint64(s.PerSecond))),
		fmt.Sprintf("%s in flight", thousands(uint64(max(0, s.InFlight.Used)))),
	}
	if s.Slowest != "" {
		i := slices.IndexFunc(s.Sinks, func(k sinkPace) bool { return k.Name == s.Slowest })
		parts = append(parts, fmt.Sprintf("slowest sink %s %s", s.Slowest, secondsText(s.Sinks[i].Latency)))
	}
	if s.DeadPerSec > 0 {
		parts = append(parts, fmt.Sprintf("%.1f dead letters/s", s.DeadPerSec))
	}
	if s.Failure != "" {
		parts = append(parts, "FAILING: "+s.Failure)
	}
	for _, w := range s.Waits {
		parts = append(parts, fmt.Sprintf("%s for %s", w.What, w.For))
	}
	return strings.Join(parts, "; ")
}

// draw is a sample as a picture.
func (s *sample) draw(w io.Writer, st *admin.Status) {
	uptime := time.Duration(st.Uptime * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(w, "weir %s  %s for %v  generation %d  %s\n", st.Version, s.Phase, uptime, st.Generation.Number, st.Node.Data)
	if s.Failure != "" {
		fmt.Fprintf(w, "FAILING: %s\n", s.Failure)
	}
	fmt.Fprintf(w, "%s events/s  in flight %s  commits %.0f/s of %s  dead letters %.1f/s\n",
		thousands(uint64(s.PerSecond)), bar(s.InFlight), s.Commit.PerSecond, secondsText(s.Commit.Mean), s.DeadPerSec)
	for i, l := range s.LaneQueues {
		fmt.Fprintf(w, "lane %-3d chunks %s  records %s\n", i, bar(l.Chunks), bar(l.Records))
		if i == 7 && len(s.LaneQueues) > 8 {
			fmt.Fprintf(w, "and %d more lanes\n", len(s.LaneQueues)-8)
			break
		}
	}
	fmt.Fprintf(w, "\n%-24s %12s %12s %10s %10s %10s\n", "source", "received/s", "settled/s", "latency", "in flight", "lag")
	for _, k := range s.Sources {
		lag := "-"
		if k.Lag != nil {
			lag = thousands(uint64(max(0, *k.Lag)))
		}
		if k.Ended {
			lag = "ended"
		}
		fmt.Fprintf(w, "%-24s %12s %12s %10s %10s %10s\n", k.Name, thousands(uint64(k.Received)), thousands(uint64(k.Settled)), secondsText(k.Latency), thousands(uint64(max(0, k.InFlight))), lag)
	}
	fmt.Fprintf(w, "\n%-24s %12s %12s %10s %10s  %s\n", "sink", "delivered/s", "latency", "queue", "parked", "state")
	for _, k := range s.Sinks {
		state := k.State
		if k.Name == s.Slowest && len(s.Sinks) > 1 {
			state += ", slowest"
		}
		fmt.Fprintf(w, "%-24s %12s %12s %10s %10s  %s\n", k.Name, thousands(uint64(k.Delivered)), secondsText(k.Latency), thousands(uint64(k.Queue)), thousands(uint64(k.Parked)), state)
	}
	fmt.Fprintln(w)
	for _, wait := range s.Waits {
		fmt.Fprintf(w, "%s waits for %s: %s\n", wait.What, wait.For, wait.Why)
	}
}

// bar shows how much of a limit is used.
func bar(u admin.Use) string {
	const width = 10
	n := 0
	if u.Max > 0 {
		n = int(min(width, max(0, u.Used)*width/u.Max))
	}
	return fmt.Sprintf("[%s%s] %s", strings.Repeat("#", n), strings.Repeat(".", width-n), thousands(uint64(max(0, u.Used))))
}

// secondsText writes a time span for people; none where it is not known.
func secondsText(s float64) string {
	switch {
	case s <= 0:
		return "-"
	case s < 0.001:
		return fmt.Sprintf("%.0fµs", s*1e6)
	case s < 1:
		return fmt.Sprintf("%.1fms", s*1e3)
	}
	return fmt.Sprintf("%.1fs", s)
}
