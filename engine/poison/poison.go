// Package poison finds the events that take the process down.
//
// Promise: an event that was being worked on each of the last Strikes times the
// process died is quarantined (I17); one that only stood beside it is not. Lanes write
// down which events they are about to run, in memory that outlives the process and is
// never synced: that costs a copy a batch. After a crash those events are suspects.
// Each of them runs with nothing beside it, so that the next crash names one event.
//
// # Files
//
// In the folder suspects/ of the data folder, all integers little-endian:
//
//	lanes    what lanes work on, mapped into memory
//	         0  8  "WEIRRUN" and the format's version, 1
//	         8  8  number of slots, one a lane, from byte 64 on, 1,088 bytes each:
//	               0     8  number of events at work, 0 = none
//	               64 1024  64 fingerprints: 8 high, 8 low
//	tally    what is known of suspects, replaced as a whole
//	         0  8  "WEIRSUS" and the format's version, 1
//	         8  8  number of suspects, then for each:
//	               8 high, 8 low, 4 strikes, 4 starts since the last strike
//	        -4  4  CRC-32C of all before
//
// A tally that is damaged counts as none: it says what to be careful with, and nothing
// that was promised depends on it.
package poison

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/weir-project/weir/engine/vfs"
)

// Limits.
const (
	Strikes     = 3  // crashes that make an event poison
	SlotEvents  = 64 // events that a lane works on at once
	maxSuspects = 4096
	maxStarts   = 8    // a suspect that did not come back in so many starts is forgotten
	maxLanes    = 4096 // of an earlier run
)

const (
	runMagic   = "WEIRRUN\x01"
	tallyMagic = "WEIRSUS\x01"
	headBytes  = 64
	slotHead   = 64
	slotBytes  = slotHead + 16*SlotEvents
	entryBytes = 24
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// ID is the fingerprint of an event's identity.
type ID struct{ Hi, Lo uint64 }

// Standing is what is known of an event.
type Standing uint8

// An event is clear, or it was at work when the process died, or that often.
const (
	Clear Standing = iota
	Suspect
	Quarantined
)

// Config says where the files are and how many lanes there will be. FS, Dir and Lanes
// must be set.
type Config struct {
	FS    vfs.FS
	Dir   string // data folder
	Lanes int
	Log   *slog.Logger // nil: none
}

// Validate says what is missing or out of range.
func (c Config) Validate() error {
	switch {
	case c.FS == nil || c.Dir == "":
		return errors.New("poison: Config.FS and Dir must be set")
	case c.Lanes < 1 || c.Lanes > maxLanes:
		return fmt.Errorf("poison: Config.Lanes is %d, want 1 to %d", c.Lanes, maxLanes)
	}
	return nil
}

// Watch knows the suspects. Its methods may be called from any goroutine; each Slot
// belongs to one lane.
type Watch struct {
	cfg     Config
	mapping vfs.Mapping // nil: the file system has none
	slots   []Slot
	hunting atomic.Bool  // there are suspects
	alone   sync.RWMutex // held for writing while a suspect runs

	mu       sync.Mutex // guards what follows
	suspects map[ID]*suspect
	changed  bool // since the tally was written
}

type suspect struct{ strikes, starts uint32 }

// Slot is where a lane writes down what it works on.
type Slot struct{ b []byte }

// Open reads what an earlier run was doing when it died, counts it, and readies the
// slots of this one. The data folder must be held.
func Open(cfg Config) (*Watch, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Watch{cfg: cfg, slots: make([]Slot, cfg.Lanes), suspects: map[ID]*suspect{}}
	if err := w.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("suspects of %s: %w", cfg.Dir, err), w.unmap())
	}
	return w, nil
}

func (w *Watch) open() error {
	if err := vfs.EnsureDir(w.cfg.FS, w.path("")); err != nil {
		return err
	}
	if err := w.readTally(); err != nil {
		return err
	}
	mapper, ok := w.cfg.FS.(vfs.Mapper)
	if !ok {
		return nil
	}
	if err := w.atWork(mapper); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			w.cfg.Log.Info("events that take the process down are not found: this system has no shared mappings")
			return nil
		}
		return err
	}
	w.hunting.Store(len(w.suspects) > 0)
	return w.mapSlots(mapper)
}

func (w *Watch) path(name string) string { return filepath.Join(w.cfg.Dir, "suspects", name) }

// atWork strikes the events that were at work when the process died. The tally is
// durable before the slots are used again.
func (w *Watch) atWork(mapper vfs.Mapper) error {
	info, err := w.cfg.FS.Stat(w.path("lanes"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size < headBytes || info.Size > headBytes+maxLanes*slotBytes {
		return nil // never finished, or not ours
	}
	m, err := mapper.Map(w.path("lanes"), int(info.Size))
	if err != nil {
		return err
	}
	struck := readSlots(m.Bytes())
	if err := m.Close(); err != nil {
		return err
	}
	w.changed = w.changed || len(struck) > 0
	for _, id := range struck {
		s := w.suspects[id]
		if s == nil {
			if len(w.suspects) >= maxSuspects {
				w.cfg.Log.Warn("too many events are suspected of taking the process down; further ones are not", "limit", maxSuspects)
				break
			}
			s = &suspect{}
			w.suspects[id] = s
		}
		s.strikes++
		s.starts = 0
		if s.strikes == Strikes {
			w.cfg.Log.Error("an event took the process down and is quarantined when it comes", "crashes", Strikes, "fingerprint", fmt.Sprintf("%016x%016x", id.Hi, id.Lo))
		}
	}
	if len(struck) > 0 {
		w.cfg.Log.Warn("the process died while events were worked on; they run one by one", "events", len(struck))
	}
	return w.Save()
}

// readSlots returns the fingerprints in the slots of a file, each once.
func readSlots(b []byte) (list []ID) {
	if len(b) < headBytes || string(b[:8]) != runMagic {
		return nil
	}
	seen := map[ID]bool{}
	slots := min(le.Uint64(b[8:]), uint64(len(b)-headBytes)/slotBytes)
	for i := range int(slots) {
		slot := b[headBytes+i*slotBytes:][:slotBytes]
		n := le.Uint64(slot)
		if n > SlotEvents {
			continue
		}
		for k := range int(n) {
			id := ID{le.Uint64(slot[slotHead+16*k:]), le.Uint64(slot[slotHead+16*k+8:])}
			if !seen[id] {
				seen[id] = true
				list = append(list, id)
			}
		}
	}
	return list
}

func (w *Watch) mapSlots(mapper vfs.Mapper) error {
	size := headBytes + w.cfg.Lanes*slotBytes
	m, err := mapper.Map(w.path("lanes"), size)
	if err != nil {
		return err
	}
	w.mapping = m
	b := m.Bytes()
	clear(b)
	le.PutUint64(b[8:], uint64(w.cfg.Lanes))
	copy(b, runMagic)
	for i := range w.slots {
		w.slots[i].b = b[headBytes+i*slotBytes:][:slotBytes:slotBytes]
	}
	return nil
}

// Slot is a lane's slot.
func (w *Watch) Slot(lane int) *Slot { return &w.slots[lane] }

// Note writes down one event of the batch that the lane is about to run.
func (s *Slot) Note(i int, hi, lo uint64) {
	if s.b != nil {
		le.PutUint64(s.b[slotHead+16*i:], hi)
		le.PutUint64(s.b[slotHead+16*i+8:], lo)
	}
}

// Begin says that the events that were noted are at work; n is at most SlotEvents.
func (s *Slot) Begin(n int) {
	if s.b != nil {
		s.count().Store(uint64(n))
	}
}

// End says that nothing is at work any more.
func (s *Slot) End() { s.Begin(0) }

// count is a whole word, so that a process that dies leaves the old number or the new.
func (s *Slot) count() *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&s.b[0])) }

// Hunting says whether there are suspects: if so, every event's Standing is to be asked
// for, suspects are to be run by Alone and all else by Beside.
func (w *Watch) Hunting() bool { return w.hunting.Load() }

// Standing says what is known of an event.
func (w *Watch) Standing(id ID) Standing {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s := w.suspects[id]; {
	case s == nil:
		return Clear
	case s.strikes >= Strikes:
		return Quarantined
	}
	return Suspect
}

// Beside runs what is no suspect.
func (w *Watch) Beside(run func()) {
	w.alone.RLock()
	defer w.alone.RUnlock()
	run()
}

// Alone runs a suspect while nothing else runs.
func (w *Watch) Alone(run func()) {
	w.alone.Lock()
	defer w.alone.Unlock()
	run()
}

// Forget strikes an event off the suspects: it ran and the process lives, or it stands
// in the dead letters.
func (w *Watch) Forget(id ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.suspects, id)
	w.changed = true
	w.hunting.Store(len(w.suspects) > 0)
}

// Save writes the tally where it has changed.
func (w *Watch) Save() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.changed {
		return nil
	}
	if err := w.writeTally(); err != nil {
		return fmt.Errorf("suspects of %s: %w", w.cfg.Dir, err)
	}
	w.changed = false
	return nil
}

// Close says that the process ends as it should. No lane may be at work.
func (w *Watch) Close() error {
	for i := range w.slots {
		w.slots[i].End()
	}
	return errors.Join(w.Save(), w.unmap())
}

func (w *Watch) unmap() error {
	m := w.mapping
	w.mapping = nil
	for i := range w.slots {
		w.slots[i].b = nil
	}
	if m == nil {
		return nil
	}
	return m.Close()
}
