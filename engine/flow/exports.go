package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/journal"
)

// exports are how far the journal has arrived in the sinks of journal.to. They are a
// table of the log: name, a byte of length before it | ordinal u64, little-endian, for
// each sink.
type exports struct {
	mu sync.Mutex // guards all below
	at map[string]uint64
	st map[string]ExportStatus
}

// ExportStatus is how the journal's export to one sink stands.
type ExportStatus struct {
	Behind   uint64    // records of the commit log that are not exported yet
	Exported uint64    // lines, since the start
	Lost     uint64    // records that the journal let go before they were exported, since the start
	Refused  uint64    // lines that the sink or its codec will never take, since the start
	Since    time.Time // when the batch under way was begun; zero = none is

	upTo uint64 // all before this ordinal has arrived
}

var errExports = errors.New("not a snapshot of journal exports")

// Snapshot is the table's part in a snapshot of the log.
func (e *exports) Snapshot(yield func([]byte) error) error {
	e.mu.Lock()
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(e.at)) {
		b = append(append(b, byte(len(name))), name...)
		b = binary.LittleEndian.AppendUint64(b, e.at[name])
	}
	e.mu.Unlock()
	if len(b) == 0 {
		return nil
	}
	return yield(b)
}

// Load takes a slice of Snapshot back.
func (e *exports) Load(slice []byte) error {
	for len(slice) > 0 {
		n := 1 + int(slice[0])
		if len(slice) < n+8 {
			return errExports
		}
		e.replay(journal.Exported{Sink: string(slice[1:n]), Ordinal: binary.LittleEndian.Uint64(slice[n:])})
		slice = slice[n+8:]
	}
	return nil
}

// replay notes a committed position; an older one changes nothing.
func (e *exports) replay(x journal.Exported) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at == nil {
		e.at = map[string]uint64{}
	}
	e.at[x.Sink] = max(e.at[x.Sink], x.Ordinal)
}

// position is where a sink's export goes on; known false: it has never begun.
func (e *exports) position(sink string) (ordinal uint64, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ordinal, known = e.at[sink]
	return ordinal, known
}

// note changes a sink's status.
func (e *exports) note(sink string, change func(*ExportStatus)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.st == nil {
		e.st = map[string]ExportStatus{}
	}
	st := e.st[sink]
	change(&st)
	e.st[sink] = st
}

// forget drops the status of a sink that is not exported to any more.
func (e *exports) forget(sink string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.st, sink)
}

// status is that of all sinks that are exported to.
func (e *exports) status() map[string]ExportStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.st)
}

// exportSlow is how long a batch may be under way before that is called a wait.
const exportSlow = 10 * time.Second

// waits lists the exports that do not get on.
func (e *exports) waits() (list []Wait) {
	all := e.status()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		st := all[name]
		if st.Since.IsZero() || time.Since(st.Since) < exportSlow {
			continue
		}
		list = append(list, Wait{
			What: "the journal's export", For: "sink " + name, Since: st.Since,
			Why: fmt.Sprintf("it is %d records behind; what journal.keep and journal.max let go before it is exported is lost to it", st.Behind),
		})
	}
	return list
}
