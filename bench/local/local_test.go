package local

import (
	"flag"
	"runtime"
	"testing"
	"time"

	"github.com/weir-project/weir/bench/report"
)

var disk = flag.String("disk", "", "a folder on a real disk: run the whole benchmark there")

func TestMemoryIsRefused(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED TestMemoryIsRefused: only Linux tells")
	}
	if _, err := Run("/dev/shm", true); err == nil {
		t.Error("a file system in memory was measured")
	}
}

func TestBars(t *testing.T) {
	fast, slow := syncTimes{200 * time.Microsecond, time.Millisecond}, syncTimes{time.Millisecond, 2 * time.Millisecond}
	missed := func(lines []report.Line) (n int) {
		for _, l := range lines {
			if l.Missed() {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name string
		sync syncTimes
		rate float64
		p99  time.Duration
		want int
	}{
		{"both reached", fast, barRate, 4 * time.Millisecond, 0},
		{"too slow", fast, barRate - 1, 4 * time.Millisecond, 1},
		{"too late", fast, barRate, 4*time.Millisecond + 1000, 1},
		{"slow disk", slow, barRate / 2, 6 * time.Millisecond, 0},
	} {
		if got := missed(judge(c.sync, c.rate, latencies{p99: c.p99})); got != c.want {
			t.Errorf("%s: %d bars missed, want %d", c.name, got, c.want)
		}
	}
}

func TestRunMeasures(t *testing.T) {
	if *disk == "" {
		t.Skip("SKIPPED TestRunMeasures: no -disk folder given")
	}
	lines, err := Run(*disk, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		t.Log(l)
		if l.Figure <= 0 {
			t.Errorf("%s: %v", l.Name, l.Figure)
		}
	}
}
