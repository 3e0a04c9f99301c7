package local

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
)

// QueueInfo is a queue or topic as its files show it.
type QueueInfo struct {
	Kind      Kind
	Name      string
	Entries   uint64 // ever published
	Held      uint64 // still there: of a queue those not settled, of a topic those not dropped yet
	Bytes     int64  // on disk
	Staged    bool   // an engine's commit writes it
	Consumers []ConsumerInfo
}

// ConsumerInfo is how far a consumer has come.
type ConsumerInfo struct {
	Name    string
	Low     uint64 // every entry before it is settled
	Settled uint64 // entries settled, all told
	Waiting uint64 // published and not settled
}

// List reads what queues and topics there are below a data folder. It changes
// nothing and may be called while an engine runs; then the figures are as of
// the last notes, at most some milliseconds old. Queues come before topics.
func List(fsys vfs.FS, dataDir string) ([]QueueInfo, error) {
	var out []QueueInfo
	for _, kind := range []Kind{QueueKind, TopicKind} {
		names, err := fsys.List(filepath.Join(dataDir, kind.folder()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list queues: %w", err)
		}
		for _, name := range names {
			if !nameForm.MatchString(name) {
				continue
			}
			info, err := readInfo(fsys, filepath.Join(dataDir, kind.folder(), name), kind, name)
			if err != nil {
				return nil, fmt.Errorf("list %s %q: %w", kind, name, err)
			}
			out = append(out, info)
		}
	}
	return out, nil
}

func readInfo(fsys vfs.FS, dir string, kind Kind, name string) (QueueInfo, error) {
	info := QueueInfo{Kind: kind, Name: name}
	var m mark
	_, err := readNotes(fsys, filepath.Join(dir, "published"), func(body []byte) (err error) { m, err = parseMark(body); return err })
	if err != nil {
		return info, err
	}
	info.Entries, info.Staged = m.Entries, m.staged
	if info.Bytes, err = folderBytes(fsys, filepath.Join(dir, "segments")); err != nil {
		return info, err
	}
	first, held, err := segment.FirstHeld(fsys, filepath.Join(dir, "segments"))
	if err != nil {
		return info, err
	}
	if held {
		info.Held = info.Entries - min(info.Entries, first)
	}
	names, err := consumerNames(fsys, dir)
	if err != nil {
		return info, err
	}
	for _, name := range names {
		var p progress
		last, err := readNotes(fsys, filepath.Join(dir, "consumers", name), p.apply)
		if err != nil {
			return info, err
		}
		if !last.found {
			continue
		}
		c := ConsumerInfo{Name: name, Low: p.low, Settled: p.low + p.above()}
		c.Waiting = info.Entries - min(info.Entries, c.Settled) // the notes are not of one moment
		info.Consumers = append(info.Consumers, c)
		if kind == QueueKind {
			info.Held = min(info.Held, c.Waiting)
		}
	}
	return info, nil
}

// folderBytes adds up files; one that goes away meanwhile counts as nothing.
func folderBytes(fsys vfs.FS, dir string) (total int64, err error) {
	files, err := fsys.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, file := range files {
		st, err := fsys.Stat(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		total += st.Size
	}
	return total, nil
}
