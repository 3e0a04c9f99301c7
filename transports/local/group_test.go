package local

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/transports"
)

// listFeed is a feed over a slice.
type listFeed struct {
	entries [][]byte
	read    int
}

func (f *listFeed) next() ([]byte, uint64, error) {
	if f.read == len(f.entries) {
		return nil, 0, io.EOF
	}
	f.read++
	return f.entries[f.read-1], uint64(f.read - 1), nil
}

func (f *listFeed) at(n uint64) ([]byte, error) { return f.entries[n], nil }

func (f *listFeed) add(key string) {
	e := transports.Entry{ID: fmt.Sprint(len(f.entries))}
	if key != "" {
		e.Key = []byte(key)
	}
	f.entries = append(f.entries, appendEntry(nil, &e, goldenTime))
}

// groupModel is the group by brute force: it judges what is given.
type groupModel struct {
	keys   []string
	state  []string // "", held, settled, waiting
	member []uint32
	due    []time.Time
	tries  []uint32
}

func (m *groupModel) check(given []given, member uint32, now time.Time) error {
	for _, d := range given {
		n := d.number
		if m.state[n] == "held" || m.state[n] == "settled" {
			return fmt.Errorf("entry %d was given while %s", n, m.state[n])
		}
		if now.Before(m.due[n]) {
			return fmt.Errorf("entry %d was given %v early", n, m.due[n].Sub(now))
		}
		m.tries[n]++
		if d.tries != m.tries[n] || string(d.id) != fmt.Sprint(n) || string(d.key) != m.keys[n] {
			return fmt.Errorf("entry %d: %+v, want attempt %d", n, d, m.tries[n])
		}
		for o := range m.keys {
			if m.keys[o] != m.keys[n] || m.keys[n] == "" {
				continue
			}
			if m.state[o] == "held" && (m.member[o] != member || uint64(o) > n) {
				return fmt.Errorf("I7: entry %d was given while %d of its key is with member %d", n, o, m.member[o])
			}
			if uint64(o) < n && m.state[o] != "held" && m.state[o] != "settled" {
				return fmt.Errorf("I7: entry %d passed %d, which is %q", n, o, m.state[o])
			}
		}
		m.state[n], m.member[n], m.due[n] = "held", member, time.Time{}
	}
	return nil
}

func (m *groupModel) giveBack(n int, due time.Time) {
	m.state[n], m.due[n] = "waiting", due
}

// TestI7GroupAgainstModel lets members take, ack, nack and leave at random.
func TestI7GroupAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		feed, m := &listFeed{}, &groupModel{}
		g := newGroup(feed, &progress{})
		members := []uint32{g.join(), g.join(), g.join()}
		now := goldenTime
		add := func() {
			key := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "key")
			feed.add(key)
			m.keys, m.state, m.member = append(m.keys, key), append(m.state, ""), append(m.member, 0)
			m.due, m.tries = append(m.due, time.Time{}), append(m.tries, 0)
		}
		give := func(member uint32, max int) int {
			got, _, _, err := g.give(nil, member, max, now)
			if err == nil {
				err = m.check(got, member, now)
			}
			if err != nil {
				t.Fatal(err)
			}
			return len(got)
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			i := rapid.IntRange(0, 2).Draw(t, "member")
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1:
				add()
			case 2:
				give(members[i], rapid.IntRange(1, 5).Draw(t, "max"))
			case 3, 4:
				n := rapid.IntRange(0, len(m.keys)).Draw(t, "entry")
				errs := make([]error, 1)
				g.ack([]uint64{uint64(n)}, members[i], errs, nil)
				held := n < len(m.keys) && m.state[n] == "held" && m.member[n] == members[i]
				if held != (errs[0] == nil) || !held && !errors.Is(errs[0], transports.ErrNotHeld) {
					t.Fatalf("ack of %d: %v, held %v", n, errs[0], held)
				}
				if held {
					m.state[n] = "settled"
				}
			case 5:
				nackAtRandom(t, g, m, members[i], now)
			case 6:
				g.leave(members[i])
				for n := range m.keys {
					if m.state[n] == "held" && m.member[n] == members[i] {
						m.giveBack(n, time.Time{})
					}
				}
				members[i] = g.join()
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "pass")) * time.Second)
		}
		drain(t, g, m, members, give, &now)
	})
}

func nackAtRandom(t *rapid.T, g *group, m *groupModel, member uint32, now time.Time) {
	n := rapid.IntRange(0, len(m.keys)).Draw(t, "entry")
	due := now.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "delay")) * time.Second)
	tries, err := g.nack(uint64(n), member, due)
	held := n < len(m.keys) && m.state[n] == "held" && m.member[n] == member
	if held != (err == nil) || held && tries != m.tries[n] {
		t.Fatalf("nack of %d: %d, %v, held %v", n, tries, err, held)
	}
	if !held {
		return
	}
	m.giveBack(n, due)
	for o := n + 1; o < len(m.keys) && m.keys[n] != ""; o++ {
		if m.keys[o] == m.keys[n] && m.state[o] == "held" {
			m.giveBack(o, time.Time{})
		}
	}
}

// drain gives and acks until nothing comes any more: all must be settled then.
func drain(t *rapid.T, g *group, m *groupModel, members []uint32, give func(uint32, int) int, now *time.Time) {
	for idle := 0; idle < 3; idle++ {
		*now = now.Add(time.Minute)
		for _, member := range members {
			if give(member, 7) > 0 {
				idle = 0
			}
			for n := range m.keys {
				if m.state[n] != "held" || m.member[n] != member {
					continue
				}
				errs := make([]error, 1)
				if g.ack([]uint64{uint64(n)}, member, errs, nil); errs[0] != nil {
					t.Fatalf("ack of %d: %v", n, errs[0])
				}
				m.state[n] = "settled"
			}
		}
	}
	for n, s := range m.state {
		if s != "settled" {
			t.Fatalf("I1: entry %d is %q at the end", n, s)
		}
	}
	held, waiting := g.underWay()
	if g.progress.low != uint64(len(m.keys)) || held+waiting+len(g.lines)+len(g.kept)+len(g.progress.tries) != 0 {
		t.Fatalf("left over: low %d of %d, %d held, %d waiting, %d lines, %d kept", g.progress.low, len(m.keys), held, waiting, len(g.lines), len(g.kept))
	}
}
