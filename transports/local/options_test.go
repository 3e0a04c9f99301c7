package local

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
)

// table prints options as the README has them.
func table(options []transports.Option) string {
	var b strings.Builder
	for _, o := range options {
		kind := [...]string{"string", "integer", "boolean", "size", "duration", "list"}[o.Type]
		if len(o.Enum) > 0 {
			kind = strings.Join(o.Enum, ", ")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", o.Name, kind, written(&o), o.Doc)
	}
	return b.String()
}

func written(o *transports.Option) string {
	switch v := o.Default.(type) {
	case time.Duration:
		return fmt.Sprintf("%dd", v/(24*time.Hour))
	case int64:
		if v >= 1<<30 {
			return fmt.Sprintf("%dGiB", v>>30)
		}
		return fmt.Sprintf("%dMiB", v>>20)
	case nil:
		return ""
	}
	return fmt.Sprint(o.Default)
}

func TestReadmeHasTheOptions(t *testing.T) {
	raw, err := os.ReadFile("README.md")
	must(t, err)
	text := string(raw)
	source, sink := New().Options()
	if *update {
		text = strings.Replace(text, "SOURCE\n", table(source)+"\n", 1)
		text = strings.Replace(text, "SINK\n", table(sink)+"\n", 1)
		must(t, os.WriteFile("README.md", []byte(text), 0o644))
	}
	for _, want := range []string{table(source), table(sink)} {
		if !strings.Contains(text, want) {
			t.Errorf("README.md lacks this table:\n%s", want)
		}
	}
	for _, o := range append(source, sink...) {
		if strings.Count(text, "`"+o.Name+"`") == 0 {
			t.Errorf("README.md does not name %s", o.Name)
		}
	}
}

func TestBadSettingsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		settings transports.Settings
		sink     bool
		want     string
	}{
		"neither":           {transports.Settings{}, false, "queue"},
		"both":              {transports.Settings{"queue": "a", "topic": "b"}, false, "topic"},
		"path in a name":    {transports.Settings{"queue": "../a"}, true, `"../a"`},
		"hidden name":       {transports.Settings{"topic": ".a", "consumer": "c"}, false, `".a"`},
		"no consumer":       {transports.Settings{"topic": "a"}, false, "consumer"},
		"consumer of queue": {transports.Settings{"queue": "a", "consumer": "c"}, false, "consumer"},
		"bad consumer":      {transports.Settings{"topic": "a", "consumer": "c/d"}, false, `"c/d"`},
		"chunks and share":  {transports.Settings{"queue": "a", "chunks": true, "share": true}, false, "share"},
		"negative max":      {transports.Settings{"queue": "a", "max": int64(-1)}, true, "max"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if c.sink {
				_, err = New().NewSink(transports.Env{}, c.settings)
			} else {
				_, err = New().NewSource(transports.Env{}, c.settings)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want one that names %s", err, c.want)
			}
		})
	}
}
