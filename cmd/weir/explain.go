package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/admin"
)

// Limits of the explain command.
const (
	maxExplained = 1000     // events of one file
	maxSample    = 32 << 20 // bytes of one event
)

// explainFlags say what is to be explained.
type explainFlags struct {
	id, file, source, key string
	whole                 bool
	offline               bool
	instance              *instanceFlags
}

func (p *program) explainCommand() *cobra.Command {
	f := &explainFlags{}
	cmd := &cobra.Command{
		Use:   "explain [--id ID] [--event FILE]",
		Short: "Say where an event went, and why",
		Long: "Say what became of an event (--id, from the journal), and what the configuration does\n" +
			"with the bytes of one (--event): the envelope found, faults, expiry, what the window\n" +
			"knows, each route's pattern with the first condition that failed, each plug-in's answer,\n" +
			"each sink. A running instance is asked, so that the answer is by what is at work there;\n" +
			"without one the configuration and the data folder answer. Nothing is changed.\n" +
			"A file holds an event a line, or one event in all; - is standard input.",
		Args: cobra.NoArgs,
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			return p.explain(ctx, cmd, f)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.id, "id", "", "the event's id, as weir journal lists it")
	flags.StringVar(&f.file, "event", "", "a file with an event's bytes, or with one a line; - is standard input")
	flags.StringVar(&f.source, "source", "", "the source that it came by, or would (needed with --event where there are several)")
	flags.StringVar(&f.key, "key", "", "the key that the transport would give it")
	flags.BoolVar(&f.whole, "whole", false, "the file is one event, also where its lines are JSON by themselves")
	flags.BoolVar(&f.offline, "offline", false, "do not ask a running instance: what would this configuration do?")
	f.instance = p.instanceFlags(cmd)
	p.completeNames(cmd)
	return cmd
}

// explainer answers queries: a running instance or an inspector.
type explainer func(ctx context.Context, q engine.Query) (engine.Explanation, error)

func (p *program) explain(ctx context.Context, cmd *cobra.Command, f *explainFlags) (a answer, err error) {
	queries, err := p.queries(f)
	if err != nil {
		return answer{}, err
	}
	ask, closeAsk, err := p.explainer(ctx, cmd, f)
	if err != nil {
		return answer{}, err
	}
	defer func() { err = errors.Join(err, closeAsk()) }()
	list := []engine.Explanation{}
	for _, q := range queries {
		x, err := ask(ctx, q)
		if err != nil {
			var source *engine.SourceError
			if errors.As(err, &source) {
				err = usageError{fmt.Errorf("%w (--source)", err)}
			}
			if errors.Is(err, engine.ErrNotFound) {
				return answer{result: list, no: true, text: func(w io.Writer) { sayUnknown(w, &x) }}, nil
			}
			return answer{result: list}, err
		}
		list = append(list, x)
	}
	return answer{result: list, text: func(w io.Writer) {
		for i := range list {
			if i > 0 {
				fmt.Fprintln(w)
			}
			_ = list[i].WriteText(w, nil) // what cannot be written cannot be told either
		}
	}}, nil
}

func sayUnknown(w io.Writer, x *engine.Explanation) {
	fmt.Fprintf(w, "The journal does not know %s.\n", oneLine(x.ID))
	if !x.Since.IsZero() {
		fmt.Fprintf(w, "It goes back to %s. ", x.Since.Local().Format(engine.TimeForm))
	}
	fmt.Fprintln(w, "The event was not taken in, is not settled yet, or has another id:\nweir journal lists what there is, and weir explain --event FILE says what would become of it.")
}

// queries reads what is to be explained.
func (p *program) queries(f *explainFlags) ([]engine.Query, error) {
	if f.id == "" && f.file == "" {
		return nil, usageError{errors.New("explain needs --id or --event")}
	}
	q := engine.Query{ID: f.id, Source: f.source}
	if f.key != "" {
		q.Key = []byte(f.key)
	}
	if f.file == "" {
		return []engine.Query{q}, nil
	}
	samples, err := p.samples(f)
	if err != nil {
		return nil, err
	}
	if f.id != "" && len(samples) > 1 {
		return nil, usageError{fmt.Errorf("--id goes with the bytes of one event, and %s has %d", f.file, len(samples))}
	}
	var list []engine.Query
	for _, s := range samples {
		q.Event = s
		list = append(list, q)
	}
	return list, nil
}

// samples splits a file into events: a line each where every line is JSON, else one.
func (p *program) samples(f *explainFlags) ([][]byte, error) {
	in, name := p.in, "standard input"
	if f.file != "-" {
		file, err := os.Open(f.file)
		if err != nil {
			return nil, usageError{err}
		}
		defer file.Close()
		in, name = file, f.file
	}
	text, err := io.ReadAll(io.LimitReader(bufio.NewReader(in), maxSample+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxSample {
		return nil, usageError{fmt.Errorf("%s is larger than %s", name, bytesText(maxSample))}
	}
	var lines [][]byte
	for line := range bytes.Lines(text) {
		if line = bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(line)) > 0 {
			lines = append(lines, line)
		}
	}
	switch {
	case len(lines) == 0:
		return nil, usageError{fmt.Errorf("%s holds no event", name)}
	case f.whole || len(lines) > 1 && json.Valid(text):
		return [][]byte{bytes.TrimSpace(text)}, nil
	case len(lines) > maxExplained:
		return nil, usageError{fmt.Errorf("%s holds %d events, at most %d are explained at once", name, len(lines), maxExplained)}
	}
	return lines, nil
}

// explainer asks the running instance where there is one.
func (p *program) explainer(ctx context.Context, cmd *cobra.Command, f *explainFlags) (explainer, func() error, error) {
	if !f.offline {
		c, err := p.connect(cmd, f.instance)
		if err != nil {
			return nil, nil, err
		}
		if err := c.get(ctx, "/healthz", nil, nil); !errors.Is(err, admin.ErrNotRunning) {
			return c.explain, func() error { c.Close(); return nil }, nil
		}
		c.Close()
	}
	plan, err := p.load(cmd)
	if err != nil {
		return nil, nil, err
	}
	if f.instance.data != "" {
		plan.Node.Data = f.instance.data
	}
	i, err := engine.NewInspector(engine.Config{Plan: plan, Transports: p.transports, Plugins: p.hosts})
	if err != nil {
		return nil, nil, err
	}
	return i.Explain, i.Close, nil
}

// explain asks a running instance.
func (c *client) explain(ctx context.Context, q engine.Query) (engine.Explanation, error) {
	var a admin.Explained
	if err := c.post(ctx, "/v1/explain", nil, q, &a); err != nil {
		return engine.Explanation{}, err
	}
	if !a.Found {
		return a.Explanation, fmt.Errorf("%w: %q", engine.ErrNotFound, q.ID)
	}
	return a.Explanation, nil
}
