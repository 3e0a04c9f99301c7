package local

import (
	"flag"
	"runtime"
	"strings"
	"testing"
)

var disk = flag.String("disk", "", "a folder on a real disk: run the whole benchmark there")

func TestMemoryIsRefused(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED TestMemoryIsRefused: only Linux tells")
	}
	if err := refuseMemory("/dev/shm"); err == nil || !strings.Contains(err.Error(), "in memory") {
		t.Errorf("tmpfs: %v", err)
	}
}

func TestRunMeasures(t *testing.T) {
	if *disk == "" {
		t.Skip("SKIPPED TestRunMeasures: no -disk folder given")
	}
	figures, err := Run(*disk, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		t.Logf("%-45s %12.0f %-9s bar %8.0f pass %v %s", f.Name, f.Value, f.Unit, f.Bar, f.Pass, f.Note)
		if f.Value <= 0 {
			t.Errorf("%s: %v", f.Name, f.Value)
		}
	}
}
