package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/registry"
	"github.com/weir-project/weir/engine/vfs"
)

// registryPause is how long a poll waits that came before the data path was at work.
const registryPause = 50 * time.Millisecond

// services follows a service registry while the engine runs: it asks, puts the list into
// the data folder, and reloads. It belongs to one goroutine.
type services struct {
	engine *Engine
	client *registry.Client
	said   string // the last trouble, so that an outage is told once
}

// followRegistry starts following, where the configuration names a registry now or after
// a reload; the caller calls stop.
func (e *Engine) followRegistry(ctx context.Context) (stop func()) {
	if e.cfg.Load == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &services{engine: e, client: registry.NewClient()}
	var done sync.WaitGroup
	done.Go(func() { s.follow(ctx) })
	return func() {
		cancel()
		done.Wait()
		s.client.Close()
	}
}

func (s *services) follow(ctx context.Context) {
	for ctx.Err() == nil {
		r := s.engine.Plan().Registry
		pause := config.DefaultRegistryEvery // a reload may bring a registry
		if r.URL != "" {
			pause = s.poll(ctx, r)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// poll asks once and says when to ask again.
func (s *services) poll(ctx context.Context, r config.Registry) time.Duration {
	err := s.once(ctx, r)
	if errors.Is(err, ErrNotRunning) || ctx.Err() != nil {
		return registryPause
	}
	switch {
	case err != nil && err.Error() != s.said:
		s.engine.cfg.Log.Warn("service registry: "+s.standing(), "url", r.URL, "error", err)
		s.said = err.Error()
	case err == nil && s.said != "":
		s.engine.cfg.Log.Info("service registry: it answers again", "url", r.URL)
		s.said = ""
	}
	// Instances that were started together shall not ask together.
	return r.Every + time.Duration(rand.Int64N(int64(r.Every)/5+1)) - r.Every/10
}

// standing says which list is at work while the registry gives no good one.
func (s *services) standing() string {
	list, err := readFile(s.engine.cfg.FS, filepath.Join(s.engine.Plan().Node.Data, registry.File))
	if err == nil && list == nil {
		return "there is no list yet, so no service gets events"
	}
	return "the last good list stays"
}

// once asks, and puts a list that is new to work: all of it, or nothing.
func (s *services) once(ctx context.Context, r config.Registry) error {
	list, err := s.client.Fetch(ctx, registry.Request{URL: r.URL, Token: r.Token, Timeout: r.Timeout, Max: r.Max})
	if err != nil || list == nil {
		return err
	}
	name := filepath.Join(s.engine.Plan().Node.Data, registry.File)
	before, err := readFile(s.engine.cfg.FS, name)
	if err != nil {
		return err
	}
	document := registry.Document(list, r.From, r.Codec)
	if bytes.Equal(before, document) {
		s.client.Accept()
		return nil
	}
	if len(list) == 0 && before != nil {
		return errors.New("the registry's answer is refused: no service at all, where there were some; take registry out of the configuration to end it")
	}
	if err := writeFile(s.engine.cfg.FS, name, document); err != nil {
		return err
	}
	change, err := s.engine.Reload(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("the registry's list cannot be put to work: %w", err), restore(s.engine.cfg.FS, name, before))
	}
	s.client.Accept()
	s.engine.cfg.Log.Info("service registry: a new list is at work", "services", len(list), "generation", change.Generation)
	return nil
}

// readFile returns nil where there is no such file.
func readFile(fsys vfs.FS, name string) (data []byte, err error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, 0, size))
}

// writeFile replaces a file as a whole, and durably.
func writeFile(fsys vfs.FS, name string, data []byte) error {
	part := name + ".part"
	f, err := fsys.Create(part)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", part, err)
	}
	return errors.Join(fsys.Rename(part, name), fsys.SyncDir(filepath.Dir(name)))
}

func restore(fsys vfs.FS, name string, before []byte) error {
	if before == nil {
		return errors.Join(fsys.Remove(name), fsys.SyncDir(filepath.Dir(name)))
	}
	return writeFile(fsys, name, before)
}
