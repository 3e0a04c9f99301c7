//go:build !linux

package report

import "time"

// FileSystem is the name of the file system that dir is on.
func FileSystem(string) string { return "unknown" }

// ThreadTime is wall time where the system has no clock of a thread.
func ThreadTime() time.Duration { return time.Since(started) }

var started = time.Now()
