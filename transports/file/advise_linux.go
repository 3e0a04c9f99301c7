package file

import (
	"github.com/weir-project/weir/engine/vfs"
	"golang.org/x/sys/unix"
)

// adviseSequential asks the kernel to read ahead further. It is a hint: a file
// that has no descriptor, or a refusal, changes nothing.
func adviseSequential(f vfs.File) {
	if d, ok := f.(interface{ Fd() uintptr }); ok {
		_ = unix.Fadvise(int(d.Fd()), 0, 0, unix.FADV_SEQUENTIAL)
	}
}
