package dedup

import (
	"math/bits"
	"sync"
)

// firstIndexes is the memory of the whole indexes that a table's stripes begin with,
// in one run. Each stripe takes its part once; then nothing but they hold it.
type firstIndexes struct {
	mu   sync.Mutex
	left int // stripes that have not taken theirs
	rest []uint32
}

func (f *firstIndexes) take(n int) []uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rest == nil {
		f.rest = make([]uint32, n*f.left)
		settlePages(f.rest)
	}
	part := f.rest[:n:n]
	if f.rest, f.left = f.rest[n:], f.left-1; f.left == 0 {
		f.rest = nil
	}
	return part
}

// leastLine is how many slots a unit has at first, and the step by which units
// grow: a cache line.
const leastLine = 16

// mix makes the bits by which a table spreads identities. The secret keeps
// whoever chooses identities from choosing where they fall.
func (sh *shape) mix(hi, lo uint64) uint64 {
	h, l := bits.Mul64(hi^sh.secret[0], lo^sh.secret[1])
	return h ^ l
}

// unit is the number of a mixed fingerprint's unit.
func (sh *shape) unit(h uint64) uint64 { return (h >> sh.unitShift) & sh.unitMask }

// tag is never 0, so that no used slot is.
func (sh *shape) tag(h uint64) uint32 {
	if t := uint32(h) & sh.tagMask; t != 0 {
		return t
	}
	return 1
}

// slot packs what the index holds of an entry.
func (sh *shape) slot(h, seq uint64) uint32 {
	return sh.tag(h)<<sh.posBits | uint32(seq)&sh.posMask
}

// home is where the probe for a tag begins in a unit. It follows from the slot
// alone, so that units are rebuilt without a look at the entries.
func (w *window) home(tag uint32) int { return w.homeOf(tag, w.unitLen) }

func (sh *shape) homeOf(tag uint32, unitLen int) int {
	return int(uint64(tag) * uint64(unitLen) >> (32 - sh.posBits))
}

// live returns the sequence number that a slot stands for, and whether that is
// in the ring.
func (w *window) live(slot uint32) (uint64, bool) {
	d := (slot - uint32(w.tail)) & w.posMask
	return w.tail + uint64(d), uint64(d) < w.head-w.tail
}

func (w *window) unitSlots(n uint64) []uint32 {
	return w.slots[int(n)*w.unitLen : int(n+1)*w.unitLen]
}

// index is the part of a window that prefetching may look at without the lock.
type index struct {
	slots   []uint32 // of all units, one behind the other
	unitLen int      // slots of a unit
}

// warm begins to fetch the slots where the probe for a fingerprint will begin,
// so that the cache misses of a batch overlap. It needs no lock: an index that
// is being replaced costs a miss and nothing else.
func (w *window) warm(h uint64) {
	if ix := w.shown.Load(); ix != nil {
		prefetch(&ix.slots[int(w.unit(h))*ix.unitLen+w.homeOf(w.tag(h), ix.unitLen)])
	}
}

// find returns the sequence number of an identity's entry, be it expired or claimed.
func (w *window) find(h, hi, lo uint64) (uint64, bool) {
	if w.unitLen == 0 {
		return 0, false
	}
	u, tag := w.unitSlots(w.unit(h)), w.tag(h)
	for i := w.home(tag); u[i] != 0; {
		if u[i]>>w.posBits == tag {
			if seq, live := w.live(u[i]); live {
				if e := w.entry(seq); e.hi == hi && e.lo == lo && e.at != atFreed {
					return seq, true
				}
			}
		}
		if i++; i == len(u) {
			i = 0
		}
	}
	return 0, false
}

// insert enters a slot whose identity is not in the index.
func (w *window) insert(h uint64, slot uint32) {
	n := w.unit(h)
	if int(w.used[n]) >= w.unitLen*7/8 {
		w.makeRoom(n)
	}
	u := w.unitSlots(n)
	i := w.home(slot >> w.posBits)
	for u[i] != 0 {
		if _, live := w.live(u[i]); !live {
			u[i] = slot
			return
		}
		if i++; i == len(u) {
			i = 0
		}
	}
	u[i] = slot
	w.used[n]++
}

// replace changes the slot of an identity that is in the index.
func (w *window) replace(h uint64, from, to uint32) {
	u := w.unitSlots(w.unit(h))
	i := w.home(from >> w.posBits)
	for u[i] != from {
		if i++; i == len(u) {
			i = 0
		}
	}
	u[i] = to
}

// makeRoom drops a unit's dead slots, or, where it is full without them, grows
// all units.
func (w *window) makeRoom(n uint64) {
	if w.unitLen > 0 {
		w.clean(n)
		if int(w.used[n]) < w.unitLen*13/16 {
			return
		}
	}
	// Stripes fill evenly. Their lengths differ from the start, or else all would
	// grow at the same moment, and the memory of an id would swing with it.
	if w.unitLen == 0 && w.whole > 0 {
		w.show(w.first.take(w.whole*len(w.used)), w.whole)
		return
	}
	if w.unitLen == 0 {
		w.resize(leastLine + leastLine/8*int(w.number&3))
		return
	}
	w.resize(w.unitLen + w.unitLen/3)
}

// clean rebuilds a unit without its dead slots.
func (w *window) clean(n uint64) {
	u := w.unitSlots(n)
	used := w.gather(u)
	clear(u)
	w.used[n] = uint32(w.scatter(u, used))
}

// gather copies the used slots of a unit to the scratch. It does so without a
// branch a slot: which are used cannot be foretold.
func (w *window) gather(u []uint32) []uint32 {
	if cap(w.scratch) < len(u) {
		w.scratch = make([]uint32, len(u)*3/2)
	}
	s := w.scratch[:len(u)]
	n := 0
	for _, v := range u {
		s[n] = v
		n += int((v | -v) >> 31) // 1 unless v is 0
	}
	return s[:n]
}

// scatter enters the live ones of slots into an empty unit.
func (w *window) scatter(u, slots []uint32) int {
	n := 0
	for _, v := range slots {
		if _, live := w.live(v); !live {
			continue
		}
		i := w.home(v >> w.posBits)
		for u[i] != 0 {
			if i++; i == len(u) {
				i = 0
			}
		}
		u[i] = v
		n++
	}
	return n
}

// resize gives every unit another length, at least 8/7 of the slots in use. It
// reads and writes the index from one end to the other.
func (w *window) resize(unitLen int) {
	old, oldLen := w.slots, w.unitLen
	w.show(make([]uint32, unitLen*len(w.used)), unitLen)
	if oldLen == 0 {
		return
	}
	for n := range w.used {
		w.used[n] = uint32(w.scatter(w.unitSlots(uint64(n)), w.gather(old[n*oldLen:(n+1)*oldLen])))
	}
}

// show makes an index the one in use, for warm as well.
func (w *window) show(slots []uint32, unitLen int) {
	w.index = index{slots: slots, unitLen: unitLen}
	w.shown.Store(&index{slots: slots, unitLen: unitLen})
}

// sweep cleans the next units, so many for each block that is opened that no
// slot is still there when the ring comes to its position again. It is not for
// the middle of reclaim, which looks for slots that are already dead.
func (w *window) sweep() {
	if w.tail == 0 || w.unitLen == 0 {
		return
	}
	for range w.sweepUnits {
		w.clean(w.swept & w.unitMask)
		w.swept++
	}
}

// shrink gives memory back where three quarters of the index are not in use.
func (w *window) shrink() {
	if w.unitLen == 0 || w.len()*4 > uint64(len(w.slots)) {
		return
	}
	most := 0
	for n := range w.used {
		w.clean(uint64(n))
		most = max(most, int(w.used[n]))
	}
	if unitLen := max(leastLine, most*2); unitLen < w.unitLen/2 {
		w.resize(unitLen)
	}
}
