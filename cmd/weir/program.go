package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
)

// Exit codes, as the package comment names them.
const (
	exitFine        = 0
	exitNo          = 1
	exitUsage       = 2
	exitEnvironment = 3
)

// program is the command line with all that it touches of the world, so that
// tests can run it with other ends.
type program struct {
	transports []transports.Transport
	hosts      []plugins.Host
	in         io.Reader
	out, diag  io.Writer
	env        func(string) (string, bool)
	environ    func() []string                        // the environment as NAME=value; nil = nothing to look through
	signals    func(c chan<- os.Signal) (stop func()) // where requests to stop come from
	hangups    func(c chan<- os.Signal) (stop func()) // where requests to reload come from
	exit       func(code int)                         // leaves at once

	configFile string
	json       bool
	node       map[string]*string // settings of the node by flag

	command string // the one that runs, such as "queue list"
	code    int
}

// answer is what a command found: result for --json, text for people.
type answer struct {
	result any
	text   func(w io.Writer)
	no     bool // it ran, and the answer is no
	lines  bool // printed line by line already, also with --json
}

// usageError is a wrong command line; help may show what is right.
type usageError struct{ error }

// wrongInput is what a command line names and what is not as it should be: no such
// queue, a file of another sort. Help cannot help.
type wrongInput struct{ error }

// run executes a command line and returns its exit code.
func (p *program) run(args []string) int {
	root := p.root()
	root.SetArgs(args)
	if err := root.ExecuteContext(context.Background()); err != nil {
		// Only what cobra itself refuses comes here: commands answer in finish.
		p.json = p.json || slices.Contains(args, "--json")
		return p.finish(answer{}, usageError{err})
	}
	return p.code
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "weir",
		Short:         "Weir takes events in, de-duplicates, matches and filters them, and delivers them.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.diag)
	root.CompletionOptions.DisableDefaultCmd = true // completion.go has its own
	flags := root.PersistentFlags()
	flags.StringVarP(&p.configFile, "config", "c", "weir.yaml", "the configuration file")
	flags.BoolVar(&p.json, "json", false, "print one JSON envelope instead of text")
	p.nodeFlags(flags)
	root.AddCommand(
		p.newCommand(),
		p.runCommand(), p.reloadCommand(), p.rollbackCommand(),
		p.checkCommand(),
		p.testCommand(),
		p.doctorCommand(),
		p.statusCommand(),
		p.topCommand(),
		p.journalCommand(),
		p.explainCommand(),
		p.tapCommand(),
		p.dlqCommand(),
		p.queueCommand(),
		p.pluginCommand(),
		p.patternCommand(),
		p.schemaCommand(),
		p.completionCommand(),
		p.versionCommand(),
	)
	return root
}

// nodeFlags offers the settings of the node, but for secrets: other users of
// the machine can read a command line.
func (p *program) nodeFlags(flags *pflag.FlagSet) {
	p.node = map[string]*string{}
	for _, s := range config.NodeSettings() {
		if s.Secret {
			continue
		}
		usage := fmt.Sprintf("%s (or %s", strings.TrimSuffix(s.Doc, "."), s.Env)
		if s.Default != "" {
			usage += "; default " + s.Default
		}
		p.node[s.Path] = flags.String(s.Path, "", usage+")")
	}
}

// action adapts a command's function to cobra's.
func (p *program) action(do func(ctx context.Context, cmd *cobra.Command, args []string) (answer, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		p.command = strings.TrimPrefix(cmd.CommandPath(), "weir ")
		a, err := do(cmd.Context(), cmd, args)
		p.code = p.finish(a, err)
		return nil
	}
}

// needsCommand is the action of a command that only holds others.
func needsCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	return fmt.Errorf("%q needs a command: %s", cmd.CommandPath(), strings.Join(names, ", "))
}

// load reads the configuration that -c names.
func (p *program) load(cmd *cobra.Command) (*config.Plan, error) { return p.loadFile(cmd, "") }

// loadFile reads a configuration; "" = the one that -c names.
func (p *program) loadFile(cmd *cobra.Command, name string) (*config.Plan, error) {
	if name == "" {
		name = p.findConfig(cmd)
	}
	flags := map[string]string{}
	for path, value := range p.node {
		if cmd.Flags().Changed(path) {
			flags[path] = *value
		}
	}
	return config.Load(config.Options{
		File:       name,
		Env:        p.env,
		Environ:    p.environ,
		Flags:      flags,
		Transports: p.transports,
		Hosts:      p.hostNames(),
	})
}

// findConfig tries the other usual names where -c is not given.
func (p *program) findConfig(cmd *cobra.Command) string {
	if cmd.Flags().Changed("config") {
		return p.configFile
	}
	for _, name := range []string{"weir.yaml", "weir.yml", "weir.json"} {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return p.configFile
}

func (p *program) hostNames() []string {
	var names []string
	for _, h := range p.hosts {
		names = append(names, h.Name())
	}
	return names
}

// exitCode sorts an error.
func exitCode(a answer, err error) int {
	var usage usageError
	var input wrongInput
	var mistakes *config.Errors
	switch {
	case errors.As(err, &usage), errors.As(err, &input), errors.As(err, &mistakes):
		return exitUsage
	case err != nil:
		return exitEnvironment
	case a.no:
		return exitNo
	}
	return exitFine
}
