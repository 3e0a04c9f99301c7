package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/tetratelabs/wazero"

	"github.com/weir-project/weir/plugins"
)

// plugin is a loaded module. It keeps one instance ready beside those that
// lanes have.
type plugin struct {
	host       *Host
	engine     *engine
	compiled   wazero.CompiledModule
	manifest   plugins.Manifest
	limits     limits
	digest     string
	name       string
	config     json.RawMessage
	log        *slog.Logger
	answerMask uint32

	mu      sync.Mutex
	spare   *instance
	filling bool // a goroutine makes the spare
	closed  bool
	open    int            // instances that are not closed, without the spare
	fill    sync.WaitGroup // the goroutine that makes the spare; Close waits for it
}

// Manifest is a copy of the module's manifest.
func (p *plugin) Manifest() plugins.Manifest { return p.manifest }

// Digest is the SHA-256 of the module's file, in hex.
func (p *plugin) Digest() string { return p.digest }

// slots is how many values an event has in a batch of this plug-in.
func (p *plugin) slots() int {
	n := len(p.manifest.Fields)
	if p.manifest.Data {
		n++
	}
	return n
}

// Instance gives the instance that stands ready, and has the next one made.
func (p *plugin) Instance(ctx context.Context) (plugins.Instance, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, fmt.Errorf("plug-in %q is closed", p.name)
	}
	in := p.spare
	p.spare = nil
	p.open++
	if !p.filling {
		p.filling = true
		p.fill.Add(1)
		go p.makeSpare()
	}
	p.mu.Unlock()
	if in != nil {
		return in, nil
	}
	in, err := p.start(ctx, p.config)
	if err != nil {
		p.returned()
		return nil, err
	}
	return in, nil
}

func (p *plugin) returned() {
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
}

func (p *plugin) makeSpare() {
	defer p.fill.Done()
	ctx := context.Background()
	in, err := p.start(ctx, p.config)
	if err != nil {
		// The next Instance tries again and gives the error to who asked.
		p.log.Warn("no spare instance", "error", err)
		in = nil
	}
	p.mu.Lock()
	p.filling = false
	if in != nil && !p.closed {
		p.spare, in = in, nil
	}
	p.mu.Unlock()
	if in != nil {
		in.discard(ctx)
	}
}

// Close frees the module. It is an error while instances are open: their code
// would be gone under them.
func (p *plugin) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.open > 0 {
		defer p.mu.Unlock()
		return fmt.Errorf("close plug-in %q: %d instances are still open", p.name, p.open)
	}
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	p.fill.Wait()
	var err error
	if p.spare != nil {
		err = p.spare.shut(ctx)
		p.spare = nil
	}
	err = errors.Join(err, p.compiled.Close(ctx))
	p.host.release()
	return err
}

// errorf names plug-in, version and cause.
func (p *plugin) errorf(what string, cause error) error {
	return fmt.Errorf("plug-in %q version %s: %s: %w", p.name, p.manifest.Version, what, cause)
}
