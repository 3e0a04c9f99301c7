package local

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// member is one of those that share a consumer.
type member struct {
	cons     *consumer
	number   uint32
	stopOnce sync.Once
	stop     chan struct{}

	receiving sync.Mutex   // held by receive, so that leave frees nothing under it
	settling  sync.RWMutex // held for reading by settle, likewise
	scratch   []given
}

func (m *member) join(c *consumer) { m.cons, m.number = c, c.group.join() }

func (m *member) receive(ctx context.Context, max int, wait time.Duration) ([]transports.Delivery, error) {
	m.receiving.Lock()
	defer m.receiving.Unlock()
	if isClosed(m.stop) {
		return nil, transports.ErrClosed
	}
	if m.cons == nil {
		return nil, errNotOpen
	}
	got, err := m.cons.take(ctx, m.scratch[:0], m.number, max, wait, m.stop)
	if err != nil {
		return nil, endOfBatch(err, 0)
	}
	out := make([]transports.Delivery, len(got))
	for i := range got {
		out[i] = delivery(&got[i])
	}
	clear(got)
	m.scratch = got
	return out, nil
}

// settlement is one ack or nack of an entry.
type settlement struct {
	number uint64
	nack   bool
	delay  time.Duration
}

// settle acks and nacks in the order given and returns when that is durable:
// nil, or one error each.
func (m *member) settle(list []settlement) []error {
	m.settling.RLock()
	defer m.settling.RUnlock()
	errs := make([]error, len(list))
	if m.cons == nil || isClosed(m.stop) {
		for i := range errs {
			errs[i] = transports.ErrNotHeld
		}
		return errs
	}
	var runs []run
	var tries []try
	var numbers []uint64
	for i := 0; i < len(list); {
		if list[i].nack {
			n, err := m.cons.group.nack(list[i].number, m.number, m.cons.place.now().Add(list[i].delay))
			if errs[i] = err; err == nil {
				tries = append(tries, try{list[i].number, n})
			}
			i++
			continue
		}
		from := i
		for numbers = numbers[:0]; i < len(list) && !list[i].nack; i++ {
			numbers = append(numbers, list[i].number)
		}
		runs = m.cons.group.ack(numbers, m.number, errs[from:i], runs)
	}
	if err := m.cons.settle(runs, tries); err != nil {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
		return errs
	}
	for _, err := range errs {
		if err != nil {
			return errs
		}
	}
	return nil
}

// leave gives back what the member holds. It may be called twice.
func (m *member) leave() error {
	m.stopOnce.Do(func() { close(m.stop) })
	m.receiving.Lock()
	defer m.receiving.Unlock()
	m.settling.Lock()
	defer m.settling.Unlock()
	if m.cons == nil {
		return nil
	}
	c := m.cons
	m.cons = nil
	c.group.leave(m.number)
	return c.detach()
}

// sharedSource reads a queue, or a topic's consumer, together with others. The
// queue keeps the positions.
type sharedSource struct {
	end
	member
	consumer string
	oldest   bool
}

var _ transports.Source = (*sharedSource)(nil)

func (*sharedSource) Capabilities() transports.Capabilities {
	return transports.Capabilities{Order: transports.OrderKey, Positions: transports.KeptByBroker, Nack: true}
}

func (s *sharedSource) Open(_ context.Context, _ map[string]transports.Position, l transports.Listener) error {
	if isClosed(s.stop) {
		return transports.ErrClosed
	}
	if err := s.end.open(); err != nil {
		return err
	}
	c, err := s.place.attach(s.consumer, s.name, false, s.place.start(s.oldest))
	if err != nil {
		return errors.Join(err, s.end.close())
	}
	s.join(c)
	if l != nil {
		l.Assigned(partition)
	}
	return nil
}

func (s *sharedSource) Receive(ctx context.Context, max int, wait time.Duration) ([]transports.Delivery, error) {
	return s.receive(ctx, max, wait)
}

func (s *sharedSource) Settle(_ context.Context, settlements []transports.Settlement) []error {
	list := make([]settlement, len(settlements))
	for i, st := range settlements {
		list[i] = settlement{number: numberOf(st.ID), nack: st.Nack, delay: st.Delay}
	}
	return s.settle(list)
}

// numberOf reads a delivery's id; one that is not ours names no entry held.
func numberOf(id string) uint64 {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return 1<<64 - 1
	}
	return n
}

func (s *sharedSource) Close(context.Context) error {
	return errors.Join(s.leave(), s.end.close())
}
