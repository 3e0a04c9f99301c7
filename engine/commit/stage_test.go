package commit

import (
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

// TestPlacesOfStagesAreUsedAgain: coming and going does not make the list of stages
// grow, and a name that comes back goes on at its mark.
func TestPlacesOfStagesAreUsedAgain(t *testing.T) {
	l := openLog(t, Config{FS: vfs.NewMem(), Dir: "data"})
	l.Start()
	for i := range 100 {
		s := &restored{entries: uint64(i)}
		id, err := l.Stage("out", s)
		must(t, err)
		if id != 0 || s.at.Entries != uint64(i) {
			t.Fatalf("round %d: place %d, restored to %+v", i, id, s.at)
		}
		commitOne(t, l, "a", StagedRun{Stage: id, Framed: []byte("x"), Count: 1})
		must(t, l.Unstage(id))
	}
	must(t, l.Close(t.Context()))
}

// TestTablesComeAndGo: a snapshot holds the tables of its moment.
func TestTablesComeAndGo(t *testing.T) {
	mem := vfs.NewMem()
	a, b := &named{newTable(), "a"}, &named{newTable(), "b"}
	l := openLog(t, Config{FS: mem, Dir: "data"}, a)
	l.Start()
	a.set(1)
	b.set(2)
	must(t, l.SetTables([]Table{b}))
	if err := l.SetTables([]Table{b, b}); err == nil {
		t.Error("two tables of one name were taken")
	}
	commitOne(t, l, "x")
	must(t, l.Snapshot(t.Context()))
	must(t, l.Close(t.Context()))
	a, b = &named{newTable(), "a"}, &named{newTable(), "b"}
	l = openLog(t, Config{FS: mem, Dir: "data"}, a, b)
	if len(a.has) != 0 || !b.has[2] {
		t.Errorf("loaded a %v and b %v; want nothing and 2", a.has, b.has)
	}
	must(t, l.Close(t.Context()))
}

type named struct {
	*table
	name string
}

func (n *named) Name() string { return n.name }

// TestStageWhileTicketsFlow: restoring a sink does not hold the log up, and a name that
// is being restored is taken.
func TestStageWhileTicketsFlow(t *testing.T) {
	l := openLog(t, Config{FS: vfs.NewMem(), Dir: "data"})
	l.Start()
	slow := &restored{hold: make(chan struct{}), begun: make(chan struct{})}
	staged := make(chan error, 1)
	go func() {
		_, err := l.Stage("slow", slow)
		staged <- err
	}()
	<-slow.begun
	commitOne(t, l, "a")
	if _, err := l.Stage("slow", &restored{}); err == nil {
		t.Error("a name was staged twice")
	}
	close(slow.hold)
	must(t, <-staged)
	must(t, l.Close(t.Context()))
}

// restored is a staged sink that remembers what it was restored to.
type restored struct {
	at          transports.Mark
	entries     uint64
	hold, begun chan struct{}
}

func (s *restored) Frame(dst []byte, e *transports.Entry) []byte { return append(dst, e.Data...) }
func (s *restored) Append(_ []byte, count int) error             { s.entries += uint64(count); return nil }
func (s *restored) Publish(transports.Mark) error                { return nil }

func (s *restored) Sync() (transports.Mark, error) {
	return transports.Mark{File: 1, Length: int64(s.entries), Entries: s.entries}, nil
}

func (s *restored) Restore(m transports.Mark) error {
	s.at = m
	if s.hold != nil {
		close(s.begun)
		select {
		case <-s.hold:
		case <-time.After(2 * time.Minute):
		}
	}
	return nil
}
