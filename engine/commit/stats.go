package commit

import (
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/measure"
)

// Stats are counts since Open.
type Stats struct {
	Queued   int // tickets that wait
	Queue    int // how many may
	Groups   uint64
	Tickets  uint64               // in all groups
	Write    measure.Distribution // seconds from a group's first write to the end of its last sync
	Size     measure.Distribution // bytes of groups, staged ones with them
	Since    time.Time            // of the group that is being written; zero = none is
	Snapshot time.Time            // when the last snapshot of this run ended; zero = there was none
}

// counts are touched once a group.
type counts struct {
	tickets  atomic.Uint64
	write    measure.Histogram
	size     measure.Histogram
	since    atomic.Int64 // nanoseconds since 1970
	snapshot atomic.Int64 // likewise
}

func (c *counts) begin() time.Time {
	now := time.Now()
	c.since.Store(now.UnixNano())
	return now
}

func (c *counts) end(began time.Time, tickets int, bytes int64) {
	c.since.Store(0)
	c.tickets.Add(uint64(tickets))
	c.write.Since(began, 1)
	c.size.Observe(float64(bytes), 1)
}

// Stats may be called from any goroutine.
func (l *Log) Stats() Stats {
	c := &l.counts
	st := Stats{Queued: len(l.queue), Queue: cap(l.queue), Tickets: c.tickets.Load(), Write: c.write.Read(), Size: c.size.Read()}
	st.Groups = st.Write.Count
	st.Since, st.Snapshot = moment(c.since.Load()), moment(c.snapshot.Load())
	return st
}

func moment(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
}

// Appended is how many entries were committed to a stage since it was added; 0 where
// there is no such stage.
func (l *Log) Appended(id int) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	stages := *l.stages.Load()
	if id < 0 || id >= len(stages) || stages[id] == nil {
		return 0
	}
	return l.marks[stages[id].name].Entries - stages[id].base
}
