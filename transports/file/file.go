// Package file reads events from files and writes them to files.
//
// The source promises that each event comes once, in file order, and that a
// position stays good across renames: it names the file by device, inode and
// the beginning of its contents, never by its path. Lines (NDJSON) and the
// elements of one JSON array are events; gzip and zstd are unpacked on the way.
// With follow, it waits for growth and goes along with rotation.
//
// The sink promises, through transports.Staged, that each entry stands in the
// file exactly once across crashes, that what stood there before Weir came is
// never touched, and that a rotated file gets its final name only once all of
// it is committed. Standard output and named pipes cannot be cut back: there
// the sink is at-least-once.
//
// A position is 48 bytes, numbers big-endian:
//
//	0      1      2        10      18       20          28        32       40      48
//	| 0x01 | form | device | inode | head n | head hash | restart | offset | index |
//
// form is 'l' for lines and 'a' for the elements of an array. Head hash is
// XXH3-64 of the file's first n bytes (at most 256). Restart counts the files
// that had the same partition before, such as this one before it was emptied
// and begun again. Offset is in bytes of the unpacked stream, index counts the
// elements of an array before it.
//
// The partition is device-inode-hash in hexadecimal, and +restart where that is
// not 0. Its hash is that of the head up to the first line break: a partition
// keeps its name while the file grows, also where no position is known yet.
//
// The sink remembers beside the commit log, in sinks/NAME.file.json of the data
// folder, which file it is at; state.go draws it.
package file

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// Transport makes file sources and sinks.
type Transport struct {
	stdin  *os.File
	stdout io.Writer

	mu sync.Mutex
	// writing holds the paths of open sinks: two sinks on one file would cut
	// each other's entries at the next restart.
	writing map[string]string
}

// New returns the file transport.
func New() *Transport {
	return &Transport{stdin: os.Stdin, stdout: os.Stdout, writing: map[string]string{}}
}

// Name implements transports.Transport.
func (*Transport) Name() string { return "file" }

// Options implements transports.Transport.
func (*Transport) Options() (source, sink []transports.Option) {
	return sourceOptions(), sinkOptions()
}

// NewSource implements transports.Transport.
func (t *Transport) NewSource(env transports.Env, settings transports.Settings) (transports.Source, error) {
	env, err := fill(env)
	if err != nil {
		return nil, err
	}
	cfg, err := readSourceConfig(env, settings)
	if err != nil {
		return nil, fmt.Errorf("file source %s: %w", env.Name, err)
	}
	return newSource(env, cfg, t.stdin), nil
}

// NewSink implements transports.Transport. The sink has transports.Staged
// unless its path is standard output or a named pipe.
func (t *Transport) NewSink(env transports.Env, settings transports.Settings) (transports.Sink, error) {
	env, err := fill(env)
	if err != nil {
		return nil, err
	}
	cfg, err := readSinkConfig(env, settings)
	if err != nil {
		return nil, fmt.Errorf("file sink %s: %w", env.Name, err)
	}
	if cfg.standard || isPipe(cfg.path) {
		return &streamSink{env: env, cfg: cfg, stdout: t.stdout}, nil
	}
	return &sink{env: env, cfg: cfg, owner: t}, nil
}

// claim notes that a sink writes to path, or says who already does.
func (t *Transport) claim(path, name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other, taken := t.writing[path]; taken {
		return fmt.Errorf("open %s: sink %s already writes to it: %w", path, other, transports.ErrFatal)
	}
	t.writing[path] = name
	return nil
}

func (t *Transport) release(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.writing, path)
}

// fill gives an Env its defaults, so that embedders and tests may leave them out.
func fill(env transports.Env) (transports.Env, error) {
	if env.FS == nil {
		return env, errors.New("file: Env.FS is not set")
	}
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.MaxEvent <= 0 {
		env.MaxEvent = defaultMaxEvent
	}
	return env, nil
}

// absolute resolves a configured path. Configuration may already have made "-"
// absolute, so that its last element decides.
func absolute(env transports.Env, path string) (abs string, standard bool) {
	switch {
	case filepath.Base(path) == "-", path == "/dev/stdin", path == "/dev/stdout":
		return path, true
	case filepath.IsAbs(path):
		return filepath.Clean(path), false
	}
	return filepath.Join(env.BaseDir, path), false
}

// isPipe looks at the real file system: no other has pipes.
func isPipe(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeCharDevice|os.ModeSocket) != 0
}
