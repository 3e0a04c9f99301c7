package file

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weir-project/weir/engine/vfs"
)

// expand returns the files that a path or pattern names, sorted. A file that
// has the pattern's very name wins over what the pattern would match.
func expand(fsys vfs.FS, pattern string) ([]string, error) {
	info, err := fsys.Stat(pattern)
	switch {
	case err == nil && info.Dir:
		return nil, fmt.Errorf("%s is a folder; to read its files say %s", pattern, filepath.Join(pattern, "*"))
	case err == nil:
		return []string{pattern}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("stat %s: %w", pattern, err)
	case !hasMeta(pattern):
		return nil, nil
	}
	names, err := glob(fsys, pattern)
	if err != nil {
		return nil, err
	}
	files := names[:0]
	for _, name := range names {
		if info, err := fsys.Stat(name); err == nil && !info.Dir {
			files = append(files, name)
		}
	}
	slices.Sort(files)
	return files, nil
}

// glob is filepath.Glob over a vfs.FS.
func glob(fsys vfs.FS, pattern string) ([]string, error) {
	if !hasMeta(pattern) {
		if _, err := fsys.Stat(pattern); err != nil {
			return nil, nil
		}
		return []string{pattern}, nil
	}
	dirs, err := glob(fsys, filepath.Dir(pattern))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, dir := range dirs {
		names, err := fsys.List(dir)
		if err != nil {
			continue // not a folder, or gone
		}
		for _, name := range names {
			match, err := filepath.Match(filepath.Base(pattern), name)
			if err != nil {
				return nil, fmt.Errorf("pattern %s: %w", pattern, err)
			}
			if !match || strings.HasPrefix(name, ".") && !strings.HasPrefix(filepath.Base(pattern), ".") {
				continue
			}
			if len(found) == maxListed {
				return nil, fmt.Errorf("pattern %s matches more than %d files", pattern, maxListed)
			}
			found = append(found, filepath.Join(dir, name))
		}
	}
	return found, nil
}

func hasMeta(path string) bool { return strings.ContainsAny(path, `*?[`) }
