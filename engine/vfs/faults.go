package vfs

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrCrashed is what every operation returns once a Faults has crashed.
var ErrCrashed = errors.New("crashed")

// Fault says what goes wrong and when. The zero Fault lets everything pass.
type Fault struct {
	// At is the number of the operation that fails, from 1; 0 is never.
	At uint64
	// Err is what that operation returns, once: syscall.EIO, syscall.ENOSPC. A
	// write does half of its work before, a sync loses what was not synced. With
	// nil the operation and all after it fail with ErrCrashed.
	Err error
	// Limited makes writes fail with Full once Room bytes were written.
	Limited bool
	Room    int64
	Full    error
	// Seen, where not nil, is called with the name of each operation and the
	// file before it runs, from any goroutine.
	Seen func(n uint64, op, name string)
}

// Faults wraps a file system and makes one operation of it fail. Operations
// are numbered from 1 in the order in which they come; closing a file and
// asking its size are not counted. A sweep runs a workload once to learn Ops,
// then once for every number up to it. It is safe for concurrent use.
type Faults struct {
	under FS
	fault Fault

	mu      sync.Mutex
	ops     uint64
	crashed bool
}

type faultFile struct {
	f     *Faults
	under File
	name  string
}

// loser is what a file of Mem can do.
type loser interface{ loseUnsynced() }

var _ FS = (*Faults)(nil)

// NewFaults wraps under.
func NewFaults(under FS, fault Fault) *Faults { return &Faults{under: under, fault: fault} }

// Ops is how many operations were asked for so far.
func (f *Faults) Ops() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Crashed says whether the crash has happened.
func (f *Faults) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// before counts an operation. run says that it must still be done: at the
// moment of a crash the disk may have got it, and the caller never learns.
func (f *Faults) before(op, name string) (run bool, err error) {
	f.mu.Lock()
	f.ops++
	n := f.ops
	switch {
	case f.crashed:
		err = ErrCrashed
	case n != f.fault.At:
		run = true
	case f.fault.Err != nil:
		err = f.fault.Err
	default:
		f.crashed = true
		run, err = true, ErrCrashed
	}
	f.mu.Unlock()
	if f.fault.Seen != nil {
		f.fault.Seen(n, op, name)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w (operation %d)", op, name, err, n)
	}
	return run, err
}

// do runs a whole operation of the file system.
func (f *Faults) do(op, name string, run func() error) error {
	goOn, err := f.before(op, name)
	if !goOn {
		return err
	}
	if runErr := run(); err == nil {
		return runErr
	}
	return err
}

func (f *Faults) open(op, name string, run func(string) (File, error)) (File, error) {
	var file File
	err := f.do(op, name, func() error {
		under, err := run(name)
		file = under
		return err
	})
	if err != nil {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
		return nil, err
	}
	return &faultFile{f: f, under: file, name: name}, nil
}

// Create implements FS.
func (f *Faults) Create(name string) (File, error) { return f.open("create", name, f.under.Create) }

// Append implements FS.
func (f *Faults) Append(name string) (File, error) { return f.open("append", name, f.under.Append) }

// Overwrite implements FS.
func (f *Faults) Overwrite(name string, at int64) (File, error) {
	return f.open("overwrite", name, func(name string) (File, error) { return f.under.Overwrite(name, at) })
}

// Open implements FS.
func (f *Faults) Open(name string) (File, error) { return f.open("open", name, f.under.Open) }

// Remove implements FS.
func (f *Faults) Remove(name string) error {
	return f.do("remove", name, func() error { return f.under.Remove(name) })
}

// Rename implements FS.
func (f *Faults) Rename(oldname, newname string) error {
	return f.do("rename", newname, func() error { return f.under.Rename(oldname, newname) })
}

// MkdirAll implements FS.
func (f *Faults) MkdirAll(dir string) error {
	return f.do("mkdir", dir, func() error { return f.under.MkdirAll(dir) })
}

// List implements FS.
func (f *Faults) List(dir string) (names []string, err error) {
	err = f.do("list", dir, func() (err error) { names, err = f.under.List(dir); return err })
	return names, err
}

// Stat implements FS.
func (f *Faults) Stat(name string) (info Info, err error) {
	err = f.do("stat", name, func() (err error) { info, err = f.under.Stat(name); return err })
	return info, err
}

// SyncDir implements FS.
func (f *Faults) SyncDir(dir string) error {
	return f.do("syncdir", dir, func() error {
		if f.Crashed() {
			return nil // whether the disk got the names is for Mem.Crash to decide
		}
		return f.under.SyncDir(dir)
	})
}

// Lock implements FS.
func (f *Faults) Lock(name string) (io.Closer, error) {
	var lock io.Closer
	err := f.do("lock", name, func() (err error) { lock, err = f.under.Lock(name); return err })
	return lock, err
}

// Free implements FS.
func (f *Faults) Free(dir string) (int64, error) {
	if f.fault.Limited {
		f.mu.Lock()
		defer f.mu.Unlock()
		return max(f.fault.Room, 0), nil
	}
	return f.under.Free(dir)
}

func (f *faultFile) Write(p []byte) (int, error) {
	run, err := f.f.before("write", f.name)
	if err == nil {
		if room := f.f.takeRoom(len(p)); room < len(p) {
			n, writeErr := f.under.Write(p[:room])
			return n, errors.Join(fmt.Errorf("write %s: %w", f.name, f.f.fault.Full), writeErr)
		}
		return f.under.Write(p)
	}
	n := 0
	switch {
	case run:
		_, _ = f.under.Write(p) // the caller is told of the crash
	case !f.f.Crashed():
		n, _ = f.under.Write(p[:len(p)/2])
	}
	return n, err
}

// takeRoom returns how many of n bytes may be written.
func (f *Faults) takeRoom(n int) int {
	if !f.fault.Limited {
		return n
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n = int(min(int64(n), max(f.fault.Room, 0)))
	f.fault.Room -= int64(n)
	return n
}

func (f *faultFile) Sync() error {
	run, err := f.f.before("sync", f.name)
	if err == nil {
		return f.under.Sync()
	}
	if l, ok := f.under.(loser); ok && !run && !f.f.Crashed() {
		l.loseUnsynced()
	}
	return err
}

func (f *faultFile) Truncate(size int64) error {
	return f.f.do("truncate", f.name, func() error { return f.under.Truncate(size) })
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	run, err := f.f.before("read", f.name)
	if !run || err != nil {
		return 0, err
	}
	return f.under.ReadAt(p, off)
}

func (f *faultFile) Close() error         { return f.under.Close() }
func (f *faultFile) Size() (int64, error) { return f.under.Size() }
