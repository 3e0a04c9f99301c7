package poison

import (
	"cmp"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"slices"
)

// readTally reads what earlier runs knew of suspects, one start older.
func (w *Watch) readTally() error {
	f, err := w.cfg.FS.Open(w.path("tally"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	b := make([]byte, 16+maxSuspects*entryBytes+4)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	list, ok := parseTally(b[:n])
	if !ok {
		w.cfg.Log.Warn("the tally of suspects is damaged; it begins anew", "file", w.path("tally"))
		return nil
	}
	for id, s := range list {
		if s.starts++; s.starts <= maxStarts {
			w.suspects[id] = s
		}
		w.changed = true
	}
	return nil
}

func parseTally(b []byte) (list map[ID]*suspect, ok bool) {
	if len(b) < 20 || string(b[:8]) != tallyMagic {
		return nil, false
	}
	n := le.Uint64(b[8:])
	if n > maxSuspects || uint64(len(b)) != 20+n*entryBytes || crc32.Checksum(b[:len(b)-4], castagnoli) != le.Uint32(b[len(b)-4:]) {
		return nil, false
	}
	list = make(map[ID]*suspect, n)
	for e := b[16 : len(b)-4]; len(e) > 0; e = e[entryBytes:] {
		list[ID{le.Uint64(e), le.Uint64(e[8:])}] = &suspect{strikes: le.Uint32(e[16:]), starts: le.Uint32(e[20:])}
	}
	return list, true
}

func appendTally(b []byte, list map[ID]*suspect) []byte {
	b = append(b, tallyMagic...)
	b = le.AppendUint64(b, uint64(len(list)))
	order := slices.SortedFunc(maps.Keys(list), func(x, y ID) int { return cmp.Or(cmp.Compare(x.Hi, y.Hi), cmp.Compare(x.Lo, y.Lo)) })
	for _, id := range order {
		b = le.AppendUint64(b, id.Hi)
		b = le.AppendUint64(b, id.Lo)
		b = le.AppendUint32(b, list[id].strikes)
		b = le.AppendUint32(b, list[id].starts)
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// writeTally replaces the tally. The caller holds mu.
func (w *Watch) writeTally() error {
	tmp := w.path("tally.tmp")
	f, err := w.cfg.FS.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(appendTally(nil, w.suspects))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := w.cfg.FS.Rename(tmp, w.path("tally")); err != nil {
		return err
	}
	return w.cfg.FS.SyncDir(w.path(""))
}
