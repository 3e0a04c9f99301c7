package file

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/weir-project/weir/transports"
)

// Restore implements transports.Staged.
func (s *sink) Restore(m transports.Mark) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("file sink %s: %w", s.env.Name, transports.ErrClosed)
	}
	if s.f != nil {
		return fmt.Errorf("file sink %s: Restore called twice", s.env.Name)
	}
	st, err := loadState(s.env.FS, statePath(s.env, s.cfg))
	if err != nil {
		return fmt.Errorf("file sink %s: %w: %w", s.env.Name, err, transports.ErrFatal)
	}
	s.st, s.entries = st, m.Entries
	if err := s.restore(m); err != nil {
		return fmt.Errorf("file sink %s: restore %s: %w: %w", s.env.Name, s.cfg.path, err, transports.ErrFatal)
	}
	s.synced = s.mark()
	return nil
}

// restore finds out how the file that is there stands to the committed mark.
func (s *sink) restore(m transports.Mark) error {
	switch st := s.st; {
	case st == nil && m.File == 0:
		return s.begin(1, nil, false) // the very first start
	case st == nil:
		s.env.Log.Warn("file sink: its state is lost; going on by the committed length alone",
			"sink", s.env.Name, "path", s.cfg.path, "length", m.Length)
		s.st = &state{Path: s.cfg.path, File: m.File, Committed: true, Opened: s.env.Now()}
		return s.resume(m)
	case m.File == 0 && st.Committed:
		s.env.Log.Warn("file sink: the commit log is new, the file is not; appending after what is there",
			"sink", s.env.Name, "path", s.cfg.path)
		return s.begin(1, nil, false)
	case st.Path != s.cfg.path:
		return s.move(m)
	case m.File == st.File:
		return s.resume(m)
	case m.File+1 == st.File:
		return s.restart(m)
	}
	return fmt.Errorf("the commit log is at file %d, the sink at file %d: one of them comes from elsewhere", m.File, s.st.File)
}

// begin takes the live file over as it stands: what it holds is not ours.
func (s *sink) begin(number uint64, prev *previous, committed bool) error {
	size, id, err := s.openLive()
	if err != nil {
		return err
	}
	s.st = &state{
		Path: s.cfg.path, File: number, Start: size, ID: id,
		Committed: committed, Opened: s.env.Now(), Previous: prev,
	}
	if err := s.save(); err != nil {
		return err
	}
	return s.standAt(size)
}

// resume goes on in the file that the mark names.
func (s *sink) resume(m transports.Mark) error {
	if err := s.reach(s.cfg.path, m.Length); err != nil {
		return err
	}
	_, id, err := s.openLive()
	if err != nil {
		return err
	}
	// The mark outlives a crash between its commit and Publish.
	s.st.Committed, s.st.ID = true, id
	if err := s.save(); err != nil {
		return err
	}
	return s.standAt(m.Length)
}

// restart is for a live file of which nothing was committed.
func (s *sink) restart(m transports.Mark) error {
	if p := s.st.Previous; p != nil && p.Final != "" && !p.Done {
		if err := s.finish(p, m); err != nil {
			return err
		}
		p.Done = true
		return s.begin(s.st.File, p, true)
	}
	info, err := s.env.FS.Stat(s.cfg.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stat: %w", err)
	}
	if err != nil || info.ID != s.st.ID || info.Size < s.st.Start {
		// Another file has taken the name meanwhile: none of it is ours to cut.
		return s.begin(s.st.File, s.st.Previous, s.st.Committed)
	}
	if _, _, err := s.openLive(); err != nil {
		return err
	}
	return s.standAt(s.st.Start)
}

// finish ends the rotation that a crash interrupted: all of the previous file
// is committed, and it still needs its final name.
func (s *sink) finish(p *previous, m transports.Mark) error {
	final, err := s.env.FS.Stat(p.Final)
	if err == nil {
		if final.Size < m.Length {
			return fmt.Errorf("%s is shorter than what was committed: have %d bytes, want %d", p.Final, final.Size, m.Length)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stat %s: %w", p.Final, err)
	}
	live, err := s.env.FS.Stat(p.Path)
	if err != nil {
		return fmt.Errorf("rotated file %s is missing, and so is %s: have 0 bytes, want %d: %w", p.Final, p.Path, m.Length, err)
	}
	if live.ID != p.ID {
		return fmt.Errorf("rotated file %s is missing and %s is another file: have 0 bytes, want %d", p.Final, p.Path, m.Length)
	}
	if err := s.reach(p.Path, m.Length); err != nil {
		return err
	}
	return s.rename(p)
}

// move is for a path that was changed in the configuration: the old file ends
// where it was committed, the new one is taken over as it stands.
func (s *sink) move(m transports.Mark) error {
	old := s.st
	switch {
	case m.File == old.File:
		if err := s.reach(old.Path, m.Length); err != nil {
			return err
		}
	case m.File+1 == old.File:
		if p := old.Previous; p != nil && p.Final != "" && !p.Done {
			if err := s.finish(p, m); err != nil {
				return err
			}
			break
		}
		if info, err := s.env.FS.Stat(old.Path); err == nil && info.ID == old.ID && info.Size > old.Start {
			if err := s.reach(old.Path, old.Start); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("the commit log is at file %d, the sink at file %d: one of them comes from elsewhere", m.File, old.File)
	}
	return s.begin(m.File+1, &previous{File: m.File, Path: old.Path, ID: old.ID}, m.File > 0)
}

// reach cuts a file to want bytes and makes that durable; a shorter file has
// lost committed entries.
func (s *sink) reach(path string, want int64) error {
	info, err := s.env.FS.Stat(path)
	if err != nil {
		return fmt.Errorf("%s lacks committed entries: have 0 bytes, want %d: %w", path, want, err)
	}
	if info.Size < want {
		return fmt.Errorf("%s lacks committed entries: have %d bytes, want %d", path, info.Size, want)
	}
	f, err := s.env.FS.Append(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if info.Size > want {
		s.env.Log.Info("file sink: cutting entries that were not committed", "sink", s.env.Name, "path", path, "have", info.Size, "want", want)
		err = f.Truncate(want)
	}
	// Also without a cut: after a crash what is readable need not be durable.
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("cut %s to %d bytes: %w", path, want, err)
	}
	return nil
}

// openLive opens or makes the file at the sink's path, and makes its name durable.
func (s *sink) openLive() (size int64, id [2]uint64, err error) {
	path := s.cfg.path
	if s.f, err = s.env.FS.Append(path); err != nil {
		return 0, id, fmt.Errorf("open %s: %w", path, err)
	}
	if err := s.env.FS.SyncDir(filepath.Dir(path)); err != nil {
		return 0, id, fmt.Errorf("sync folder of %s: %w", path, err)
	}
	info, err := s.env.FS.Stat(path)
	if err != nil {
		return 0, id, fmt.Errorf("stat %s: %w", path, err)
	}
	return info.Size, info.ID, nil
}

// standAt cuts the open file to length and looks whether it ends within a line.
func (s *sink) standAt(length int64) error {
	size, err := s.f.Size()
	if err != nil {
		return fmt.Errorf("size: %w", err)
	}
	if size > length {
		s.env.Log.Info("file sink: cutting entries that were not committed", "sink", s.env.Name, "path", s.cfg.path, "have", size, "want", length)
		if err := s.f.Truncate(length); err != nil {
			return fmt.Errorf("cut to %d bytes: %w", length, err)
		}
		if err := s.f.Sync(); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	s.length, s.newline = length, false
	if length > 0 {
		var last [1]byte
		if _, err := s.f.ReadAt(last[:], length-1); err != nil {
			return fmt.Errorf("read the last byte: %w", err)
		}
		s.newline = last[0] != '\n'
	}
	return nil
}

func (s *sink) save() error { return saveState(s.env.FS, statePath(s.env, s.cfg), s.st) }
