package http

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/weir-project/weir/transports"
)

// Partitions. Ids of events that came without one are made of partition and ordinal. So
// requests with a key of their own have one partition, in which the key is the ordinal:
// a repeat gives the same ids. All others have one for each start of the source, since
// ordinals begin anew then, and no two requests may give the same ids.
const (
	partitionKeys     = "keys"
	partitionRequests = "requests/"
)

// errStopped is the outcome of requests that the source gave up on.
var errStopped = errors.New("stopped")

// source takes requests in and hands them to the engine. A request stays in held from
// when it may be received until it is settled.
type source struct {
	owner  *Transport
	env    transports.Env
	cfg    sourceConfig
	server *server // after Open
	limit  *rate.Limiter
	start  string // the partition of requests without a key
	seed   maphash.Seed

	slots   chan struct{} // one for each place in queue
	queue   chan *request
	closing chan struct{}
	idle    atomic.Bool // the engine has stopped asking: see pause

	// gate is held for writing to stop what comes in: then nothing enters the queue.
	gate sync.RWMutex // guards open
	open bool

	mu       sync.Mutex // guards what follows
	held     map[string]*request
	buffered int64
	ordinal  uint64
}

// request is a body on its way through the engine.
type request struct {
	id        string
	partition string
	ordinal   uint64
	data      []byte
	key       []byte   // of all its events, nil = their own
	ends      []uint32 // nil = one event
	events    int
	digest    uint64 // of the data, where the request has a key of its own
	arrived   time.Time
	reserved  int64

	taken   chan struct{} // closed when the engine has it
	done    chan struct{} // closed when what follows is set
	refused []transports.Refusal
	err     error // it was not settled
}

func newSource(owner *Transport, env transports.Env, cfg sourceConfig) *source {
	var start [8]byte
	_, _ = rand.Read(start[:]) // never fails
	s := &source{
		owner: owner, env: env, cfg: cfg, start: partitionRequests + hex.EncodeToString(start[:]), seed: maphash.MakeSeed(),
		slots: make(chan struct{}, maxQueued), queue: make(chan *request, maxQueued),
		closing: make(chan struct{}), held: map[string]*request{},
	}
	if cfg.rate > 0 {
		s.limit = rate.NewLimiter(rate.Limit(cfg.rate), cfg.burst)
	}
	return s
}

// Capabilities implements transports.Source. Whoever sends is the one who remembers:
// what is not acked gets no answer of success, and comes again.
func (s *source) Capabilities() transports.Capabilities {
	return transports.Capabilities{Order: transports.OrderNone, Positions: transports.KeptByBroker, Lossy: s.cfg.accept}
}

// Open implements transports.Source.
func (s *source) Open(ctx context.Context, _ map[string]transports.Position, l transports.Listener) error {
	if s.closed() {
		return fmt.Errorf("http source %s: open: %w", s.env.Name, transports.ErrClosed)
	}
	s.gate.Lock()
	s.open = true
	s.gate.Unlock()
	if err := s.owner.attach(ctx, s); err != nil {
		return fmt.Errorf("http source %s: listen on %s: %w", s.env.Name, s.cfg.listen, err)
	}
	if s.cfg.accept {
		s.env.Log.Warn("answer: accept: requests are answered before their events are durable; a crash loses those", "source", s.env.Name)
	}
	if l != nil {
		l.Assigned(partitionKeys)
		l.Assigned(s.start)
	}
	return nil
}

func (s *source) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Receive implements transports.Source.
func (s *source) Receive(ctx context.Context, most int, wait time.Duration) ([]transports.Delivery, error) {
	if s.closed() || s.server == nil {
		return nil, fmt.Errorf("http source %s: receive: %w", s.env.Name, transports.ErrClosed)
	}
	if most <= 0 {
		return nil, nil
	}
	if s.idle.Load() {
		s.resume()
	}
	r, err := s.first(ctx, wait)
	if err != nil || r == nil {
		return nil, err
	}
	list := []transports.Delivery{s.delivery(r)}
	for bytes := len(r.data); len(list) < most && bytes < receiveBytes; {
		select {
		case r := <-s.queue:
			bytes += len(r.data)
			list = append(list, s.delivery(r))
			continue
		default:
		}
		break
	}
	// Requests have no order between them, and the engine takes runs of one partition.
	slices.SortStableFunc(list, func(a, b transports.Delivery) int { return strings.Compare(a.Partition, b.Partition) })
	return list, nil
}

// first waits for a request; nil where there is none in time.
func (s *source) first(ctx context.Context, wait time.Duration) (*request, error) {
	select {
	case r := <-s.queue:
		return r, nil
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case r := <-s.queue:
		return r, nil
	case <-timer.C:
		return nil, nil
	case <-ctx.Done():
		s.pause()
		return nil, fmt.Errorf("http source %s: receive: %w", s.env.Name, ctx.Err())
	case <-s.closing:
		return nil, fmt.Errorf("http source %s: receive: %w", s.env.Name, transports.ErrClosed)
	case <-s.server.ended:
		return nil, fmt.Errorf("http source %s: the server ended: %w", s.env.Name, errors.Join(transports.ErrFatal, s.server.err))
	}
}

// delivery hands a request out and frees its place in the queue.
func (s *source) delivery(r *request) transports.Delivery {
	<-s.slots
	close(r.taken)
	return transports.Delivery{
		ID: r.id, Partition: r.partition, Ordinal: r.ordinal, Key: r.key, Data: r.data, Ends: r.ends, Published: r.arrived, Attempt: 1,
	}
}

// pause answers what waits and what comes, instead of letting it wait for an engine
// that has stopped asking. The next Receive resumes.
func (s *source) pause() {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.open = false
	s.idle.Store(true)
	s.emptyQueue()
}

func (s *source) resume() {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.open = !s.closed()
	s.idle.Store(false)
}

// emptyQueue gives up on the requests that wait. The caller holds gate.
func (s *source) emptyQueue() {
	for {
		select {
		case r := <-s.queue:
			<-s.slots
			s.settle(r.id, nil, errStopped)
		default:
			return
		}
	}
}

// reserve takes room for a body; false where the buffer is full.
func (s *source) reserve(bytes int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buffered+bytes > s.cfg.buffer {
		return false
	}
	s.buffered += bytes
	return true
}

func (s *source) unreserve(bytes int64) {
	s.mu.Lock()
	s.buffered -= bytes
	s.mu.Unlock()
}

// enter puts a request into the queue, and its reservation into the care of settle.
// Where one with the same key is in flight it returns that one, for both to wait on.
func (s *source) enter(ctx context.Context, r *request, key string) (*request, *problem) {
	if problem := s.place(ctx); problem != nil {
		return nil, problem
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	if !s.open {
		<-s.slots
		return nil, stopping()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.partition, r.ordinal = s.start, s.ordinal
	r.id = "request/" + strconv.FormatUint(s.ordinal, 10)
	if key != "" {
		name := sha256.Sum256([]byte(key))
		r.partition, r.ordinal = partitionKeys, binary.BigEndian.Uint64(name[:])
		r.id, r.digest = "key/"+key, maphash.Bytes(s.seed, r.data)
	}
	if other := s.held[r.id]; other != nil {
		<-s.slots
		if other.digest != r.digest {
			return nil, &problem{status: 422, text: "a request with the same key and another body is in flight", hint: "give each request a key of its own"}
		}
		return other, nil
	}
	s.ordinal += uint64(r.events)
	s.held[r.id] = r
	s.queue <- r // there is room: its slot was taken
	return r, nil
}

// place waits for a place in the queue.
func (s *source) place(ctx context.Context) *problem {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(s.cfg.wait)
	defer timer.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return &problem{status: 429, text: "there is no room for more events now", after: pauseHint}
	case <-s.closing:
		return stopping()
	case <-ctx.Done():
		return &problem{status: 503, text: "the client has gone"} // nobody reads it
	}
}

// Settle implements transports.Source.
func (s *source) Settle(_ context.Context, settlements []transports.Settlement) []error {
	errs := make([]error, len(settlements))
	for i := range settlements {
		st := &settlements[i]
		var why error
		if st.Nack {
			why = fmt.Errorf("given back: %s", st.Reason)
		}
		if !s.settle(st.ID, st.Refused, why) {
			errs[i] = fmt.Errorf("http source %s: settle %q: %w", s.env.Name, st.ID, transports.ErrNotHeld)
		}
	}
	return errs
}

// settle tells the client of a request what became of it.
func (s *source) settle(id string, refused []transports.Refusal, err error) bool {
	s.mu.Lock()
	r := s.held[id]
	if r == nil {
		s.mu.Unlock()
		return false
	}
	delete(s.held, id)
	s.buffered -= r.reserved
	s.mu.Unlock()
	r.refused, r.err = refused, err
	close(r.done)
	return true
}

// Close implements transports.Source. Requests that are not settled by now are told to
// come again.
func (s *source) Close(ctx context.Context) error {
	s.gate.Lock()
	if s.closed() {
		s.gate.Unlock()
		return nil
	}
	s.open = false
	close(s.closing)
	s.emptyQueue()
	s.gate.Unlock()
	s.mu.Lock()
	var left []string
	for id := range s.held {
		left = append(left, id)
	}
	s.mu.Unlock()
	for _, id := range left {
		s.settle(id, nil, errStopped)
	}
	if s.server == nil {
		return nil
	}
	if err := s.owner.detach(ctx, s); err != nil {
		return fmt.Errorf("http source %s: close: %w", s.env.Name, err)
	}
	return nil
}
