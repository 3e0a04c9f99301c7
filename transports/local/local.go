package local

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// Transport makes the sources and sinks of queues and topics. Those of one
// Transport that name the same queue share it.
type Transport struct {
	mu     sync.Mutex
	places map[string]*place
	hints  map[string]int64 // segment sizes that sinks ask for
}

var _ transports.Transport = (*Transport)(nil)

// New returns the transport.
func New() *Transport {
	return &Transport{places: make(map[string]*place), hints: make(map[string]int64)}
}

// Name implements transports.Transport.
func (*Transport) Name() string { return "local" }

// Options implements transports.Transport.
func (*Transport) Options() (source, sink []transports.Option) {
	queue := transports.Option{Name: "queue", Type: transports.String, Doc: "The queue's name; each entry goes to one of its readers. Either queue or topic."}
	topic := transports.Option{Name: "topic", Type: transports.String, Doc: "The topic's name; every consumer gets each entry. Either queue or topic."}
	source = []transports.Option{
		queue, topic,
		{Name: "consumer", Type: transports.String, Doc: "The name under which a topic remembers how far this reader has come; required with topic."},
		{Name: "start", Type: transports.String, Default: "new", Enum: []string{"new", "oldest"}, Doc: "Where a topic's consumer begins that was never attached before: behind what is there, or at the oldest entry held."},
		{Name: "share", Type: transports.Bool, Default: false, Doc: "Several sources of this process share the entries, a key being with one at a time; the queue then keeps the positions and takes nacks."},
		{Name: "chunks", Type: transports.Bool, Default: false, Doc: "Read whole runs of entries, which all cores scan; for entries without headers, whose key the source's `key` takes from the data. Not with share."},
	}
	sink = []transports.Option{
		queue, topic,
		{Name: "keep", Type: transports.Duration, Default: DefaultKeep, Doc: "How long a topic holds entries, read or not; a queue holds them until they are settled."},
		{Name: "max", Type: transports.Size, Default: int64(DefaultMaxBytes), Doc: "Bytes that a queue or topic may hold; at the bound the sink is throttled."},
		{Name: "segment", Type: transports.Size, Default: int64(64 << 20), Doc: "Bytes of one file; space is freed a file at a time. Takes effect when the queue is next opened."},
	}
	return source, sink
}

// target is which queue or topic settings name.
type target struct {
	kind Kind
	name string
}

func targetOf(s transports.Settings) (target, error) {
	queue, topic := s.String("queue"), s.String("topic")
	if (queue == "") == (topic == "") {
		return target{}, errors.New("local: one of `queue` and `topic` is needed")
	}
	if topic != "" {
		return target{TopicKind, topic}, checkName("topic", topic)
	}
	return target{QueueKind, queue}, checkName("queue", queue)
}

func configOf(env transports.Env, at target) placeConfig {
	cfg := placeConfig{fs: env.FS, data: env.DataDir, kind: at.kind, name: at.name, log: env.Log, now: env.Now}
	if cfg.log == nil {
		cfg.log = slog.New(slog.DiscardHandler)
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	if cfg.fs == nil {
		cfg.fs = vfs.OS{}
	}
	return cfg
}

// NewSource implements transports.Transport.
func (t *Transport) NewSource(env transports.Env, s transports.Settings) (transports.Source, error) {
	at, err := targetOf(s)
	if err != nil {
		return nil, err
	}
	consumer, oldest := s.String("consumer"), s.String("start") == "oldest"
	switch {
	case at.kind == QueueKind && consumer != "":
		return nil, errors.New("local: `consumer` is for topics; the readers of a queue share it")
	case at.kind == QueueKind:
		consumer, oldest = queueConsumer, true
	case consumer == "":
		return nil, fmt.Errorf("local: topic %q needs the name of a `consumer`", at.name)
	}
	if err := checkName("consumer", consumer); err != nil {
		return nil, err
	}
	own := end{transport: t, name: env.Name, cfg: configOf(env, at), maxEvent: env.MaxEvent}
	if s.Bool("share") {
		if s.Bool("chunks") {
			return nil, errors.New("local: `chunks` and `share` exclude each other")
		}
		return &sharedSource{end: own, consumer: consumer, oldest: oldest, member: member{stop: make(chan struct{})}}, nil
	}
	src := &source{end: own, consumer: consumer, oldest: oldest, stop: make(chan struct{})}
	if s.Bool("chunks") {
		return &chunkSource{source: src}, nil
	}
	return src, nil
}

// NewSink implements transports.Transport.
func (t *Transport) NewSink(env transports.Env, s transports.Settings) (transports.Sink, error) {
	at, err := targetOf(s)
	if err != nil {
		return nil, err
	}
	k := &Sink{end: end{transport: t, name: env.Name, cfg: configOf(env, at)}, keep: s.Duration("keep"), max: s.Int("max")}
	if k.keep < 0 || k.max < 0 || s.Int("segment") < 0 {
		return nil, fmt.Errorf("local: keep, max and segment of %s %q must not be negative", at.kind, at.name)
	}
	if size := s.Int("segment"); size > 0 {
		k.cfg.segmentBytes = size
		t.mu.Lock()
		t.hints[k.cfg.dir()] = size
		t.mu.Unlock()
	}
	return k, nil
}

// end is what sources and sinks have in common: a place they use while open.
type end struct {
	transport *Transport
	name      string
	cfg       placeConfig
	maxEvent  int
	place     *place
}

func (e *end) open() (err error) {
	e.place, err = e.transport.use(e.cfg)
	return err
}

func (e *end) close() error {
	p := e.place
	if p == nil {
		return nil
	}
	e.place = nil
	return e.transport.release(p)
}

// use opens a place, or shares it where it is open.
func (t *Transport) use(cfg placeConfig) (*place, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	dir := filepath.Clean(cfg.dir())
	if p := t.places[dir]; p != nil {
		p.users++
		return p, nil
	}
	if cfg.segmentBytes == 0 {
		cfg.segmentBytes = t.hints[dir]
	}
	p, err := openPlace(cfg)
	if err != nil {
		return nil, err
	}
	p.users = 1
	t.places[dir] = p
	return p, nil
}

func (t *Transport) release(p *place) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.users--; p.users > 0 {
		return nil
	}
	delete(t.places, filepath.Clean(p.dir()))
	return p.close()
}
