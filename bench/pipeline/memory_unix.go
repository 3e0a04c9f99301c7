//go:build unix

package pipeline

import (
	"os"
	"runtime"
	"syscall"
)

// peakMemory is the highest resident memory of a process that has ended.
func peakMemory(s *os.ProcessState) float64 {
	u, ok := s.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return float64(u.Maxrss) // bytes there, KiB elsewhere
	}
	return float64(u.Maxrss) * 1024
}
