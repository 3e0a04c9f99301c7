//go:build unix

package admin

import (
	"errors"

	"golang.org/x/sys/unix"
)

// isRefused says that nobody listens on a socket that is there.
func isRefused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }
