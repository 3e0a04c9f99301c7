package dedup

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is how long a run of memory must be for large pages to be of use.
const hugePage = 2 << 20

// settlePages has the operating system give a long run of slots its memory now, in large
// pages where it has them: look-ups fall anywhere in it, and a page that is read
// before it is written costs two faults and an interrupt of every processor.
func settlePages(slots []uint32) {
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(slots))), 4*len(slots))
	if start, page := uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(os.Getpagesize()); len(b) >= hugePage {
		from := (start+page-1)&^(page-1) - start
		to := (start+uintptr(len(b)))&^(page-1) - start
		_ = unix.Madvise(b[from:to], unix.MADV_HUGEPAGE) // a hint: without it pages are small
	}
	for i := 0; i < len(slots); i += 1 << 10 {
		slots[i] = 0
	}
}
