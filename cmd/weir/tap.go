package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/flow"
)

// tapFlags choose what is shown.
type tapFlags struct {
	source, sink string
	sample       int
	limit        int
	quiet        bool
}

// maxTapText is how many bytes of an event a line shows.
const maxTapText = 400

// errEnough ends a stream that has given as much as was asked for.
var errEnough = errors.New("enough")

func (p *program) tapCommand() *cobra.Command {
	var f tapFlags
	var instance *instanceFlags
	cmd := &cobra.Command{
		Use:   "tap [ROUTE]",
		Short: "Watch events of a running instance as they are settled",
		Long: "Show events of a running instance as they are settled, each with what became of it:\n" +
			"those of a route, a source or a sink, or all. It never holds the instance up: at most\n" +
			"2,000 events a second are shown, and what is left out is counted. It ends when\n" +
			"interrupted, or after --limit events. --json prints one object a line.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: p.names(routeNames),
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, args []string) (answer, error) {
			return p.tap(ctx, cmd, instance, &f, args)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.source, "source", "", "events of this source only")
	flags.StringVar(&f.sink, "sink", "", "events that go to this sink only")
	flags.IntVar(&f.sample, "sample", 1, "one event of so many")
	flags.IntVar(&f.limit, "limit", 0, "end after so many events; 0 = never")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "without the events' data")
	instance = p.instanceFlags(cmd)
	p.completeNames(cmd)
	return cmd
}

func (p *program) tap(ctx context.Context, cmd *cobra.Command, instance *instanceFlags, f *tapFlags, args []string) (a answer, err error) {
	if f.sample < 1 || f.limit < 0 {
		return answer{}, usageError{errors.New("--sample must be 1 or more, --limit 0 or more")}
	}
	c, err := p.connect(cmd, instance)
	if err != nil {
		return answer{}, err
	}
	defer c.Close()
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	if len(args) > 0 {
		set("route", args[0])
	}
	set("source", f.source)
	set("sink", f.sink)
	if f.sample > 1 {
		set("sample", strconv.Itoa(f.sample))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer p.untilSignal(stop)()
	w := newLineWriter(p.out, p.json)
	defer func() { err = errors.Join(err, w.flush()) }()
	err = c.lines(ctx, "/v1/tap", query, func(line []byte) error {
		if err := p.printTapped(w, f, line); err != nil {
			return err
		}
		if f.limit > 0 && w.count >= f.limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || ctx.Err() != nil {
		err = nil
	}
	return answer{lines: true}, err
}

func (p *program) printTapped(w *lineWriter, f *tapFlags, line []byte) error {
	if p.json {
		w.count++
		if _, err := fmt.Fprintf(w.w, "%s\n", line); err != nil {
			return err
		}
		return w.flush()
	}
	var e flow.Tapped
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	if e.Dropped > 0 {
		fmt.Fprintf(p.diag, "%s events came too fast to be shown\n", thousands(e.Dropped))
	}
	if err := w.print(e.Line); err != nil {
		return err
	}
	if !f.quiet {
		fmt.Fprintf(w.w, "    %s\n", tappedText(&e))
	}
	return w.flush()
}

// tappedText is the event in a line.
func tappedText(e *flow.Tapped) string {
	text := e.Text
	switch {
	case e.Event != nil:
		var b bytes.Buffer
		if json.Compact(&b, e.Event) == nil {
			text = b.String()
		}
	case e.Bytes != nil:
		text = fmt.Sprintf("%x", e.Bytes)
	}
	text = oneLine(text)
	if len(text) <= maxTapText {
		return text
	}
	cut := maxTapText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}
