package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// Queue is a queue or topic in use by a program without an engine, such as
// `weir queue`. While it is open the program holds the data folder's lock. All
// methods may be called concurrently.
type Queue struct {
	lock io.Closer

	mu     sync.Mutex
	closed bool
	place  *place
	using  sync.RWMutex // held for reading by Send
}

// QueueConfig says which queue or topic to open.
type QueueConfig struct {
	FS   vfs.FS // nil = the operating system's
	Data string // the node's data folder
	Kind Kind   // "" = QueueKind
	Name string
	Max  int64            // bytes it may hold; 0 = DefaultMaxBytes
	Keep time.Duration    // how long a topic holds entries; 0 = DefaultKeep
	Now  func() time.Time // nil = the wall clock
}

// OpenQueue opens the queue of a name, with the defaults of QueueConfig.
func OpenQueue(fsys vfs.FS, dataDir, name string) (*Queue, error) {
	return OpenQueueWith(QueueConfig{FS: fsys, Data: dataDir, Name: name})
}

// OpenQueueWith opens a queue or topic and makes it where there is none. Where
// an engine or another program uses the data folder, the error wraps
// vfs.ErrLocked and names its process.
func OpenQueueWith(cfg QueueConfig) (*Queue, error) {
	at := target{cfg.Kind, cfg.Name}
	if at.kind == "" {
		at.kind = QueueKind
	}
	if at.kind != QueueKind && at.kind != TopicKind {
		return nil, fmt.Errorf("open queue: %q is neither queue nor topic", at.kind)
	}
	if err := checkName(string(at.kind), at.name); err != nil {
		return nil, err
	}
	pc := configOf(transports.Env{FS: cfg.FS, DataDir: cfg.Data, Now: cfg.Now}, at)
	if err := vfs.EnsureDir(pc.fs, cfg.Data); err != nil {
		return nil, err
	}
	lock, err := pc.fs.Lock(filepath.Join(cfg.Data, "LOCK"))
	if err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return nil, fmt.Errorf("open %s %q: the data folder is in use, stop weir there first: %w", at.kind, at.name, err)
		}
		return nil, err
	}
	p, err := openPlace(pc)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if cfg.Keep == 0 {
		cfg.Keep = DefaultKeep
	}
	p.configure(cfg.Max, cfg.Keep)
	return &Queue{lock: lock, place: p}, nil
}

// Send appends entries, in order. They are durable when it returns nil;
// concurrent callers share the sync. With an error that wraps ErrFull or
// ErrUncommitted nothing was sent; with others it is not known.
func (q *Queue) Send(ctx context.Context, entries ...transports.Entry) error {
	q.using.RLock()
	defer q.using.RUnlock()
	if q.isClosed() {
		return transports.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	size := 0
	for i := range entries {
		if err := checkEntry(&entries[i]); err != nil {
			return fmt.Errorf("send to %s %q: %w", q.place.kind, q.place.name, err)
		}
		size += sizeOf(&entries[i]) + 4
	}
	framed, now := make([]byte, 0, size), q.place.now()
	for i := range entries {
		framed = frame(framed, &entries[i], now)
	}
	return q.place.append(framed, len(entries))
}

func (q *Queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// Consumer attaches to the queue. Several consumers of one name share its
// entries, a key being with one at a time. name is for topics, where a name
// that is new begins behind what is there, or with oldest at the oldest entry;
// a queue takes "". Close the consumer before the queue.
func (q *Queue) Consumer(name string, oldest bool) (*Consumer, error) {
	q.using.RLock()
	defer q.using.RUnlock()
	if q.isClosed() {
		return nil, transports.ErrClosed
	}
	if q.place.kind == QueueKind {
		if name != "" {
			return nil, fmt.Errorf("queue %q has no named consumers: its readers share it", q.place.name)
		}
		name, oldest = queueConsumer, true
	}
	if err := checkName("consumer", name); err != nil {
		return nil, err
	}
	c, err := q.place.attach(name, "consumer "+name, false, q.place.start(oldest))
	if err != nil {
		return nil, err
	}
	m := &Consumer{member: member{stop: make(chan struct{})}}
	m.member.join(c)
	return m, nil
}

// Close frees the queue and the data folder. It may be called twice.
func (q *Queue) Close() error {
	q.using.Lock()
	defer q.using.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	return errors.Join(q.place.close(), q.lock.Close())
}

// Consumer receives entries and settles them. Receive is for one goroutine at
// a time, Ack and Nack for any.
type Consumer struct{ member member }

// Receive returns up to max entries, waiting up to wait for the first. They are
// held until they are acked or nacked, the consumer is closed, or the program
// ends: then they are given again, with Attempt counted up.
func (c *Consumer) Receive(ctx context.Context, max int, wait time.Duration) ([]transports.Delivery, error) {
	return c.member.receive(ctx, max, wait)
}

// Ack settles deliveries. When it returns nil that is durable; concurrent
// callers share the sync. The error wraps transports.ErrNotHeld where some were
// settled before or taken back; the others are settled then too.
func (c *Consumer) Ack(deliveries ...transports.Delivery) error {
	list := make([]settlement, len(deliveries))
	for i := range deliveries {
		list[i].number = deliveries[i].Ordinal
	}
	return firstError(c.member.settle(list))
}

// Nack gives a delivery back, not to be given again before delay has passed.
// Later deliveries of its key that are under way are taken back with it, and
// later entries of the key wait behind it.
func (c *Consumer) Nack(delay time.Duration, deliveries ...transports.Delivery) error {
	list := make([]settlement, len(deliveries))
	for i := range deliveries {
		list[i] = settlement{number: deliveries[i].Ordinal, nack: true, delay: delay}
	}
	return firstError(c.member.settle(list))
}

func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Close gives back what the consumer holds. It may be called twice.
func (c *Consumer) Close() error { return c.member.leave() }
