package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
)

// poison is case 9: an event that never works keeps its bytes, headers and the
// count of its attempts; while the sink of dead letters is down it is not
// acked, and once the letter is there it goes (I1, I17).
func poison(t *testing.T, f Factory) {
	r, letters := onDisk(t, f), onDisk(t, f)
	m, l := newMaker(f, 1), newLedger(f)
	m.n = 3 // with headers, binary where that is carried
	e := m.next("bad", 400)
	must(t, l.wasSent(e))
	must(t, r.send(e))
	const attempts = 3
	it := r.one(t, l, patience)
	for attempt := 1; r.caps.Nack && attempt < attempts; attempt++ {
		must(t, r.nack(it, 0))
		it = r.one(t, l, patience)
		if !f.Answered && it.Attempt != attempt+1 {
			t.Errorf("after %d nacks the event says it is attempt %d", attempt, it.Attempt)
		}
	}
	letter := transports.Entry{ID: "letter-1", Key: e.Key, Data: bytes.Clone(it.Data), Headers: slices.Clone(it.Headers)}
	if f.Carries.Headers {
		letter.Headers = append(letter.Headers, transports.Header{Name: "reason", Value: "poison"}, transports.Header{Name: "attempts", Value: fmt.Sprint(attempts)})
	}
	down := letters.sink
	must(t, letters.closeSink())
	if err := letters.tryWrite(down, letter); err == nil {
		t.Fatal("a sink that is closed took the dead letter")
	}
	must(t, r.closeSource())
	must(t, r.openSource())
	it = r.one(t, l, patience)
	must(t, letters.openSink())
	ll := newLedger(f)
	must(t, ll.wasSent(letter))
	must(t, letters.send(letter))
	must(t, letters.ack(letters.one(t, ll, patience)))
	must(t, r.ack(it))
	must(t, r.closeSource())
	must(t, r.openSource())
	r.nothing(t, 2*quiet)
}

// partialFailure is case 10: whatever subset of a batch is refused, the results
// are aligned, those and only those are refused, and the others come in order
// per key.
func partialFailure(t *testing.T, f Factory) {
	r := onDisk(t, f)
	if r.staged() != nil {
		notApplicable(t, "lacks partial failure: a staged sink takes a batch whole or not at all")
	}
	f.needs(t, Refusal, r.limits.EntryBytes > 0 || r.place.Refuse != nil)
	m, l := newMaker(f, 1), newLedger(f)
	const size = 4
	for subset := range 1 << size {
		batch := make([]transports.Entry, size)
		refused := map[string]bool{}
		for i := range batch {
			bad := subset&(1<<i) != 0
			n := 0
			if bad && r.place.Refuse == nil {
				n = 2*r.limits.EntryBytes + 1
			}
			// Keys differ, so that no entry shares the fate of another.
			batch[i] = m.next(fmt.Sprint("k", i), n)
			if !bad {
				must(t, l.wasSent(batch[i]))
			}
			refused[string(batch[i].Data)] = bad
		}
		if r.place.Refuse != nil {
			r.place.Refuse(func(data []byte) bool { return refused[string(data)] })
		}
		results := r.writeBeside(t, l, batch)
		for i, result := range results {
			ok, bad := result.Class == transports.OK, subset&(1<<i) != 0
			if ok == bad || (result.Err == nil) == bad || errors.Is(result.Err, errUnset) {
				t.Fatalf("subset %04b: result %d is %v (%v)", subset, i, result.Class, result.Err)
			}
		}
		take(t, r, l, 0)
	}
	if r.place.Refuse != nil {
		r.place.Refuse(nil)
	}
	waitFor(t, r, l, func() bool { take(t, r, l, quiet); return l.missing() == nil })
	must(t, l.missing())
	r.nothing(t, quiet)
}

// writeBeside writes one batch, receiving meanwhile where Write waits for that.
func (r *rig) writeBeside(t *testing.T, l *ledger, batch []transports.Entry) []transports.Result {
	t.Helper()
	done := make(chan []transports.Result, 1)
	go func() { done <- r.sender.write(context.Background(), batch) }()
	deadline := time.After(patience)
	for {
		wait := time.Hour
		if r.f.Answered {
			take(t, r, l, quiet/10)
			wait = 0
		}
		select {
		case results := <-done:
			return results
		case <-deadline:
			t.Fatalf("Write did not return within %v", patience)
		case <-time.After(wait):
		}
	}
}

// logins is case 15: who is not let in hears so at once, and for good.
func logins(t *testing.T, f Factory) {
	r := closed(t, f)
	f.needs(t, LoggedIn, len(r.place.Logins) > 0)
	works := map[bool]int{}
	place := r.place
	for _, login := range place.Logins {
		works[login.Works]++
		r.place.Source, r.place.Sink = place.Source, place.Sink
		if login.Source != nil {
			r.place.Source = login.Source
		}
		if login.Sink != nil {
			r.place.Sink = login.Sink
		}
		start := time.Now()
		err := letIn(r, f, login)
		must(t, r.close())
		switch {
		case login.Works && err != nil:
			t.Errorf("%s: %v", login.Name, err)
		case !login.Works && !errors.Is(err, transports.ErrFatal):
			t.Errorf("%s: %v, want an error that wraps ErrFatal, or the class fatal", login.Name, err)
		case time.Since(start) > patience:
			t.Errorf("%s: it took %v to tell", login.Name, time.Since(start))
		}
	}
	if works[true] == 0 || works[false] == 0 {
		t.Errorf("%d logins work and %d do not: the place needs one of each", works[true], works[false])
	}
}

// letIn opens the ends that a login is about and uses them, until one is
// refused for good or an event has gone through.
func letIn(r *rig, f Factory, login Login) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if login.Works {
		if err := r.open(); err != nil {
			return err
		}
		if err := r.send(newMaker(f, 1).next("a", 0)); err != nil {
			return err
		}
		got, err := r.receive(1, patience)
		if err == nil && len(got) == 0 {
			err = errors.New("nothing came")
		}
		if err != nil {
			return err
		}
		return r.ack(got...)
	}
	var errs []error
	if login.Sink != nil {
		errs = append(errs, refusedSink(ctx, r, f))
	}
	if login.Source != nil {
		errs = append(errs, refusedSource(ctx, r))
	}
	for _, err := range errs {
		if !errors.Is(err, transports.ErrFatal) {
			return fmt.Errorf("it was not refused for good: %w", errors.Join(err, errors.New("no more is known")))
		}
	}
	return errors.Join(errs...)
}

func refusedSink(ctx context.Context, r *rig, f Factory) error {
	if err := r.openSink(); err != nil {
		return err
	}
	results := r.sender.write(ctx, []transports.Entry{newMaker(f, 1).next("a", 0)})
	if results[0].Class == transports.Fatal {
		return fmt.Errorf("%w: %w", transports.ErrFatal, results[0].Err)
	}
	return fmt.Errorf("write: %v: %w", results[0].Class, results[0].Err)
}

func refusedSource(ctx context.Context, r *rig) error {
	if err := r.openSource(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if _, err := r.receiveOnce(1, quiet); errors.Is(err, transports.ErrFatal) {
			return err
		}
	}
	return fmt.Errorf("receive: no refusal within %v", patience)
}

// soak is case 17: everything at once and at random, checked by key and sequence.
func soak(t *testing.T, f Factory) {
	seed := seedOf(t)
	length := 2 * time.Second
	if text := os.Getenv("WEIR_SOAK"); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		must(t, err)
	}
	r := closed(t, f)
	faults := r.place.Faults
	if n := r.place.Network; n != nil {
		proxy, err := NewProxy(n.Target)
		must(t, err)
		t.Cleanup(func() { must(t, proxy.Close()) })
		r.place.Source, r.place.Sink = n.Via(proxy.Address())
		for _, m := range []Mode{Refuse, Reset, LoseReply} {
			faults = append(faults, proxy.fault(m))
		}
	}
	must(t, r.open())
	s := soaker{rider: newRider(t, r, seed, length+3*patience), rng: rand.New(rand.NewPCG(seed, 7))}
	s.fault = "soak"
	defer s.behind.stop()
	for end := time.Now().Add(length); time.Now().Before(end); {
		s.step(faults)
	}
	s.finishAll()
	t.Logf("%d events, %d deliveries, %d closed sources, %d faults", s.m.n, s.l.total, s.closed, s.faulted)
}

// soaker is case 17 under way.
type soaker struct {
	*rider
	rng             *rand.Rand
	held            []item
	closed, faulted int
}

func (s *soaker) step(faults []Fault) {
	s.t.Helper()
	switch n := s.rng.IntN(100); {
	case n < 40:
		s.send(fmt.Sprint("k", s.rng.IntN(12)), s.rng.IntN(2000))
	case n < 75:
		got, err := s.r.receiveOnce(1+s.rng.IntN(20), quiet/20)
		if err != nil {
			s.tolerable("Receive", err)
			return
		}
		for _, it := range got {
			_, err := s.l.received(it)
			must(s.t, err)
		}
		s.held = append(s.held, got...)
	case n < 93:
		s.settle(s.rng.IntN(len(s.held) + 1))
	case n < 96:
		if n := len(s.held); n > 0 && s.r.caps.Nack {
			if err := s.r.nack(s.held[n-1], 0); err != nil && !errors.Is(err, transports.ErrNotHeld) {
				s.tolerable("Settle", err)
			}
			s.held = s.held[:n-1]
		}
	case n < 98:
		s.held = nil // they come again
		s.closed++
		if err := s.r.closeSource(); err != nil {
			s.tolerable("Close", err)
		}
		s.open()
	case len(faults) > 0 && s.rng.IntN(4) == 0:
		s.faulted++
		fault := faults[s.rng.IntN(len(faults))]
		must(s.t, fault.Begin())
		pause(quiet / 2)
		must(s.t, fault.End())
	}
}

func (s *soaker) open() {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		err := s.r.openSource()
		if err == nil {
			return
		}
		s.tolerable("Open", err)
		if time.Now().After(deadline) {
			s.t.Fatal(err)
		}
		pause(quiet / 2)
	}
}

func (s *soaker) settle(n int) {
	s.t.Helper()
	for _, it := range s.held[:n] {
		what, err := parse(it.Data)
		must(s.t, err)
		s.ack(it, what.N)
	}
	s.held = s.held[n:]
}

func (s *soaker) finishAll() {
	s.t.Helper()
	s.settle(len(s.held))
	s.finish()
}

// classes is case 18: what errors of the other side make of an entry, as a
// table that a person reads and a change shows in.
func classes(t *testing.T, f Factory) {
	f.needs(t, Classed, len(f.Classes) > 0)
	var b strings.Builder
	b.WriteString("# cause, class; written by the conformance test with WEIR_UPDATE=1\n")
	seen := map[string]bool{}
	for _, c := range f.Classes {
		if c.Cause == "" || seen[c.Cause] {
			t.Errorf("cause %q stands twice, or is empty", c.Cause)
		}
		seen[c.Cause] = true
		fmt.Fprintf(&b, "%-60s %v\n", c.Cause, c.Class)
	}
	if updating() {
		must(t, writeGolden(f.ClassesGolden, b.String()))
		return
	}
	want, err := os.ReadFile(f.ClassesGolden)
	must(t, err)
	if string(want) != b.String() {
		t.Errorf("%s says\n%s\nbut it is\n%s", f.ClassesGolden, want, b.String())
	}
}
