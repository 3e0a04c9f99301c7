package dedup

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"
	"unsafe"
)

const tickLength = 10 * time.Millisecond

func floorTick(d time.Duration) int64 { return int64(d / tickLength) }
func ceilTick(d time.Duration) int64  { return int64((d + tickLength - 1) / tickLength) }

// reclaimsPerVisit bounds how many blocks one visit to a stripe drops. A block
// takes 1,024 commits to fill, so this keeps ahead of any traffic.
const reclaimsPerVisit = 4

// wholeIndex is up to how many bytes of index a table begins with its final size:
// no rebuilding, and memory that does not grow with what is in it.
const wholeIndex = 64 << 20

// entry is one identity: committed, or claimed by an event in flight.
type entry struct {
	hi, lo  uint64
	data    uint64
	at      int32 // ticks after the block's origin, or one of the marks below
	version uint32
}

// Marks that stand in entry.at while there is no commit.
const (
	atClaimed  = math.MinInt32 + iota // in flight
	atFollowed                        // in flight, with followers
	atFreed                           // nobody's: its claim was released or moved
	atOldest                          // the least that a commit has
)

// block is a run of entries in the order of their claims.
type block struct {
	entries   []entry
	origin    int64 // tick that at counts from
	newest    int64 // highest tick among the entries as they were claimed and first committed
	refreshed int   // entries with a tick above newest
	claimed   int   // entries in flight
	freed     int
}

// lateCommit is by how many ticks a commit may come after all others of its block
// before it counts as a refresh: the block must not stay in the window for its sake.
const lateCommit = 100

// shape is what all windows of a table have in common.
type shape struct {
	blockShift uint
	blockMask  uint64
	posBits    uint
	posMask    uint32
	tagMask    uint32
	unitShift  uint
	unitMask   uint64
	sweepUnits int          // that are cleaned for each block
	window     int64        // ticks
	maxEntries uint64       // of one ring, whole blocks
	maxIdle    uint64       // of those, entries without a commit
	whole      int          // slots a unit needs when the ring is full; 0 = too many to begin with
	first      firstIndexes // with whole
	secret     [2]uint64
}

func newShape(cfg Config, stripes int, blockShift uint) *shape {
	// Fingerprints fall unevenly into stripes: six standard deviations above the
	// mean keep MaxIDs ids in any case, and a block more because the count bound
	// drops a block at a time.
	mean := float64(cfg.MaxIDs) / float64(stripes)
	want := uint64(mean)
	if stripes > 1 {
		want = uint64(mean + 6*math.Sqrt(mean))
	}
	blockLen := uint64(1) << blockShift
	maxIdle := max(want/16, blockLen)
	maxEntries := (want+maxIdle+blockLen-1)/blockLen*blockLen + blockLen
	// Twice the range of the ring: a slot stays known as dead for a whole turn.
	posBits := uint(bits.Len64(2*maxEntries - 1))
	// A unit holds up to a sixteenth as many ids as there are tags: so of sixteen
	// new ids at least fifteen meet no equal tag, and never touch the ring.
	tagBits := 32 - posBits
	units := pow2(int(maxEntries >> (tagBits - 4)))
	unitsPow := uint(bits.Len(uint(units - 1)))
	whole := int(maxEntries)/units*4/3 + leastLine
	if 4*whole*units*stripes > wholeIndex {
		whole = 0
	}
	return &shape{
		first:      firstIndexes{left: stripes},
		blockShift: blockShift,
		blockMask:  blockLen - 1,
		posBits:    posBits,
		posMask:    1<<posBits - 1,
		tagMask:    1<<tagBits - 1,
		unitShift:  64 - uint(bits.Len(uint(stripes-1))) - unitsPow,
		unitMask:   1<<unitsPow - 1,
		sweepUnits: units/int(maxEntries>>blockShift) + 1,
		whole:      whole,
		window:     ceilTick(cfg.Window),
		maxEntries: maxEntries,
		maxIdle:    maxIdle,
		secret:     [2]uint64{rand.Uint64(), rand.Uint64()},
	}
}

// window is one stripe's part of the window, and of what is in flight. Entries have
// sequence numbers from tail, a multiple of the block length, up to head; a slot
// holds the low bits of one.
type window struct {
	*shape
	number uint32 // of the stripe
	index
	shown      atomic.Pointer[index] // a copy, for warm
	used       []uint32              // by unit: slots that are not 0, dead ones included
	scratch    []uint32
	swept      uint64  // units that were cleaned by sweep
	sweptFor   uint64  // blocks for which sweep was done
	blocks     []block // by block number, modulo the length, a power of two
	head, tail uint64
	claimed    uint64 // entries in flight
	freed      uint64
	move       func(seq uint64, e entry) // takes claimed entries off the ring
	carried    uint64                    // head after the last entry was moved from the tail to the head
	spare      [][]entry
	evicted    uint64
}

func (w *window) init(number uint32, sh *shape, move func(seq uint64, e entry)) {
	w.shape, w.number, w.move = sh, number, move
	w.used = make([]uint32, sh.unitMask+1)
	w.blocks = make([]block, 4)
}

// len is how many entries the ring has, idle those of them without a commit.
func (w *window) len() uint64  { return w.head - w.tail }
func (w *window) idle() uint64 { return w.claimed + w.freed }

func (w *window) block(seq uint64) *block {
	return &w.blocks[(seq>>w.blockShift)&uint64(len(w.blocks)-1)]
}

func (w *window) entry(seq uint64) *entry {
	return &w.block(seq).entries[seq&w.blockMask]
}

// tick is the engine time of an entry's last commit.
func (w *window) tick(seq uint64) int64 {
	b := w.block(seq)
	return b.origin + int64(b.entries[seq&w.blockMask].at)
}

func (w *window) expired(seq uint64, now int64) bool { return now-w.tick(seq) >= w.window }

// hold appends an identity that is not in the window as claimed.
func (w *window) hold(h uint64, e entry, now int64) uint64 {
	w.prepare(now)
	seq := w.push(e, now)
	b := w.block(seq)
	b.entries[seq&w.blockMask].at = atClaimed
	b.claimed++
	w.claimed++
	w.insert(h, w.slot(h, seq))
	return seq
}

// holds says whether an entry is in the ring and claimed.
func (w *window) holds(seq uint64) bool {
	return seq-w.tail < w.head-w.tail && w.entry(seq).at < atFreed
}

// commit makes a claimed entry a committed one.
func (w *window) commit(seq uint64, tick int64) {
	b := w.block(seq)
	b.claimed--
	w.claimed--
	switch {
	case tick <= b.newest:
	case tick-b.newest <= lateCommit:
		b.newest = tick
	default:
		b.refreshed++
	}
	b.entries[seq&w.blockMask].at = w.offset(b, tick)
}

// free leaves a claimed entry to nobody. Its slot stays until the ring is past it.
func (w *window) free(seq uint64) {
	b := w.block(seq)
	b.claimed--
	b.freed++
	w.claimed--
	w.freed++
	b.entries[seq&w.blockMask] = entry{at: atFreed}
}

// add appends an identity that is not in the window as committed.
func (w *window) add(h uint64, e entry, tick, now int64) {
	w.prepare(now)
	w.insert(h, w.slot(h, w.push(e, tick)))
}

// prepare makes sure that there is room for an entry.
func (w *window) prepare(now int64) {
	if w.sweptFor != w.head>>w.blockShift {
		w.sweptFor++
		w.sweep()
	}
	if w.len() >= w.maxEntries {
		w.evict(now)
	}
}

// refresh commits an identity again in place.
func (w *window) refresh(seq uint64, data uint64, version uint32, tick int64) {
	b := w.block(seq)
	e := &b.entries[seq&w.blockMask]
	if tick > b.newest {
		b.refreshed++
	}
	e.data, e.version = data, version
	e.at = w.offset(b, tick)
}

// push appends an entry to the ring and returns its sequence number.
func (w *window) push(e entry, tick int64) uint64 {
	if w.head&w.blockMask == 0 {
		w.open(tick)
	}
	b := w.block(w.head)
	e.at = w.offset(b, tick)
	b.newest = max(b.newest, tick)
	b.entries[w.head&w.blockMask] = e
	w.head++
	return w.head - 1
}

// open starts the block at head.
func (w *window) open(tick int64) {
	first, next := w.tail>>w.blockShift, w.head>>w.blockShift
	if n := uint64(len(w.blocks)); next-first >= n {
		grown := make([]block, 2*n)
		for i := first; i < next; i++ {
			grown[i&(2*n-1)] = w.blocks[i&(n-1)]
		}
		w.blocks = grown
	}
	var entries []entry
	if n := len(w.spare); n > 0 {
		entries, w.spare = w.spare[n-1], w.spare[:n-1]
	} else {
		entries = make([]entry, w.blockMask+1)
		settlePages(entries)
	}
	*w.block(w.head) = block{entries: entries, origin: tick, newest: tick}
}

// offset is a tick as it stands in an entry of b. Where it lies too far after
// the origin the block is counted anew; what lies too far before is long expired.
func (w *window) offset(b *block, tick int64) int32 {
	d := tick - b.origin
	if d > math.MaxInt32 {
		for i := range b.entries {
			if at := &b.entries[i].at; *at >= atOldest {
				*at = int32(max(int64(*at)-d, atOldest))
			}
		}
		b.origin, d = tick, 0
	}
	return int32(max(d, atOldest))
}

// expire drops blocks at the tail whose time is over.
func (w *window) expire(now int64) {
	for range reclaimsPerVisit {
		if !w.expireOne(now) {
			return
		}
	}
}

func (w *window) expireOne(now int64) bool {
	if w.len() <= w.blockMask || now-w.block(w.tail).newest < w.window {
		return false
	}
	w.reclaim(now, len(w.block(w.tail).entries))
	return true
}

// evict makes room for at least half a block.
func (w *window) evict(now int64) {
	w.reclaim(now, int(w.blockMask+1)/2)
}

// reclaim drops the block at the tail. Of its entries that are inside the
// window, up to keep that were committed again later move to the head; those in
// flight go to move.
func (w *window) reclaim(now int64, keep int) {
	b := *w.block(w.tail)
	*w.block(w.tail) = block{}
	first := w.tail
	w.tail += w.blockMask + 1
	w.claimed -= uint64(b.claimed)
	w.freed -= uint64(b.freed)
	if len(w.spare) < 2 {
		// Entries that move may go into this very block: they never overtake the
		// loop below, which reads each before it is moved.
		w.spare = append(w.spare, b.entries)
	}
	if b.refreshed == 0 && b.claimed == 0 && now-b.newest >= w.window {
		return
	}
	for i, e := range b.entries {
		if e.at < atOldest {
			if e.at != atFreed {
				w.move(first+uint64(i), e)
			}
			continue
		}
		tick := b.origin + int64(e.at)
		if now-tick >= w.window {
			continue
		}
		if tick <= b.newest || keep == 0 {
			w.evicted++
			continue
		}
		keep--
		h := w.mix(e.hi, e.lo)
		w.replace(h, w.slot(h, first+uint64(i)), w.slot(h, w.push(e, tick)))
		w.carried = w.head
	}
}

func (w *window) bytes() int64 {
	n := 4 * int64(cap(w.slots)+cap(w.used)+cap(w.scratch))
	n += int64(len(w.blocks)) * int64(unsafe.Sizeof(block{}))
	held := (w.len()+w.blockMask)>>w.blockShift + uint64(len(w.spare))
	return n + int64(held<<w.blockShift)*int64(unsafe.Sizeof(entry{}))
}
