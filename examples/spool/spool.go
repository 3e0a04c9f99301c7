// Package spool is a complete transport, small enough to be read at once: a folder
// in which each file is an event. docs/writing-a-transport.md goes through it.
//
// A sink writes files, a source gives them in the order of their names and removes
// what was acked. A file is JSON, with bytes in base64:
//
//	spool/01784592000000000000.json   {"key":"b3JkZXItMQ==","headers":[{"Name":"n","Value":"v"}],"data":"eyJ9"}
//
// The number is the time in nanoseconds, made larger where it was taken. One
// source reads a folder at a time.
package spool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

const (
	suffix    = ".json"
	partition = "spool"
	pollEvery = 20 * time.Millisecond
	// overhead is what the largest event's file may have beside its data: base64
	// makes four bytes of three, and key and headers have their bounds in the engine.
	overhead = 1 << 20
)

// Transport makes sources and sinks on folders.
type Transport struct{}

// New returns the transport.
func New() Transport { return Transport{} }

// Name is the key in the configuration: `spool: {path: ./orders}`.
func (Transport) Name() string { return "spool" }

// Options implements transports.Transport.
func (Transport) Options() (source, sink []transports.Option) {
	options := []transports.Option{{Name: "path", Path: true, Required: true, Doc: "The folder."}}
	return options, options
}

// NewSource implements transports.Transport.
func (Transport) NewSource(env transports.Env, settings transports.Settings) (transports.Source, error) {
	return &source{
		env: env, dir: settings.String("path"), closing: make(chan struct{}),
		held: map[string]bool{}, attempts: map[string]int{}, due: map[string]time.Time{},
	}, nil
}

// NewSink implements transports.Transport.
func (Transport) NewSink(env transports.Env, settings transports.Settings) (transports.Sink, error) {
	return &sink{env: env, dir: settings.String("path")}, nil
}

// record is what a file holds.
type record struct {
	Key     []byte              `json:"key,omitempty"`
	Headers []transports.Header `json:"headers,omitempty"`
	Data    []byte              `json:"data"`
}

// events lists a folder's events, oldest first. Other files, such as those that are
// still being written, are none.
func events(fsys vfs.FS, dir string) ([]string, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	kept := names[:0]
	for _, name := range names {
		if strings.HasSuffix(name, suffix) {
			kept = append(kept, name)
		}
	}
	return kept, nil
}

// sink writes files.
type sink struct {
	env transports.Env
	dir string

	mu     sync.Mutex // guards all below
	last   int64      // the number of the newest file
	closed bool
}

// Limits implements transports.Sink.
func (s *sink) Limits() transports.Limits { return transports.Limits{EntryBytes: s.env.MaxEvent} }

// Open implements transports.Sink.
func (s *sink) Open(context.Context) error {
	if err := vfs.EnsureDir(s.env.FS, s.dir); err != nil {
		return fmt.Errorf("spool sink %s: %w", s.env.Name, err)
	}
	names, err := events(s.env.FS, s.dir)
	if err != nil {
		return fmt.Errorf("spool sink %s: %w", s.env.Name, err)
	}
	if n := len(names); n > 0 {
		s.last, _ = strconv.ParseInt(strings.TrimSuffix(names[n-1], suffix), 10, 64) // a stranger's file counts as none
	}
	return nil
}

// Write implements transports.Sink. What it calls OK is durable: each file's bytes
// before its name, and the names before the results.
func (s *sink) Write(_ context.Context, batch []transports.Entry, results []transports.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrote := false
	for i := range batch {
		results[i] = s.write(&batch[i])
		wrote = wrote || results[i].Class == transports.OK
	}
	if !wrote {
		return
	}
	err := s.env.FS.SyncDir(s.dir)
	for i := range results {
		if err != nil && results[i].Class == transports.OK {
			results[i] = s.failed(transports.Unknown, err)
		}
	}
}

func (s *sink) failed(class transports.Class, err error) transports.Result {
	return transports.Result{Class: class, Err: fmt.Errorf("spool sink %s: %w", s.env.Name, err)}
}

func (s *sink) write(e *transports.Entry) transports.Result {
	switch {
	case s.closed:
		return s.failed(transports.Fatal, transports.ErrClosed)
	case len(e.Data) > s.env.MaxEvent:
		return s.failed(transports.Poison, fmt.Errorf("%d bytes, at most %d are taken", len(e.Data), s.env.MaxEvent))
	}
	text, err := json.Marshal(record{e.Key, e.Headers, e.Data})
	if err != nil {
		return s.failed(transports.Poison, err)
	}
	s.last = max(s.last+1, s.env.Now().UnixNano())
	name := filepath.Join(s.dir, fmt.Sprintf("%020d%s", s.last, suffix))
	if err := s.writeFile(name+".new", text); err != nil {
		return s.failed(transports.Retry, err)
	}
	if err := s.env.FS.Rename(name+".new", name); err != nil {
		return s.failed(transports.Retry, err)
	}
	return transports.Result{}
}

func (s *sink) writeFile(name string, text []byte) error {
	f, err := s.env.FS.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Flush implements transports.Sink; Write leaves nothing behind.
func (*sink) Flush(context.Context) error { return nil }

// Close implements transports.Sink.
func (s *sink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// source gives files.
type source struct {
	env     transports.Env
	dir     string
	once    sync.Once
	closing chan struct{}

	mu       sync.Mutex           // guards all below
	lock     io.Closer            // of the folder; nil before Open and after Close
	held     map[string]bool      // given and not settled
	attempts map[string]int       // how often each was given
	due      map[string]time.Time // nacked: not before
}

// Capabilities implements transports.Source: the folder remembers what is settled.
func (*source) Capabilities() transports.Capabilities {
	return transports.Capabilities{Order: transports.OrderKey, Positions: transports.KeptByBroker, Nack: true}
}

// Open implements transports.Source.
func (s *source) Open(_ context.Context, _ map[string]transports.Position, l transports.Listener) error {
	if err := vfs.EnsureDir(s.env.FS, s.dir); err != nil {
		return fmt.Errorf("spool source %s: %w", s.env.Name, err)
	}
	lock, err := s.env.FS.Lock(filepath.Join(s.dir, "lock"))
	if err != nil {
		return fmt.Errorf("spool source %s: another source reads %s: %w: %w", s.env.Name, s.dir, transports.ErrFatal, err)
	}
	s.mu.Lock()
	s.lock = lock
	s.mu.Unlock()
	if l != nil {
		l.Assigned(partition)
	}
	return nil
}

// Receive implements transports.Source.
func (s *source) Receive(ctx context.Context, most int, wait time.Duration) ([]transports.Delivery, error) {
	deadline := time.After(wait)
	for {
		got, err := s.take(most)
		if err != nil || len(got) > 0 {
			return got, err
		}
		select {
		case <-time.After(pollEvery):
		case <-deadline:
			return nil, nil
		case <-s.closing:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take gives what is not held, oldest first. While a nacked event waits, those of its
// key wait behind it.
func (s *source) take(most int) ([]transports.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil, fmt.Errorf("spool source %s: receive: %w", s.env.Name, transports.ErrClosed)
	}
	names, err := events(s.env.FS, s.dir)
	if err != nil {
		return nil, fmt.Errorf("spool source %s: %w", s.env.Name, err)
	}
	var got []transports.Delivery
	waiting := map[string]bool{} // keys
	for _, name := range names {
		if len(got) == most {
			break
		}
		if s.held[name] {
			continue
		}
		r, err := s.read(name)
		if err != nil {
			return got, fmt.Errorf("spool source %s: %s: %w", s.env.Name, name, err)
		}
		if key := string(r.Key); waiting[key] || time.Now().Before(s.due[name]) {
			waiting[key] = r.Key != nil
			continue
		}
		s.held[name] = true
		s.attempts[name]++
		ordinal, _ := strconv.ParseUint(strings.TrimSuffix(name, suffix), 10, 64) // 0 for a stranger's file
		got = append(got, transports.Delivery{
			ID: name, Partition: partition, Ordinal: ordinal,
			Key: r.Key, Headers: r.Headers, Data: r.Data, Attempt: s.attempts[name],
		})
	}
	return got, nil
}

func (s *source) read(name string) (r record, err error) {
	f, err := s.env.FS.Open(filepath.Join(s.dir, name))
	if err != nil {
		return r, err
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, int64(2*s.env.MaxEvent+overhead)))
	if err = errors.Join(err, f.Close()); err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// Settle implements transports.Source. An ack that returns nil is durable.
func (s *source) Settle(_ context.Context, list []transports.Settlement) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(list))
	for i := range list {
		if errs[i] = s.settle(&list[i]); errs[i] != nil {
			errs[i] = fmt.Errorf("spool source %s: settle %q: %w", s.env.Name, list[i].ID, errs[i])
		}
	}
	if s.lock == nil {
		return errs
	}
	if err := s.env.FS.SyncDir(s.dir); err != nil {
		for i := range errs {
			errs[i] = errors.Join(errs[i], err)
		}
	}
	return errs
}

func (s *source) settle(st *transports.Settlement) error {
	if s.lock == nil || !s.held[st.ID] {
		return transports.ErrNotHeld
	}
	delete(s.held, st.ID)
	if st.Nack {
		s.due[st.ID] = time.Now().Add(st.Delay)
		return nil
	}
	delete(s.attempts, st.ID)
	delete(s.due, st.ID)
	return s.env.FS.Remove(filepath.Join(s.dir, st.ID))
}

// Close implements transports.Source.
func (s *source) Close(context.Context) error {
	s.once.Do(func() { close(s.closing) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close()
	s.lock = nil
	return err
}
