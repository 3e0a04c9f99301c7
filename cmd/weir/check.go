package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
)

// checked is what check found to be there.
type checked struct {
	Sources  []string         `json:"sources"`
	Plugins  []string         `json:"plugins"`
	Routes   []string         `json:"routes"`
	Sinks    []string         `json:"sinks"`
	Warnings []config.Mistake `json:"warnings"`
}

func (p *program) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "List all mistakes of the configuration and its plug-ins, without running",
		Args:  cobra.NoArgs,
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			plan, err := p.load(cmd)
			if err != nil {
				return answer{}, err
			}
			mistakes := checkEnds(plan, p.transports)
			mistakes = append(mistakes, checkPlugins(ctx, plan, p.hosts)...)
			if len(mistakes) > 0 {
				return answer{}, &config.Errors{Mistakes: mistakes}
			}
			c := summarise(plan)
			return answer{result: c, text: func(w io.Writer) { p.printChecked(w, c) }}, nil
		}),
	}
}

func summarise(plan *config.Plan) checked {
	c := checked{
		Sources: []string{}, Plugins: []string{}, Routes: []string{}, Sinks: []string{},
		Warnings: append([]config.Mistake{}, plan.Warnings...),
	}
	for _, s := range plan.Sources {
		c.Sources = append(c.Sources, s.Name)
	}
	for _, x := range plan.Plugins {
		c.Plugins = append(c.Plugins, x.Name)
	}
	for _, r := range plan.Routes {
		c.Routes = append(c.Routes, r.Name)
	}
	for _, s := range plan.Sinks {
		c.Sinks = append(c.Sinks, s.Name)
	}
	return c
}

func (p *program) printChecked(w io.Writer, c checked) {
	for _, m := range c.Warnings {
		fmt.Fprintln(p.diag, p.paint(yellow, "warning: ")+m.String())
	}
	for _, part := range []struct {
		name  string
		names []string
	}{{"sources", c.Sources}, {"plug-ins", c.Plugins}, {"routes", c.Routes}, {"sinks", c.Sinks}} {
		fmt.Fprintf(w, "%-9s %d  %s\n", part.name, len(part.names), list(part.names))
	}
	fmt.Fprintln(w, "The configuration is fine.")
}

// maxNamed is how many names a line lists.
const maxNamed = 10

// list writes names in a line.
func list(names []string) string {
	if len(names) > maxNamed {
		return strings.Join(names[:maxNamed], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

// checkEnds makes every source and sink without opening it: transports then
// say what is wrong with settings that do not go together.
func checkEnds(plan *config.Plan, ts []transports.Transport) []config.Mistake {
	byName := map[string]transports.Transport{}
	for _, t := range ts {
		byName[t.Name()] = t
	}
	var mistakes []config.Mistake
	refuse := func(path, transport string, err error) {
		if err != nil {
			problem := strings.TrimPrefix(err.Error(), transport+": ")
			mistakes = append(mistakes, plan.Mistake(path+"."+transport, problem, ""))
		}
	}
	for _, s := range plan.Sources {
		_, err := byName[s.Transport].NewSource(endEnv(plan, s.Name), s.Settings)
		refuse("sources."+s.Name, s.Transport, err)
	}
	for _, s := range plan.Sinks {
		_, err := byName[s.Transport].NewSink(endEnv(plan, s.Name), s.Settings)
		refuse("sinks."+s.Name, s.Transport, err)
	}
	if d := plan.DeadLetters.Sink; d.Transport != "" {
		_, err := byName[d.Transport].NewSink(endEnv(plan, d.Name), d.Settings)
		refuse("dead_letters", d.Transport, err)
	}
	return mistakes
}

func endEnv(plan *config.Plan, name string) transports.Env {
	return transports.Env{
		Name: name, BaseDir: plan.Dir, DataDir: plan.Node.Data, FS: vfs.OS{},
		Log: slog.New(slog.DiscardHandler), Now: time.Now, MaxEvent: plan.Node.Limits.Event,
	}
}

// checkPlugins loads every plug-in, which runs its samples, and holds it
// against the routes that use it.
func checkPlugins(ctx context.Context, plan *config.Plan, hosts []plugins.Host) []config.Mistake {
	var mistakes []config.Mistake
	for _, x := range plan.Plugins {
		i := slices.IndexFunc(hosts, func(h plugins.Host) bool { return h.Name() == x.Host })
		path := "plugins." + x.Name + "." + x.Host
		loaded, err := hosts[i].Load(ctx, plugins.Spec{
			Name: x.Name, Path: x.Path, Config: x.Config, Limits: x.Limits, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			mistakes = append(mistakes, plan.Mistake(path, err.Error(), ""))
			continue
		}
		mistakes = append(mistakes, checkUse(plan, x.Name, loaded.Manifest())...)
		if err := loaded.Close(ctx); err != nil {
			mistakes = append(mistakes, plan.Mistake(path, err.Error(), ""))
		}
	}
	return mistakes
}

// checkUse holds the routes of a plug-in against its manifest.
func checkUse(plan *config.Plan, name string, m plugins.Manifest) []config.Mistake {
	var mistakes []config.Mistake
	for _, r := range plan.Routes {
		switches := r.Switch != nil && r.Switch.Plugin == name
		if !switches && !slices.Contains(r.Filter, name) {
			continue
		}
		path := "routes." + r.Name
		if m.Kind != plugins.Filter {
			mistakes = append(mistakes, plan.Mistake(path+".filter", fmt.Sprintf("plug-in %q is a %s, not a filter", name, m.Kind), ""))
		}
		if !switches {
			continue
		}
		hint := "it has: " + list(m.Outputs)
		if len(m.Outputs) == 0 {
			hint = "it names none: use it as a filter"
		}
		for _, o := range r.Switch.Outputs {
			if !slices.Contains(m.Outputs, o.Name) {
				mistakes = append(mistakes, plan.Mistake(path+".to.outputs."+o.Name,
					fmt.Sprintf("plug-in %q has no output %q", name, o.Name), hint))
			}
		}
	}
	return mistakes
}
