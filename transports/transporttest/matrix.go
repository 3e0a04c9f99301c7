package transporttest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// reasons holds why tests were skipped, by name.
var reasons sync.Map

// notApplicable ends a case that asks for what the transport says it cannot do.
func notApplicable(t *testing.T, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	reasons.Store(t.Name(), "n/a: "+reason)
	t.Skipf("NOT APPLICABLE %s: %s", t.Name(), reason)
}

// Absent ends a test whose server or tool is not on this machine: it is printed
// as SKIPPED, and fails where WEIR_REQUIRE=all says that all must be there.
func Absent(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("WEIR_REQUIRE") == "all" {
		t.Fatalf("WEIR_REQUIRE=all: %s is absent", what)
	}
	reasons.Store(t.Name(), "skipped: "+what+" is absent")
	t.Skipf("SKIPPED %s: %s is absent", t.Name(), what)
}

func skipped(t *testing.T) string {
	reason, _ := reasons.Load(t.Name())
	return fmt.Sprint(reason)
}

func updating() bool {
	f := flag.Lookup("update")
	return os.Getenv("WEIR_UPDATE") == "1" || f != nil && f.Value.String() == "true"
}

const matrixHead = "# transport, case, what became of it; written by the transports' conformance tests with WEIR_UPDATE=1\n"

// compareRow compares or writes one transport's lines of the matrix.
func compareRow(t *testing.T, f Factory, row map[string]string) {
	t.Helper()
	var want []string
	for _, name := range slices.Sorted(maps.Keys(row)) {
		want = append(want, fmt.Sprintf("%-14s %-32s %s", f.Name, name, row[name]))
	}
	raw, err := os.ReadFile(f.Golden)
	if err != nil && !(os.IsNotExist(err) && updating()) {
		t.Fatal(err)
	}
	var mine, others []string
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		switch name, _, _ := strings.Cut(line, " "); {
		case name == f.Name:
			mine = append(mine, line)
		case !strings.HasPrefix(line, "#"):
			others = append(others, line)
		}
	}
	if slices.Equal(mine, want) {
		return
	}
	if !updating() {
		t.Errorf("%s says\n%s\nand it became\n%s", f.Golden, strings.Join(mine, "\n"), strings.Join(want, "\n"))
		return
	}
	all := append(others, want...)
	slices.Sort(all)
	must(t, writeGolden(f.Golden, matrixHead+strings.Join(all, "\n")+"\n"))
}

func writeGolden(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}
