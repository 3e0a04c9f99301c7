package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"path/filepath"
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
)

// Sizes of an index.
const (
	indexMagic  = "WEIRIDX\x01"
	indexHead   = 60
	blockBytes  = 56
	maxBlocks   = 256
	wordBits    = 24 // of a hash, besides those that choose the bucket
	bucketWords = 512
	// maxWords bounds the memory that building an index takes, at 8 bytes a word. A
	// segment with more gets an index of its blocks only.
	maxWords = 16 << 20
	// noWords stands for the number of words of such a segment: any block may hold anything.
	noWords = 1<<32 - 1
	// usualEntry is about how many bytes of log an event takes.
	usualEntry = 44
	// minBlock keeps the blocks of small segments from being tiny, in bytes.
	minBlock = 128 << 10
	// maxGenerations is how many generation records an index names.
	maxGenerations = 1024

	indexFolder = "journal"
	indexSuffix = ".idx"
	tmpSuffix   = ".tmp"
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// block is a run of groups of a segment and what may be found in it.
type block struct {
	place       segment.Group // of its first group
	first, last time.Time     // wall times, earliest and latest
	names       uint64        // see nameBit
	outcomes    uint32        // bits
	entries     uint32
}

// index is what one side file says of a segment.
type index struct {
	identity, segment uint64
	first, end        uint64 // ordinals of the log
	blocks            []block
	generations       []uint64 // ordinals of generation records
	bucketBits        int
	starts, sums      []uint32 // by bucket: first word, checksum
	words             []uint32 // while it is built
	file              vfs.File // while it is read
	wordsAt           int64
	wordCount         uint32
}

// nameBit is a name's bit in a block's set of names.
func nameBit(name string) uint64 { return 1 << (xxh3.HashString(name) & 63) }

// hashOf is the hash under which ids and keys stand in an index, and keys in records.
func hashOf(text string) uint64 { return xxh3.HashString(text) }

// builder makes the index of one segment while its records are read in order.
type builder struct {
	x      index
	size   int64 // bytes of a block
	hashes []uint64
	blocks []uint8 // by hash
	full   bool
}

func newBuilder(identity uint64, s segment.Info, end uint64) *builder {
	b := &builder{x: index{identity: identity, segment: s.Number, first: s.First, end: end}}
	// Two thirds of the blocks that a word can name, since a block ends only where a group does.
	b.size = max(minBlock, s.Length/(maxBlocks*2/3))
	usual := min(s.Length/usualEntry, maxWords)
	b.hashes, b.blocks = make([]uint64, 0, usual), make([]uint8, 0, usual)
	return b
}

// group tells that what follows stands in a group.
func (b *builder) group(g segment.Group, wall time.Time) {
	n := len(b.x.blocks)
	if n == 0 || g.Offset-b.x.blocks[n-1].place.Offset >= b.size && n < maxBlocks {
		b.x.blocks = append(b.x.blocks, block{place: g, first: wall, last: wall})
		return
	}
	last := &b.x.blocks[n-1]
	if wall.Before(last.first) {
		last.first = wall
	}
	if wall.After(last.last) {
		last.last = wall
	}
}

func (b *builder) add(hash uint64) {
	if len(b.hashes) == maxWords {
		b.full = true
		return
	}
	b.hashes = append(b.hashes, hash)
	b.blocks = append(b.blocks, uint8(len(b.x.blocks)-1))
}

// record reads one record into the index.
func (b *builder) record(ordinal uint64, data []byte, names *names) error {
	at := &b.x.blocks[len(b.x.blocks)-1]
	return Read(data, &Visitor{
		Generation: func(g *Generation) error {
			names.learn(g)
			if len(b.x.generations) < maxGenerations {
				b.x.generations = append(b.x.generations, ordinal)
			}
			return nil
		},
		Settled: func(epoch, generation uint64, s *Section, e *Entry) error {
			at.entries++
			at.outcomes |= 1 << e.Outcome
			at.names |= nameBit(s.Source) | nameBit(ruleOf(e.Reason))
			g := names.known(epoch, generation)
			if g == nil && len(e.Routes)+len(e.Notes) > 0 {
				at.names = ^uint64(0) // a reader may know the names
			}
			for _, r := range e.Routes {
				at.names |= nameBit(g.route(r))
			}
			for i := range e.Notes {
				n := &e.Notes[i]
				at.outcomes |= 1 << n.Outcome
				at.names |= nameBit(g.route(n.Route)) | nameBit(ruleOf(n.Reason))
			}
			b.add(xxh3.Hash(e.ID))
			if !e.Identified || e.Key != e.Hi {
				b.add(e.Key)
			}
			return nil
		},
		Redelivered: func(_ uint64, sink string, r *Redelivery) error {
			at.entries++
			at.outcomes |= 1 << r.Outcome
			at.names |= nameBit(r.Source) | nameBit(r.Route) | nameBit(ruleOf(r.Reason))
			b.add(hashOf(r.ID))
			return nil
		},
	})
}

// finish sorts the words into buckets.
func (b *builder) finish() *index {
	x := &b.x
	if b.full {
		x.wordCount, b.hashes = noWords, nil
	}
	n := len(b.hashes)
	x.bucketBits = max(0, bits.Len(uint(n/bucketWords)))
	buckets := 1 << x.bucketBits
	x.starts = make([]uint32, buckets+1)
	for _, h := range b.hashes {
		x.starts[x.bucketOf(h)+1]++
	}
	for i := range buckets {
		x.starts[i+1] += x.starts[i]
	}
	next := slices.Clone(x.starts[:buckets])
	x.words = make([]uint32, n)
	for i, h := range b.hashes {
		k := x.bucketOf(h)
		x.words[next[k]] = x.wordOf(h)<<8 | uint32(b.blocks[i])
		next[k]++
	}
	x.sums = make([]uint32, buckets)
	kept := x.words[:0] // a key is often in a block many times
	for i := range buckets {
		bucket := x.words[x.starts[i]:x.starts[i+1]]
		slices.Sort(bucket)
		bucket = slices.Compact(bucket)
		x.sums[i] = crc32.Checksum(appendWords(nil, bucket), castagnoli)
		x.starts[i] = uint32(len(kept))
		kept = append(kept, bucket...)
	}
	x.starts[buckets], x.words = uint32(len(kept)), kept
	return x
}

func appendWords(b []byte, words []uint32) []byte {
	for _, w := range words {
		b = le.AppendUint32(b, w)
	}
	return b
}

func (x *index) bucketOf(hash uint64) int { return int(hash >> 1 >> (63 - x.bucketBits)) }

// wordOf are the bits of a hash that stand in its bucket.
func (x *index) wordOf(hash uint64) uint32 {
	return uint32(hash<<x.bucketBits>>(64-wordBits)) & (1<<wordBits - 1)
}

// encode writes the side file.
func (x *index) encode() []byte {
	b := make([]byte, 0, indexHead+len(x.blocks)*blockBytes+len(x.generations)*8+len(x.sums)*8+len(x.words)*4)
	b = append(b, indexMagic...)
	for _, v := range []uint64{x.identity, x.segment, x.first, x.end} {
		b = le.AppendUint64(b, v)
	}
	count := max(uint32(len(x.words)), x.wordCount)
	for _, v := range []uint32{uint32(len(x.blocks)), uint32(x.bucketBits), uint32(len(x.generations)), count, 0} {
		b = le.AppendUint32(b, v)
	}
	for i := range x.blocks {
		k := &x.blocks[i]
		for _, v := range []uint64{k.place.First, uint64(k.place.Offset), k.place.Sequence, uint64(k.first.UnixNano()), uint64(k.last.UnixNano()), k.names} {
			b = le.AppendUint64(b, v)
		}
		b = le.AppendUint32(b, k.outcomes)
		b = le.AppendUint32(b, k.entries)
	}
	for _, o := range x.generations {
		b = le.AppendUint64(b, o)
	}
	for i, sum := range x.sums {
		b = le.AppendUint32(b, x.starts[i])
		b = le.AppendUint32(b, sum)
	}
	le.PutUint32(b[indexHead-4:], indexSum(b))
	return appendWords(b, x.words)
}

// indexSum covers everything before the words but itself.
func indexSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:indexHead-4], castagnoli), castagnoli, b[indexHead:])
}

// errIndex says that a side file is damaged or of another segment: it is made anew.
var errIndex = errors.New("index is damaged")

// readIndex reads a side file, but for its words; the index then holds the file.
func readIndex(f vfs.File) (*index, error) {
	head := make([]byte, indexHead)
	if err := readFull(f, head, 0); err != nil {
		return nil, err
	}
	if string(head[:8]) != indexMagic {
		return nil, fmt.Errorf("%w: wrong beginning %q", errIndex, head[:8])
	}
	x := &index{identity: le.Uint64(head[8:]), segment: le.Uint64(head[16:]), first: le.Uint64(head[24:]), end: le.Uint64(head[32:])}
	blocks, bucketBits, generations := le.Uint32(head[40:]), le.Uint32(head[44:]), le.Uint32(head[48:])
	x.wordCount = le.Uint32(head[52:])
	if blocks > maxBlocks || bucketBits > 24 || generations > maxGenerations || x.wordCount > maxWords && x.wordCount != noWords {
		return nil, fmt.Errorf("%w: it has %d blocks, 2^%d buckets, %d generations and %d words", errIndex, blocks, bucketBits, generations, x.wordCount)
	}
	x.bucketBits = int(bucketBits)
	buckets := 1 << bucketBits
	b := make([]byte, indexHead+int(blocks)*blockBytes+int(generations)*8+buckets*8)
	if err := readFull(f, b, 0); err != nil {
		return nil, err
	}
	if indexSum(b) != le.Uint32(b[indexHead-4:]) {
		return nil, fmt.Errorf("%w: wrong checksum", errIndex)
	}
	x.wordsAt = int64(len(b))
	b = b[indexHead:]
	for range blocks {
		x.blocks = append(x.blocks, block{
			place: segment.Group{Segment: x.segment, First: le.Uint64(b), Offset: int64(le.Uint64(b[8:])), Sequence: le.Uint64(b[16:])},
			first: time.Unix(0, int64(le.Uint64(b[24:]))), last: time.Unix(0, int64(le.Uint64(b[32:]))),
			names: le.Uint64(b[40:]), outcomes: le.Uint32(b[48:]), entries: le.Uint32(b[52:]),
		})
		b = b[blockBytes:]
	}
	for range generations {
		x.generations = append(x.generations, le.Uint64(b))
		b = b[8:]
	}
	for range buckets {
		x.starts, x.sums = append(x.starts, le.Uint32(b)), append(x.sums, le.Uint32(b[4:]))
		b = b[8:]
	}
	x.starts = append(x.starts, x.wordCount)
	x.file = f
	return x, nil
}

func readFull(f vfs.File, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ends at byte %d", errIndex, at+int64(n))
	}
	return err
}

// find says which blocks may hold a hash. It reads one bucket.
func (x *index) find(hash uint64) (in [maxBlocks]bool, err error) {
	if x.wordCount == noWords {
		for k := range in {
			in[k] = true
		}
		return in, nil
	}
	k := x.bucketOf(hash)
	from, to := x.starts[k], x.starts[k+1]
	if from > to || to > x.wordCount {
		return in, fmt.Errorf("%w: bucket %d has words %d to %d", errIndex, k, from, to)
	}
	b := make([]byte, (to-from)*4)
	if err := readFull(x.file, b, x.wordsAt+int64(from)*4); err != nil {
		return in, err
	}
	if crc32.Checksum(b, castagnoli) != x.sums[k] {
		return in, fmt.Errorf("%w: bucket %d has a wrong checksum", errIndex, k)
	}
	want := x.wordOf(hash)
	for ; len(b) > 0; b = b[4:] {
		if w := le.Uint32(b); w>>8 == want {
			in[w&0xff] = true
		}
	}
	return in, nil
}

func (x *index) close() error { return x.file.Close() }

// indexPath is where a segment's side file is.
func indexPath(dir string, number uint64) string {
	return filepath.Join(dir, indexFolder, fmt.Sprintf("%020d%s", number, indexSuffix))
}
