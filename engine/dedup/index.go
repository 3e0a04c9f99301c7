package dedup

// leastSlots is the size of a unit when its first identity comes.
const leastSlots = 16

func (w *window) unit(hi uint64) *unit { return &w.units[(hi>>w.unitShift)&w.unitMask] }

// tag is never 0, so that no used slot is.
func (w *window) tag(lo uint64) uint32 {
	if t := uint32(lo) & w.tagMask; t != 0 {
		return t
	}
	return 1
}

// slot packs what the index holds of an entry.
func (w *window) slot(lo, seq uint64) uint32 {
	return w.tag(lo)<<w.posBits | uint32(seq)&w.posMask
}

// live returns the sequence number that a slot stands for, and whether that is
// in the ring. A dead slot that was left alone for a whole turn of the ring
// looks live again: so the entry itself must be asked too.
func (w *window) live(slot uint32) (uint64, bool) {
	d := (slot - uint32(w.tail)) & w.posMask
	return w.tail + uint64(d), uint64(d) < w.len()
}

// home is where the probe for a fingerprint begins, for any number of slots.
func home(hi uint64, slots int) int {
	return int(uint64(uint32(hi)) * uint64(slots) >> 32)
}

// touch reads the slot where a probe for the fingerprint will begin, so that
// the cache misses of several probes overlap.
func (w *window) touch(hi uint64) uint32 {
	u := w.unit(hi)
	if len(u.slots) == 0 {
		return 0
	}
	return u.slots[home(hi, len(u.slots))]
}

// insert enters a slot whose identity is not in the index.
func (w *window) insert(hi uint64, slot uint32) {
	u := w.unit(hi)
	if int(u.used) >= len(u.slots)*13/16 {
		w.rebuild(u, hi)
	}
	for i := home(hi, len(u.slots)); ; {
		v := u.slots[i]
		if v == 0 {
			u.slots[i] = slot
			u.used++
			return
		}
		if _, live := w.live(v); !live {
			u.slots[i] = slot
			return
		}
		if i++; i == len(u.slots) {
			i = 0
		}
	}
}

// replace changes the slot of an identity that is in the index.
func (w *window) replace(hi uint64, from, to uint32) {
	u := w.unit(hi)
	for i := home(hi, len(u.slots)); u.slots[i] != 0; {
		if u.slots[i] == from {
			u.slots[i] = to
			return
		}
		if i++; i == len(u.slots) {
			i = 0
		}
	}
}

// rebuild makes a unit of the right size without its dead slots. hi is any
// fingerprint of the unit.
func (w *window) rebuild(u *unit, hi uint64) {
	old := u.slots
	n := 0
	for _, v := range old {
		if _, live := w.live(v); live && v != 0 {
			n++
		}
	}
	// Units fill evenly. Were they all to aim at the same load, they would all
	// grow at the same moment, and the memory of an id would swing with it.
	number := (hi >> w.unitShift) & w.unitMask
	size := max(leastSlots+int(number&15), n*256/int(126+number&15))
	// The allocator rounds up: what it would waste is used.
	u.slots = append([]uint32(nil), make([]uint32, size)...)
	u.slots = u.slots[:cap(u.slots)]
	u.used = 0

	// Entries are read in groups, so that their cache misses overlap.
	var slots [batch]uint32
	var his, los [batch]uint64
	for len(old) > 0 {
		k := 0
		for len(old) > 0 && k < batch {
			v := old[0]
			old = old[1:]
			if seq, live := w.live(v); live && v != 0 {
				e := w.entry(seq)
				slots[k], his[k], los[k] = v, e.hi, e.lo
				k++
			}
		}
		for i := range k {
			w.reinsert(u, number, his[i], los[i], slots[i])
		}
	}
}

// reinsert enters a slot of the unit as it was before a rebuild, unless it was
// a dead one that only looked live.
func (w *window) reinsert(u *unit, number, hi, lo uint64, slot uint32) {
	if (hi>>w.unitShift)&w.unitMask != number || slot>>w.posBits != w.tag(lo) {
		return
	}
	for i := home(hi, len(u.slots)); ; {
		switch u.slots[i] {
		case slot:
			return
		case 0:
			u.slots[i] = slot
			u.used++
			return
		}
		if i++; i == len(u.slots) {
			i = 0
		}
	}
}
