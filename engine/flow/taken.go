package flow

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/weir-project/weir/engine/config"
)

// taken are the letters that the log says are done with, and that may still stand in
// their queue. It is a table of the log.
type taken struct {
	mu  sync.Mutex          // guards all
	all map[string][]uint64 // by the queue of dead letters
}

// takenSink is how records name the queue of dead letters, which another
// configuration may call otherwise.
const takenSink = config.DeadLettersName + "/"

func (t *taken) replay(sink string, number uint64) {
	if place, ok := strings.CutPrefix(sink, takenSink); ok {
		t.add(place, number)
	}
}

func (t *taken) add(place string, numbers ...uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[string][]uint64{}
	}
	t.all[place] = append(t.all[place], numbers...)
}

// forget leaves out letters that are off their queue, durably.
func (t *taken) forget(place string, numbers []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := slices.DeleteFunc(t.all[place], func(n uint64) bool { return slices.Contains(numbers, n) })
	if len(left) == 0 {
		delete(t.all, place)
		return
	}
	t.all[place] = left
}

func (t *taken) of(place string) []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.all[place])
}

// Snapshot yields, for each queue: length u16 | name | number u64*.
func (t *taken) Snapshot(yield func([]byte) error) error {
	t.mu.Lock()
	var slicesOf [][]byte
	for place, numbers := range t.all {
		b := binary.LittleEndian.AppendUint16(nil, uint16(len(place)))
		b = append(b, place...)
		for _, n := range numbers {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
		slicesOf = append(slicesOf, b)
	}
	t.mu.Unlock()
	for _, b := range slicesOf {
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

// Load takes a slice of Snapshot back.
func (t *taken) Load(slice []byte) error {
	if len(slice) < 2 {
		return fmt.Errorf("letters snapshot: %w", errShortSlice)
	}
	n := int(binary.LittleEndian.Uint16(slice))
	if rest := len(slice) - 2 - n; rest < 0 || rest%8 != 0 {
		return fmt.Errorf("letters snapshot: %w", errShortSlice)
	}
	place, list := string(slice[2:2+n]), slice[2+n:]
	for ; len(list) > 0; list = list[8:] {
		t.add(place, binary.LittleEndian.Uint64(list))
	}
	return nil
}
