package commit

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/transports"
)

var le = binary.LittleEndian

// writer is what only the goroutine of run touches, but for base, which is set
// before it starts.
type writer struct {
	base    time.Duration // engine time at Start
	group   []*Ticket
	dirty   []*stage
	head    []byte
	framed  []byte
	since   int64  // bytes of log since the last snapshot began
	last    int64  // bytes of the last group
	file    uint64 // of the log, when the preamble was written last
	aging   uint64 // number of the file that began is of
	began   time.Time
	owed    int64 // bytes of log until the preamble may be written again
	timer   *time.Timer
	running chan struct{}
	results chan result
	spare   chan []*Ticket
}

// result is a group whose outcome is known and not told yet.
type result struct {
	group []*Ticket
	err   error
	end   segment.Mark // of the log with the group
}

// resultsAhead is how many groups may be committed while the tickets of an earlier
// one are still told: what Committed does overlaps with the next group's sync.
const resultsAhead = 1

// timeEvery is after how many tickets of one group the clock is looked at.
const timeEvery = 64

// A group of busyBytes says that the log is busy: the next one waits for further
// tickets as long as each comes within groupGap.
const (
	busyBytes = 64 << 10
	groupGap  = 300 * time.Microsecond
)

// run commits groups until Close.
func (l *Log) run() {
	w := &l.writer
	w.results = make(chan result, resultsAhead)
	w.spare = make(chan []*Ticket, resultsAhead+2)
	var told sync.WaitGroup
	told.Go(l.tell)
	defer told.Wait()
	defer close(w.results)
	for {
		select {
		case t := <-l.queue:
			l.step(t)
			continue
		default:
		}
		select {
		case t := <-l.queue:
			l.step(t)
		case <-l.drain:
			for {
				select {
				case t := <-l.queue:
					l.step(t)
				default:
					return
				}
			}
		}
	}
}

// step commits one group, whose first ticket is t.
func (l *Log) step(t *Ticket) {
	w := &l.writer
	if l.abort.Load() {
		l.fail(ErrClosed)
	}
	if err := l.Err(); err != nil {
		w.results <- result{group: []*Ticket{t}, err: err}
		return
	}
	select {
	case w.group = <-w.spare:
	default:
		w.group = nil
	}
	l.gather(t)
	began := l.counts.begin()
	publishErr, err := l.commit()
	l.counts.end(began, len(w.group), w.last)
	if err != nil {
		w.results <- result{group: w.group, err: l.fail(err)}
		return
	}
	w.results <- result{group: w.group, end: l.seg.End()}
	if publishErr != nil {
		// What was committed is; but the sink cannot go on.
		l.fail(publishErr)
		return
	}
	l.snapshotWhenDue()
}

// tell calls Committed of each ticket, group after group, beside run.
func (l *Log) tell() {
	for r := range l.writer.results {
		for i, t := range r.group {
			r.group[i] = nil
			t.Committed(r.err)
		}
		if r.err != nil {
			continue
		}
		l.mu.Lock()
		l.applied = r.end.Entries
		l.mu.Unlock()
		l.seg.Publish(r.end)
		select {
		case l.writer.spare <- r.group[:0]:
		default:
		}
	}
}

// refuse answers what is queued without a writer.
func (l *Log) refuse(err error) {
	for {
		select {
		case t := <-l.queue:
			t.Committed(err)
		default:
			return
		}
	}
}

// gather takes what is queued, up to the limits of a group. While the log is busy
// it also waits for what is about to come: a sync costs as much for a small group as
// for a large one. A lone ticket never waits.
func (l *Log) gather(first *Ticket) {
	w := &l.writer
	w.group = append(w.group[:0], first)
	bytes, began := size(first), time.Now()
	busy, yielded := w.last >= busyBytes, false
	for bytes < l.cfg.GroupBytes {
		t := l.queued()
		if t == nil && busy {
			t = l.await(min(groupGap, l.cfg.GroupWait-time.Since(began)))
		}
		switch {
		case t != nil:
			w.group = append(w.group, t)
			bytes += size(t)
			yielded = false
		case busy || yielded:
			w.last = bytes
			return
		default:
			// Submitters that the last group's Committed has just woken get to run:
			// without this the first of them makes a group alone and the others
			// wait for its sync. It costs nothing where nobody is ready.
			yielded = true
			runtime.Gosched()
		}
		if len(w.group)%timeEvery == 0 && time.Since(began) > l.cfg.GroupWait {
			break
		}
	}
	w.last = bytes
}

// queued takes a ticket if there is one.
func (l *Log) queued() *Ticket {
	select {
	case t := <-l.queue:
		return t
	default:
		return nil
	}
}

// await takes a ticket that comes within a time.
func (l *Log) await(wait time.Duration) *Ticket {
	if wait <= 0 {
		return nil
	}
	w := &l.writer
	if w.timer == nil {
		w.timer = time.NewTimer(wait)
	} else {
		w.timer.Reset(wait)
	}
	defer w.timer.Stop()
	select {
	case t := <-l.queue:
		return t
	case <-w.timer.C:
	case <-l.drain: // nobody submits any more
	}
	return nil
}

func size(t *Ticket) int64 {
	n := len(t.Record)
	for _, run := range t.Stages {
		n += len(run.Framed)
	}
	return int64(n)
}

// commit makes the gathered group durable: the sinks first, then the log, which
// names the sinks' ends. publishErr is of a sink after the commit.
func (l *Log) commit() (publishErr, err error) {
	w := &l.writer
	if err := l.appendStages(); err != nil {
		return nil, err
	}
	if err := l.syncStages(); err != nil {
		return nil, err
	}
	at, wall := l.Now(), l.cfg.Now()
	w.head = encodeHead(w.head[:0], at, wall, w.dirty)
	w.framed = segment.Frame(w.framed[:0], w.head)
	count := 1 + l.preface()
	for _, t := range w.group {
		if len(t.Record) > 0 {
			w.framed = segment.Frame(w.framed, t.Record)
			count++
		}
	}
	if err := l.turnByAge(wall); err != nil {
		return nil, err
	}
	if err := l.seg.Append(w.framed, count); err != nil {
		return nil, err
	}
	if err := l.seg.Sync(); err != nil {
		return nil, err
	}
	w.since += int64(len(w.framed))
	w.owed -= int64(len(w.framed))
	l.mu.Lock()
	l.at = at
	for _, st := range w.dirty {
		l.marks[st.name] = st.mark
	}
	l.mu.Unlock()
	for _, st := range w.dirty {
		st.dirty = false
		if err := st.sink.Publish(st.mark); err != nil && publishErr == nil {
			publishErr = fmt.Errorf("publish to %q: %w", st.name, err)
		}
	}
	return publishErr, nil
}

// preambleShare bounds what preambles add to the log: this part of it.
const preambleShare = 16

// preface begins a group with the preamble where the log has gone on in a new file
// since it was written last.
func (l *Log) preface() (count int) {
	w, preamble := &l.writer, l.preamble.Load()
	file := l.seg.End().File
	if preamble == nil || file == w.file || w.owed > 0 {
		return 0
	}
	if w.file == 0 {
		w.file = file // whoever started the log has just written what is to be known
		return 0
	}
	w.file = file
	for _, record := range (*preamble)() {
		w.framed = segment.Frame(w.framed, record)
		w.owed += int64(len(record)) * preambleShare
		count++
	}
	return count
}

func (l *Log) appendStages() error {
	w := &l.writer
	w.dirty = w.dirty[:0]
	stages := *l.stages.Load()
	for _, t := range w.group {
		for _, run := range t.Stages {
			if run.Count == 0 {
				continue
			}
			st := stages[run.Stage]
			if st == nil {
				return fmt.Errorf("stage %d was taken out while a ticket for it was under way", run.Stage)
			}
			if err := st.sink.Append(run.Framed, run.Count); err != nil {
				return fmt.Errorf("append to %q: %w", st.name, err)
			}
			if !st.dirty {
				st.dirty = true
				w.dirty = append(w.dirty, st)
			}
		}
	}
	return nil
}

// syncStages syncs the sinks that the group changed, all at once.
func (l *Log) syncStages() error {
	dirty := l.writer.dirty
	if len(dirty) == 0 {
		return nil
	}
	if len(dirty) > 1 {
		var others sync.WaitGroup
		for _, st := range dirty[1:] {
			others.Go(st.sync)
		}
		dirty[0].sync()
		others.Wait()
	} else {
		dirty[0].sync()
	}
	for _, st := range dirty {
		if st.err != nil {
			return fmt.Errorf("sync %q: %w", st.name, st.err)
		}
	}
	return nil
}

func (st *stage) sync() { st.mark, st.err = st.sink.Sync() }

func encodeHead(dst []byte, at time.Duration, wall time.Time, dirty []*stage) []byte {
	dst = le.AppendUint64(dst, uint64(at))
	dst = le.AppendUint64(dst, uint64(wall.UnixNano()))
	dst = le.AppendUint16(dst, uint16(len(dirty)))
	for _, st := range dirty {
		dst = encodeMark(dst, st.name, st.mark)
	}
	return dst
}

func encodeMark(dst []byte, name string, m transports.Mark) []byte {
	dst = le.AppendUint16(dst, uint16(len(name)))
	dst = append(dst, name...)
	dst = le.AppendUint64(dst, m.File)
	dst = le.AppendUint64(dst, uint64(m.Length))
	return le.AppendUint64(dst, m.Entries)
}

// decodeHead reads a group's head and calls mark for each mark.
func decodeHead(b []byte, mark func(name string, m transports.Mark)) (at time.Duration, wall time.Time, err error) {
	if len(b) < 18 {
		return 0, wall, fmt.Errorf("a group's head has %d bytes", len(b))
	}
	at, wall = time.Duration(le.Uint64(b)), time.Unix(0, int64(le.Uint64(b[8:])))
	n := int(le.Uint16(b[16:]))
	b = b[18:]
	for range n {
		name, m, rest, err := decodeMark(b)
		if err != nil {
			return 0, wall, err
		}
		if mark != nil {
			mark(name, m)
		}
		b = rest
	}
	if len(b) > 0 {
		return 0, wall, fmt.Errorf("a group's head has %d bytes too many", len(b))
	}
	return at, wall, nil
}

func decodeMark(b []byte) (name string, m transports.Mark, rest []byte, err error) {
	name, b, err = decodeName(b)
	if err != nil || len(b) < 24 {
		return "", m, nil, fmt.Errorf("a mark is cut short")
	}
	m = transports.Mark{File: le.Uint64(b), Length: int64(le.Uint64(b[8:])), Entries: le.Uint64(b[16:])}
	return name, m, b[24:], nil
}

func decodeName(b []byte) (name string, rest []byte, err error) {
	if len(b) < 2 || len(b)-2 < int(le.Uint16(b)) {
		return "", nil, fmt.Errorf("a name is cut short")
	}
	n := 2 + int(le.Uint16(b))
	return string(b[2:n]), b[n:], nil
}
