package file

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/weir-project/weir/transports"
)

// Limits of this transport; each is named in the README.
const (
	defaultMaxEvent = 1 << 20                // where Env.MaxEvent is 0
	maxFollowed     = 1024                   // files that one source follows at once
	maxListed       = 100_000                // files that one pattern may match
	maxRemembered   = 4096                   // partitions of finished files that a following source still knows
	maxWindow       = 128 << 20              // zstd window, the memory of one unpacking
	maxPoll         = 250 * time.Millisecond // longest pause between looks at a followed file
	minPoll         = time.Millisecond
	rotateQuiet     = time.Second // a renamed file that did not grow for so long is finished
	rescan          = time.Second // between looks for new files
)

// sourceConfig is what configuration says of a source, checked.
type sourceConfig struct {
	path        string // absolute, may be a pattern
	standard    bool   // standard input
	format      string // auto, ndjson, array
	compression string // auto, none, gzip, zstd
	follow      bool
}

// sinkConfig is what configuration says of a sink, checked.
type sinkConfig struct {
	path        string
	standard    bool // standard output
	rotateSize  int64
	rotateEvery time.Duration
	name        string // of rotated files
}

func (c sinkConfig) rotates() bool { return c.rotateSize > 0 || c.rotateEvery > 0 }

func sourceOptions() []transports.Option {
	return []transports.Option{
		{Name: "path", Type: transports.String, Required: true, Path: true, Doc: "File, pattern with * ? [ ] (files in sorted order), or - for standard input."},
		{Name: "format", Type: transports.String, Default: "auto", Enum: []string{"auto", "ndjson", "array"}, Doc: "One event a line, or one JSON array whose elements are events; auto looks at the first character."},
		{Name: "compression", Type: transports.String, Default: "auto", Enum: []string{"auto", "none", "gzip", "zstd"}, Doc: "How the file is packed; auto looks at its first bytes."},
		{Name: "follow", Type: transports.Bool, Default: false, Doc: "Wait for growth and new files, through rotation, instead of ending."},
	}
}

func sinkOptions() []transports.Option {
	return []transports.Option{
		{Name: "path", Type: transports.String, Required: true, Path: true, Doc: "File to append to, or - for standard output; missing folders are made."},
		{Name: "rotate_size", Type: transports.Size, Default: int64(0), Doc: "Begin a new file once this one has so many bytes; 0 = never."},
		{Name: "rotate_every", Type: transports.Duration, Default: time.Duration(0), Doc: "Begin a new file once this one is so old and has entries; 0 = never."},
		{Name: "name", Type: transports.String, Default: defaultName, Doc: "Name of rotated files in the same folder; {number} is needed, {stem}, {ext} and {time} are known."},
	}
}

const defaultName = "{stem}-{time}-{number}{ext}"

func readSourceConfig(env transports.Env, s transports.Settings) (sourceConfig, error) {
	path := s.String("path")
	if path == "" {
		return sourceConfig{}, errors.New("path is not set")
	}
	cfg := sourceConfig{
		format:      orDefault(s.String("format"), "auto"),
		compression: orDefault(s.String("compression"), "auto"),
		follow:      s.Bool("follow"),
	}
	cfg.path, cfg.standard = absolute(env, path)
	cfg.standard = cfg.standard && path != "/dev/stdout"
	if cfg.follow {
		if cfg.standard {
			return cfg, errors.New("follow: standard input ends by itself and cannot be followed")
		}
		if cfg.format == "array" {
			return cfg, errors.New("follow: a JSON array cannot be followed; use format: ndjson")
		}
		if cfg.compression == "gzip" || cfg.compression == "zstd" {
			return cfg, fmt.Errorf("follow: a file packed with %s cannot be followed", cfg.compression)
		}
	}
	if _, err := filepath.Match(cfg.path, ""); err != nil {
		return cfg, fmt.Errorf("path %q: %w", path, err)
	}
	return cfg, nil
}

func readSinkConfig(env transports.Env, s transports.Settings) (sinkConfig, error) {
	path := s.String("path")
	if path == "" {
		return sinkConfig{}, errors.New("path is not set")
	}
	cfg := sinkConfig{
		rotateSize:  s.Int("rotate_size"),
		rotateEvery: s.Duration("rotate_every"),
		name:        orDefault(s.String("name"), defaultName),
	}
	cfg.path, cfg.standard = absolute(env, path)
	if cfg.rotateSize < 0 || cfg.rotateEvery < 0 {
		return cfg, errors.New("rotate_size and rotate_every must not be negative")
	}
	if cfg.rotates() && (cfg.standard || isPipe(cfg.path)) {
		return cfg, fmt.Errorf("rotate_size, rotate_every: %s is no regular file", path)
	}
	if !strings.Contains(cfg.name, "{number}") {
		return cfg, fmt.Errorf("name %q: lacks {number}, so two files could get one name", cfg.name)
	}
	if strings.ContainsAny(cfg.name, `/\`) {
		return cfg, fmt.Errorf("name %q: rotated files stay in the folder of path", cfg.name)
	}
	return cfg, nil
}

// rotatedName is the final name of the file number that closes at now.
func (c sinkConfig) rotatedName(number uint64, now time.Time) string {
	file := filepath.Base(c.path)
	ext := filepath.Ext(file)
	return strings.NewReplacer(
		"{stem}", strings.TrimSuffix(file, ext),
		"{ext}", ext,
		"{time}", now.UTC().Format("20060102T150405Z"),
		"{number}", fmt.Sprintf("%06d", number),
	).Replace(c.name)
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
