package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-project/weir/plugins"
)

// selfTest starts the module with its configuration and runs the manifest's
// samples, each as a batch of one event. It leaves a spare instance.
func (p *plugin) selfTest(ctx context.Context) error {
	spare, err := p.start(ctx, p.config)
	if err != nil {
		return err
	}
	p.spare = spare
	for i, s := range p.manifest.Samples {
		if err := p.runSample(ctx, s); err != nil {
			return fmt.Errorf("sample %s: %w", sampleName(i, s), err)
		}
	}
	return nil
}

func sampleName(i int, s plugins.Sample) string {
	if s.Name != "" {
		return fmt.Sprintf("%.70q", s.Name)
	}
	return fmt.Sprintf("%d", i)
}

// expected is the answer that a sample must get.
func expected(m *plugins.Manifest, expect string) (uint32, error) {
	if expect == "no" {
		return 0, nil
	}
	if expect == "yes" && len(m.Outputs) == 0 {
		return 1, nil
	}
	if i := slices.Index(m.Outputs, expect); i >= 0 {
		return 1 << i, nil
	}
	if len(m.Outputs) > 0 {
		return 0, fmt.Errorf("expect is %.70q, want no or one of the outputs %s", expect, strings.Join(m.Outputs, ", "))
	}
	return 0, fmt.Errorf("expect is %.70q, want yes or no", expect)
}

func (p *plugin) runSample(ctx context.Context, s plugins.Sample) (err error) {
	want, err := expected(&p.manifest, s.Expect)
	if err != nil {
		return err
	}
	ev, err := readSample(s.Event)
	if err != nil {
		return err
	}
	config := p.config
	if len(s.Config) > 0 {
		config = s.Config
	}
	in, err := p.start(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.shut(ctx)) }()
	var b plugins.Batch
	b.SetSource(ev)
	b.Reset(p.slots())
	b.Event()
	for _, path := range p.manifest.Fields {
		raw, _ := ev.Field(0, path)
		put(&b, raw)
	}
	if p.manifest.Data {
		put(&b, ev.members["data"])
	}
	var answers [1]uint32
	if err := in.Filter(ctx, &b, answers[:]); err != nil {
		return err
	}
	if answers[0] != want {
		return fmt.Errorf("the answer is %s, want %s%s", answerText(&p.manifest, answers[0]), s.Expect, because(in.Reason(0)))
	}
	return nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func answerText(m *plugins.Manifest, a uint32) string {
	if a&plugins.Failed != 0 {
		return "a failure"
	}
	if a == 0 {
		return "no"
	}
	if len(m.Outputs) == 0 {
		return "yes"
	}
	var names []string
	for i, o := range m.Outputs {
		if a&(1<<i) != 0 {
			names = append(names, o)
		}
	}
	return strings.Join(names, " and ")
}

// put adds a JSON value as the slot that the engine would make of it.
func put(b *plugins.Batch, raw []byte) {
	switch {
	case len(raw) == 0:
		b.Absent()
	case raw[0] == '"':
		text := raw[1 : len(raw)-1]
		b.String(text, bytes.IndexByte(text, '\\') >= 0)
	case raw[0] == 't' || raw[0] == 'f':
		b.Bool(raw[0] == 't')
	case raw[0] == 'n':
		b.Null()
	case raw[0] == '{' || raw[0] == '[':
		b.JSON(raw)
	default:
		b.Number(raw)
	}
}

// sampleEvent is a CloudEvents JSON event taken apart as far as asked.
type sampleEvent struct {
	members map[string]json.RawMessage
	time    int64
}

func readSample(text []byte) (*sampleEvent, error) {
	e := &sampleEvent{time: stillTime}
	if err := json.Unmarshal(text, &e.members); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if raw, ok := e.members["time"]; ok {
		var t time.Time
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, fmt.Errorf("event: time: %w", err)
		}
		e.time = t.UnixNano()
	}
	return e, nil
}

// Field follows a path of member names joined by dots.
func (e *sampleEvent) Field(_ int, path string) ([]byte, bool) {
	at := e.members
	for {
		name, rest, deeper := strings.Cut(path, ".")
		raw, ok := at[name]
		if !ok || !deeper {
			return raw, ok
		}
		at = nil
		if json.Unmarshal(raw, &at) != nil {
			return nil, false
		}
		path = rest
	}
}

// Time is the event's time.
func (e *sampleEvent) Time(int) int64 { return e.time }
