package config

import (
	"reflect"
	"strings"
	"testing"
)

// TestTemplatesOfSinks: a plan says which settings are templates, and holds their texts.
func TestTemplatesOfSinks(t *testing.T) {
	p, err := Load(testOptions(`
version: 1
sources: {in: {file: {path: in.ndjson}}}
routes: {all: {to: [hook, bare]}}
sinks:
  hook: {webhook: {url: "http://x/<data.region>", headers: ["a: <type>", "b: c"]}}
  bare: {webhook: {url: "http://x"}}
`, nil))
	if err != nil {
		t.Fatal(err)
	}
	hook, bare := p.Sink("hook"), p.Sink("bare")
	if !reflect.DeepEqual(hook.Templates, []string{"url", "headers"}) {
		t.Errorf("templates %q", hook.Templates)
	}
	if got := hook.TemplateTexts("headers"); !reflect.DeepEqual(got, []string{"a: <type>", "b: c"}) {
		t.Errorf("headers %q", got)
	}
	if url, headers := bare.TemplateTexts("url"), bare.TemplateTexts("headers"); !reflect.DeepEqual(url, []string{"http://x"}) || len(headers) != 0 {
		t.Errorf("url %q, headers %q", url, headers)
	}
}

// A template's mistake is told without what a reference brought into it.
func TestTemplatesHideWhatReferencesBring(t *testing.T) {
	text := func(header string) string {
		return `
version: 1
sources: {in: {file: {path: in.ndjson}}}
routes: {all: {to: [hook]}}
sinks: {hook: {webhook: {url: "http://x", headers: ["` + header + `"]}}}
`
	}
	_, err := Load(testOptions(text("a: x<hush.hush"), nil))
	if err == nil {
		t.Fatal("an open placeholder was taken")
	}
	_, err = Load(testOptions(text("a: ${KEY}"), map[string]string{"KEY": "x<hush.hush"}))
	if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "what a reference brought here") {
		t.Errorf("the mistake reads %v", err)
	}
}

// TestTemplatesOfRoutes: YAML and text mean the same template; a placeholder without
// quotes keeps its type, one that a reference brings is text.
func TestTemplatesOfRoutes(t *testing.T) {
	p, err := Load(testOptions(`
version: 1
sources: {in: {file: {path: in.ndjson}}}
routes:
  a:
    transform:
      - template:
          type: Shipped
          data:
            bare: <data.id>
            quoted: "<data.id>"
            mixed: order <data.id>
            number: 1e3
            brought: ${BROUGHT}
      - template: '{"data": <order>}'
        paths: {order: $.data.order}
    react: {template: {type: <type>}}
    to: [out]
  b: {from: [derived], to: [out]}
sinks: {out: {file: {path: out.ndjson}}}
`, map[string]string{"BROUGHT": "<data.id>"}))
	if err != nil {
		t.Fatal(err)
	}
	a, b := p.Routes[0], p.Routes[1]
	want := []Step{
		{Template: []byte(`{"type":"Shipped","data":{"bare":<data.id>,"quoted":"<data.id>","mixed":"order <data.id>","number":1e3,"brought":"<data.id>"}}`)},
		{Template: []byte(`{"data": <order>}`), Paths: map[string]string{"order": "$.data.order"}},
	}
	if !reflect.DeepEqual(a.Transform, want) {
		t.Errorf("transform %s", a.Transform)
	}
	if len(a.React) != 1 || string(a.React[0].Template) != `{"type":<type>}` {
		t.Errorf("react %s", a.React)
	}
	if !reflect.DeepEqual(a.From, []string{"derived", "in"}) || !reflect.DeepEqual(b.From, []string{"derived"}) {
		t.Errorf("from %q and %q", a.From, b.From)
	}
	if !p.Derives() || len(p.Warnings) != 0 {
		t.Errorf("derives %v, warnings %v", p.Derives(), p.Warnings)
	}
}
