package scenarios_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// archive is a txtar file.
type archive struct {
	comment  string
	sections []section
}

type section struct{ name, text string }

func readArchive(t *testing.T, path string) *archive {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	a := &archive{}
	for line := range strings.Lines(string(data)) {
		name, ok := strings.CutPrefix(line, "-- ")
		if name, ok2 := strings.CutSuffix(name, " --\n"); ok && ok2 {
			a.sections = append(a.sections, section{name: name})
			continue
		}
		if n := len(a.sections); n > 0 {
			a.sections[n-1].text += line
		} else {
			a.comment += line
		}
	}
	return a
}

func (a *archive) get(name string) (string, bool) {
	for _, s := range a.sections {
		if s.name == name {
			return s.text, true
		}
	}
	return "", false
}

func (a *archive) set(name, text string) {
	for i := range a.sections {
		if a.sections[i].name == name {
			a.sections[i].text = text
		}
	}
}

func (a *archive) write(t *testing.T, path string) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(a.comment)
	for _, s := range a.sections {
		b.WriteString("-- " + s.name + " --\n" + s.text)
	}
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
}
