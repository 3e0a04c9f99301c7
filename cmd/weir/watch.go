package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/weir-project/weir/engine/config"
)

// A change is told when nothing has happened for settleTime, and at the latest after
// longestSettle: editors and copies write in several steps.
const (
	settleTime    = 200 * time.Millisecond
	longestSettle = 2 * time.Second
)

// kubernetesLink is what a mounted ConfigMap swaps when any of its files changes.
const kubernetesLink = "..data"

// fileWatch tells when the files of a configuration change: the file itself, those that
// it includes, takes values from, or would include if they came, and the plug-ins'. It
// looks at their folders, so that it sees a file that takes another one's place.
type fileWatch struct {
	changed chan struct{}
	watcher *fsnotify.Watcher
	ended   chan struct{}

	mu       sync.Mutex // guards what follows
	names    map[string]bool
	patterns []string
	folders  map[string]bool
}

// newFileWatch begins to watch. The caller closes it.
func newFileWatch(plan *config.Plan) (*fileWatch, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch the configuration: %w", err)
	}
	w := &fileWatch{changed: make(chan struct{}, 1), watcher: watcher, ended: make(chan struct{}), folders: map[string]bool{}}
	if err := w.follow(plan); err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	go w.loop() // close waits for it
	return w, nil
}

// follow watches the files of a plan from now on.
func (w *fileWatch) follow(plan *config.Plan) error {
	names, folders := map[string]bool{}, map[string]bool{}
	for _, name := range plan.Files.Names {
		names[name] = true
	}
	for i := range plan.Plugins {
		names[plan.Plugins[i].Path] = true
	}
	for name := range names {
		folders[filepath.Dir(name)] = true
	}
	for _, pattern := range plan.Files.Patterns {
		found, err := filepath.Glob(filepath.Dir(pattern)) // the folder may be a pattern too
		if err != nil {
			return fmt.Errorf("watch %s: %w", pattern, err)
		}
		for _, folder := range found {
			folders[folder] = true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names, w.patterns = names, plan.Files.Patterns
	var errs []error
	for folder := range folders {
		if w.folders[folder] {
			continue
		}
		if err := w.watcher.Add(folder); err != nil {
			errs = append(errs, fmt.Errorf("watch %s: %w", folder, err))
			delete(folders, folder) // tried again after the next reload
		}
	}
	for folder := range w.folders {
		if !folders[folder] {
			_ = w.watcher.Remove(folder) // it may be gone, and with it the watch
		}
	}
	w.folders = folders
	return errors.Join(errs...)
}

// close ends the watch.
func (w *fileWatch) close() {
	_ = w.watcher.Close() // nothing is lost with it
	<-w.ended
}

// loop gathers what happens and tells when it has come to rest.
func (w *fileWatch) loop() {
	defer close(w.ended)
	rest := time.NewTimer(time.Hour)
	rest.Stop()
	var first time.Time
	note := func() {
		now := time.Now()
		if first.IsZero() {
			first = now
		}
		rest.Reset(min(settleTime, max(0, longestSettle-now.Sub(first))))
	}
	for {
		select {
		case e, ok := <-w.watcher.Events:
			if !ok {
				return
			}
			if e.Op != fsnotify.Chmod && w.concerns(e.Name) {
				note()
			}
		case _, ok := <-w.watcher.Errors:
			if !ok {
				return
			}
			note() // what was missed is not known: a reload that finds nothing does nothing
		case <-rest.C:
			first = time.Time{}
			select {
			case w.changed <- struct{}{}:
			default: // it is being told
			}
		}
	}
}

// concerns says whether a file belongs to the configuration.
func (w *fileWatch) concerns(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.names[name] || filepath.Base(name) == kubernetesLink {
		return true
	}
	for _, pattern := range w.patterns {
		if ok, err := filepath.Match(pattern, name); ok && err == nil {
			return true
		}
	}
	return false
}
