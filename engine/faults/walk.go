package faults

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/vfs"
)

// This file reads what an engine left on disk by the formats as the package
// comments of segment, commit and transports/local draw them, with none of their
// code: a mistake that writer and reader share would not show otherwise.

// Group is one group of a segment log.
type Group struct {
	Sequence uint64
	First    uint64 // ordinal of its first entry
	Segment  uint64
	Offset   int64
	Entries  [][]byte
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// Sizes of the segment format.
const (
	fileHead  = 48
	groupHead = 56
)

// Walk returns all groups of the segment log in a folder, oldest first. It wants a
// log that was closed, or recovered, properly: what is not whole is an error, unless
// a newer file says that the log goes on from there.
func Walk(fsys vfs.FS, dir string) ([]Group, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	var groups []Group
	var torn error
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".seg")
		if !ok || len(digits) != 20 {
			continue
		}
		number, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("walk %s: name %q: %w", dir, name, err)
		}
		b, err := readAll(fsys, path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if groups, torn = walkFile(groups, b, number); torn != nil {
			torn = fmt.Errorf("walk %s: %w", path.Join(dir, name), torn)
		}
	}
	if torn != nil {
		return nil, torn
	}
	for i := 1; i < len(groups); i++ {
		a, b := &groups[i-1], &groups[i]
		if b.Sequence != a.Sequence+1 || b.First != a.First+uint64(len(a.Entries)) {
			return nil, fmt.Errorf("walk %s: group %d, entry %d follows group %d of %d entries from %d",
				dir, b.Sequence, b.First, a.Sequence, len(a.Entries), a.First)
		}
	}
	return groups, nil
}

func readAll(fsys vfs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	return b, errors.Join(err, f.Close())
}

// walkFile appends a file's groups, in place of those before it that it supersedes,
// up to what is not whole.
func walkFile(groups []Group, b []byte, number uint64) ([]Group, error) {
	if len(b) < fileHead || string(b[:8]) != "WEIRSEG\x02" || crc32.Checksum(b[:44], castagnoli) != le.Uint32(b[44:]) {
		return groups, errors.New("its header is not whole")
	}
	if le.Uint64(b[8:]) != number {
		return groups, fmt.Errorf("it says to be file %d", le.Uint64(b[8:]))
	}
	first := le.Uint64(b[24:])
	groups = slices.DeleteFunc(groups, func(g Group) bool { return g.Sequence >= first })
	chain, seed := le.Uint32(b[40:]), crc32.Update(crc32.Checksum(b[16:24], castagnoli), castagnoli, b[8:16])
	for at := fileHead; at < len(b); {
		g, sum, err := walkGroup(b[at:], seed, chain)
		if err != nil {
			return groups, fmt.Errorf("byte %d: %w", at, err)
		}
		if offset := le.Uint64(b[at+32:]); offset != uint64(at) {
			return groups, fmt.Errorf("byte %d: the group says that it stands at %d", at, offset)
		}
		g.Segment, g.Offset = number, int64(at)
		groups = append(groups, g)
		chain = sum
		at += groupHead + int(le.Uint32(b[at+44:]))
	}
	return groups, nil
}

// walkGroup reads one group and returns its header's checksum, the next one's chain.
func walkGroup(b []byte, seed, chain uint32) (g Group, sum uint32, err error) {
	if len(b) < groupHead || string(b[:4]) != "WGRP" {
		return g, 0, errors.New("no group starts here")
	}
	sum = crc32.Update(seed, castagnoli, b[:52])
	switch {
	case sum != le.Uint32(b[52:]):
		return g, 0, errors.New("the header's checksum is wrong")
	case le.Uint32(b[40:]) != chain:
		return g, 0, errors.New("it does not follow the group before it")
	case uint64(len(b)-groupHead) < uint64(le.Uint32(b[44:])):
		return g, 0, errors.New("it is longer than the file")
	}
	body := b[groupHead : groupHead+int(le.Uint32(b[44:]))]
	if crc32.Checksum(body, castagnoli) != le.Uint32(b[48:]) {
		return g, 0, errors.New("the body's checksum is wrong")
	}
	g.Sequence, g.First = le.Uint64(b[8:]), le.Uint64(b[16:])
	for len(body) >= 4 && uint64(len(body)-4) >= uint64(le.Uint32(body)) {
		n := 4 + int(le.Uint32(body))
		g.Entries = append(g.Entries, body[4:n])
		body = body[n:]
	}
	if len(body) > 0 || len(g.Entries) != int(le.Uint32(b[4:])) {
		return g, 0, fmt.Errorf("it holds %d entries and %d bytes more, and says %d", len(g.Entries), len(body), le.Uint32(b[4:]))
	}
	return g, sum, nil
}

// QueueEntry is an entry of a local queue.
type QueueEntry struct {
	ID, Route, Key string
	Data           []byte
}

// WalkQueue reads all entries of a local queue of a data folder, settled or not,
// as far as its files still hold them.
func WalkQueue(fsys vfs.FS, data, queue string) ([]QueueEntry, error) {
	groups, err := Walk(fsys, path.Join(data, "queues", queue, "segments"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nothing was ever sent to it
	}
	if err != nil {
		return nil, err
	}
	var list []QueueEntry
	for _, g := range groups {
		for i, raw := range g.Entries {
			e, err := queueEntry(raw)
			if err != nil {
				return nil, fmt.Errorf("queue %s, entry %d: %w", queue, g.First+uint64(i), err)
			}
			list = append(list, e)
		}
	}
	return list, nil
}

func queueEntry(raw []byte) (e QueueEntry, err error) {
	if len(raw) < 9 || raw[0]>>4 != 1 {
		return e, errors.New("not an entry of version 1")
	}
	flags, b, short := raw[0]&0x0f, raw[9:], false
	text := func() string {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			short = true
			return ""
		}
		s := string(b[w : w+int(n)])
		b = b[w+int(n):]
		return s
	}
	e.ID, e.Route = text(), text()
	if flags&1 != 0 {
		e.Key = text()
	}
	if flags&2 != 0 {
		n, w := binary.Uvarint(b)
		if w <= 0 {
			return e, errors.New("cut off in its headers")
		}
		for b = b[w:]; n > 0 && !short; n-- {
			text()
			text()
		}
	}
	if short {
		return e, errors.New("cut off")
	}
	e.Data = b
	return e, nil
}

// WalkLines reads the lines of a file; no file is no lines. A last line without
// a line break is an error.
func WalkLines(fsys vfs.FS, name string) ([][]byte, error) {
	b, err := readAll(fsys, name)
	if errors.Is(err, fs.ErrNotExist) || len(b) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if b[len(b)-1] != '\n' {
		return nil, fmt.Errorf("%s: the last line is not whole: %q", name, b[bytes.LastIndexByte(b, '\n')+1:])
	}
	return bytes.Split(b[:len(b)-1], []byte("\n")), nil
}

// Outcome is what the journal says of one event that came in.
type Outcome struct {
	Epoch, Generation uint64
	Source, ID        string
	Outcome           journal.Outcome
	Reason            string
}

// WalkJournal reads the outcomes that the commit log of a data folder still holds, in order.
func WalkJournal(fsys vfs.FS, data string) ([]Outcome, error) {
	groups, err := Walk(fsys, path.Join(data, "log"))
	if err != nil {
		return nil, err
	}
	var list []Outcome
	v := journal.Visitor{Settled: func(epoch, generation uint64, s *journal.Section, e *journal.Entry) error {
		list = append(list, Outcome{
			Epoch: epoch, Generation: generation, Source: s.Source, ID: string(e.ID), Outcome: e.Outcome, Reason: e.Reason,
		})
		return nil
	}}
	for _, g := range groups {
		for i, record := range g.Entries {
			if i == 0 {
				continue // the group's head
			}
			if err := journal.Read(record, &v); err != nil {
				return nil, fmt.Errorf("journal, segment %d, byte %d, record %d: %w", g.Segment, g.Offset, i, err)
			}
		}
	}
	return list, nil
}

// Letter is a dead letter as the engine writes it.
type Letter struct {
	Reason         string `json:"reason"`
	Detail         string `json:"detail"`
	Source         string `json:"source"`
	EventID        string `json:"event_id"`
	Route          string `json:"route"`
	Sink           string `json:"sink"`
	Attempts       int    `json:"attempts"`
	Original       string `json:"original"`
	OriginalBase64 []byte `json:"original_base64"`
}

// Bytes is the event as it came.
func (l *Letter) Bytes() []byte {
	if l.OriginalBase64 != nil {
		return l.OriginalBase64
	}
	return []byte(l.Original)
}

// WalkLetters reads the dead letters in a local queue.
func WalkLetters(fsys vfs.FS, data, queue string) ([]Letter, error) {
	entries, err := WalkQueue(fsys, data, queue)
	if err != nil {
		return nil, err
	}
	list := make([]Letter, len(entries))
	for i := range entries {
		var event struct {
			Type string  `json:"type"`
			Data *Letter `json:"data"`
		}
		event.Data = &list[i]
		if err := json.Unmarshal(entries[i].Data, &event); err != nil {
			return nil, fmt.Errorf("dead letter %d: %w", i, err)
		}
		if event.Type != "weir.dead_letter" || list[i].Reason == "" {
			return nil, fmt.Errorf("dead letter %d is of type %q, reason %q", i, event.Type, list[i].Reason)
		}
	}
	return list, nil
}

// Places says where an engine's sinks are.
type Places struct {
	FS     vfs.FS
	Data   string            // the data folder
	Files  map[string]string // by sink: the file
	Queues map[string]string // by sink: the local queue
	Dead   string            // the local queue of dead letters, "" = do not look
}

// Collect reads everything that came out of an engine that is not running.
func Collect(p Places) (Found, error) {
	var found Found
	for sink, name := range p.Files {
		lines, err := WalkLines(p.FS, name)
		if err != nil {
			return found, err
		}
		for _, line := range lines {
			found.Delivered = append(found.Delivered, Delivered{Sink: sink, Data: line})
		}
	}
	for sink, name := range p.Queues {
		entries, err := WalkQueue(p.FS, p.Data, name)
		if err != nil {
			return found, err
		}
		for _, e := range entries {
			found.Delivered = append(found.Delivered, Delivered{Sink: sink, Route: e.Route, Data: e.Data})
		}
	}
	if p.Dead != "" {
		letters, err := WalkLetters(p.FS, p.Data, p.Dead)
		if err != nil {
			return found, err
		}
		for _, l := range letters {
			found.Dead = append(found.Dead, Dead{ID: l.EventID, Reason: l.Reason, Sink: l.Sink})
		}
	}
	outcomes, err := WalkJournal(p.FS, p.Data)
	if err != nil {
		return found, err
	}
	for _, o := range outcomes {
		switch o.Outcome {
		case journal.Delivered, journal.Unmatched, journal.Dead, journal.Refused, journal.Parked:
		default:
			found.Dropped = append(found.Dropped, Dropped{ID: o.ID, Rule: o.Outcome.String()})
		}
	}
	return found, nil
}
