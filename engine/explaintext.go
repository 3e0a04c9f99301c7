package engine

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/journal"
)

// meanings say what an outcome is, to somebody who does not know the words.
var meanings = map[string]string{
	journal.Delivered.String(): "it went where its routes lead",
	journal.Unmatched.String(): "no route's pattern matched it",
	journal.Filtered.String():  "a route's pattern matched, and the route's plug-ins said no",
	journal.Duplicate.String(): "the same event had come before: its identity is in the window",
	journal.Stale.String():     "a newer version of it had come before",
	journal.Conflict.String():  "an event of the same identity and version, with other data, had come before",
	journal.Expired.String():   "it was past its expiry",
	journal.Refused.String():   "it is not an event that can be read",
	journal.Dead.String():      "it could not be delivered, or a plug-in failed on it",
	journal.Parked.String():    "its sink did not take it in time; it waits in the sink's park queue",
	journal.Discarded.String(): "a plug-in's on_error: drop, or a test event of S3",
}

// TimeForm is how explanations write times, in the local zone.
const TimeForm = "2006-01-02 15:04:05.000"

// WriteText writes the explanation for people. Times are in zone, nil = local.
func (x *Explanation) WriteText(w io.Writer, zone *time.Location) error {
	if zone == nil {
		zone = time.Local
	}
	t := &explainText{w: bufio.NewWriter(w), zone: zone}
	t.recorded(x)
	for i := range x.Events {
		if len(x.Events) > 1 || x.ID != "" && len(x.Recorded) > 0 {
			t.line("")
		}
		t.examined(x, &x.Events[i], i)
	}
	return t.w.Flush()
}

type explainText struct {
	w    *bufio.Writer
	zone *time.Location
}

func (t *explainText) line(form string, args ...any) {
	fmt.Fprintf(t.w, form+"\n", args...) // errors stay in w until Flush
}

// recorded tells what the journal holds.
func (t *explainText) recorded(x *Explanation) {
	if x.ID == "" {
		return
	}
	if len(x.Recorded) == 0 {
		switch {
		case !x.Since.IsZero():
			t.line("The journal, which goes back to %s, has no event %s.\nIt was not taken in, or is not settled yet.\n", x.Since.In(t.zone).Format(TimeForm), plain(x.ID))
		case len(x.Events) <= 1:
			t.line("There is no journal to look into: what follows is what would happen.\n")
		}
		return
	}
	t.line("WHAT HAPPENED to %s", plain(x.ID))
	waiting := map[[2]string]bool{}
	for _, l := range x.Recorded {
		t.recordedLine(l, waiting)
	}
	for at := range waiting {
		t.line("  It still waits in the park queue of sink %s.", at[1])
	}
	if len(x.Events) == 0 {
		t.line("\nThe journal does not keep the bytes of events. To see why each route took it or did\nnot, give them: weir explain --event FILE --source %s", x.Recorded[0].Source)
	}
}

// recordedLine tells one line of the journal. waiting collects parked deliveries whose
// end was not told yet, by route and sink.
func (t *explainText) recordedLine(l *journal.Line, waiting map[[2]string]bool) {
	at := l.Time.In(t.zone).Format(TimeForm)
	if l.Redelivered {
		for _, d := range l.Deliveries {
			delete(waiting, [2]string{d.Route, d.Sink})
			t.line("  %s  from the park queue  %s", at, deliveryLine(&d))
		}
		return
	}
	t.line("  %s  %s", at, strings.ToUpper(l.Outcome))
	t.line("    from source %s, partition %s, place %d; configuration %d.%d", l.Source, orDash(l.Partition), l.Ordinal, l.Epoch, l.Generation)
	why := meanings[l.Outcome]
	if l.Reason != "" {
		why += " (" + plain(l.Reason) + ")"
	}
	t.line("    %s", why)
	for i := range l.Deliveries {
		d := &l.Deliveries[i]
		if d.Outcome == journal.Parked.String() {
			waiting[[2]string{d.Route, d.Sink}] = true
		}
		t.line("    %s", deliveryLine(d))
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// deliveryLine tells one delivery.
func deliveryLine(d *journal.Delivery) string {
	text := strings.TrimSpace(strings.Join([]string{about("route", d.Route), about("sink", d.Sink)}, " ")) + ": " + d.Outcome
	if d.Attempts > 0 {
		text += fmt.Sprintf(", attempts: %d", d.Attempts)
	}
	if d.Reason != "" {
		text += ", " + plain(d.Reason)
	}
	return text
}

func about(what, name string) string {
	if name == "" {
		return ""
	}
	return what + " " + name
}

// plain keeps what came from outside from breaking out of its line.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// examined tells what the configuration says of an event.
func (t *explainText) examined(x *Explanation, e *flow.Examination, index int) {
	title := "IF IT CAME NOW by source " + e.Source
	if len(x.Events) > 1 {
		title = fmt.Sprintf("EVENT %d, %s, IF IT CAME NOW by source %s", index+1, plain(e.ID), e.Source)
	}
	t.line("%s (nothing was changed)", title)
	stage := ""
	steps := shorten(e.Steps)
	for _, s := range steps {
		shown := s.Stage
		if shown == stage {
			shown = ""
		}
		stage = s.Stage
		text := plain(s.Verdict)
		if s.Subject != "" {
			text = s.Subject + ": " + text
		}
		if s.Why != "" {
			text += " - " + plain(s.Why)
		}
		t.line("  %-8s  %s", shown, text)
	}
	t.line("SO: %s", conclusion(e))
}

// maxNoMatch is how many routes that do not match are told for people.
const maxNoMatch = 30

// shorten leaves out what nobody reads: routes of other sources are one line, and only
// some of those that do not match are told.
func shorten(steps []flow.Step) []flow.Step {
	var list []flow.Step
	var others []string
	left, at := 0, -1
	for _, s := range steps {
		switch {
		case s.Stage == flow.StageMatch && s.Verdict == flow.NotAsked:
			others = append(others, s.Subject)
			at = len(list)
		case s.Stage == flow.StageMatch && s.Verdict == flow.NoMatch && left >= maxNoMatch:
			left++
			at = len(list)
		default:
			if s.Stage == flow.StageMatch && s.Verdict == flow.NoMatch {
				left++
			}
			list = append(list, s)
			if s.Stage == flow.StageMatch {
				at = len(list)
			}
		}
	}
	var more []flow.Step
	if left > maxNoMatch {
		more = append(more, flow.Step{Stage: flow.StageMatch, Verdict: fmt.Sprintf("%d further routes do not match; --json tells each", left-maxNoMatch)})
	}
	if len(others) > 0 {
		names := strings.Join(others[:min(len(others), maxNoMatch)], ", ")
		if len(others) > maxNoMatch {
			names += fmt.Sprintf(" and %d more", len(others)-maxNoMatch)
		}
		more = append(more, flow.Step{Stage: flow.StageMatch, Verdict: "not asked, since they take events of other sources: " + names})
	}
	if len(more) == 0 {
		return list
	}
	return append(list[:at:at], append(more, list[at:]...)...)
}

// conclusion is the examination in a sentence.
func conclusion(e *flow.Examination) string {
	text := strings.ToUpper(e.Outcome) + ": " + meanings[e.Outcome]
	if e.Reason != "" {
		text += " (" + plain(e.Reason) + ")"
	}
	if e.Anew != "" {
		text += ".\n    As a new event it would be " + strings.ToUpper(e.Anew)
	}
	var to []string
	for i := range e.Deliveries {
		to = append(to, deliveryLine(&e.Deliveries[i]))
	}
	if len(to) > 0 {
		text += ", with\n      " + strings.Join(to, "\n      ")
	}
	return text
}
