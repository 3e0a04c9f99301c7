//go:build unix

package file

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// readable waits until f has bytes or is at its end.
func readable(f *os.File, wait time.Duration) (bool, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	ready := false
	var pollErr error
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(wait.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			pollErr = err
		}
		ready = n > 0
	})
	if err != nil {
		return false, err
	}
	return ready, pollErr
}

// openPipe opens a named pipe without waiting for its writer.
func openPipe(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}
