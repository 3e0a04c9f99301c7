package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// TestFile is a file of tests of a configuration, by convention NAME_test.yaml
// beside it.
type TestFile struct {
	Name   string // as it was given to LoadTests
	Config string // the configuration that is tested, absolute; "" = the caller's
	Cases  []Case
}

// Case is one test: events that come in and what must become of them.
type Case struct {
	Name        string
	Line        int                 // where it stands in the file
	Start       time.Time           // the wall clock at the beginning
	Limit       time.Duration       // virtual time after the last event in which parked deliveries may still arrive
	Events      []CaseEvent         // in the order in which they come
	Answers     map[string][]string // by sink: what it answers to one write of one entry after the other; then ok
	Expect      map[string]Expected
	DeadLetters *Expected         // nil = there must be none
	Outcomes    map[string]uint64 // by outcome; nil = not looked at
}

// CaseEvent is one event that comes in.
type CaseEvent struct {
	Source string        // "" = the only one
	At     time.Duration // virtual time since the beginning
	Key    string        // the transport's own; "" = none
	Data   []byte        // as it comes
	Line   int
}

// Expected is what must arrive at one place.
type Expected struct {
	Line     int
	Count    int  // with Counted: how many
	Counted  bool // only the number is looked at
	Contains bool // others may arrive besides
	List     []json.RawMessage
}

// Defaults of tests.
const (
	DefaultCaseLimit = 2 * time.Hour // above a sink's default max_age
	maxCases         = 1000
	maxCaseEvents    = 100_000
	maxAnswers       = 100_000
	maxTestedFile    = 16 << 20 // bytes of a file of events
)

// DefaultCaseStart is the wall clock of a test that says nothing else.
var DefaultCaseStart = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Answers are the words for what a sink may answer.
var Answers = []string{"ok", "retry", "throttled", "unknown", "poison", "fatal"}

// LoadTests reads a file of tests. The error is an *Errors with every mistake found.
func LoadTests(name string) (*TestFile, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, &Errors{Mistakes: []Mistake{{File: name, Error: fmt.Sprintf("cannot be read: %v", cause(err))}}}
	}
	return ParseTests(name, data)
}

// ParseTests reads the text of a file of tests; files of events that it names are
// looked for from its folder.
func ParseTests(name string, data []byte) (*TestFile, error) {
	full, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", name, err)
	}
	f := &file{findings: &findings{places: map[string]place{}}, name: name, dir: filepath.Dir(full), files: osFiles{}}
	f.refs = &refs{findings: f.findings, dir: f.dir} // without an environment: tests do not depend on one
	out := &TestFile{Name: name}
	if root := f.parse(name, data); root != nil {
		f.testReader(out).read(f.findings, root, "")
		if len(out.Cases) == 0 && len(f.mistakes) == 0 {
			f.add(root.at, "tests", "there are none", "")
		}
	}
	return out, f.err()
}

// TestSchema returns the JSON Schema of a file of tests, indented.
func TestSchema() []byte {
	f := &file{}
	root := f.testReader(&TestFile{}).schema()
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Weir tests"
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic("config: a schema that is no JSON: " + err.Error()) // it is made of plain values
	}
	return append(out, '\n')
}

func (f *file) testReader(out *TestFile) reader {
	return object(
		member{name: "version", doc: "Version of this form: 1.", required: true, reader: versionReader(new(int))},
		member{name: "config", doc: "The configuration, from this file's folder; default: the one that the command names.", reader: withCheck(text(&out.Config), func(*findings, *node, string) {
			out.Config = absolute(f.dir, out.Config)
		})},
		member{name: "tests", doc: "The tests.", required: true, reader: listed("tests", maxCases, func() (*Case, reader) {
			c := &Case{Start: DefaultCaseStart, Limit: DefaultCaseLimit}
			return c, f.caseReader(c)
		}, func(c *Case) { out.Cases = append(out.Cases, *c) })},
	)
}

func (f *file) caseReader(c *Case) reader {
	last := time.Duration(0)
	r := object(
		member{name: "name", doc: "What is tested, in words.", required: true, reader: text(&c.Name)},
		member{name: "start", doc: "The wall clock at the beginning, RFC 3339; default 2026-01-01T00:00:00Z.", reader: instant(&c.Start)},
		member{name: "limit", doc: "Virtual time after the last event in which deliveries may still arrive; default 2h.", reader: duration(&c.Limit, 0, 366*24*time.Hour)},
		member{name: "events", doc: "What comes in, in this order.", required: true, reader: listed("events", maxCaseEvents, func() (*inflow, reader) {
			in := &inflow{at: last}
			return in, f.inflowReader(in)
		}, func(in *inflow) {
			last = in.at
			for _, data := range in.data {
				c.Events = append(c.Events, CaseEvent{Source: in.source, At: in.at, Key: in.key, Data: data, Line: in.line})
			}
		})},
		member{name: "answers", doc: "By sink: what it answers to one write after the other; then ok.", reader: byName(&c.Answers, func(dst *[]string) reader {
			return listed("answers", maxAnswers, func() (*string, reader) {
				word := new(string)
				return word, text(word, Answers...)
			}, func(word *string) { *dst = append(*dst, *word) })
		})},
		member{name: "expect", doc: "By sink: what must arrive there. Sinks that are not named are not looked at.", reader: byName(&c.Expect, expectedReader)},
		member{name: "dead_letters", doc: "What must be dead; without it nothing may.", reader: reader{
			read: func(fs *findings, n *node, path string) {
				c.DeadLetters = &Expected{}
				expectedReader(c.DeadLetters).read(fs, n, path)
			},
			schema: expectedReader(nil).schema,
		}},
		member{name: "outcomes", doc: "How many events must end how, such as {delivered: 2, duplicate: 1}.", reader: byName(&c.Outcomes, func(dst *uint64) reader {
			var n int64
			return withCheck(whole(&n, 0, 1<<40), func(*findings, *node, string) { *dst = uint64(n) })
		})},
	)
	return withCheck(r, func(_ *findings, n *node, _ string) { c.Line = n.at.line })
}

// inflow is one member of events: an event, or a file of them.
type inflow struct {
	source, key string
	at          time.Duration
	line        int
	data        [][]byte
}

func (f *file) inflowReader(in *inflow) reader {
	var name string
	r := object(
		member{name: "in", doc: "The source; default: the only one.", reader: text(&in.source)},
		member{name: "at", doc: "Virtual time since the beginning; default: with the event before.", reader: duration(&in.at, in.at, 366*24*time.Hour)},
		member{name: "key", doc: "The key that the transport gives it.", reader: text(&in.key)},
		member{name: "event", doc: "The event: a mapping, whose scalars go by JSON's rules, or a text, which comes as it is.", reader: eventReader(&in.data)},
		member{name: "file", doc: "Instead of event: a file with an event a line.", reader: text(&name)},
	)
	return withCheck(r, func(fs *findings, n *node, path string) {
		in.line = n.at.line
		switch event, lines := n.get("event") != nil, n.get("file"); {
		case n.kind != mapping:
		case event == (lines != nil):
			fs.add(n.at, path, "needs exactly one of: event, file", "")
		case lines != nil && name != "":
			f.readLines(fs, lines, join(path, "file"), absolute(f.dir, name), in)
		}
	})
}

func (f *file) readLines(fs *findings, n *node, path, full string, in *inflow) {
	data, err := f.files.ReadFile(full)
	switch {
	case err != nil:
		fs.add(n.at, path, fmt.Sprintf("%s: %v", n.what(), cause(err)), "")
	case len(data) > maxTestedFile:
		fs.add(n.at, path, fmt.Sprintf("%s is larger than %s", n.what(), formatSize(maxTestedFile)), "")
	default:
		in.data = append(in.data, nonBlankLines(data)...)
	}
}

// eventReader reads one event as its bytes.
func eventReader(dst *[][]byte) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if n.kind == scalar {
				*dst = append(*dst, []byte(n.text))
				return
			}
			var raw json.RawMessage
			if jsonValue(&raw).read(f, n, path); raw != nil {
				*dst = append(*dst, raw)
			}
		},
		schema: func() schema { return schema{"type": []string{"object", "array", "string"}} },
	}
}

// expectedReader reads a number, a list, or {contains: list}.
func expectedReader(dst *Expected) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			dst.Line = n.at.line
			items := n
			switch {
			case n.isTyped() && n.kind == scalar && looksNumeric(n.text):
				dst.Counted = true
				whole(&dst.Count, 0, 1<<40).read(f, n, path)
				return
			case n.kind == mapping:
				if items = n.get("contains"); items == nil || len(n.pairs) > 1 {
					f.add(n.at, path, "a mapping that is not {contains: [...]}", "write a list: [{...}]")
					return
				}
				dst.Contains = true
			}
			if items.kind != list {
				f.wrongType(items, path, "a number, or a list of what must arrive")
				return
			}
			for _, item := range items.items {
				var raw json.RawMessage
				if jsonValue(&raw).read(f, item, path); raw != nil {
					dst.List = append(dst.List, raw)
				}
			}
		},
		schema: func() schema {
			all := schema{"type": "array"}
			return schema{"anyOf": []schema{
				all,
				{"type": "integer", "minimum": 0},
				{"type": "object", "required": []string{"contains"}, "properties": schema{"contains": all}, "additionalProperties": false},
			}}
		},
	}
}
