package report

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"
)

// Anchor is the median throughput of crc32 over b in bytes a second, on one
// thread.
func Anchor(b []byte) float64 {
	table := crc32.MakeTable(crc32.IEEE)
	var rates []float64
	for range 5 {
		start := time.Now()
		crc32.Checksum(b, table)
		rates = append(rates, float64(len(b))/time.Since(start).Seconds())
	}
	return Median(rates)
}

// AnchorLine is the anchor as a line for the record.
func AnchorLine(b []byte) Line {
	return Line{Name: "anchor: crc32 of the same bytes", Figure: Anchor(b) / 1e9, Unit: "GB/s"}
}

// SyncLatency is the median time of a 4-KiB append with fsync in dir.
func SyncLatency(dir string) (median time.Duration, err error) {
	f, err := os.CreateTemp(dir, "weir-bench-sync-")
	if err != nil {
		return 0, fmt.Errorf("sync latency: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	b := make([]byte, 4096)
	var times []float64
	for range 51 {
		start := time.Now()
		if _, err := f.Write(b); err != nil {
			return 0, fmt.Errorf("sync latency: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("sync latency: %w", err)
		}
		times = append(times, float64(time.Since(start)))
	}
	return time.Duration(Median(times)), nil
}

// SyncLine is the latency as a line for the record.
func SyncLine(dir string) (Line, error) {
	d, err := SyncLatency(dir)
	return Line{
		Name: "bare fsync of 4 KiB", Figure: float64(d) / float64(time.Microsecond), Unit: "µs",
		Note: FileSystem(dir) + " " + dir,
	}, err
}

// RefuseMemory fails where dir is in memory: a sync there costs nothing, so a
// durable benchmark would measure another thing.
func RefuseMemory(dir string) error {
	switch name := FileSystem(dir); name {
	case "tmpfs", "ramfs":
		return fmt.Errorf("%s is on %s: durable work must be measured on a disk (use --dir)", dir, name)
	}
	return nil
}
