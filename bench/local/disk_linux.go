package local

import (
	"fmt"
	"syscall"
)

// Magic numbers of file systems that keep nothing, see statfs(2).
const (
	tmpfsMagic = 0x01021994
	ramfsMagic = 0x858458f6
)

// refuseMemory fails where dir is in memory: a sync there costs nothing.
func refuseMemory(dir string) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if magic := uint32(st.Type); magic == tmpfsMagic || magic == ramfsMagic {
		return fmt.Errorf("%s is in memory: a durable queue must be measured on a disk", dir)
	}
	return nil
}
