package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mem is a file system in memory that knows what is durable: Crash gives a
// clone as a power cut would leave it. It is safe for concurrent use. The root
// and the current folder exist from the start.
type Mem struct {
	mu     sync.RWMutex
	now    func() time.Time
	nextID uint64
	dirs   map[string]*memDir
	names  map[string]*memNode // what a process sees
	kept   map[string]*memNode // what a power cut leaves
	ops    []*memNameOp        // changes of names that no SyncDir made durable, oldest first
	locks  map[string]*memLock
	maps   map[string]memMapping // by name; see Map
}

type memDir struct{ durable bool }

// memNode is a file's contents, apart from its name.
type memNode struct {
	id      uint64
	mod     time.Time
	data    []byte // what a process reads
	durable []byte // as of the last Sync
	pending []memWrite
}

// memWrite is a change of contents that is not synced: bytes at an offset, or,
// with nil bytes, a new length.
type memWrite struct {
	at    int64
	bytes []byte
}

// memNameOp is one atomic change of names; a nil node removes the name.
type memNameOp struct{ effects []memEffect }

type memEffect struct {
	name string
	node *memNode
}

type memLock struct {
	m    *Mem
	name string
}

type memFile struct {
	m      *Mem
	name   string
	node   *memNode
	at     int64
	write  bool
	closed bool
}

var _ FS = (*Mem)(nil)

// NewMem returns an empty file system.
func NewMem() *Mem {
	m := &Mem{
		now: time.Now, dirs: map[string]*memDir{}, names: map[string]*memNode{},
		kept: map[string]*memNode{}, locks: map[string]*memLock{}, maps: map[string]memMapping{},
	}
	m.dirs["/"] = &memDir{durable: true}
	m.dirs["."] = &memDir{durable: true}
	return m
}

// Kill releases all locks, as the death of the process that held them does.
// Contents and names stay as they are.
func (m *Mem) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.locks)
}

func clean(name string) string { return filepath.ToSlash(filepath.Clean(name)) }

func parent(name string) string { return filepath.ToSlash(filepath.Dir(name)) }

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.openWrite("create", clean(name))
	if err != nil {
		return nil, err
	}
	f.node.truncate(0)
	return f, nil
}

// Append implements FS.
func (m *Mem) Append(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.openWrite("append", clean(name))
	if err != nil {
		return nil, err
	}
	f.at = int64(len(f.node.data))
	return f, nil
}

// Overwrite implements FS.
func (m *Mem) Overwrite(name string, at int64) (File, error) {
	name = clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.names[name]
	if node == nil {
		return nil, pathError("overwrite", name, fs.ErrNotExist)
	}
	if at < 0 {
		return nil, pathError("overwrite", name, fs.ErrInvalid)
	}
	return &memFile{m: m, name: name, node: node, at: at, write: true}, nil
}

func (m *Mem) openWrite(op, name string) (*memFile, error) {
	if m.dirs[name] != nil {
		return nil, pathError(op, name, fmt.Errorf("is a folder: %w", fs.ErrExist))
	}
	if m.dirs[parent(name)] == nil {
		return nil, pathError(op, name, fs.ErrNotExist)
	}
	node := m.names[name]
	if node == nil {
		m.nextID++
		node = &memNode{id: m.nextID, mod: m.now()}
		m.change(memEffect{name, node})
	}
	return &memFile{m: m, name: name, node: node, write: true}, nil
}

// change applies one atomic change of names and notes it as not durable.
func (m *Mem) change(effects ...memEffect) {
	m.ops = append(m.ops, &memNameOp{effects: effects})
	apply(m.names, effects)
}

func apply(names map[string]*memNode, effects []memEffect) {
	for _, e := range effects {
		if e.node == nil {
			delete(names, e.name)
		} else {
			names[e.name] = e.node
		}
	}
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) {
	name = clean(name)
	m.mu.RLock()
	defer m.mu.RUnlock()
	node := m.names[name]
	if node == nil {
		return nil, pathError("open", name, fs.ErrNotExist)
	}
	return &memFile{m: m, name: name, node: node}, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	name = clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[name] != nil {
		m.change(memEffect{name, nil})
		return nil
	}
	if m.dirs[name] == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if len(m.list(name)) > 0 {
		return pathError("remove", name, fmt.Errorf("folder is not empty: %w", fs.ErrExist))
	}
	delete(m.dirs, name)
	return nil
}

// Rename implements FS. Folders cannot be renamed.
func (m *Mem) Rename(oldname, newname string) error {
	oldname, newname = clean(oldname), clean(newname)
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.names[oldname]
	if node == nil || m.dirs[parent(newname)] == nil {
		return pathError("rename", oldname, fs.ErrNotExist)
	}
	if m.dirs[newname] != nil {
		return pathError("rename", newname, fs.ErrExist)
	}
	if oldname != newname {
		m.change(memEffect{oldname, nil}, memEffect{newname, node})
	}
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	dir = clean(dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	for at := dir; ; at = parent(at) {
		if m.names[at] != nil {
			return pathError("mkdir", at, fs.ErrExist)
		}
		if m.dirs[at] != nil {
			return nil
		}
		m.dirs[at] = &memDir{}
	}
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	dir = clean(dir)
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.dirs[dir] == nil {
		return nil, pathError("list", dir, fs.ErrNotExist)
	}
	return m.list(dir), nil
}

func (m *Mem) list(dir string) []string {
	var names []string
	add := func(name string) {
		if name != dir && parent(name) == dir {
			names = append(names, name[strings.LastIndexByte(name, '/')+1:])
		}
	}
	for name := range m.names {
		add(name)
	}
	for name := range m.dirs {
		add(name)
	}
	slices.Sort(names)
	return names
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	name = clean(name)
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.dirs[name] != nil {
		return Info{Dir: true}, nil
	}
	node := m.names[name]
	if node == nil {
		return Info{}, pathError("stat", name, fs.ErrNotExist)
	}
	return Info{Size: int64(len(node.data)), ModTime: node.mod, ID: [2]uint64{1, node.id}}, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	dir = clean(dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirs[dir] == nil {
		return pathError("sync folder", dir, fs.ErrNotExist)
	}
	for name, d := range m.dirs {
		if parent(name) == dir {
			d.durable = true
		}
	}
	rest := m.ops[:0]
	for _, op := range m.ops {
		var other []memEffect
		for _, e := range op.effects {
			if parent(e.name) == dir {
				apply(m.kept, []memEffect{e})
			} else {
				other = append(other, e)
			}
		}
		if op.effects = other; len(other) > 0 {
			rest = append(rest, op)
		}
	}
	clear(m.ops[len(rest):])
	m.ops = rest
	return nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	name = clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] != nil {
		return nil, fmt.Errorf("lock %s: %w by this process", name, ErrLocked)
	}
	if _, err := m.openWrite("lock", name); err != nil {
		return nil, err
	}
	l := &memLock{m: m, name: name}
	m.locks[name] = l
	return l, nil
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.m.locks[l.name] == l {
		delete(l.m.locks, l.name)
	}
	return nil
}

// memRoom is what Free says: Faults is the place to run out of room.
const memRoom = 1 << 40

// Free implements FS.
func (m *Mem) Free(string) (int64, error) { return memRoom, nil }

func (f *memFile) check(op string, write bool) error {
	switch {
	case f.closed:
		return pathError(op, f.name, fs.ErrClosed)
	case write && !f.write:
		return pathError(op, f.name, fs.ErrPermission)
	}
	return nil
}

func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("write", true); err != nil {
		return 0, err
	}
	w := memWrite{at: f.at, bytes: slices.Clone(p)}
	if w.bytes == nil {
		return 0, nil
	}
	f.node.data = w.apply(f.node.data)
	f.node.pending = append(f.node.pending, w)
	f.node.mod = f.m.now()
	f.at += int64(len(p))
	return len(p), nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	if err := f.check("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("read", f.name, fs.ErrInvalid)
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("close", false); err != nil {
		return err
	}
	f.closed = true
	return nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("sync", false); err != nil {
		return err
	}
	for _, w := range f.node.pending {
		f.node.durable = w.apply(f.node.durable)
	}
	f.node.pending = nil
	return nil
}

// loseUnsynced is what a failed sync does on Linux: pages are marked clean, so
// that they can still be read, no later sync writes them, and a power cut takes
// them.
func (f *memFile) loseUnsynced() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.node.pending = nil
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.name, fs.ErrInvalid)
	}
	f.node.truncate(size)
	f.node.mod = f.m.now()
	f.at = min(f.at, size)
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	if err := f.check("size", false); err != nil {
		return 0, err
	}
	return int64(len(f.node.data)), nil
}

func (n *memNode) truncate(size int64) {
	w := memWrite{at: size}
	n.data = w.apply(n.data)
	n.pending = append(n.pending, w)
}

func (w memWrite) apply(data []byte) []byte {
	if w.bytes == nil {
		return resize(data, w.at)
	}
	if end := w.at + int64(len(w.bytes)); end > int64(len(data)) {
		data = resize(data, end)
	}
	copy(data[w.at:], w.bytes)
	return data
}

// resize cuts data or extends it with zeros. Bytes beyond a cut must not come
// back, so the rest of the capacity is cleared.
func resize(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		clear(data[size:])
		return data[:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}
