package vfs

import "errors"

// ErrLocked is in the chain of the error of FS.Lock where somebody else has
// the lock; the error names the file and, where known, the holder's process.
var ErrLocked = errors.New("held")

// maxHolder bounds what is read of a lock file to name its holder, in bytes.
const maxHolder = 32
