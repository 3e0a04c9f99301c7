//go:build !unix

package admin

import (
	"errors"
	"os"
	"syscall"
)

// isRefused says that nobody listens on a socket that is there.
func isRefused(err error) bool {
	const wsaRefused = syscall.Errno(10061)
	return errors.Is(err, wsaRefused) && !errors.Is(err, os.ErrPermission)
}
