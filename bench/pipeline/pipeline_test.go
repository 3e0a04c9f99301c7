package pipeline

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLineSet(t *testing.T) {
	dir := t.TempDir()
	read := func(text string) lineSet {
		name := filepath.Join(dir, "lines")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := readLines(name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	want := read("a\nb\nb\n")
	if got := read("b\na\nb\n"); got != want {
		t.Errorf("the order counts: %v, %v", got, want)
	}
	for _, other := range []string{"a\nb\n", "a\na\nb\n", "a\nb\nc\n", "a\nb\nb", ""} {
		if got := read(other); got == want {
			t.Errorf("%q is taken for the same", other)
		}
	}
}
