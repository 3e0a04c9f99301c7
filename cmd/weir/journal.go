package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/vfs"
)

// journalFlags choose lines of the journal.
type journalFlags struct {
	data     string
	query    journal.Query
	outcomes []string
	since    string
	until    string
	oldest   bool
	follow   bool
}

// defaultLines is how many lines journal prints unless told otherwise.
const defaultLines = 50

func (p *program) journalCommand() *cobra.Command {
	var f journalFlags
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "List what became of events",
		Long: "List what became of events, newest first: delivered, filtered, refused and so on, with\n" +
			"routes, sinks and reasons. It reads the data folder, also while weir runs, and changes\n" +
			"nothing. Flags narrow the list; all of them must hold. --json prints one object a line.",
		Args: cobra.NoArgs,
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			return p.listJournal(ctx, cmd, &f)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.data, "data", "", "the data folder (default: the configuration's)")
	flags.StringVar(&f.query.ID, "id", "", "the event's id")
	flags.StringVar(&f.query.Source, "source", "", "the source's name")
	flags.StringVar(&f.query.Key, "key", "", "the events' key")
	flags.StringVar(&f.query.Route, "route", "", "a route that took the event")
	flags.StringVar(&f.query.Sink, "sink", "", "a sink that the event went to, or should have")
	flags.StringSliceVar(&f.outcomes, "outcome", nil, "outcomes of the event or of a delivery, such as dead,refused")
	flags.StringVar(&f.query.Reason, "reason", "", "the reason, such as invalid_json")
	flags.StringVar(&f.since, "since", "", "not before: a time (RFC 3339) or how long ago (15m, 2d)")
	flags.StringVar(&f.until, "until", "", "before: a time or how long ago")
	flags.IntVar(&f.query.Limit, "limit", defaultLines, "how many lines at most; 0 = all")
	flags.BoolVar(&f.oldest, "oldest", false, "oldest first")
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with what happens from now on, until interrupted")
	p.completeNames(cmd)
	return cmd
}

// ready makes the query of the flags.
func (f *journalFlags) ready(now time.Time) (journal.Query, error) {
	q := f.query
	q.Oldest = f.oldest
	var errs []error
	for _, name := range f.outcomes {
		o, err := journal.ParseOutcome(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("--outcome: %w", err))
			continue
		}
		q.Outcomes = append(q.Outcomes, o)
	}
	var err error
	if q.Since, err = pointInTime("--since", f.since, now); err != nil {
		errs = append(errs, err)
	}
	if q.Until, err = pointInTime("--until", f.until, now); err != nil {
		errs = append(errs, err)
	}
	if f.follow && (f.until != "" || f.oldest) {
		errs = append(errs, errors.New("--follow goes on for ever: it does not go with --until and --oldest"))
	}
	if err := errors.Join(append(errs, q.Validate())...); err != nil {
		return q, usageError{err}
	}
	return q, nil
}

// pointInTime reads a time, or a duration before now.
func pointInTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if d, err := time.ParseDuration(days + "h"); err == nil && d >= 0 {
			return now.Add(-24 * d), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s: %q is no time such as 2006-01-02T15:04:05Z and no duration such as 15m or 2d", flag, text)
}

func (p *program) listJournal(ctx context.Context, cmd *cobra.Command, f *journalFlags) (a answer, err error) {
	q, err := f.ready(time.Now())
	if err != nil {
		return answer{}, err
	}
	j, closeJournal, err := p.openJournal(cmd, f.data)
	if err != nil {
		return answer{}, err
	}
	defer func() { err = errors.Join(err, closeJournal()) }()
	w := newLineWriter(p.out, p.json)
	defer func() { err = errors.Join(err, w.flush()) }()
	if f.follow {
		return answer{lines: true}, p.followJournal(ctx, j, q, w)
	}
	if _, err = j.Find(ctx, q, w.print); err != nil {
		return answer{}, err
	}
	if w.count == 0 && !p.json {
		return answer{text: func(out io.Writer) { sayNothingFound(out, j, q) }}, nil
	}
	if q.Limit > 0 && w.count == q.Limit && !cmd.Flags().Changed("limit") {
		fmt.Fprintf(p.diag, "The first %d; --limit shows more.\n", w.count)
	}
	return answer{lines: true}, nil
}

// openJournal opens the journal of a data folder, the configuration's where none is named.
func (p *program) openJournal(cmd *cobra.Command, data string) (*journal.Journal, func() error, error) {
	if data == "" {
		plan, err := p.load(cmd)
		if err != nil {
			return nil, nil, err
		}
		data = plan.Node.Data
	}
	j, closeJournal, err := journal.Look(vfs.OS{}, data, newLog(p.diag, config.Log{Level: "error", Format: "text"}))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no journal in %s: weir has not run with this data folder yet", data)
	}
	return j, closeJournal, err
}

// sayNothingFound says what was looked through.
func sayNothingFound(out io.Writer, j *journal.Journal, q journal.Query) {
	fmt.Fprintln(out, "Nothing in the journal is like that.")
	since, err := j.Since()
	if err == nil && !since.IsZero() {
		fmt.Fprintf(out, "It goes back to %s.\n", since.Local().Format(time.DateTime))
	}
	if q.ID != "" {
		fmt.Fprintln(out, "An event that was taken in and is not settled yet is not in it.")
	}
}

// followJournal prints the newest lines and then what comes.
func (p *program) followJournal(ctx context.Context, j *journal.Journal, q journal.Query, w *lineWriter) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer p.untilSignal(stop)()
	from := j.End()
	before := q
	before.Limit = min(q.Limit, defaultLines)
	list, err := j.All(ctx, before)
	if err != nil {
		return err
	}
	for i := range list {
		if err := w.print(list[len(list)-1-i]); err != nil {
			return err
		}
	}
	q.Limit = 0
	err = errors.Join(w.flush(), j.FollowFrom(ctx, q, from, func(l *journal.Line) error {
		return errors.Join(w.print(l), w.flush())
	}))
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// untilSignal calls stop at the first signal. The function it returns ends the watch.
func (p *program) untilSignal(stop context.CancelFunc) (end func()) {
	signals := make(chan os.Signal, 1)
	forget := p.signals(signals)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
		case <-signals:
			stop()
		}
	}()
	return func() {
		forget()
		close(done)
		<-ended
	}
}

// lineWriter prints lines of the journal as a table, or as JSON.
type lineWriter struct {
	w     *bufio.Writer
	json  *json.Encoder // nil = table
	count int
}

func newLineWriter(out io.Writer, asJSON bool) *lineWriter {
	w := &lineWriter{w: bufio.NewWriter(out)}
	if asJSON {
		w.json = json.NewEncoder(w.w)
		w.json.SetEscapeHTML(false)
	}
	return w
}

// lineForm are the columns of the table.
const lineForm = "%-23s  %-12s  %-24s  %-10s  %s\n"

func (w *lineWriter) print(l *journal.Line) error {
	w.count++
	if w.json != nil {
		return w.json.Encode(l)
	}
	if w.count == 1 {
		fmt.Fprintf(w.w, lineForm, "TIME", "SOURCE", "ID", "OUTCOME", "WHERE AND WHY")
	}
	_, err := fmt.Fprintf(w.w, lineForm, l.Time.Local().Format("2006-01-02 15:04:05.000"), l.Source, oneLine(l.ID), l.Outcome, whereAndWhy(l))
	return err
}

func (w *lineWriter) flush() error { return w.w.Flush() }

// oneLine keeps what came from outside from breaking out of its line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// whereAndWhy says in a line where an event went: route > sinks, and what did not
// simply arrive.
func whereAndWhy(l *journal.Line) string {
	var parts []string
	switch {
	case l.Redelivered && len(l.Deliveries) > 0 && strings.HasPrefix(l.Deliveries[0].Sink, config.DeadLettersName+"/"):
		parts = append(parts, "was a dead letter")
	case l.Redelivered:
		parts = append(parts, "was parked")
	}
	var route string
	var sinks []string
	flush := func() {
		if len(sinks) > 0 {
			parts = append(parts, strings.TrimPrefix(route+" > ", " > ")+strings.Join(sinks, ", "))
		}
		sinks = nil
	}
	for _, d := range l.Deliveries {
		if d.Outcome == journal.Delivered.String() && d.Attempts == 0 {
			if d.Route != route {
				flush()
			}
			route = d.Route
			sinks = append(sinks, d.Sink)
			continue
		}
		flush()
		parts = append(parts, deliveryText(&d))
	}
	flush()
	if len(l.Deliveries) == 0 && len(l.Routes) > 0 {
		parts = append(parts, strings.Join(l.Routes, ", "))
	}
	if l.Reason != "" && !l.Redelivered {
		parts = append(parts, oneLine(l.Reason))
	}
	return strings.Join(parts, "; ")
}

// deliveryText is a delivery that did not simply arrive.
func deliveryText(d *journal.Delivery) string {
	at := strings.Trim(d.Route+" > "+d.Sink, " >")
	text := at + ": " + d.Outcome
	if d.Attempts > 0 {
		text += fmt.Sprintf(" after %d attempt", d.Attempts)
		if d.Attempts > 1 {
			text += "s"
		}
	}
	if d.Reason != "" {
		text += ", " + oneLine(d.Reason)
	}
	return text
}
