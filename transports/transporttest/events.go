package transporttest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/weir-project/weir/transports"
)

// numbered is what every event of the kit says of itself: Seq counts within
// its key, from 0; N counts all.
type numbered struct {
	Key string `json:"key"`
	Seq int    `json:"seq"`
	N   int    `json:"n"`
	Pad string `json:"pad,omitempty"`
}

const binaryMagic = "\x00WEIR\n\xff"

// maker makes numbered events.
type maker struct {
	f   Factory
	rng *rand.Rand
	n   int
	seq map[string]int
}

func newMaker(f Factory, seed uint64) *maker {
	return &maker{f: f, rng: rand.New(rand.NewPCG(seed, 1)), seq: map[string]int{}}
}

// next makes the next event of a key, as large as size where that is larger
// than it must be.
func (m *maker) next(key string, size int) transports.Entry {
	it := numbered{Key: key, Seq: m.seq[key], N: m.n}
	m.seq[key]++
	m.n++
	e := transports.Entry{ID: fmt.Sprintf("event-%d", it.N), Route: "conformance", Attempt: 1}
	if m.f.Carries.Keys {
		e.Key = []byte(key)
	}
	if m.f.Carries.Headers && it.N%3 == 0 {
		e.Headers = []transports.Header{{Name: "ce-n", Value: fmt.Sprint(it.N)}, {Name: "ce-text", Value: "grüße, \"x\" %"}}
	}
	if m.f.Carries.Binary && it.N%2 == 1 {
		e.Data = m.binary(&it, size)
		return e
	}
	e.Data, _ = json.Marshal(&it) // strings and integers never fail
	if over := size - len(e.Data) - len(`,"pad":""`); over > 0 {
		it.Pad = string(bytes.Repeat([]byte{'p'}, over))
		e.Data, _ = json.Marshal(&it)
	}
	return e
}

func (m *maker) binary(it *numbered, size int) []byte {
	b := []byte(binaryMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(it.N))
	b = binary.LittleEndian.AppendUint32(b, uint32(it.Seq))
	b = append(b, byte(len(it.Key)))
	b = append(b, it.Key...)
	for len(b) < size {
		b = append(b, byte(m.rng.Uint32()))
	}
	return b
}

// parse reads an event of the kit back.
func parse(data []byte) (it numbered, err error) {
	rest, ok := bytes.CutPrefix(data, []byte(binaryMagic))
	if !ok {
		err = json.Unmarshal(data, &it)
		return it, err
	}
	if len(rest) < 9 || len(rest) < 9+int(rest[8]) {
		return it, fmt.Errorf("binary event of %d bytes", len(data))
	}
	it.N, it.Seq = int(binary.LittleEndian.Uint32(rest)), int(binary.LittleEndian.Uint32(rest[4:]))
	it.Key = string(rest[9 : 9+int(rest[8])])
	return it, nil
}

// ledger checks what comes against what was sent.
type ledger struct {
	f     Factory
	sent  map[int]transports.Entry
	came  map[int]int
	total int            // events that came, repeats among them
	last  map[string]int // by key: Seq of the newest first delivery
}

func newLedger(f Factory) *ledger {
	return &ledger{f: f, sent: map[int]transports.Entry{}, came: map[int]int{}, last: map[string]int{}}
}

// wasSent notes entries that the sink has accepted, or may have.
func (l *ledger) wasSent(entries ...transports.Entry) error {
	for _, e := range entries {
		it, err := parse(e.Data)
		if err != nil {
			return err
		}
		e.Data, e.Key, e.Headers = bytes.Clone(e.Data), bytes.Clone(e.Key), slices.Clone(e.Headers)
		l.sent[it.N] = e
	}
	return nil
}

// came checks one event that was received: it was sent, is what was sent, and
// no later one of its key came first.
func (l *ledger) received(it item) (numbered, error) {
	n, err := parse(it.Data)
	if err != nil {
		return n, fmt.Errorf("I2: %.80q is no event of the kit: %w", it.Data, err)
	}
	e, ok := l.sent[n.N]
	if !ok {
		return n, fmt.Errorf("I2: event %d was never sent", n.N)
	}
	if !bytes.Equal(it.Data, e.Data) {
		return n, fmt.Errorf("I2: event %d came with other data: %d bytes for %d", n.N, len(it.Data), len(e.Data))
	}
	if l.f.Carries.Keys && !bytes.Equal(it.Key, e.Key) {
		return n, fmt.Errorf("event %d came with key %q, not %q", n.N, it.Key, e.Key)
	}
	if l.f.Carries.Headers && !slices.Equal(it.Headers, e.Headers) {
		return n, fmt.Errorf("event %d came with headers %q, not %q", n.N, it.Headers, e.Headers)
	}
	l.came[n.N]++
	l.total++
	if l.came[n.N] > 1 {
		return n, nil
	}
	if last, ok := l.last[n.Key]; ok && n.Seq < last {
		return n, fmt.Errorf("I7: event %d of key %s came first after %d", n.Seq, n.Key, last)
	}
	l.last[n.Key] = n.Seq
	return n, nil
}

// missing says what was sent and never came.
func (l *ledger) missing() error {
	var gone []int
	for n := range l.sent {
		if l.came[n] == 0 {
			gone = append(gone, n)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.Sort(gone)
	return fmt.Errorf("I1: %d of %d events never came, the first is %d", len(gone), len(l.sent), gone[0])
}
