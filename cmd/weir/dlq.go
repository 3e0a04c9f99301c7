package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/letters"
)

// letterFlags choose dead letters.
type letterFlags struct {
	at           *instanceFlags
	filter       letters.Filter
	since, until string
	limit        int
}

func (p *program) dlqCommand() *cobra.Command {
	f := &letterFlags{}
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Look at dead letters, send them on their way again, or drop them",
		RunE:  needsCommand,
	}
	f.at = p.instanceFlags(cmd)
	cmd.AddCommand(p.lettersCommand(f), p.letterCommand(f), p.redriveCommand(f), p.dropCommand(f))
	return cmd
}

// chooseBy adds the flags of a filter.
func (p *program) chooseBy(cmd *cobra.Command, f *letterFlags) {
	flags := cmd.Flags()
	flags.StringVar(&f.filter.Reason, "reason", "", "the reason, such as retry_exhausted")
	flags.StringVar(&f.filter.Route, "route", "", "the route")
	flags.StringVar(&f.filter.Sink, "sink", "", "the sink that did not take it")
	flags.StringVar(&f.filter.Source, "source", "", "the source that the event came from")
	flags.StringVar(&f.filter.Key, "key", "", "the event's key")
	flags.StringVar(&f.filter.ID, "id", "", "the event's id, or the letter's")
	flags.StringVar(&f.since, "since", "", "not before: a time (RFC 3339) or how long ago (15m, 2d)")
	flags.StringVar(&f.until, "until", "", "before: a time or how long ago")
	p.completeNames(cmd)
}

// ready makes the filter of the flags, for the letters of these numbers if there are any.
func (f *letterFlags) ready(args []string) (*letters.Filter, error) {
	filter, now := f.filter, time.Now()
	var errs []error
	var err error
	if filter.Since, err = pointInTime("--since", f.since, now); err != nil {
		errs = append(errs, err)
	}
	if filter.Until, err = pointInTime("--until", f.until, now); err != nil {
		errs = append(errs, err)
	}
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q is not the number of a letter: weir dlq list shows them", arg))
		}
		filter.Numbers = append(filter.Numbers, n)
	}
	if f.limit < 0 {
		errs = append(errs, fmt.Errorf("--limit %d is negative", f.limit))
	}
	if err := errors.Join(append(errs, filter.Validate())...); err != nil {
		return nil, usageError{err}
	}
	return &filter, nil
}

func (p *program) lettersCommand(f *letterFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters with their reasons, oldest first",
		Long: "List dead letters with their reasons, oldest first. Flags narrow the list; all of them\n" +
			"must hold. It asks the running instance, or reads the data folder where none runs.",
		Args: cobra.NoArgs,
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			filter, err := f.ready(nil)
			if err != nil {
				return answer{}, err
			}
			list, more, err := p.someLetters(ctx, cmd, f, filter)
			if err != nil {
				return answer{}, err
			}
			return answer{result: list, text: func(w io.Writer) { printLetters(w, list, more) }}, nil
		}),
	}
	p.chooseBy(cmd, f)
	cmd.Flags().IntVar(&f.limit, "limit", defaultLines, "how many at most; 0 = all")
	return cmd
}

// someLetters collects letters up to the limit; more says that there are others.
func (p *program) someLetters(ctx context.Context, cmd *cobra.Command, f *letterFlags, filter *letters.Filter) (list []*letters.Letter, more bool, err error) {
	desk, err := p.letterDesk(ctx, cmd, f.at)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, desk.close()) }()
	list = []*letters.Letter{}
	ask := f.limit
	if ask > 0 {
		ask++
	}
	err = desk.each(ctx, filter, ask, func(l *letters.Letter) error {
		list = append(list, l)
		return nil
	})
	if f.limit > 0 && len(list) > f.limit {
		list, more = list[:f.limit], true
	}
	return list, more, err
}

// letterForm are the columns of the list.
const letterForm = "%-7s %-19s  %-17s %-32s  %-20s  %s\n"

func printLetters(w io.Writer, list []*letters.Letter, more bool) {
	if len(list) == 0 {
		fmt.Fprintln(w, "There are no such dead letters.")
		return
	}
	fmt.Fprintf(w, letterForm, "NUMBER", "TIME", "REASON", "EVENT", "WHERE", "DETAIL")
	for _, l := range list {
		fmt.Fprintf(w, letterForm, strconv.FormatUint(l.Number, 10), l.Time.Local().Format(time.DateTime), l.Reason, oneLine(l.EventID), whereOf(l), oneLine(cutShort(l.Detail)))
	}
	if more {
		fmt.Fprintln(w, "There are more; --limit shows them.")
	}
}

// maxDetail is how much of a detail a list shows, in bytes.
const maxDetail = 100

func cutShort(s string) string {
	if len(s) > maxDetail {
		return strings.ToValidUTF8(s[:maxDetail], "") + "..."
	}
	return s
}

// whereOf says how far an event came: source > route > sink.
func whereOf(l *letters.Letter) string {
	where := l.Source
	for _, step := range []string{l.Route, l.Sink} {
		if step != "" {
			where += " > " + step
		}
	}
	return where
}

func (p *program) letterCommand(f *letterFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show NUMBER...",
		Short: "Show all of a dead letter: why, where, the event as it came, what was sent",
		Args:  cobra.MinimumNArgs(1),
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, args []string) (answer, error) {
			filter, err := (&letterFlags{}).ready(args)
			if err != nil {
				return answer{}, err
			}
			list, _, err := p.someLetters(ctx, cmd, &letterFlags{at: f.at}, filter)
			if err != nil {
				return answer{}, err
			}
			a := answer{result: list, text: func(w io.Writer) {
				for i, l := range list {
					if i > 0 {
						fmt.Fprintln(w)
					}
					printLetter(w, l)
				}
			}}
			for _, n := range filter.Numbers {
				if !slices.ContainsFunc(list, func(l *letters.Letter) bool { return l.Number == n }) {
					return a, wrongInput{fmt.Errorf("there is no dead letter %d", n)}
				}
			}
			return a, nil
		}),
	}
}

func printLetter(w io.Writer, l *letters.Letter) {
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-11s %s\n", name, value)
		}
	}
	row("number", strconv.FormatUint(l.Number, 10))
	row("time", l.Time.UTC().Format(time.RFC3339Nano))
	row("reason", l.Reason)
	row("detail", l.Detail)
	row("event", l.EventID)
	row("key", l.Key)
	row("source", fmt.Sprintf("%s, partition %s, ordinal %d", l.Source, l.Partition, l.Ordinal))
	row("route", l.Route)
	row("sink", l.Sink)
	if l.Attempts > 0 {
		row("attempts", strconv.Itoa(l.Attempts))
	}
	row("generation", strconv.FormatUint(l.Generation, 10))
	row("lineage", string(l.Lineage))
	switch cut := l.Cut(); {
	case cut != nil:
		row("redrive", "cannot be: "+cut.Error())
	case l.Way() == letters.ToSink:
		row("redrive", "sends what was rendered to sink "+l.Sink+", and nowhere else")
	default:
		row("redrive", "reads the event once more as source "+l.Source+" does"+onlyFor(l))
	}
	printBytes(w, "original", l.Event())
	if sent := l.Sent(); sent != nil && !bytes.Equal(sent, l.Event()) {
		printBytes(w, "rendered", sent)
	}
}

func onlyFor(l *letters.Letter) string {
	switch {
	case l.Sink != "":
		return ", for route " + l.Route + " and sink " + l.Sink + " only"
	case l.Route != "":
		return ", for route " + l.Route + " only"
	}
	return ""
}

// printBytes sets JSON over several lines, and shows other bytes as they are.
func printBytes(w io.Writer, name string, data []byte) {
	var pretty bytes.Buffer
	switch {
	case json.Indent(&pretty, data, "", "  ") == nil:
		data = pretty.Bytes()
	case !utf8.Valid(data):
		data = fmt.Appendf(nil, "%q", data)
	}
	fmt.Fprintf(w, "%s\n  %s\n", name, strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", "\n  "))
}

// orderFlags are those of commands that do something with letters.
type orderFlags struct {
	yes   bool
	order letters.Order
	wait  time.Duration
}

func (p *program) redriveCommand(f *letterFlags) *cobra.Command {
	var o orderFlags
	cmd := &cobra.Command{
		Use:   "redrive [NUMBER]...",
		Short: "Send dead letters on their way again; without --yes only count them",
		Long: "Send dead letters on their way again. What a sink did not take goes to that sink only,\n" +
			"as it was rendered. What failed before that comes in once more as from its source, past\n" +
			"de-duplication and expiry, for the route and sink that it failed for. Letters of one key\n" +
			"keep their order. A letter is gone once its redrive is durable; if it fails again it\n" +
			"comes back with its attempts added.\n\n" +
			"Without --yes nothing is done: the letters are counted. It asks the running instance.\n" +
			"Where none runs, the engine is started for this alone, without asking its sources.",
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, args []string) (answer, error) {
			return p.orderLetters(ctx, cmd, f, &o, args)
		}),
	}
	p.chooseBy(cmd, f)
	flags := cmd.Flags()
	flags.BoolVar(&o.yes, "yes", false, "do it")
	flags.IntVar(&o.order.Limit, "limit", 0, "letters at most; 0 = all")
	flags.IntVar(&o.order.Rate, "rate", 1000, "letters a second at most; 0 = as fast as it goes")
	flags.DurationVar(&o.wait, "wait", 10*time.Second, "where no instance runs: how long deliveries may take")
	return cmd
}

func (p *program) dropCommand(f *letterFlags) *cobra.Command {
	o := orderFlags{order: letters.Order{Drop: true}}
	cmd := &cobra.Command{
		Use:   "drop [NUMBER]...",
		Short: "Throw dead letters away for good; without --yes only count them",
		Long: "Throw dead letters away for good; the journal keeps their ids and reasons. Without --yes\n" +
			"nothing is done: the letters are counted.",
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, args []string) (answer, error) {
			return p.orderLetters(ctx, cmd, f, &o, args)
		}),
	}
	p.chooseBy(cmd, f)
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do it")
	cmd.Flags().IntVar(&o.order.Limit, "limit", 0, "letters at most; 0 = all")
	return cmd
}

// ordered is the answer of redrive and drop.
type ordered struct {
	letters.Result
	DryRun bool `json:"dry_run"`
	Parked int  `json:"parked,omitempty"` // deliveries that still wait, where no instance runs
}

func (p *program) orderLetters(ctx context.Context, cmd *cobra.Command, f *letterFlags, o *orderFlags, args []string) (a answer, err error) {
	filter, err := f.ready(args)
	if err != nil {
		return answer{}, err
	}
	order := o.order
	order.Filter = *filter
	if err := order.Validate(); err != nil {
		return answer{}, usageError{err}
	}
	desk, err := p.letterDesk(ctx, cmd, f.at)
	if err != nil {
		return answer{}, err
	}
	defer func() { err = errors.Join(err, desk.close()) }()
	count := order
	count.Count = true
	r := ordered{DryRun: !o.yes}
	if r.Result, err = desk.carry(ctx, count); err != nil {
		return answer{}, err
	}
	if o.yes && r.Letters > 0 {
		order.Filter.End = r.End // what fails again stands behind it
		r.Result, r.Parked, err = desk.do(ctx, order, o.wait)
	}
	return answer{result: r, no: r.Kept > 0, text: func(w io.Writer) { r.print(w, order.Drop) }}, err
}

func (r *ordered) print(w io.Writer, drop bool) {
	if r.Letters == 0 {
		fmt.Fprintln(w, "There are no such dead letters.")
		return
	}
	fmt.Fprintf(w, "%s, %s, from %s to %s\n", plural(r.Letters, "dead letter"), bytesText(r.Bytes), r.First.Local().Format(time.DateTime), r.Last.Local().Format(time.DateTime))
	printCounts(w, r.ByReason)
	verb, done := "redrives", "Redriven"
	if drop {
		verb, done = "drops", "Dropped"
	} else {
		fmt.Fprintln(w, "Redriven, they go")
		printCounts(w, r.ByWay)
	}
	if r.DryRun {
		fmt.Fprintf(w, "Nothing was done: --yes %s them.\n", verb)
		return
	}
	fmt.Fprintf(w, "%s: %s.\n", done, thousands(uint64(r.Done)))
	if r.Kept > 0 {
		fmt.Fprintf(w, "Kept: %s.\n", thousands(uint64(r.Kept)))
	}
	for _, k := range r.Why {
		fmt.Fprintf(w, "  %d %s: %s\n", k.Number, k.ID, k.Reason)
	}
	if r.Parked > 0 {
		fmt.Fprintf(w, "Not delivered yet: %s; they go on at the next start.\n", thousands(uint64(r.Parked)))
	}
}

func printCounts(w io.Writer, counts map[string]int) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "  %-24s %8s\n", name, thousands(uint64(counts[name])))
	}
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return thousands(uint64(n)) + " " + what
}

func sinkNames(plan *config.Plan) (names []string) {
	for _, s := range plan.Sinks {
		names = append(names, s.Name)
	}
	return names
}

func sourceNames(plan *config.Plan) (names []string) {
	for _, s := range plan.Sources {
		names = append(names, s.Name)
	}
	return names
}
