package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
)

// Kind says how entries are given out.
type Kind string

// A queue gives each entry to one of its readers, a topic to each consumer.
const (
	QueueKind Kind = "queue"
	TopicKind Kind = "topic"
)

func (k Kind) folder() string { return string(k) + "s" }

// queueConsumer is the name of a queue's only consumer.
const queueConsumer = "queue"

// DefaultMaxBytes and DefaultKeep bound what a queue or topic holds.
const (
	DefaultMaxBytes = 5 << 30
	DefaultKeep     = 7 * 24 * time.Hour
)

// expireEvery is the least time between two looks for expired segments.
const expireEvery = time.Minute

// ErrFull says that a queue or topic holds as much as it may; nothing of the
// batch was taken.
var ErrFull = errors.New("full")

// ErrUncommitted says that the engine that wrote a queue was not closed
// cleanly: only its own commit log knows where the queue ends.
var ErrUncommitted = errors.New("its end is not settled: run the engine that writes it once, so that it can recover")

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)

func checkName(what, name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("%s %q: a name is 1 to 100 letters, digits, '.', '_' or '-', and does not begin with '.' or '-'", what, name)
	}
	return nil
}

// placeConfig says which queue or topic to open.
type placeConfig struct {
	fs           vfs.FS
	data         string // the node's data folder
	kind         Kind
	name         string
	segmentBytes int64
	log          *slog.Logger
	now          func() time.Time
}

func (c placeConfig) dir() string { return filepath.Join(c.data, c.kind.folder(), c.name) }

// mark is an end of the log as the published note keeps it. Staged says that
// only the marks of an engine's commit decide how far readers go.
type mark struct {
	segment.Mark
	staged bool
}

func appendMark(dst []byte, m mark) []byte {
	dst = append(dst, 'm', 0)
	if m.staged {
		dst[len(dst)-1] = 1
	}
	dst = binary.LittleEndian.AppendUint64(dst, m.File)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(m.Length))
	return binary.LittleEndian.AppendUint64(dst, m.Entries)
}

func parseMark(body []byte) (m mark, err error) {
	if len(body) != 26 || body[0] != 'm' || body[1] > 1 {
		return m, fmt.Errorf("not a published mark: %d bytes", len(body))
	}
	m.staged = body[1] == 1
	m.File = binary.LittleEndian.Uint64(body[2:])
	m.Length = int64(binary.LittleEndian.Uint64(body[10:]))
	m.Entries = binary.LittleEndian.Uint64(body[18:])
	return m, nil
}

// place is a queue or topic that is open in this process. Its sources and
// sinks share it.
type place struct {
	placeConfig
	log    *segment.Log
	closed chan struct{}

	publishing sync.Mutex // the note and the order of publishing
	note       *notes
	marked     mark
	plainly    bool      // the end is settled, writes outside a commit go on from it
	expired    time.Time // when expired segments were last looked for

	mu        sync.Mutex
	users     int
	writer    string // who writes in the engine's commit, "" = nobody
	consumers map[string]*consumer

	max   atomic.Int64 // bytes
	keep  time.Duration
	plain rounds[frames] // writes outside an engine's commit
}

// openPlace opens a queue or topic and makes it where there is none.
func openPlace(cfg placeConfig) (*place, error) {
	p := &place{placeConfig: cfg, closed: make(chan struct{}), consumers: make(map[string]*consumer), keep: DefaultKeep}
	p.max.Store(DefaultMaxBytes)
	if err := p.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s %q: %w", cfg.kind, cfg.name, err), p.close())
	}
	return p, nil
}

func (p *place) open() error {
	if err := vfs.EnsureDir(p.fs, filepath.Join(p.dir(), "consumers")); err != nil {
		return err
	}
	log, err := segment.Open(segment.Config{FS: p.fs, Dir: filepath.Join(p.dir(), "segments"), SegmentBytes: p.segmentBytes})
	if err != nil {
		return err
	}
	p.log = log
	p.note, err = openNotes(p.fs, filepath.Join(p.dir(), "published"), 0,
		func(body []byte) (err error) { p.marked, err = parseMark(body); return err },
		func(dst []byte) []byte { return appendMark(dst, p.marked) })
	if err != nil {
		return err
	}
	end := log.End()
	if p.marked.Entries > end.Entries {
		return fmt.Errorf("%w: it holds %d entries, and %d were published", segment.ErrShort, end.Entries, p.marked.Entries)
	}
	if !p.marked.staged {
		p.marked.Mark = end
	}
	log.Publish(p.marked.Mark)
	if held := end.Entries - p.marked.Entries; held > 0 {
		p.placeConfig.log.Info("entries after the last published mark are held back until the sink that wrote them is open",
			string(p.kind), p.name, "entries", held)
	}
	return p.openConsumers()
}

// openConsumers reads how far every consumer known on disk has come, so that
// retention waits for those that nobody reads now.
func (p *place) openConsumers() error {
	names, err := consumerNames(p.fs, p.dir())
	if err != nil {
		return err
	}
	for _, name := range names {
		c := &consumer{place: p, name: name}
		last, err := readNotes(p.fs, c.path(), c.progress.apply)
		if err != nil {
			return err
		}
		if !last.found {
			continue // its first note never became durable: nobody was promised anything
		}
		if c.progress.low > p.log.End().Entries {
			return fmt.Errorf("consumer %q has settled %d entries, and only %d were ever written", name, c.progress.low, p.log.End().Entries)
		}
		c.passed.Store(c.progress.low)
		p.consumers[name] = c
	}
	return nil
}

// consumerNames lists the consumers that have note files, sorted.
func consumerNames(fsys vfs.FS, dir string) ([]string, error) {
	files, err := fsys.List(filepath.Join(dir, "consumers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, file := range files {
		name, isA := strings.CutSuffix(file, ".a")
		name, isB := strings.CutSuffix(name, ".b")
		if isA != isB && nameForm.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// publish lets readers go on to m and notes it. The note is not synced: after a
// power cut it may stand earlier, never later.
func (p *place) publish(m segment.Mark, staged, durable bool) error {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	p.log.Publish(m)
	p.marked = mark{m, staged || p.marked.staged}
	if err := p.note.add(appendMark(nil, p.marked)); err != nil {
		return err
	}
	if durable {
		if err := p.note.sync(); err != nil {
			return err
		}
	}
	return p.expire(m)
}

// expire drops a topic's segments that are older than its retention, read or
// not. The caller holds publishing.
func (p *place) expire(m segment.Mark) error {
	now := p.now()
	if p.kind != TopicKind || p.keep <= 0 || now.Sub(p.expired) < expireEvery {
		return nil
	}
	p.expired = now
	before := uint64(0)
	for _, s := range p.log.Segments()[1:] {
		if s.First >= m.Entries {
			break
		}
		at, err := p.publishedAt(s.First)
		if err != nil {
			return err
		}
		if now.Sub(at) < p.keep {
			break
		}
		before = s.First
	}
	if before == 0 {
		return nil
	}
	for _, c := range p.known() {
		if low := c.passed.Load(); low < before {
			p.placeConfig.log.Warn("topic dropped entries past their retention that a consumer had not read",
				"topic", p.name, "consumer", c.name, "entries", before-max(low, p.log.First()), "keep", p.keep)
		}
	}
	return p.log.DropBefore(before)
}

func (p *place) publishedAt(number uint64) (time.Time, error) {
	r, err := p.log.Reader(number)
	if err != nil {
		return time.Time{}, err
	}
	raw, _, err := r.Next()
	if err != nil {
		return time.Time{}, errors.Join(err, r.Close())
	}
	s, err := parseEntry(raw)
	return time.Unix(0, s.published), errors.Join(err, r.Close())
}

func (p *place) known() []*consumer {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*consumer, 0, len(p.consumers))
	for _, c := range p.consumers {
		list = append(list, c)
	}
	return list
}

// trim drops the segments that every consumer has passed.
func (p *place) trim() error {
	low := uint64(math.MaxUint64)
	p.mu.Lock()
	for _, c := range p.consumers {
		low = min(low, c.passed.Load())
	}
	p.mu.Unlock()
	if low == math.MaxUint64 {
		return nil
	}
	return p.log.DropBefore(low)
}

// configure sets the bounds that a sink asks for.
func (p *place) configure(maxBytes int64, keep time.Duration) {
	if maxBytes > 0 {
		p.max.Store(maxBytes)
	}
	p.publishing.Lock()
	defer p.publishing.Unlock()
	p.keep = keep
}

// room is how many bytes may be appended before the place is full.
func (p *place) room() int64 { return max(0, p.max.Load()-p.log.Size()) }

// close ends the place. Consumers must be closed.
func (p *place) close() error {
	close(p.closed)
	var errs []error
	if p.note != nil {
		errs = append(errs, p.note.sync(), p.note.close())
	}
	if p.log != nil {
		errs = append(errs, p.log.Close())
	}
	return errors.Join(errs...)
}
