//go:build !linux

package file

import "github.com/weir-project/weir/engine/vfs"

func adviseSequential(vfs.File) {}
