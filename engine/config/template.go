package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	compiler "github.com/weir-project/weir/engine/template"
	"github.com/weir-project/weir/transports"
)

// maxSteps bounds the transforms, and the reactions, of one route.
const maxSteps = 16

// maxPaths is how many names for paths a template may define, as in EventBridge.
const maxPaths = 100

// steps reads a list of transforms or reactions; one stands for a list of one.
func steps(dst *[]Step, reaction bool) reader {
	one := func(s *Step) reader { return stepReader(s, reaction) }
	return reader{
		read: func(f *findings, n *node, path string) {
			items := []*node{n}
			if n.kind == list {
				items = n.items
			} else if n.isNull() {
				return
			}
			if len(items) > maxSteps {
				f.add(n.at, path, fmt.Sprintf("%d of them; at most %d are allowed", len(items), maxSteps), "")
				return
			}
			for _, item := range items {
				if item.broken {
					continue
				}
				if item.kind == scalar {
					f.add(item.at, path, item.what()+", where a template should be", "{template: {...}}; plug-ins have no place here in this version")
					continue
				}
				var s Step
				one(&s).read(f, item, path)
				*dst = append(*dst, s)
			}
		},
		schema: func() schema {
			s := one(&Step{}).schema()
			return schema{"anyOf": []schema{s, {"type": "array", "items": s, "maxItems": maxSteps}, {"type": "null"}}}
		},
	}
}

// stepReader reads a template with the names of its paths.
func stepReader(s *Step, reaction bool) reader {
	var text jsonText
	r := object(
		member{name: "template", doc: "Attributes and data of the event that is made, with <placeholders>.", required: true, reader: templateText(&text)},
		member{name: "paths", doc: "Names for paths, to use as placeholders.", reader: pathNames(&s.Paths)},
	)
	return withCheck(r, func(f *findings, n *node, path string) {
		if text.data == nil {
			return // missing, or reported already
		}
		t, err := compiler.ParseEvent(text.data, compiler.Options{Paths: s.Paths})
		if err != nil {
			f.refuseTemplate(&text, err)
			return
		}
		if reaction && !slices.Contains(t.Names(), "type") {
			f.add(text.marks[0].at, text.marks[0].path, "the type of the event that is emitted is missing", "type: <type> repeats the event's own")
		}
		s.Template = text.data
	})
}

// refuseTemplate reports why a template is refused, at the place of the piece at fault.
func (f *findings) refuseTemplate(t *jsonText, err error) {
	at, reason := t.marks[0], err.Error()
	var where *compiler.Error
	if errors.As(err, &where) {
		at, reason = t.find(where.Offset), where.Reason
	}
	if at.replaced != "" || t.hides(reason) {
		reason = "the template is refused for what a reference brought here"
	}
	f.add(at.at, at.path, reason, "")
}

// templateText reads a template: a mapping, or its JSON as text.
func templateText(dst *jsonText) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			t := jsonText{placeholders: true}
			switch {
			case n.kind == scalar && !n.plain:
				t.mark(n.at, path, n.replaced())
				t.data = []byte(n.text)
			case n.kind != mapping:
				f.wrongType(n, path, "a template such as {type: OrderShipped, data: <data.order>}")
				return
			default:
				before := len(f.mistakes)
				if t.write(f, n, path); t.broken || len(f.mistakes) > before {
					return
				}
			}
			*dst = t
		},
		schema: func() schema { return schema{"type": []string{"object", "string"}} },
	}
}

// isPlaceholder is true for an unquoted scalar that is one placeholder and no more: it
// keeps the JSON type of what it stands for. What a reference brought stays text.
func (n *node) isPlaceholder() bool {
	return n.plain && n.raw == "" && len(n.text) > 2 && n.text[0] == '<' && strings.IndexAny(n.text[1:], "<>") == len(n.text)-2
}

// pathNames reads a mapping from names to paths.
func pathNames(dst *map[string]string) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if n.isNull() {
				return
			}
			if n.kind != mapping {
				f.wrongType(n, path, "a mapping from names to paths")
				return
			}
			if len(n.pairs) > maxPaths {
				f.add(n.at, path, fmt.Sprintf("%d paths; at most %d are allowed", len(n.pairs), maxPaths), "")
				return
			}
			*dst = map[string]string{}
			for _, p := range n.pairs {
				at := join(path, p.key)
				f.places[at] = p.at
				switch {
				case p.value.broken:
				case !nameForm.MatchString(p.key) || strings.ContainsRune(p.key, '.'):
					f.add(p.at, at, fmt.Sprintf("%q cannot be a name", shorten(p.key)), "up to 64 letters, digits, _ and -, the first a letter or digit")
				case !p.value.isText():
					f.wrongType(p.value, at, "a path such as data.order.id")
				default:
					if _, _, err := compiler.ParsePath(p.value.text); err != nil {
						f.add(p.value.at, at, err.Error(), "")
					}
					(*dst)[p.key] = p.value.text
				}
			}
		},
		schema: func() schema { return schema{"type": []string{"object", "null"}} },
	}
}

// checkSinkTemplates compiles the settings of a sink that are templates, and notes them.
func (f *file) checkSinkTemplates(s *Sink, path string) {
	for _, o := range f.templatesOf(s) {
		name := o.Name
		s.Templates, s.Escapes = append(s.Templates, name), append(s.Escapes, o.Escape)
		for _, text := range s.TemplateTexts(name) {
			_, err := compiler.ParseText(text, compiler.Options{})
			if err == nil {
				continue
			}
			reason := err.Error()
			var where *compiler.Error
			if errors.As(err, &where) {
				reason = where.Reason
			}
			if slices.Contains(f.referred, text) {
				reason = "the template is refused for what a reference brought here"
			}
			at := path + "." + s.Transport + "." + name
			f.add(f.nearest(at), at, reason, "")
		}
	}
}

// templatesOf are the options of a sink's transport that may be templates.
func (f *file) templatesOf(s *Sink) (templates []transports.Option) {
	for _, t := range f.transports {
		if t.Name() != s.Transport {
			continue
		}
		_, options := t.Options()
		for _, o := range options {
			if o.Template {
				templates = append(templates, o)
			}
		}
	}
	return templates
}

// refuseTemplates refuses placeholders in the settings of the dead letters' sink: a dead
// letter must arrive whatever its event lacks.
func (f *file) refuseTemplates(s *Sink, path string) {
	for _, o := range f.templatesOf(s) {
		name := o.Name
		for _, text := range s.TemplateTexts(name) {
			t, err := compiler.ParseText(text, compiler.Options{})
			if err == nil {
				if _, constant := t.Constant(); constant {
					continue
				}
			}
			at := path + "." + s.Transport + "." + name
			f.add(f.nearest(at), at, "placeholders have no place here: a dead letter must arrive, whatever its event lacks", "")
		}
	}
}

// TemplateTexts are the texts of a setting that is a template: one, those of a list, or
// none where it is not set.
func (s *Sink) TemplateTexts(setting string) []string {
	switch v := s.Settings[setting].(type) {
	case string:
		return []string{v}
	case []string:
		return v
	}
	return nil
}
