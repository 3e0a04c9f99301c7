package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// run is a run of entries, to excluded.
type run struct{ from, to uint64 }

// progress is how far a consumer has come: every entry before low is settled,
// and above it those in runs.
type progress struct {
	low   uint64
	runs  []run             // sorted, apart from each other and from low
	tries map[uint64]uint32 // nacked entries: how often they were given
}

func (p *progress) clone() *progress {
	return &progress{low: p.low, runs: slices.Clone(p.runs), tries: maps.Clone(p.tries)}
}

// settle marks a run as settled and moves low over what is contiguous.
func (p *progress) settle(r run) {
	if r.from < p.low {
		r.from = p.low
	}
	if r.from >= r.to {
		return
	}
	if len(p.tries) > 0 {
		p.forget(r)
	}
	i, _ := slices.BinarySearchFunc(p.runs, r.from, func(x run, from uint64) int {
		if x.to < from {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(p.runs) && p.runs[j].from <= r.to; j++ {
		r.from, r.to = min(r.from, p.runs[j].from), max(r.to, p.runs[j].to)
	}
	if i == 0 && r.from == p.low {
		p.low = r.to
		p.runs = slices.Delete(p.runs, 0, j)
		return
	}
	p.runs = slices.Replace(p.runs, i, j, r)
}

func (p *progress) forget(r run) {
	for n := range p.tries {
		if n >= r.from && n < r.to {
			delete(p.tries, n)
		}
	}
}

func (p *progress) isSettled(n uint64) bool {
	if n < p.low {
		return true
	}
	_, found := slices.BinarySearchFunc(p.runs, n, func(x run, n uint64) int {
		switch {
		case x.to <= n:
			return -1
		case x.from > n:
			return 1
		}
		return 0
	})
	return found
}

// above counts the settled entries above low.
func (p *progress) above() (n uint64) {
	for _, r := range p.runs {
		n += r.to - r.from
	}
	return n
}

// appendWhole appends a body of the kind 's'.
func (p *progress) appendWhole(dst []byte) []byte {
	dst = append(dst, 's')
	dst = binary.AppendUvarint(dst, p.low)
	dst = appendRuns(dst, p.low, p.runs)
	numbers := make([]uint64, 0, len(p.tries))
	for n := range p.tries {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	dst = binary.AppendUvarint(dst, uint64(len(numbers)))
	for _, n := range numbers {
		dst = binary.AppendUvarint(dst, n)
		dst = binary.AppendUvarint(dst, uint64(p.tries[n]))
	}
	return dst
}

// appendSettled appends a body of the kind 'r'; runs are sorted and apart.
func appendSettled(dst []byte, runs []run) []byte { return appendRuns(append(dst, 'r'), 0, runs) }

// appendTry appends a body of the kind 't' for one entry.
func appendTry(dst []byte, entry uint64, tries uint32) []byte {
	dst = append(dst, 't', 1)
	dst = binary.AppendUvarint(dst, entry)
	return binary.AppendUvarint(dst, uint64(tries))
}

func appendRuns(dst []byte, from uint64, runs []run) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(runs)))
	for _, r := range runs {
		dst = binary.AppendUvarint(dst, r.from-from)
		dst = binary.AppendUvarint(dst, r.to-r.from)
		from = r.to
	}
	return dst
}

var errProgress = errors.New("not a record of a consumer's progress")

// apply takes one body into p. A body that is refused may have been taken in part.
func (p *progress) apply(body []byte) error {
	d := decoder{rest: body}
	switch kind := d.byte(); kind {
	case 's':
		*p = progress{low: d.uvarint()}
		p.applyRuns(&d, p.low)
		p.applyTries(&d)
	case 'r':
		p.applyRuns(&d, 0)
	case 't':
		p.applyTries(&d)
	default:
		return fmt.Errorf("%w: kind %q", errProgress, kind)
	}
	if d.bad || len(d.rest) > 0 {
		return fmt.Errorf("%w: %d bytes", errProgress, len(body))
	}
	return nil
}

func (p *progress) applyRuns(d *decoder, from uint64) {
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		start := from + d.uvarint()
		end := start + d.uvarint()
		if start < from || end < start {
			d.bad = true
			return
		}
		p.settle(run{start, end})
		from = end
	}
}

func (p *progress) applyTries(d *decoder) {
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		entry, tries := d.uvarint(), d.uvarint()
		if tries > 1<<31 {
			d.bad = true
		}
		if d.bad || p.isSettled(entry) {
			continue
		}
		if p.tries == nil {
			p.tries = make(map[uint64]uint32)
		}
		p.tries[entry] = uint32(tries)
	}
}

// decoder reads varints and remembers that it ran over the end.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.bad = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, w := binary.Uvarint(d.rest)
	if w <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[w:]
	return v
}
