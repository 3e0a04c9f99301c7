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
	Connects []connection     `json:"connects,omitempty"` // with --connect
}

func (p *program) checkCommand() *cobra.Command {
	var connect bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "List all mistakes of the configuration and its plug-ins, without running",
		Long: "List all mistakes of the configuration and its plug-ins, without running. What is\n" +
			"missing on this machine, such as a file to read, is a warning. --connect also tries\n" +
			"what is reached over a network; a broker that is away is exit 3.",
		Args: cobra.NoArgs,
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			plan, err := p.load(cmd)
			if err != nil {
				return answer{}, err
			}
			e, mistakes := makeEnds(plan, p.transports)
			mistakes = append(mistakes, checkPlugins(ctx, plan, p.hosts)...)
			if len(mistakes) > 0 {
				return answer{}, &config.Errors{Mistakes: mistakes}
			}
			c := summarise(plan)
			c.Warnings = append(c.Warnings, e.look(plan)...)
			if connect {
				c.Connects = e.connect(ctx)
			}
			return answer{result: c, text: func(w io.Writer) { p.printChecked(w, c) }}, away(c.Connects)
		}),
	}
	cmd.Flags().BoolVar(&connect, "connect", false, "also try what is reached over a network")
	return cmd
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
	for _, x := range c.Connects {
		fmt.Fprintf(w, "%-9s %s: %s\n", "connect", x.End, x.text())
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
