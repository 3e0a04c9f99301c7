// Package wasm runs plug-ins that are WASM modules, in this process and with
// no power of their own: no files, no sockets, no clock but the event's, no
// memory past a cap, no time past a budget. sdk/ABI.md is the contract with a
// module; this package is its host.
//
// A module is read once: its sections are checked against the contract (every
// mistake is named, with the nearest right name), it is rewritten so that
// loops and calls use up fuel (fuel.go), compiled, started, and asked its own
// samples through the path that events take. Each lane then gets an instance
// of its own; one more stands ready, so that a lane whose instance is spent by
// a trap goes on at once.
//
// What a guest does wrong (trap, exit, a pointer outside its memory, a wrong
// answer, no fuel left) is an error of the call that names the plug-in, its
// version and the cause. It costs the events of that call and nothing else.
package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/tetratelabs/wazero"

	"github.com/weir-project/weir/plugins"
)

// Limits that no configuration widens.
const (
	MaxModule     = 8 << 20   // bytes of a module file
	MaxManifest   = 256 << 10 // bytes of its manifest
	MaxMemory     = 1 << 30   // bytes an instance, whatever limits.memory says
	MaxFuel       = 1 << 32   // fuel a call, whatever limits.fuel_per_call says
	MaxReason     = 1 << 10   // bytes of one text that a guest gives
	MaxReasons    = 64 << 10  // bytes of all texts of one call
	DefaultMemory = 16 << 20  // bytes an instance

	defaultFuel      = 2_000_000 // a call
	defaultFuelEvent = 500_000   // and for each of its events
	defaultFuelMost  = 20_000_000
	startFuel        = 400_000_000 // to start and initialise: Go's runtime takes some 10 M
)

// ErrFuel says that a guest used up its fuel: it ran too long.
var ErrFuel = errors.New("the fuel of the call is used up")

// Config sets a host up. The zero value is useful.
type Config struct {
	// LogLines is how many log lines a second an instance may write; the rest
	// are counted and left out. 0 = 100.
	LogLines int
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	if c.LogLines < 0 {
		return fmt.Errorf("wasm: LogLines is %d, want 0 or more", c.LogLines)
	}
	return nil
}

// Host loads WASM modules. It is safe for concurrent use.
type Host struct {
	config Config

	mu       sync.Mutex
	runtimes map[string]*engine // by cache folder
	loaded   int                // plug-ins that are not closed
	closed   bool
}

// engine is one wazero runtime with the host modules in it.
type engine struct {
	runtime wazero.Runtime
	cache   wazero.CompilationCache // nil without a folder
}

// New makes a host. It starts nothing before the first Load.
func New(c Config) *Host {
	if c.LogLines == 0 {
		c.LogLines = 100
	}
	return &Host{config: c, runtimes: map[string]*engine{}}
}

// Name is "wasm".
func (h *Host) Name() string { return "wasm" }

// Load reads, checks, compiles and tries a module.
func (h *Host) Load(ctx context.Context, spec plugins.Spec) (plugins.Plugin, error) {
	p, err := h.load(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("load plug-in %q from %s: %w", spec.Name, spec.Path, err)
	}
	return p, nil
}

// Identify implements plugins.Identifier.
func (h *Host) Identify(_ context.Context, spec plugins.Spec) (string, error) {
	file, err := readModule(spec.Path)
	if err != nil {
		return "", fmt.Errorf("read plug-in %q from %s: %w", spec.Name, spec.Path, err)
	}
	digest := sha256.Sum256(file)
	return hex.EncodeToString(digest[:]), nil
}

func (h *Host) load(ctx context.Context, spec plugins.Spec) (*plugin, error) {
	if err := h.config.Validate(); err != nil {
		return nil, err
	}
	file, err := readModule(spec.Path)
	if err != nil {
		return nil, err
	}
	m, manifest, err := check(file)
	if err != nil {
		return nil, err
	}
	lim, err := settleLimits(manifest, spec.Limits)
	if err != nil {
		return nil, err
	}
	if err := checkMemory(m, lim.memory); err != nil {
		return nil, err
	}
	code, err := addFuel(m, startFuel)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := h.open(spec.Cache)
	if err != nil {
		return nil, err
	}
	compiled, err := e.runtime.CompileModule(ctx, code)
	if err != nil {
		h.release()
		return nil, fmt.Errorf("compile: %w", err)
	}
	log := spec.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	digest := sha256.Sum256(file)
	p := &plugin{
		host: h, engine: e, compiled: compiled, manifest: *manifest, limits: lim,
		digest: hex.EncodeToString(digest[:]), name: spec.Name, config: spec.Config,
		log: log.With("plugin", spec.Name, "version", manifest.Version),
	}
	p.answerMask = answerMask(len(manifest.Outputs))
	if err := p.selfTest(ctx); err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	return p, nil
}

// open gives the runtime of a cache folder and counts its user.
func (h *Host) open(folder string) (*engine, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errors.New("the host is closed")
	}
	e, ok := h.runtimes[folder]
	if !ok {
		var err error
		if e, err = h.newEngine(folder); err != nil {
			return nil, err
		}
		h.runtimes[folder] = e
	}
	h.loaded++
	return e, nil
}

func (h *Host) release() {
	h.mu.Lock()
	h.loaded--
	h.mu.Unlock()
}

func (h *Host) newEngine(folder string) (*engine, error) {
	// Rewriting moves code, so debug information would name wrong lines.
	rc := wazero.NewRuntimeConfig().WithDebugInfoEnabled(false)
	e := &engine{}
	if folder != "" {
		cache, err := openCache(folder)
		if err != nil {
			return nil, err
		}
		e.cache = cache
		rc = rc.WithCompilationCache(cache)
	}
	ctx := context.Background()
	e.runtime = wazero.NewRuntimeWithConfig(ctx, rc)
	if err := instantiateHostModules(ctx, e.runtime); err != nil {
		return nil, errors.Join(err, e.close(ctx))
	}
	return e, nil
}

func (e *engine) close(ctx context.Context) error {
	err := e.runtime.Close(ctx)
	if e.cache != nil {
		err = errors.Join(err, e.cache.Close(ctx))
	}
	return err
}

// openCache opens the folder of compiled code. What stands in it is run as it
// is, so nobody else may write there.
func openCache(folder string) (wazero.CompilationCache, error) {
	dir := filepath.Join(folder, "wasm")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache of compiled code: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("cache of compiled code: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("cache of compiled code: %s has mode %#o, want 0700: others could put code there", dir, info.Mode().Perm())
	}
	return wazero.NewCompilationCacheWithDir(dir)
}

// Close frees the runtimes. It is an error while plug-ins are open.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.loaded > 0 {
		return fmt.Errorf("close the WASM host: %d plug-ins are still open", h.loaded)
	}
	h.closed = true
	var err error
	for _, e := range h.runtimes {
		err = errors.Join(err, e.close(ctx))
	}
	clear(h.runtimes)
	return err
}

func readModule(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err // Load names the path
		}
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxModule+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxModule {
		return nil, fmt.Errorf("the module is larger than %d MiB", MaxModule>>20)
	}
	return b, nil
}
