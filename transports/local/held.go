package local

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/transports"
)

var (
	_ transports.Holder = (*Sink)(nil)
	_ transports.Holder = (*Queue)(nil)
)

// ErrTopic says that entries of a topic are not held for anybody in particular.
var ErrTopic = errors.New("a topic keeps its entries for its consumers")

// Held implements transports.Holder.
func (k *Sink) Held(from uint64, visit func(*transports.Delivery) (bool, error)) error {
	if k.place == nil {
		return k.notOpen()
	}
	return k.place.held(from, visit)
}

// TakeOff implements transports.Holder.
func (k *Sink) TakeOff(numbers []uint64) error {
	if k.place == nil {
		return k.notOpen()
	}
	return k.place.takeOff(numbers)
}

// Place implements transports.Holder.
func (q *Queue) Place() string { return q.place.kind.folder() + "/" + q.place.name }

// Held implements transports.Holder.
func (q *Queue) Held(from uint64, visit func(*transports.Delivery) (bool, error)) error {
	q.using.RLock()
	defer q.using.RUnlock()
	if q.isClosed() {
		return transports.ErrClosed
	}
	return q.place.held(from, visit)
}

// TakeOff implements transports.Holder.
func (q *Queue) TakeOff(numbers []uint64) error {
	q.using.RLock()
	defer q.using.RUnlock()
	if q.isClosed() {
		return transports.ErrClosed
	}
	return q.place.takeOff(numbers)
}

// held visits what is published and, as far as the notes say, not settled.
func (p *place) held(from uint64, visit func(*transports.Delivery) (bool, error)) (err error) {
	if p.kind != QueueKind {
		return fmt.Errorf("%s %q: %w", p.kind, p.name, ErrTopic)
	}
	settled := p.noted()
	reader, err := p.log.Reader(max(from, settled.low, p.log.First()))
	if err != nil {
		return fmt.Errorf("%s %q: %w", p.kind, p.name, err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	for {
		raw, number, err := reader.Next()
		if errors.Is(err, segment.ErrCaughtUp) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s %q: %w", p.kind, p.name, err)
		}
		if settled.isSettled(number) {
			continue
		}
		e, err := parseEntry(bytes.Clone(raw))
		if err != nil {
			return fmt.Errorf("%s %q: entry %d: %w", p.kind, p.name, number, err)
		}
		more, err := visit(&transports.Delivery{
			Ordinal: number, Key: e.key, Data: e.data, Headers: e.headerList(), Published: time.Unix(0, e.published),
		})
		if err != nil || !more {
			return err
		}
	}
}

// noted is how far the queue's reader has come.
func (p *place) noted() *progress {
	p.mu.Lock()
	c := p.consumers[queueConsumer]
	p.mu.Unlock()
	if c == nil {
		return &progress{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.progress.clone()
}

// takeOff settles entries in the reader's place.
func (p *place) takeOff(numbers []uint64) (err error) {
	if p.kind != QueueKind {
		return fmt.Errorf("%s %q: %w", p.kind, p.name, ErrTopic)
	}
	if len(numbers) == 0 {
		return nil
	}
	c, err := p.attach(queueConsumer, "who takes entries off", true, p.log.First())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.detach()) }()
	numbers = slices.Clone(numbers)
	slices.Sort(numbers)
	var runs []run
	for _, n := range slices.Compact(numbers) {
		if last := len(runs) - 1; last >= 0 && runs[last].to == n {
			runs[last].to = n + 1
			continue
		}
		runs = append(runs, run{n, n + 1})
	}
	return c.settle(runs, nil)
}
