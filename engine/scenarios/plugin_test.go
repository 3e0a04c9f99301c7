package scenarios_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weir-project/weir/plugins"
)

// host loads fake filters: their code is a table in JSON,
//
//	{"fields": ["id"], "outputs": [...], "on_error": "...",
//	 "answers": {"e1": ["error", "yes"], "*": ["no"]}}
//
// of answers by the text of the first field, one an attempt, the last one for ever:
// yes, no, outputs with commas between them, error (the call fails) or refuse (the
// plug-in refuses this event).
type host struct {
	files map[string]string // code by path
}

func (host) Name() string                { return "fake" }
func (host) Close(context.Context) error { return nil }

func (h host) Load(_ context.Context, spec plugins.Spec) (plugins.Plugin, error) {
	code, ok := h.files[spec.Path]
	if !ok {
		return nil, errors.New("no such plug-in: " + spec.Path)
	}
	p := &fake{name: spec.Name, digest: fmt.Sprintf("%x", sha256.Sum256([]byte(code)))}
	return p, json.Unmarshal([]byte(code), &p.code)
}

type fake struct {
	name   string
	digest string
	open   atomic.Int64 // instances
	code   struct {
		Fields, Outputs []string
		OnError         plugins.OnError `json:"on_error"`
		Answers         map[string][]string
	}
	mu sync.Mutex // guards code.Answers
}

func (p *fake) Manifest() plugins.Manifest {
	return plugins.Manifest{
		Name: p.name, Version: "1.0.0", Kind: plugins.Filter, Fields: p.code.Fields, Outputs: p.code.Outputs, OnError: p.code.OnError,
	}
}
func (p *fake) Digest() string { return p.digest }

func (p *fake) Close(context.Context) error {
	if n := p.open.Load(); n != 0 {
		return fmt.Errorf("closed with %d instances", n)
	}
	return nil
}

func (p *fake) Instance(context.Context) (plugins.Instance, error) {
	p.open.Add(1)
	return &fakeInstance{plugin: p}, nil
}

type fakeInstance struct {
	plugin *fake
	spent  bool
}

func (*fakeInstance) Reason(int) string { return "not this one" }

func (in *fakeInstance) Close(context.Context) error {
	in.plugin.open.Add(-1)
	return nil
}

func (in *fakeInstance) Filter(_ context.Context, batch *plugins.Batch, answers []uint32) error {
	if in.spent {
		return errors.New("called again after an error")
	}
	for i, text := range firstSlots(batch) {
		switch answer := in.plugin.answer(text); answer {
		case "error":
			in.spent = true
			return errors.New("trap at " + text)
		case "refuse":
			answers[i] = plugins.Failed
		case "no":
			answers[i] = 0
		case "yes":
			answers[i] = 1
		default:
			answers[i] = 0
			for _, name := range strings.Split(answer, ",") {
				answers[i] |= 1 << slices.Index(in.plugin.code.Outputs, name)
			}
		}
	}
	return nil
}

func (p *fake) answer(text string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range []string{text, "*"} {
		if list := p.code.Answers[key]; len(list) > 0 {
			if len(list) > 1 {
				p.code.Answers[key] = list[1:]
			}
			return list[0]
		}
	}
	return "yes"
}

// firstSlots reads the first field of every event, by the batch's own format.
func firstSlots(batch *plugins.Batch) []string {
	b := batch.Bytes()
	data := b[16+8*batch.Len()*batch.Slots():]
	texts := make([]string, batch.Len())
	for i := range texts {
		slot := b[16+8*i*batch.Slots():]
		from, meta := binary.LittleEndian.Uint32(slot), binary.LittleEndian.Uint32(slot[4:])
		texts[i] = string(data[from : from+meta&0xffffff])
	}
	return texts
}
