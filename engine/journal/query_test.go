package journal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeebo/xxh3"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t require, err error) {
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// world is a commit log with a clock that moves a second a record.
type world struct {
	t    require
	fs   *vfs.Mem
	log  *commit.Log
	now  time.Time
	want []*Line // all lines, oldest first, as far as drawn
}

var started = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t require) *world {
	w := &world{t: t, fs: vfs.NewMem(), now: started}
	var err error
	w.log, err = commit.Open(commit.Config{
		FS: w.fs, Dir: "data", SegmentBytes: 3000, SnapshotEvery: 1 << 40,
		Now: func() time.Time { w.now = w.now.Add(time.Second); return w.now },
	}, nil, func([]byte, time.Duration) error { return nil })
	must(t, err)
	w.log.Start()
	return w
}

func (w *world) commit(record []byte) {
	done, changed := make(chan error, 1), w.log.Changed()
	must(w.t, w.log.Submit(context.Background(), &commit.Ticket{Record: record, Committed: func(err error) { done <- err }}))
	must(w.t, <-done)
	<-changed
}

func (w *world) close() { must(w.t, w.log.Close(context.Background())) }

func (w *world) journal(store Store) *Journal {
	j, err := Open(Config{Store: store, FS: w.fs, Dir: "data"})
	must(w.t, err)
	return j
}

var testRoutes, testSinks = []string{"all", "eu", "chosen"}, []string{"kitchen", "audit", "hook"}

func testGeneration(number uint64) *Generation {
	return &Generation{
		Epoch: 1, Number: number, Digest: "d", Routes: testRoutes, Sinks: testSinks,
		Exits:     []Exit{{To: []uint32{0, 1}}, {To: []uint32{2}}, {Outputs: []Output{{"a", []uint32{0}}, {"b", []uint32{1}}}, Else: []uint32{2}}},
		Unmatched: []uint32{1},
	}
}

// draw commits a random history and remembers what its lines must be.
func (w *world) draw(t *rapid.T) {
	generation := uint64(1)
	w.commit(AppendGeneration(nil, testGeneration(generation)))
	for range rapid.IntRange(1, 60).Draw(t, "records") {
		if rapid.IntRange(0, 9).Draw(t, "new generation") == 0 {
			generation++
			w.commit(AppendGeneration(nil, testGeneration(generation)))
		}
		if rapid.IntRange(0, 5).Draw(t, "redelivered") == 0 {
			w.drawRedelivered(t)
			continue
		}
		w.drawSettled(t, generation)
	}
}

func (w *world) drawRedelivered(t *rapid.T) {
	r := Redelivery{
		Ordinal: 3, Outcome: rapid.SampledFrom([]Outcome{Delivered, Dead}).Draw(t, "ended"), Attempts: 4,
		Source: "orders", ID: drawID(t), Route: "eu", Reason: rapid.SampledFrom([]string{"", "poison: no"}).Draw(t, "reason"),
	}
	w.commit(AppendRedelivered(nil, 1, "hook", []Redelivery{r}))
	w.want = append(w.want, redeliveredLine("hook", &r))
	w.stamp(0)
}

func (w *world) stamp(entry int) {
	l := w.want[len(w.want)-1]
	_, end := w.log.Held()
	l.Time, l.Epoch, l.Record, l.Entry = w.now, 1, end-1, entry
}

func drawID(t *rapid.T) string {
	n := rapid.IntRange(0, 40).Draw(t, "id")
	if n%3 == 0 {
		return fmt.Sprintf("0f9b%04d-3c1d-4e5f-8a7b-112233445566", n)
	}
	return fmt.Sprintf("id-%d", n)
}

func (w *world) drawSettled(t *rapid.T, generation uint64) {
	var jw Writer
	jw.Begin(1, generation)
	s := Section{Source: rapid.SampledFrom([]string{"orders", "uploads"}).Draw(t, "source"), Partition: "p", First: 1, End: 100, Total: 5}
	jw.Section(&s)
	n := rapid.IntRange(1, 4).Draw(t, "entries")
	entries := make([]Entry, n)
	for i := range entries {
		e := &entries[i]
		*e = Entry{Ordinal: uint64(i + 1), ID: []byte(drawID(t)), Identified: true, Hi: uint64(i), Lo: 7, Key: uint64(i)}
		e.Claimed = rapid.Bool().Draw(t, "claims")
		if rapid.Bool().Draw(t, "keyed") {
			e.Key = xxh3.HashString(fmt.Sprintf("key-%d", rapid.IntRange(0, 5).Draw(t, "key")))
		}
		e.Outcome = rapid.SampledFrom([]Outcome{Delivered, Unmatched, Filtered, Refused}).Draw(t, "outcome")
		switch e.Outcome {
		case Refused:
			e.Reason = "invalid_json"
		case Delivered:
			e.Routes, e.Taken = []uint32{0, 2}, []uint32{NoOutputs, rapid.SampledFrom([]uint32{1, 2, 3, ElseOutput}).Draw(t, "taken")}
			if rapid.Bool().Draw(t, "noted") {
				e.Notes = []Note{{Route: 0, Sink: 1, Outcome: Parked, Attempts: 2}, {Route: 1, Sink: NoRoute, Outcome: Discarded, Reason: "plugin vip: trap"}}
			}
		}
		jw.Entry(e)
	}
	jw.End()
	w.commit(jw.Bytes)
	g := newNames()
	g.learn(testGeneration(generation))
	for i := range entries {
		l := lineOf(g.known(1, generation), &s, &entries[i])
		l.Generation = generation
		w.want = append(w.want, l)
		w.stamp(i)
	}
}

func drawQuery(t *rapid.T) Query {
	maybe := func(name string, values ...string) string {
		if rapid.IntRange(0, 2).Draw(t, "with "+name) > 0 {
			return ""
		}
		return rapid.SampledFrom(values).Draw(t, name)
	}
	q := Query{
		Source: maybe("source", "orders", "uploads", "gone"), Route: maybe("route", "all", "eu", "chosen"), Sink: maybe("sink", testSinks...),
		Reason: maybe("reason", "invalid_json", "poison", "plugin vip", "plugin vip: trap"), Key: maybe("key", "key-0", "key-3"),
		Claimed: rapid.IntRange(0, 5).Draw(t, "claimed") == 0,
		Oldest:  rapid.Bool().Draw(t, "oldest"), Limit: rapid.IntRange(0, 5).Draw(t, "limit"),
	}
	if rapid.Bool().Draw(t, "by id") {
		q.ID = drawID(t)
	}
	if rapid.IntRange(0, 5).Draw(t, "by identity") == 0 {
		q.Hi, q.Lo = uint64(rapid.IntRange(0, 3).Draw(t, "hi")), 7
	}
	if rapid.IntRange(0, 3).Draw(t, "by outcome") == 0 {
		q.Outcomes = []Outcome{rapid.SampledFrom([]Outcome{Delivered, Parked, Dead, Refused, Discarded}).Draw(t, "outcome")}
	}
	if rapid.IntRange(0, 3).Draw(t, "in time") == 0 {
		from := rapid.IntRange(0, 50).Draw(t, "since")
		q.Since = started.Add(time.Duration(from) * time.Second)
		q.Until = q.Since.Add(time.Duration(rapid.IntRange(1, 50).Draw(t, "until")) * time.Second)
	}
	return q
}

// bruteForce is the answer by looking at every line.
func bruteForce(all []*Line, q Query) (list []*Line) {
	key := ""
	if q.Key != "" {
		key = fmt.Sprintf("%016x", xxh3.HashString(q.Key))
	}
	for _, l := range all {
		ok := (q.ID == "" || l.ID == q.ID) && (q.Source == "" || l.Source == q.Source) && (key == "" || l.Key == key) &&
			(!q.Claimed || l.Claimed) && (q.Hi|q.Lo == 0 || q.Hi == l.Hi && q.Lo == l.Lo) && (q.Since.IsZero() || !l.Time.Before(q.Since)) && (q.Until.IsZero() || l.Time.Before(q.Until))
		is := func(any func(outcome, reason string) bool) bool {
			return any(l.Outcome, l.Reason) || slices.ContainsFunc(l.Deliveries, func(d Delivery) bool { return any(d.Outcome, d.Reason) })
		}
		if len(q.Outcomes) > 0 {
			// A delivery that simply arrived has no outcome of its own in the record.
			ok = ok && (l.Outcome == q.Outcomes[0].String() || slices.ContainsFunc(l.Deliveries, func(d Delivery) bool {
				return d.Outcome == q.Outcomes[0].String() && d.Outcome != "delivered"
			}))
		}
		if q.Reason != "" {
			ok = ok && is(func(_, r string) bool { return r == q.Reason || ruleOf(r) == q.Reason })
		}
		if q.Route != "" {
			ok = ok && (slices.Contains(l.Routes, q.Route) || slices.ContainsFunc(l.Deliveries, func(d Delivery) bool { return d.Route == q.Route }))
		}
		if q.Sink != "" {
			ok = ok && slices.ContainsFunc(l.Deliveries, func(d Delivery) bool { return d.Sink == q.Sink })
		}
		if ok {
			list = append(list, l)
		}
	}
	if !q.Oldest {
		slices.Reverse(list)
	}
	if q.Limit > 0 {
		list = list[:min(q.Limit, len(list))]
	}
	return list
}

func plain(list []*Line) (out []Line) {
	for _, l := range list {
		c := *l
		c.Time, c.At = c.Time.UTC(), 0
		out = append(out, c)
	}
	return out
}

// TestQueriesEqualBruteForce: with indexes, without them and from outside, a query
// gives what looking at every line would.
func TestQueriesEqualBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		defer w.close()
		w.draw(t)
		view, err := commit.Look(w.fs, "data")
		must(t, err)
		defer view.Close()
		inside, outside := w.journal(w.log), w.journal(view)
		for k := range 3 {
			if k == 1 {
				must(t, inside.Build(context.Background(), false))
			}
			if k == 2 {
				w.damage(t)
			}
			q := drawQuery(t)
			want := plain(bruteForce(w.want, q))
			for name, j := range map[string]*Journal{"inside": inside, "outside": outside} {
				got, err := j.All(context.Background(), q)
				must(t, err)
				if !reflect.DeepEqual(plain(got), want) {
					t.Fatalf("%s, %+v:\n got %+v\nwant %+v", name, q, plain(got), want)
				}
			}
		}
	})
}

// damage changes a byte of each index.
func (w *world) damage(t *rapid.T) {
	names, err := w.fs.List("data/journal")
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(t, err)
	for _, name := range names {
		b := readFile(t, w.fs, "data/journal/"+name)
		b[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		f, err := w.fs.Create("data/journal/" + name)
		must(t, err)
		_, err = f.Write(b)
		must(t, errors.Join(err, f.Close()))
	}
}

func readFile(t require, fsys vfs.FS, name string) []byte {
	f, err := fsys.Open(name)
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	must(t, readFull(f, b, 0))
	return b
}

// fill commits n records of ten events each with ids that tell them apart.
func (w *world) fill(n int) {
	w.commit(AppendGeneration(nil, testGeneration(1)))
	for i := range n {
		var jw Writer
		jw.Begin(1, 1)
		jw.Section(&Section{Source: "orders", Partition: "p", First: 1, End: 100, Total: 10})
		for k := range 10 {
			id := fmt.Sprintf("%d/%d", i, k)
			jw.Entry(&Entry{Ordinal: uint64(k), Outcome: Delivered, ID: []byte(id), Routes: []uint32{0}, Identified: true, Hi: 1, Key: 1})
		}
		jw.End()
		w.commit(jw.Bytes)
	}
}

// TestLookUpByIDReadsFewBlocks: that is what indexes are for.
func TestLookUpByIDReadsFewBlocks(t *testing.T) {
	w := newWorld(t)
	defer w.close()
	w.fill(400)
	j := w.journal(w.log)
	must(t, j.Build(context.Background(), false))
	find := func(id string) (n int, s Stats) {
		s, err := j.Find(context.Background(), Query{ID: id}, func(l *Line) error { n++; return nil })
		must(t, err)
		return n, s
	}
	n, s := find("7/3")
	if n != 1 || s.Segments < 40 || s.Indexed != s.Segments-1 || s.Read > 2 {
		t.Errorf("found %d, %+v: want one line out of two blocks at most", n, s)
	}
	if n, s := find("gone"); n != 0 || s.Read > 1 {
		t.Errorf("found %d, %+v: want nothing out of the newest file", n, s)
	}
	// Without the oldest file's record of the generation the names come from a later one.
	if n, _ := find("399/9"); n != 1 {
		t.Error("the newest event is not found")
	}
}

// TestKeepBuildsAndRemoves: indexes appear by themselves and go with their files.
func TestKeepBuildsAndRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.fill(60)
		j := w.journal(w.log)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { j.Keep(ctx); close(done) }()
		time.Sleep(time.Minute) // of the bubble: Keep has had its turn
		synctest.Wait()
		names, err := w.fs.List("data/journal")
		must(t, err)
		if want := len(w.log.Segments()) - 1; len(names) != want || want < 3 {
			t.Fatalf("%d indexes, want %d", len(names), want)
		}
		must(t, w.log.Snapshot(ctx))
		w.fill(30)
		must(t, w.log.Snapshot(ctx))
		w.fill(30)
		must(t, w.log.Snapshot(ctx))
		time.Sleep(time.Minute)
		synctest.Wait()
		names, err = w.fs.List("data/journal")
		must(t, err)
		if want := len(w.log.Segments()) - 1; len(names) != want {
			t.Fatalf("after files were dropped: %d indexes, want %d: %q", len(names), want, names)
		}
		if first := filepath.Base(indexPath("data", w.log.Segments()[0].Number)); names[0] != first {
			t.Errorf("the oldest index is %s, want %s", names[0], first)
		}
		stop()
		<-done
	})
}

// TestFollow gives what is committed after it began, from inside and from outside.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.fill(1)
		j, closeJournal, err := Look(w.fs, "data", nil)
		must(t, err)
		for name, j := range map[string]*Journal{"inside": w.journal(w.log), "outside": j} {
			ctx, stop := context.WithCancel(t.Context())
			var got []string
			done := make(chan error, 1)
			go func() {
				done <- j.Follow(ctx, Query{Source: "orders"}, func(l *Line) error {
					got = append(got, l.ID)
					if len(got) == 20 {
						stop()
					}
					return nil
				})
			}()
			synctest.Wait()
			w.fill(2)
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatalf("%s: %v", name, err)
			}
			if len(got) != 20 || got[0] != "0/0" || got[19] != "1/9" {
				t.Errorf("%s: %q", name, got)
			}
		}
		must(t, closeJournal())
	})
}

// TestNothingIsReadPastWhatIsDurable: a view syncs what it shows; what stands behind a
// torn group is not shown, and damage before a durable group is an alarm.
func TestNothingIsReadPastWhatIsDurable(t *testing.T) {
	w := newWorld(t)
	w.fill(3)
	w.close()
	name := "data/log/" + fmt.Sprintf("%020d.seg", w.log.Segments()[len(w.log.Segments())-1].Number)
	whole := readFile(t, w.fs, name)
	count := func() int {
		j, closeJournal, err := Look(w.fs, "data", nil)
		must(t, err)
		defer func() { must(t, closeJournal()) }()
		list, err := j.All(context.Background(), Query{})
		must(t, err)
		return len(list)
	}
	all := count()
	write := func(b []byte) {
		f, err := w.fs.Create(name)
		must(t, err)
		_, err = f.Write(b)
		must(t, errors.Join(err, f.Close()))
	}
	write(append(slices.Clone(whole), whole[48:100]...))
	if n := count(); n != all {
		t.Errorf("%d lines with a torn group behind them, want %d", n, all)
	}
	bad := slices.Clone(whole)
	bad[48+60] ^= 1 // in the first group's body
	write(bad)
	_, _, err := Look(w.fs, "data", nil)
	var corrupt *segment.CorruptError
	if !errors.As(err, &corrupt) {
		t.Errorf("damage: %v", err)
	}
	if _, _, err := Look(w.fs, "elsewhere", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// TestIndexGolden pins the side file's bytes: a change of it needs a new version.
func TestIndexGolden(t *testing.T) {
	b := newBuilder(0x1122334455667788, segment.Info{Number: 3, First: 100, Length: 1 << 20}, 200)
	names := newNames()
	at := started
	b.group(segment.Group{Segment: 3, First: 100, Offset: 48, Sequence: 9}, at)
	must(t, b.record(101, AppendGeneration(nil, testGeneration(1)), names))
	var jw Writer
	jw.Begin(1, 1)
	jw.Section(&Section{Source: "orders", First: 1, End: 9})
	jw.Entry(&Entry{Ordinal: 1, Outcome: Delivered, ID: []byte("a-1"), Routes: []uint32{0}, Key: hashOf("key-1")})
	jw.End()
	must(t, b.record(102, jw.Bytes, names))
	b.group(segment.Group{Segment: 3, First: 103, Offset: 48 + minBlock, Sequence: 10}, at.Add(time.Minute))
	must(t, b.record(104, AppendRedelivered(nil, 1, "hook", []Redelivery{{Outcome: Dead, Source: "orders", ID: "a-1", Route: "eu", Reason: "poison: x"}}), names))
	x := b.finish()
	got := hex.Dump(x.encode())
	const name = "testdata/index.golden"
	if *update {
		must(t, os.WriteFile(name, []byte(got), 0o644))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if got != string(want) {
		t.Errorf("format changed:\n got %s\nwant %s", got, want)
	}
}

// FuzzIndex: a side file of any bytes gives an error or an answer, and never more
// blocks than it says it has.
func FuzzIndex(f *testing.F) {
	b := newBuilder(1, segment.Info{Number: 1}, 9)
	b.group(segment.Group{Segment: 1}, started)
	b.add(5)
	f.Add(b.finish().encode(), uint64(5))
	f.Add([]byte{}, uint64(0))
	f.Add([]byte(indexMagic), uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, hash uint64) {
		mem := vfs.NewMem()
		file, err := mem.Create("x")
		must(t, err)
		_, err = file.Write(data)
		must(t, err)
		x, err := readIndex(file)
		if err != nil {
			if !errors.Is(err, errIndex) {
				t.Fatalf("%v does not wrap errIndex", err)
			}
			return
		}
		if _, err := x.find(hash); err != nil && !errors.Is(err, errIndex) {
			t.Fatalf("%v does not wrap errIndex", err)
		}
		x.words = nil
		if len(x.blocks) > maxBlocks || !bytes.HasPrefix(data, []byte(indexMagic)) {
			t.Fatal("taken")
		}
	})
}

func TestBadQueries(t *testing.T) {
	for name, q := range map[string]Query{
		"limit": {Limit: -1}, "too many": {Limit: MaxNewest + 1}, "empty": {Since: started, Until: started}, "outcome": {Outcomes: []Outcome{99}},
	} {
		if q.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := ParseOutcome("ded"); err == nil {
		t.Error("ded is an outcome")
	}
	if o, err := ParseOutcome("dead"); err != nil || o != Dead {
		t.Error(o, err)
	}
}
