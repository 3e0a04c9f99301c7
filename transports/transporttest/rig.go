package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

const (
	maxEvent = 1 << 20 // Env.MaxEvent
	quiet    = 100 * time.Millisecond
)

var errStuck = fmt.Errorf("%w: Receive did not return within %v of its wait", transports.ErrFatal, stuck)

// rig is a place with what the engine would keep about it.
type rig struct {
	f         Factory
	dir       string
	fs        vfs.FS
	transport transports.Transport
	place     Place

	source   transports.Source
	caps     transports.Capabilities
	mu       sync.Mutex // guards assigned
	assigned map[string]bool
	held     []item // received by chunk and not handed out yet

	sink    transports.Sink
	limits  transports.Limits
	sender  *sender
	behind  *background // sends where Factory.Answered
	mark    transports.Mark
	entries int // numbers entry ids

	resume  map[string]transports.Position // by partition: of the first event not settled
	settled map[string]uint64              // by partition: ordinals before it are settled
	commit  func()                         // called where the engine's commit would be; may be nil
}

// item is one event as it came.
type item struct {
	transports.Delivery
	start   transports.Position // where its chunk starts
	through transports.Position // the mark that settles it and all before it, where known
	next    uint64              // the ordinal at through
}

// newRig makes a fresh place. name is what the factory knows it by, "" = a new one.
func newRig(t *testing.T, f Factory, fsys vfs.FS, dir, name string) *rig {
	t.Helper()
	r := &rig{
		f: f, dir: dir, fs: fsys, transport: f.Transport(), assigned: map[string]bool{},
		place:  Place{Source: f.Source, Sink: f.Sink},
		resume: map[string]transports.Position{}, settled: map[string]uint64{},
	}
	if f.Place != nil {
		if name == "" {
			name = placeName()
		}
		r.place = f.Place(t, r.transport, name)
	}
	return r
}

// placeName is new with every call, also in other processes.
func placeName() string { return fmt.Sprintf("conformance-%016x", rand.Uint64()) }

// closed is a rig in a folder of its own whose ends are not open yet.
func closed(t *testing.T, f Factory) *rig {
	t.Helper()
	r := newRig(t, f, vfs.OS{}, t.TempDir(), "")
	t.Cleanup(func() { must(t, r.close()) })
	return r
}

// onDisk is the same with both ends open.
func onDisk(t *testing.T, f Factory) *rig {
	t.Helper()
	r := closed(t, f)
	must(t, r.open())
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) env(name string) transports.Env {
	return transports.Env{
		Name: name, BaseDir: r.dir, DataDir: filepath.Join(r.dir, "data"), FS: r.fs,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, MaxEvent: maxEvent,
	}
}

// fill adds defaults and makes paths absolute, as configuration does.
func (r *rig) fill(options []transports.Option, given transports.Settings) transports.Settings {
	s := transports.Settings{}
	for _, o := range options {
		v, ok := given[o.Name]
		if !ok {
			v = o.Default
		}
		if text, isText := v.(string); o.Path && isText && !filepath.IsAbs(text) {
			v = filepath.Join(r.dir, text)
		}
		if v != nil {
			s[o.Name] = v
		}
	}
	return s
}

// open opens the sink first, so that a place exists before it is read.
func (r *rig) open() error {
	if err := r.openSink(); err != nil {
		return err
	}
	return r.openSource()
}

func (r *rig) openSink() error {
	_, options := r.transport.Options()
	sink, err := r.transport.NewSink(r.env("sink"), r.fill(options, r.place.Sink))
	if err != nil {
		return err
	}
	if err := sink.Open(context.Background()); err != nil {
		return fmt.Errorf("open sink: %w", err)
	}
	r.sink, r.limits = sink, sink.Limits()
	r.sender = &sender{sink: sink, limits: r.limits, patience: patience}
	if r.f.Answered {
		r.behind = newBackground(r.sender)
	}
	if staged := r.staged(); staged != nil {
		return staged.Restore(r.mark)
	}
	return nil
}

func (r *rig) openSource() error {
	source, err := r.newSource("source", r.place.Source)
	if err != nil {
		return err
	}
	r.source, r.caps, r.held = source, source.Capabilities(), nil
	if err := source.Open(context.Background(), r.resume, r); err != nil {
		return fmt.Errorf("open source: %w", err)
	}
	return nil
}

func (r *rig) newSource(name string, settings transports.Settings) (transports.Source, error) {
	options, _ := r.transport.Options()
	return r.transport.NewSource(r.env(name), r.fill(options, settings))
}

// Assigned implements transports.Listener.
func (r *rig) Assigned(partition string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.assigned[partition] = true
}

// Revoked implements transports.Listener.
func (r *rig) Revoked(partition string, _ time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.assigned, partition)
}

// partitions are those that the source was given.
func (r *rig) partitions() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.assigned))
}

func (r *rig) staged() transports.Staged {
	if r.f.PlainWrite {
		return nil
	}
	staged, _ := r.sink.(transports.Staged)
	return staged
}

func (r *rig) close() error {
	return errors.Join(r.closeSource(), r.closeSink())
}

func (r *rig) closeSource() error {
	if r.source == nil {
		return nil
	}
	err := r.source.Close(context.Background())
	r.source = nil
	return err
}

func (r *rig) closeSink() error {
	if r.sink == nil {
		return nil
	}
	var err error
	if r.behind != nil {
		r.behind.stop()
		err = r.behind.failure()
		r.behind = nil
	}
	err = errors.Join(err, r.sink.Close(context.Background()))
	r.sink = nil
	return err
}

// crash loses all that was not durable and opens the place anew. The old ends
// are closed after the loss, without time to save anything.
func (r *rig) crash(seed uint64) error {
	var after vfs.FS = r.fs
	if m, ok := r.fs.(*vfs.Mem); ok {
		after = m.Crash(seed)
	}
	if r.f.AckWindow > 0 {
		time.Sleep(r.f.AckWindow)
	}
	if r.behind != nil {
		r.behind.stop()
		r.behind = nil
	}
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.source.Close(dead) // a process that is gone reports nothing
	_ = r.sink.Close(dead)
	r.source, r.sink = nil, nil
	r.fs = after
	r.transport = r.f.Transport()
	return r.open()
}

// send gives entries to the sink until each is accepted, and returns an error
// for what will never be.
func (r *rig) send(entries ...transports.Entry) error {
	for i := range entries {
		if entries[i].ID == "" {
			r.entries++
			entries[i].ID = fmt.Sprintf("entry-%d", r.entries)
		}
	}
	if staged := r.staged(); staged != nil {
		return r.stage(staged, entries)
	}
	for i := range entries {
		entries[i].Attempt = 1
	}
	if r.behind != nil {
		return r.behind.offer(entries)
	}
	return r.sender.send(context.Background(), entries)
}

func (r *rig) stage(staged transports.Staged, entries []transports.Entry) error {
	var framed []byte
	for i := range entries {
		framed = staged.Frame(framed, &entries[i])
	}
	if err := staged.Append(framed, len(entries)); err != nil {
		return err
	}
	m, err := staged.Sync()
	if err != nil {
		return err
	}
	r.mark = m
	r.committed()
	return staged.Publish(m)
}

func (r *rig) committed() {
	if r.commit != nil {
		r.commit()
	}
}

// receive returns up to max events that were not settled before, waiting up to
// wait for the first.
func (r *rig) receive(max int, wait time.Duration) ([]item, error) {
	deadline := time.Now().Add(wait)
	for {
		got, err := r.receiveOnce(max, time.Until(deadline))
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if err != nil || len(got) > 0 || time.Now().After(deadline) {
			return got, err
		}
	}
}

func (r *rig) receiveOnce(max int, wait time.Duration) ([]item, error) {
	if len(r.held) == 0 {
		all, err := r.pull(max, wait)
		if err != nil {
			return nil, err
		}
		for _, it := range all {
			if r.caps.Positions == transports.KeptByEngine && it.Ordinal < r.settled[it.Partition] {
				continue // as the engine skips what its log knows as settled
			}
			r.held = append(r.held, it)
		}
	}
	n := min(max, len(r.held))
	got := r.held[:n:n]
	r.held = r.held[n:]
	return got, nil
}

func (r *rig) pull(most int, wait time.Duration) ([]item, error) {
	ctx, cancel := context.WithTimeout(context.Background(), max(wait, 0)+stuck)
	defer cancel()
	chunks, ok := r.source.(transports.ChunkSource)
	if !ok {
		got, err := r.source.Receive(ctx, most, wait)
		if len(got) == 0 && ctx.Err() != nil {
			return nil, errStuck
		}
		if len(got) > most {
			return nil, fmt.Errorf("a Receive returned %d deliveries, at most %d were asked for", len(got), most)
		}
		items := make([]item, len(got))
		for i, d := range got {
			// All before an event is settled by its own position; it itself by its ordinal.
			items[i] = item{Delivery: d, through: d.Position, next: d.Ordinal}
		}
		return items, err
	}
	c := transports.Chunk{Data: make([]byte, 0, 64<<10)}
	err := chunks.ReceiveChunk(ctx, &c, wait)
	if len(c.Data) == 0 && ctx.Err() != nil {
		return nil, errStuck
	}
	if err != nil {
		return nil, err
	}
	return split(&c), nil
}

// split takes a chunk apart as the engine does.
func split(c *transports.Chunk) []item {
	var items []item
	add := func(data []byte, ordinal uint64) {
		items = append(items, item{Delivery: transports.Delivery{
			ID: fmt.Sprintf("%s/%d", c.Partition, ordinal), Partition: c.Partition, Ordinal: ordinal, Data: data, Attempt: 1,
		}})
	}
	if c.Ends != nil {
		from := uint32(0)
		for i, end := range c.Ends {
			add(c.Data[from:end], c.Ordinal+uint64(i))
			from = end
		}
	} else {
		at := 0
		for line := range bytes.Lines(c.Data) {
			text := bytes.TrimRight(line, "\r\n")
			if len(text) > 0 {
				add(text, c.Ordinal+uint64(at))
			}
			at += len(line)
		}
	}
	for i := range items {
		items[i].start = c.Start
	}
	if n := len(items); n > 0 {
		items[n-1].through, items[n-1].next = c.End, items[n-1].Ordinal+1
	}
	return items
}

// ack settles events in the order in which they came.
func (r *rig) ack(items ...item) error {
	if len(items) == 0 {
		return nil
	}
	if r.caps.Positions == transports.KeptByBroker {
		list := make([]transports.Settlement, len(items))
		for i, it := range items {
			list[i] = transports.Settlement{ID: it.ID, Partition: it.Partition}
		}
		return r.settle(list)
	}
	var list []transports.Settlement
	for _, it := range items {
		r.settled[it.Partition] = it.Ordinal + 1
		if it.through == nil {
			if r.resume[it.Partition] == nil {
				// Ordinals mean nothing after a restart without the low mark of their partition.
				r.resume[it.Partition] = it.start
			}
			continue
		}
		r.resume[it.Partition] = it.through
		list = append(list, transports.Settlement{Partition: it.Partition, Through: it.through, Ordinal: it.next})
	}
	r.committed()
	if len(list) == 0 {
		return nil
	}
	errs, err := settleWith(r.source, list[len(list)-1:])
	if err != nil {
		return err
	}
	// The mark may stand where it stood: an event's own position settles what is before it.
	if err := errors.Join(errs...); err != nil && !errors.Is(err, transports.ErrNotHeld) {
		return err
	}
	return nil
}

// nack gives an event back.
func (r *rig) nack(it item, delay time.Duration) error {
	return r.settle([]transports.Settlement{
		{ID: it.ID, Partition: it.Partition, Nack: true, Delay: delay, Reason: "conformance"},
	})
}

func (r *rig) settle(list []transports.Settlement) error {
	errs, err := settleWith(r.source, list)
	return errors.Join(append(errs, err)...)
}

// settleWith settles, and holds the source to its word on what it returns.
func settleWith(source transports.Source, list []transports.Settlement) (errs []error, err error) {
	errs = source.Settle(context.Background(), list)
	if errs != nil && len(errs) != len(list) {
		return nil, fmt.Errorf("a Settle returned %d errors for %d settlements, want none at all or one each", len(errs), len(list))
	}
	return errs, nil
}
