package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/rehearsal"
)

// testOptions are the flags of test.
type testOptions struct {
	only    string
	verbose bool
	schema  bool
}

// testRun is the answer of test.
type testRun struct {
	Passed int          `json:"passed"`
	Failed int          `json:"failed"`
	Tests  []testedCase `json:"tests"`
}

type testedCase struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Name     string   `json:"name"`
	Passed   bool     `json:"passed"`
	Virtual  string   `json:"virtual"` // time that went by for the configuration
	Failures []string `json:"failures,omitempty"`
}

func (p *program) testCommand() *cobra.Command {
	var o testOptions
	cmd := &cobra.Command{
		Use:   "test [FILE|FOLDER]...",
		Short: "Run the tests of a configuration: events in, what must arrive (exit 1 if one fails)",
		Long: "Run *_test.yaml beside the configuration, or the files and folders that are named.\n" +
			"A test says which events come in and what must arrive at which sink. Nothing is\n" +
			"touched outside: sources and sinks are played, files are in memory, and time is\n" +
			"virtual, so that a test of an hour takes no time. docs/testing.md has the form.",
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, args []string) (answer, error) {
			if o.schema {
				return answer{text: func(w io.Writer) { w.Write(config.TestSchema()) }}, nil
			}
			files, err := p.testFiles(cmd, args)
			if err != nil {
				return answer{}, err
			}
			return p.runTests(ctx, cmd, files, o)
		}),
	}
	cmd.Flags().StringVar(&o.only, "only", "", "run the tests whose name holds this text")
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "print the engine's log and tests that pass")
	cmd.Flags().BoolVar(&o.schema, "schema", false, "print the JSON Schema of test files and do nothing else")
	return cmd
}

// testSuffixes are how the names of test files end.
var testSuffixes = []string{"_test.yaml", "_test.yml", "_test.json"}

// testFiles lists the files of tests that the arguments stand for.
func (p *program) testFiles(cmd *cobra.Command, args []string) (files []string, err error) {
	if len(args) == 0 {
		args = []string{filepath.Dir(p.findConfig(cmd))}
	}
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, wrongInput{err}
		}
		if !info.IsDir() {
			files = append(files, arg)
			continue
		}
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, wrongInput{err}
		}
		for _, e := range entries {
			if slices.ContainsFunc(testSuffixes, func(s string) bool { return strings.HasSuffix(e.Name(), s) }) {
				files = append(files, filepath.Join(arg, e.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, wrongInput{fmt.Errorf("no *_test.yaml in %s", strings.Join(args, ", "))}
	}
	return files, nil
}

func (p *program) runTests(ctx context.Context, cmd *cobra.Command, files []string, o testOptions) (answer, error) {
	r := testRun{Tests: []testedCase{}}
	bad := &config.Errors{}
	for _, name := range files {
		err := p.runTestFile(ctx, cmd, name, o, &r)
		var mistakes *config.Errors
		if errors.As(err, &mistakes) {
			bad.Mistakes = append(bad.Mistakes, mistakes.Mistakes...) // the other files may be better
			continue
		}
		if err != nil {
			return answer{result: r}, err
		}
	}
	a := answer{result: r, no: r.Failed > 0, text: func(w io.Writer) { r.print(w, o.verbose) }}
	none := r.Passed+r.Failed == 0
	if none {
		a.text = nil
	}
	if len(bad.Mistakes) > 0 {
		return a, bad
	}
	if none {
		return a, wrongInput{fmt.Errorf("no test has a name that holds %q", o.only)}
	}
	return a, nil
}

func (p *program) runTestFile(ctx context.Context, cmd *cobra.Command, name string, o testOptions, r *testRun) (err error) {
	tests, err := config.LoadTests(name)
	if err != nil {
		return err
	}
	plan, err := p.loadFile(cmd, tests.Config)
	if err != nil {
		return err
	}
	cfg := rehearsal.Config{Plan: plan, Transports: p.transports, Hosts: p.hosts}
	if o.verbose {
		cfg.Log = slog.New(slog.NewTextHandler(p.diag, nil))
	}
	stage, err := rehearsal.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.Close(ctx)) }()
	for i := range tests.Cases {
		c := &tests.Cases[i]
		if !strings.Contains(c.Name, o.only) {
			continue
		}
		out, err := stage.Run(c)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, c.Line, err)
		}
		if out.Passed() {
			r.Passed++
		} else {
			r.Failed++
		}
		r.Tests = append(r.Tests, testedCase{
			File: name, Line: c.Line, Name: c.Name, Passed: out.Passed(), Virtual: out.Virtual.String(), Failures: out.Failures,
		})
	}
	return nil
}

func (r testRun) print(w io.Writer, verbose bool) {
	for _, t := range r.Tests {
		switch {
		case !t.Passed:
			fmt.Fprintf(w, "FAIL  %s:%d: %s\n", t.File, t.Line, t.Name)
			for _, f := range t.Failures {
				fmt.Fprintln(w, "  "+strings.ReplaceAll(f, "\n", "\n  "))
			}
		case verbose:
			fmt.Fprintf(w, "ok    %s:%d: %s (%s)\n", t.File, t.Line, t.Name, t.Virtual)
		}
	}
	fmt.Fprintf(w, "%d passed, %d failed\n", r.Passed, r.Failed)
}
