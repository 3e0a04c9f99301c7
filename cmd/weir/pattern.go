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
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/field"
	"github.com/weir-project/weir/engine/pattern"
)

func (p *program) patternCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "pattern", Short: "Try patterns on events", RunE: needsCommand}
	cmd.AddCommand(p.matchCommand(), p.vectorsCommand())
	return cmd
}

// maxVerdicts is how many verdicts --json holds in memory.
const maxVerdicts = 100_000

// judged is what a pattern says of one event.
type judged struct {
	Line    int    `json:"line"`
	ID      string `json:"id,omitempty"`
	Matched bool   `json:"matched"`
	Reason  string `json:"reason,omitempty"` // why not
	View    string `json:"view"`             // the envelope that was seen, or raw
}

// matching is the answer of pattern match.
type matching struct {
	Events  int      `json:"events"`
	Matched int      `json:"matched"`
	Lines   []judged `json:"lines"`
}

func (p *program) matchCommand() *cobra.Command {
	var raw, quiet bool
	cmd := &cobra.Command{
		Use:   "match PATTERN [EVENTS|-]",
		Short: "Say which events match a pattern, and why the others do not (exit 1 if none does)",
		Long: "Say which events match a pattern, and why the others do not: the first condition\n" +
			"that fails. PATTERN is JSON, a file that holds it, or the name of a route of the\n" +
			"configuration. EVENTS is a file with an event a line, or standard input.\n\n" +
			"A pattern sees an event as a route does: by its canonical names in whatever envelope\n" +
			"it stands. What is in no known envelope is seen as it is, and so is everything with\n" +
			"--raw. What an envelope may lack (see missing: of a source) is made up.",
		Example: `  weir pattern match '{"type": ["OrderCreated"]}' orders.ndjson` + "\n  weir pattern match deliveries orders.ndjson -c weir.yaml",
		Args:    cobra.RangeArgs(1, 2),

		ValidArgsFunction: p.patternsOrFiles,
		RunE: p.action(func(_ context.Context, cmd *cobra.Command, args []string) (answer, error) {
			text, err := p.patternText(cmd, args[0])
			if err != nil {
				return answer{}, err
			}
			t, err := newTrial(text)
			if err != nil {
				return answer{}, wrongInput{err}
			}
			in, name, err := p.openInput(args[1:])
			if err != nil {
				return answer{}, err
			}
			defer in.Close()
			return p.match(t, in, name, raw, quiet)
		}),
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "look at events as they stand, in no envelope")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the number of events and of those that match only")
	return cmd
}

// patternText finds the pattern that an argument stands for.
func (p *program) patternText(cmd *cobra.Command, arg string) ([]byte, error) {
	if strings.HasPrefix(strings.TrimSpace(arg), "{") {
		return []byte(arg), nil
	}
	if text, err := os.ReadFile(arg); err == nil {
		return text, nil
	}
	plan, err := p.load(cmd)
	if err != nil {
		return nil, wrongInput{fmt.Errorf("%q is no JSON object and no file, and for the name of a route the configuration is wanted: %w", arg, err)}
	}
	var names []string
	for _, r := range plan.Routes {
		if r.Name == arg {
			if r.When == nil {
				return nil, wrongInput{fmt.Errorf("route %q has no pattern: it takes every event", arg)}
			}
			return r.When, nil
		}
		names = append(names, r.Name)
	}
	return nil, wrongInput{fmt.Errorf("%q is no JSON object, no file and no route; routes: %s", arg, list(names))}
}

// openInput opens the file that the arguments name, or standard input.
func (p *program) openInput(args []string) (io.ReadCloser, string, error) {
	if len(args) == 0 || args[0] == "-" {
		return io.NopCloser(p.in), "standard input", nil
	}
	f, err := os.Open(args[0])
	if err != nil {
		return nil, "", wrongInput{err}
	}
	return f, args[0], nil
}

func (p *program) match(t *trial, in io.Reader, name string, raw, quiet bool) (answer, error) {
	m := matching{Lines: []judged{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	out := bufio.NewWriter(p.out)
	for number := 1; lines.Scan(); number++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		for _, j := range t.judge(line, raw) {
			j.Line = number
			m.Events++
			if j.Matched {
				m.Matched++
			}
			switch {
			case quiet:
			case !p.json:
				j.print(out)
			case len(m.Lines) < maxVerdicts:
				m.Lines = append(m.Lines, j)
			}
		}
	}
	if err := out.Flush(); err != nil {
		return answer{}, fmt.Errorf("print the verdicts: %w", err)
	}
	if err := lines.Err(); err != nil {
		return answer{result: m}, wrongInput{fmt.Errorf("%s: %w", name, err)}
	}
	return answer{result: m, no: m.Matched == 0, text: func(w io.Writer) {
		fmt.Fprintf(w, "%s of %s events match\n", thousands(uint64(m.Matched)), thousands(uint64(m.Events)))
	}}, nil
}

func (j judged) print(w io.Writer) {
	name := ""
	if j.ID != "" {
		name = " " + j.ID
	}
	if j.Matched {
		fmt.Fprintf(w, "%d:%s matches\n", j.Line, name)
		return
	}
	fmt.Fprintf(w, "%d:%s no: %s\n", j.Line, name, j.Reason)
}

// trial is one pattern, ready to be held against events.
type trial struct {
	pattern *pattern.Pattern
	program *field.Program
	values  field.Values
	view    pattern.View
}

func newTrial(text []byte) (*trial, error) {
	compiled, err := pattern.Compile(text)
	if err != nil {
		return nil, err
	}
	return trialOf(compiled)
}

func trialOf(compiled *pattern.Pattern) (t *trial, err error) {
	t = &trial{pattern: compiled}
	if t.program, err = field.Compile(compiled.Fields(), field.Options{}); err != nil {
		return nil, err
	}
	for i := range compiled.Fields() {
		t.view.Slots = append(t.view.Slots, int32(i))
	}
	t.view.Values = &t.values
	return t, nil
}

// verdict holds the pattern against a document as it stands.
func (t *trial) verdict(doc []byte) (pattern.Verdict, error) {
	if err := t.program.Scan(doc, &t.values); err != nil {
		return pattern.Verdict{}, err
	}
	t.view.Doc = doc
	return t.pattern.Explain(&t.view), nil
}

// madeUp is what events have that their envelopes lack.
var madeUp = event.Missing{Source: "/missing", Zone: time.UTC, EpochUnit: "ms"}

// auto finds envelopes by itself.
var auto, _ = event.ParseCodec([]string{"auto"})

// judge holds the pattern against the events of a line.
func (t *trial) judge(line []byte, raw bool) []judged {
	if !json.Valid(line) {
		return []judged{{Reason: "it is no JSON", View: "raw"}}
	}
	events, err := event.DecodeAll(line, auto, madeUp, event.Limits{Event: maxLine})
	if raw || err != nil || len(events) == 0 {
		return []judged{t.judgeDoc(line, judged{View: "raw"})}
	}
	var all []judged
	for i := range events {
		e := &events[i]
		j := judged{ID: e.ID, View: chainName(e.Chain)}
		doc, err := e.AppendCloudEvent(nil, event.Stamps{})
		if err != nil {
			j.Reason = err.Error()
			all = append(all, j)
			continue
		}
		all = append(all, t.judgeDoc(bothNames(doc, line, e), j))
	}
	return all
}

func (t *trial) judgeDoc(doc []byte, j judged) judged {
	v, err := t.verdict(doc)
	if err != nil {
		j.Reason = err.Error()
		return j
	}
	if j.Matched = v.Matched; !v.Matched {
		j.Reason = v.String()
	}
	return j
}

func chainName(chain []event.Envelope) string {
	var names []string
	for _, e := range chain {
		names = append(names, e.String())
	}
	return strings.Join(names, ">")
}

// bridgeNames are EventBridge's names for canonical ones.
var bridgeNames = []struct{ theirs, ours string }{
	{"detail-type", "type"},
	{"detail", "data"},
	{"account", "awsaccount"},
	{"region", "awsregion"},
	{"resources", "awsresources"},
}

// bothNames adds EventBridge's names to a canonical event: those of the envelope
// where it came in one, else the canonical values under the other name.
func bothNames(doc, original []byte, e *event.Event) []byte {
	from := doc
	bridged := len(e.Chain) > 0 && e.Chain[0] == event.EventBridge
	if bridged {
		from = original
	}
	var members, own map[string]json.RawMessage
	if json.Unmarshal(from, &members) != nil || json.Unmarshal(doc, &own) != nil {
		return doc
	}
	doc = doc[:len(doc)-1]
	for _, n := range bridgeNames {
		name := n.ours
		if bridged {
			name = n.theirs
		}
		if v, ok := members[name]; ok && own[n.theirs] == nil {
			doc = append(append(doc, `,"`+n.theirs+`":`...), v...)
		}
	}
	return append(doc, '}')
}

// vector is a line of a vector file: a pattern with an event and the verdict, or a
// pattern that must or must not be one.
type vector struct {
	Pattern     json.RawMessage `json:"pattern"`
	PatternText *string         `json:"pattern_text"`
	Event       json.RawMessage `json:"event"`
	Match       *bool           `json:"match"`
	Valid       *bool           `json:"valid"`
	Name        string          `json:"name"`
}

// vectorResult is the answer of pattern test.
type vectorResult struct {
	Passed   int             `json:"passed"`
	Failed   int             `json:"failed"`
	Failures []vectorFailure `json:"failures"`
}

type vectorFailure struct {
	Line int    `json:"line"`
	Name string `json:"name,omitempty"`
	Got  string `json:"got"`
	Want string `json:"want"`
}

func (p *program) vectorsCommand() *cobra.Command {
	var bridge bool
	cmd := &cobra.Command{
		Use:   "test VECTORS",
		Short: "Run a file of patterns, events and verdicts (exit 1 if one differs)",
		Long: "Run a file with a test a line, JSON with the members\n\n" +
			"  pattern or pattern_text   the pattern, as JSON or as a text that may be no JSON\n" +
			"  event, match              an event, as it stands, and whether it must match\n" +
			"  valid                     without event: whether the pattern must be one\n" +
			"  name                      for people\n\n" +
			"Other members are passed over. The last line says how many passed and failed.",
		Args: cobra.ExactArgs(1),
		RunE: p.action(func(_ context.Context, _ *cobra.Command, args []string) (answer, error) {
			in, name, err := p.openInput(args)
			if err != nil {
				return answer{}, err
			}
			defer in.Close()
			return runVectors(in, name, bridge)
		}),
	}
	cmd.Flags().BoolVar(&bridge, "eventbridge", false, "take what the service takes: at most 2,048 characters, the last of two equal names")
	return cmd
}

func runVectors(in io.Reader, name string, bridge bool) (answer, error) {
	r := vectorResult{Failures: []vectorFailure{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for number := 1; lines.Scan(); number++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var v vector
		if err := json.Unmarshal(line, &v); err != nil {
			return answer{}, wrongInput{fmt.Errorf("%s:%d: %w", name, number, err)}
		}
		got, want, err := v.run(bridge)
		if err != nil {
			return answer{}, wrongInput{fmt.Errorf("%s:%d: %w", name, number, err)}
		}
		if got == want || strings.HasPrefix(got, want+": ") {
			r.Passed++
			continue
		}
		r.Failed++
		if len(r.Failures) < maxVerdicts {
			r.Failures = append(r.Failures, vectorFailure{number, v.Name, got, want})
		}
	}
	if err := lines.Err(); err != nil {
		return answer{}, wrongInput{fmt.Errorf("%s: %w", name, err)}
	}
	return answer{result: r, no: r.Failed > 0, text: func(w io.Writer) { r.print(w, name) }}, nil
}

func (r vectorResult) print(w io.Writer, file string) {
	for _, f := range r.Failures {
		title := ""
		if f.Name != "" {
			title = " " + f.Name + ":"
		}
		fmt.Fprintf(w, "%s:%d:%s %s, want %s\n", file, f.Line, title, f.Got, f.Want)
	}
	fmt.Fprintf(w, "%d passed, %d failed\n", r.Passed, r.Failed)
}

// run says what is and what should be, in words.
func (v *vector) run(bridge bool) (got, want string, err error) {
	text := []byte(v.Pattern)
	if v.PatternText != nil {
		text = []byte(*v.PatternText)
	}
	options := pattern.Options{LastWins: true}
	if bridge {
		options = pattern.EventBridge()
	}
	if text == nil {
		return "", "", errors.New("the pattern is missing")
	}
	compiled, bad := options.Compile(text)
	if v.Event == nil {
		if v.Valid == nil {
			return "", "", errors.New("neither event and match nor valid")
		}
		return validity(bad), map[bool]string{true: "valid", false: "refused"}[*v.Valid], nil
	}
	if v.Match == nil {
		return "", "", errors.New("match is missing")
	}
	want = map[bool]string{true: "matched", false: "no match"}[*v.Match]
	if bad != nil {
		return validity(bad), want, nil
	}
	t, err := trialOf(compiled)
	if err != nil {
		return "", "", err
	}
	verdict, bad := t.verdict(v.Event)
	switch {
	case bad != nil:
		return "no match: " + bad.Error(), want, nil
	case verdict.Matched:
		return "matched", want, nil
	}
	return "no match: " + verdict.String(), want, nil
}

func validity(bad error) string {
	if bad != nil {
		return "refused: " + bad.Error()
	}
	return "valid"
}
