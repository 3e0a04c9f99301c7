package config

import (
	"errors"
	"strings"
	"testing"
)

// slip is a slip of the pen and what is to be said of it.
type slip struct{ name, text, want string }

func complaints(t *testing.T, o Options) string {
	t.Helper()
	p, err := Load(o)
	var all *Errors
	var lines []string
	switch {
	case errors.As(err, &all):
		for _, m := range all.Mistakes {
			lines = append(lines, m.String())
		}
	case err != nil:
		t.Fatal(err)
	default:
		for _, m := range p.Warnings {
			lines = append(lines, "warning: "+m.String())
		}
	}
	return strings.ReplaceAll(strings.Join(lines, "\n"), "testdata/example/weir.yaml:", "")
}

func TestSlips(t *testing.T) {
	const head = "version: 1\nsources: {in: {memory: {}}}\n"
	const tail = "sinks: {out: {memory: {}}}\n"
	route := func(when string) string { return head + "routes: {r: {to: [out], when: " + when + "}}\n" + tail }
	for _, s := range []slip{
		{"attribute", route("{typ: [A]}"), `warning: 3:32: routes.r.when.typ: "typ" is taken for an extension attribute (did you mean "type"?)`},
		{"swapped letters", route("{tpye: [A]}"), `warning: 3:32: routes.r.when.tpye: "tpye" is taken for an extension attribute (did you mean "type"?)`},
		{"long attribute", route("{sbuejct: [A]}"), `warning: 3:32: routes.r.when.sbuejct: "sbuejct" is taken for an extension attribute (did you mean "subject"?)`},
		{"below $or", route("{$or: [{typ: [A]}, {type: [B]}]}"), `warning: 3:39: routes.r.when.typ: "typ" is taken for an extension attribute (did you mean "type"?)`},
		{"pattern as text", route(`'{"typ": ["A"]}'`), `warning: 3:31: routes.r.when.typ: "typ" is taken for an extension attribute (did you mean "type"?)`},
		{"extensions of one's own", route("{date: [A], ids: [B], ip: [C], tenant: [D], traceparent: [E], eventid: [F]}"), ""},
		{"operator without a list", route("{type: {prefix: x}}"), `3:39: routes.r.when.type.prefix: "prefix" is an operator and stands in an array: write "type": [{"prefix": "x"}]`},
		{"operator with a list, without a list", route(`{data: {total: {numeric: [">", 5]}}}`), `warning: 3:47: routes.r.when.data.total.numeric: "numeric" is taken for a field's name (as an operator it stands in a list: total: [{numeric: ...}])`},
		{
			"sections twice", head + "routes: {r: {to: [out, more]}}\n" + tail + "sinks: {more: {memory: {}}}\n",
			`5:1: key "sinks" is there twice (first on line 4)`,
		},
		{
			"names twice", head + "routes: {r: {to: [out, more]}}\nsinks:\n  out: {memory: {}}\n  out: {memory: {}}\n",
			`6:3: key "out" is there twice (first on line 5)`,
		},
		{
			"another name is still reported", head + "routes: {r: {from: [inn], to: [out]}}\nsinks:\n  out: {memory: {}}\n  out: {memory: {}}\n",
			`3:21: routes.r.from: no source "inn" (did you mean "in"?)` + "\n" + `6:3: key "out" is there twice (first on line 5)`,
		},
	} {
		t.Run(s.name, func(t *testing.T) {
			if got := complaints(t, testOptions(s.text, nil)); got != s.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, s.want)
			}
		})
	}
}

// TestMisspeltVariables: whoever sets a variable of the node expects it to count.
func TestMisspeltVariables(t *testing.T) {
	o := testOptions(minimal, nil)
	o.Environ = func() []string {
		return []string{
			"PATH=/bin", "WEIR_TOKEN=x", "WEIR_NODE_LANES=2", "WEIR_NODE_LIMIT_EVENT=2MiB", "WEIR_NODE_LANE=hunter2",
			// Kubernetes, of a service weir-node:
			"WEIR_NODE_SERVICE_HOST=10.0.0.1", "WEIR_NODE_SERVICE_PORT_HTTP=80", "WEIR_NODE_PORT=tcp://10.0.0.1:80", "WEIR_NODE_PORT_80_TCP_ADDR=10.0.0.1",
		}
	}
	want := `WEIR_NODE_LANE: no such setting (did you mean "WEIR_NODE_LANES"?)` + "\n" +
		`WEIR_NODE_LIMIT_EVENT: no such setting (did you mean "WEIR_NODE_LIMITS_EVENT"?)`
	if got := complaints(t, o); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
