package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// state is what a sink must know of its file beyond the committed mark:
//
//	{"path":"/out/audit.ndjson","file":2,"start":0,"id":[1,7],"committed":true,
//	 "opened":"2026-01-02T03:04:05Z","previous":{"file":1,"path":"/out/audit.ndjson",
//	 "final":"/out/audit-20260102T030405Z-000001.ndjson","id":[1,2],"done":true}}
//
// It lives in the data folder, with the commit log, so that both are lost
// together: a fresh data folder finds a file that was there before, and appends
// after it. It is replaced by rename and is durable before the first entry is
// appended to the file that it names. So when Restore gets a zero mark, or a
// mark of the previous file, nothing of the present file was ever committed
// and exactly what lies beyond start is cut. Two things guard that cut: the
// file must still be the one that start was measured on, and a zero mark where
// something was committed before (the commit log alone was lost) cuts nothing.
type state struct {
	Path      string    `json:"path"`
	File      uint64    `json:"file"`
	Start     int64     `json:"start"` // length when it became ours
	ID        [2]uint64 `json:"id"`
	Committed bool      `json:"committed"` // some mark of this sink was committed
	Opened    time.Time `json:"opened"`
	Previous  *previous `json:"previous,omitempty"`
}

// previous is the file before this one. Until it is renamed, its entries are
// still under its old path.
type previous struct {
	File  uint64    `json:"file"`
	Path  string    `json:"path"`
	Final string    `json:"final,omitempty"` // "" where it keeps its path
	ID    [2]uint64 `json:"id"`
	// Done says that the file has its final name: from here on it may be taken away.
	Done bool `json:"done,omitempty"`
}

// statePath is where a sink's state lives. Without a data folder (embedding
// without a commit log) it is beside the file.
func statePath(env transports.Env, cfg sinkConfig) string {
	if env.DataDir == "" {
		return filepath.Join(filepath.Dir(cfg.path), "."+filepath.Base(cfg.path)+".weir.json")
	}
	return filepath.Join(env.DataDir, "sinks", url.PathEscape(env.Name)+".file.json")
}

// loadState returns nil where there is none.
func loadState(fsys vfs.FS, path string) (*state, error) {
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", path, err)
	}
	text := make([]byte, size)
	if n, err := f.ReadAt(text, 0); n < len(text) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var st state
	if err := json.Unmarshal(text, &st); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &st, nil
}

// saveState makes st durable.
func saveState(fsys vfs.FS, path string, st *state) error {
	if err := makeFolder(fsys, filepath.Dir(path)); err != nil {
		return err
	}
	text, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("state of %s: %w", st.Path, err)
	}
	if err := writeDurable(fsys, path+".new", text); err != nil {
		return err
	}
	if err := fsys.Rename(path+".new", path); err != nil {
		return fmt.Errorf("rename %s: %w", path+".new", err)
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("sync folder of %s: %w", path, err)
	}
	return nil
}

func writeDurable(fsys vfs.FS, path string, text []byte) error {
	f, err := fsys.Create(path)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// makeFolder makes dir and its parents and their names durable.
func makeFolder(fsys vfs.FS, dir string) error {
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		_, err := fsys.Stat(d)
		if err == nil || filepath.Dir(d) == d {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("stat %s: %w", d, err)
		}
		missing = append(missing, d)
	}
	if len(missing) == 0 {
		return nil
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("make folder %s: %w", dir, err)
	}
	for _, d := range missing {
		if err := fsys.SyncDir(filepath.Dir(d)); err != nil {
			return fmt.Errorf("sync folder %s: %w", filepath.Dir(d), err)
		}
	}
	return nil
}
