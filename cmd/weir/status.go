package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/admin"
)

func (p *program) statusCommand() *cobra.Command {
	var f *instanceFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what a running instance has done, and what waits for what",
		Args:  cobra.NoArgs,
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			c, err := p.connect(cmd, f)
			if err != nil {
				return answer{}, err
			}
			defer c.Close()
			var st admin.Status
			if err := c.get(ctx, "/status", nil, &st); err != nil {
				return answer{}, err
			}
			return answer{result: st, no: st.Failure != "", text: func(w io.Writer) { printStatus(w, &st) }}, nil
		}),
	}
	f = p.instanceFlags(cmd)
	return cmd
}

// printStatus writes a status for people.
func printStatus(w io.Writer, st *admin.Status) {
	uptime := time.Duration(st.Uptime * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(w, "weir %s, %s for %v, configuration %s (generation %d), data %s\n",
		st.Version, st.Phase, uptime, short(st.Generation.Digest), st.Generation.Number, st.Node.Data)
	if st.Failure != "" {
		fmt.Fprintf(w, "FAILING: %s\n", st.Failure)
	}
	fmt.Fprintf(w, "in flight %s of %s events, %s of %s; %d lanes; commit log %s; disk %s of %s\n",
		thousands(uint64(max(0, st.Node.InFlight.Used))), thousands(uint64(st.Node.InFlight.Max)),
		bytesText(st.Node.InFlightBytes.Used), bytesText(st.Node.InFlightBytes.Max), st.Node.Lanes, bytesText(st.Node.Commit.Bytes),
		bytesText(st.Node.Disk.Used), bytesText(st.Node.Disk.Max))
	fmt.Fprintf(w, "commits %s, %s each (99 %%: %s); %s waiting of %s\n", thousands(st.Node.Commit.Groups), secondsText(st.Node.Commit.Write.Mean),
		secondsText(st.Node.Commit.Write.P99), thousands(uint64(st.Node.Commit.Queue.Used)), thousands(uint64(st.Node.Commit.Queue.Max)))
	fmt.Fprintf(w, "\n%-24s %-10s %14s %14s %10s %10s  %s\n", "source", "transport", "received", "settled", "p50", "p99", "outcomes")
	for _, s := range st.Sources {
		note := outcomesText(s.Outcomes)
		if s.Ended {
			note += "; ended"
		}
		if s.Lag != nil {
			note += fmt.Sprintf("; %s wait there", thousands(uint64(*s.Lag)))
		}
		fmt.Fprintf(w, "%-24s %-10s %14s %14s %10s %10s  %s\n", s.Name, s.Transport, thousands(s.Received), thousands(sum(s.Outcomes)), secondsText(s.Latency.P50), secondsText(s.Latency.P99), note)
	}
	fmt.Fprintf(w, "\n%-24s %-10s %14s %14s %10s %10s  %s\n", "sink", "transport", "delivered", "dead", "queue", "parked", "state")
	for _, s := range st.Sinks {
		state := stateOf(&s)
		if s.Failed != nil && state != "ok" {
			state += ": " + s.Failed.Class + ": " + s.Failed.Reason
		}
		fmt.Fprintf(w, "%-24s %-10s %14s %14s %10s %10s  %s\n", s.Name, s.Transport, thousands(s.Delivered), thousands(s.Dead), thousands(uint64(s.Queue)), thousands(uint64(s.Waiting)), state)
	}
	if len(st.Plugins) > 0 {
		fmt.Fprintf(w, "\n%-24s %-10s %14s %14s %10s %10s  %s\n", "plug-in", "host", "asked", "passed", "failed", "a call", "version")
		for _, g := range st.Plugins {
			fmt.Fprintf(w, "%-24s %-10s %14s %14s %10s %10s  %s\n", g.Name, g.Host, thousands(g.Events), thousands(g.Passed), thousands(g.Failed), secondsText(g.Calls.Mean), g.Version)
		}
	}
	if len(st.Routes) > 0 {
		fmt.Fprintf(w, "\n%-24s %-10s %14s\n", "route", "", "events")
		for _, r := range st.Routes {
			fmt.Fprintf(w, "%-24s %-10s %14s\n", r.Name, "", thousands(r.Events))
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(st.Dead)) {
		fmt.Fprintf(w, "\ndead letters: %s %s", thousands(st.Dead[reason]), reason)
	}
	if st.Dropped > 0 {
		fmt.Fprintf(w, "\ndead letters: %s dropped by dead_letters.keep and dead_letters.max\n", thousands(st.Dropped))
	}
	if len(st.Dead) > 0 {
		fmt.Fprintln(w)
	}
	if len(st.Waits) > 0 {
		fmt.Fprintln(w, "\nwaiting")
	}
	for _, wait := range st.Waits {
		fmt.Fprintf(w, "  %s for %s: %s\n", wait.What, wait.For, wait.Why)
	}
}

func outcomesText(outcomes map[string]uint64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(outcomes)) {
		parts = append(parts, thousands(outcomes[name])+" "+name)
	}
	return strings.Join(parts, ", ")
}

// short is enough of a digest to tell two apart.
func short(digest string) string { return digest[:min(12, len(digest))] }

// bytesText writes a number of bytes for people.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
