package file

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/weir-project/weir/transports"
)

// maxNameTries bounds the search for a free name; the number in it makes even
// the second try unlikely.
const maxNameTries = 1000

// due says whether the live file, all of it committed, is to be rotated.
func (s *sink) due() bool {
	if !s.cfg.rotates() || s.length == s.st.Start {
		return false
	}
	if s.cfg.rotateSize > 0 && s.length >= s.cfg.rotateSize {
		return true
	}
	return s.cfg.rotateEvery > 0 && s.env.Now().Sub(s.st.Opened) >= s.cfg.rotateEvery
}

// rotate gives the live file its final name and begins the next. The state
// says what is about to happen before it happens, so that a crash at any step
// is finished by Restore.
func (s *sink) rotate() error {
	final, err := s.freeName()
	if err != nil {
		return err
	}
	f := s.f
	s.f = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	p := &previous{File: s.st.File, Path: s.cfg.path, Final: final, ID: s.st.ID}
	s.st = &state{Path: s.cfg.path, File: p.File + 1, Committed: true, Opened: s.env.Now(), Previous: p}
	if err := s.save(); err != nil {
		return err
	}
	if err := s.rename(p); err != nil {
		return err
	}
	p.Done = true
	if err := s.begin(s.st.File, p, true); err != nil {
		return err
	}
	s.synced = s.mark()
	return nil
}

func (s *sink) rename(p *previous) error {
	if err := s.env.FS.Rename(p.Path, p.Final); err != nil {
		return fmt.Errorf("rename %s to %s: %w", p.Path, p.Final, err)
	}
	if err := s.env.FS.SyncDir(filepath.Dir(p.Path)); err != nil {
		return fmt.Errorf("sync folder of %s: %w", p.Path, err)
	}
	return nil
}

// freeName is the final name of the live file; one that is taken (by a file of
// an older data folder) gets a suffix, since a rename would replace it.
func (s *sink) freeName() (string, error) {
	name := filepath.Join(filepath.Dir(s.cfg.path), s.cfg.rotatedName(s.st.File, s.env.Now()))
	try := name
	for i := 2; i <= maxNameTries; i++ {
		_, err := s.env.FS.Stat(try)
		if errors.Is(err, fs.ErrNotExist) {
			return try, nil
		}
		if err != nil {
			return "", fmt.Errorf("stat %s: %w", try, err)
		}
		try = fmt.Sprintf("%s.%d", name, i)
	}
	return "", fmt.Errorf("no free name like %s: %w", name, transports.ErrFatal)
}
