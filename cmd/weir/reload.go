package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
)

func (p *program) reloadCommand() *cobra.Command {
	return p.changeCommand("reload", "/v1/reload",
		"Put the configuration to work that its file holds now, while events flow",
		"Have a running instance read its configuration anew and put it to work while events\n"+
			"flow: all of it or, where anything is wrong, nothing. Every event meets one version.")
}

func (p *program) rollbackCommand() *cobra.Command {
	return p.changeCommand("rollback", "/v1/rollback",
		"Put the configuration to work that ran before the last reload",
		"Have a running instance go back to the configuration that ran before the last reload,\n"+
			"with the plug-ins of then, whatever their files hold now. The file stays as it is:\n"+
			"the next reload reads it again. A second rollback takes the first one back.")
}

// changeCommand asks a running instance for another configuration.
func (p *program) changeCommand(use, path, short, long string) *cobra.Command {
	var f *instanceFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			c, err := p.connect(cmd, f)
			var mistakes *config.Errors
			if errors.As(err, &mistakes) && use == "rollback" {
				mistakes.Mistakes = append(mistakes.Mistakes, config.Mistake{
					Error: "the running instance is found by this configuration", Hint: "to roll back while it is wrong, name the data folder with --data",
				})
			}
			if err != nil {
				return answer{}, err
			}
			defer c.Close()
			var change engine.Change
			if err := c.post(ctx, path, nil, nil, &change); err != nil {
				return answer{}, err
			}
			return answer{result: change, text: func(w io.Writer) { printChange(w, &change) }}, nil
		}),
	}
	f = p.instanceFlags(cmd)
	return cmd
}

// printChange writes what a reload did, for people.
func printChange(w io.Writer, c *engine.Change) {
	if c.Unchanged {
		fmt.Fprintf(w, "nothing has changed; generation %d goes on\n", c.Generation)
		return
	}
	fmt.Fprintf(w, "generation %d runs after %v\n", c.Generation, c.Took.Round(time.Millisecond))
	for _, part := range []struct {
		name  string
		names engine.Names
	}{{"sources", c.Sources}, {"plugins", c.Plugins}, {"routes", c.Routes}, {"sinks", c.Sinks}} {
		for i, list := range [][]string{part.names.Added, part.names.Changed, part.names.Removed} {
			if len(list) > 0 {
				fmt.Fprintf(w, "  %-8s %-8s %s\n", part.name, []string{"added", "changed", "removed"}[i], strings.Join(list, ", "))
			}
		}
	}
	for _, m := range c.Warnings {
		fmt.Fprintf(w, "  warning: %s\n", m.String())
	}
	if c.Draining > 0 {
		fmt.Fprintf(w, "  %d events are still in flight under the generation before\n", c.Draining)
	}
}

// reloads reloads an engine at each SIGHUP and, where watch is set, when a file of its
// configuration has changed. The function it returns ends that and waits for it.
func (p *program) reloads(eng *engine.Engine, watch bool, log *slog.Logger) (end func(), err error) {
	var look *fileWatch
	var files <-chan struct{}
	if watch {
		if look, err = newFileWatch(eng.Plan()); err != nil {
			return nil, err
		}
		files = look.changed
	}
	ctx, cancel := context.WithCancel(context.Background())
	hangups := make(chan os.Signal, 1)
	forget := p.hangups(hangups)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			why := "SIGHUP"
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			case <-files:
				why = "a file has changed"
			}
			reloadNow(ctx, eng, why, log)
			if look == nil {
				continue
			}
			if err := look.follow(eng.Plan()); err != nil {
				log.Warn("watch the configuration", "error", err)
			}
		}
	}()
	return func() {
		forget()
		cancel()
		<-ended
		if look != nil {
			look.close()
		}
	}, nil
}

func reloadNow(ctx context.Context, eng *engine.Engine, why string, log *slog.Logger) {
	c, err := eng.Reload(ctx)
	switch {
	case ctx.Err() != nil, errors.Is(err, engine.ErrNotRunning):
	case err != nil:
		log.Error("reload failed; the running generation goes on", "why", why, "generation", eng.Status().Generation, "error", err)
	default:
		log.Info("reload", "why", why, "generation", c.Generation, "unchanged", c.Unchanged, "took", c.Took, "draining", c.Draining)
	}
}
