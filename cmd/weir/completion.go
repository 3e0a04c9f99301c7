package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports/local"
)

// shells are those that completion writes for.
var shells = []string{"bash", "zsh", "fish"}

func (p *program) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print what makes a shell complete commands, flags, and names of the configuration",
		Long: "Print what makes a shell complete commands, flags, and the names of routes, sinks,\n" +
			"sources and queues as the configuration has them.\n\n" +
			"  bash  source <(weir completion bash)      in ~/.bashrc; needs bash-completion\n" +
			"  zsh   source <(weir completion zsh)       in ~/.zshrc, after compinit\n" +
			"  fish  weir completion fish > ~/.config/fish/completions/weir.fish",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: shells,
		RunE: p.action(func(_ context.Context, cmd *cobra.Command, args []string) (answer, error) {
			var script bytes.Buffer
			var err error
			switch root := cmd.Root(); args[0] {
			case "bash":
				err = root.GenBashCompletionV2(&script, true)
			case "zsh":
				err = root.GenZshCompletion(&script)
			case "fish":
				err = root.GenFishCompletion(&script, true)
			}
			if err != nil {
				return answer{}, fmt.Errorf("write the completion for %s: %w", args[0], err)
			}
			return answer{result: script.String(), text: func(w io.Writer) { w.Write(script.Bytes()) }}, nil
		}),
	}
}

// completer lists the words that may stand at a place of a command line.
type completer = func(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective)

// names completes from the configuration; one that is wrong completes nothing.
func (p *program) names(of func(*config.Plan) []string) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		plan, err := p.load(cmd)
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return of(plan), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeNames completes the flags of a command that name a route, a sink or a source.
func (p *program) completeNames(cmd *cobra.Command) {
	for name, of := range map[string]func(*config.Plan) []string{"route": routeNames, "sink": sinkNames, "source": sourceNames} {
		if cmd.Flags().Lookup(name) == nil {
			continue
		}
		if err := cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
			return p.names(of)(cmd, nil, start)
		}); err != nil {
			panic(err) // a flag that is completed twice
		}
	}
}

// queuesOr completes a queue's or topic's name as the first word; after it come files
// where more is wanted.
func (p *program) queuesOr(more cobra.ShellCompDirective, f *queueFlags) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, more
		}
		return p.queueNames(cmd, f), cobra.ShellCompDirectiveNoFileComp
	}
}

// queueNames are those of the configuration and those in the data folder.
func (p *program) queueNames(cmd *cobra.Command, f *queueFlags) []string {
	kind, setting := local.QueueKind, "queue"
	if f.topic || cmd.Flags().Changed("consumer") {
		kind, setting = local.TopicKind, "topic"
	}
	var names []string
	data := f.data
	if plan, err := p.load(cmd); err == nil {
		if data == "" {
			data = plan.Node.Data
		}
		for _, s := range plan.Sources {
			names = append(names, s.Settings.String(setting))
		}
		for _, s := range append(slices.Clone(plan.Sinks), plan.DeadLetters.Sink) {
			names = append(names, s.Settings.String(setting))
		}
	}
	if data != "" {
		held, _ := local.List(vfs.OS{}, data) // what cannot be listed completes nothing
		for _, q := range held {
			if q.Kind == kind {
				names = append(names, q.Name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(s string) bool { return s == "" })
}

func routeNames(plan *config.Plan) (names []string) {
	for _, r := range plan.Routes {
		names = append(names, r.Name)
	}
	return names
}

// patternsOrFiles completes the routes whose patterns may stand for one, or files.
func (p *program) patternsOrFiles(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	names, _ := p.names(routeNames)(cmd, args, start)
	return names, cobra.ShellCompDirectiveDefault
}
