package scan

import (
	"time"

	"golang.org/x/sys/unix"
)

// spent is a clock of the calling thread's own processor time, so that what
// others do on a shared machine does not count.
func spent() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return time.Since(started)
	}
	return time.Duration(t.Nano())
}
