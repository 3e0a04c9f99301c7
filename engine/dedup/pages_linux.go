package dedup

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is how long a run of memory must be for large pages to be of use.
const hugePage = 2 << 20

// settlePages has the operating system give new memory its pages now, in one call and
// large ones where it has them. Page by page they cost a fault each, and two and an
// interrupt of every processor where a page is read before it is written, as look-ups
// in an index do. Both calls are hints: without them pages come one by one.
func settlePages[T entry | uint32](list []T) {
	var one T
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(list))), len(list)*int(unsafe.Sizeof(one)))
	start, page := uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(os.Getpagesize())
	from, to := (start+page-1)&^(page-1)-start, (start+uintptr(len(b)))&^(page-1)-start
	if int(from) >= int(to) {
		return
	}
	if to-from >= hugePage {
		_ = unix.Madvise(b[from:to], unix.MADV_HUGEPAGE)
	}
	_ = unix.Madvise(b[from:to], unix.MADV_POPULATE_WRITE)
}
