package flow

import (
	"fmt"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/template"
	"github.com/weir-project/weir/transports"
)

// maxText bounds what a sink's setting may be for one event, in bytes.
const maxText = 8 << 10

// text is a sink's setting in which placeholders stand for fields of each event.
type text struct {
	setting  string
	template *template.Text
	early    *step // its fields in the event as it came
	made     *step // its fields in what a route's transforms made
}

// compileTexts compiles the settings of sinks that are templates.
func (g *Generation) compileTexts(plan *config.Plan) error {
	g.texts = make([][]text, len(g.sinks))
	for i, s := range sinksOf(plan) {
		for k, name := range s.Templates {
			for _, value := range s.TemplateTexts(name) {
				t, err := g.text(name, value, s.Escapes[k])
				if err != nil {
					return fmt.Errorf("sink %s: %s: %w", s.Name, name, err)
				}
				g.texts[i] = append(g.texts[i], t)
			}
		}
	}
	return nil
}

func (g *Generation) text(setting, value string, escape transports.Escaping) (t text, err error) {
	t.setting = setting
	if t.template, err = template.ParseText(value, template.Options{Escape: escape.Append}); err != nil {
		return t, err
	}
	if t.early, err = g.wanting(t.template.Refs(), true); err != nil {
		return t, err
	}
	t.made, err = g.wanting(t.template.Refs(), false)
	return t, err
}

// texts renders a sink's settings for an event at a route, nil where it has none. It fails
// where the event lacks a field: a topic without its region would be another topic.
func (l *lane) texts(r ref, route uint32, sink int) ([]string, error) {
	list := r.c.gen.texts[sink]
	if list == nil {
		return nil, nil
	}
	made := r.item().madeFor(route)
	out := make([]string, len(list))
	for i := range list {
		t := &list[i]
		l.fields.of(l.f, r, route, t.early)
		if made != nil {
			l.fields.of(l.f, r, route, t.made)
			if err := l.fields.readMade(made); err != nil {
				return nil, fmt.Errorf("%s: %w", t.setting, err)
			}
		}
		b, err := t.template.Append(nil, &l.fields, maxText)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.setting, err)
		}
		out[i] = string(b)
	}
	return out, nil
}
