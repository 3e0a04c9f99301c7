package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/letters"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

// picky is a transport whose sinks refuse what they are told to, and remember the rest.
type picky struct {
	refuses func(sink string, e *transports.Entry) transports.Class
	arrived []string // sink: id attempt
}

func (*picky) Name() string { return "picky" }
func (*picky) Options() (source, sink []transports.Option) {
	return nil, []transports.Option{}
}

func (*picky) NewSource(transports.Env, transports.Settings) (transports.Source, error) {
	return nil, errors.New("there are none")
}

func (p *picky) NewSink(env transports.Env, _ transports.Settings) (transports.Sink, error) {
	return pickySink{p, env.Name}, nil
}

type pickySink struct {
	of   *picky
	name string
}

func (pickySink) Limits() transports.Limits   { return transports.Limits{KeyedFailure: true} }
func (pickySink) Open(context.Context) error  { return nil }
func (pickySink) Flush(context.Context) error { return nil }
func (pickySink) Close(context.Context) error { return nil }
func (s pickySink) Write(_ context.Context, batch []transports.Entry, results []transports.Result) {
	for i := range batch {
		class := transports.OK
		if s.of.refuses != nil {
			class = s.of.refuses(s.name, &batch[i])
		}
		results[i] = transports.Result{Class: class}
		if class != transports.OK {
			results[i].Err = errors.New("refused")
			continue
		}
		s.of.arrived = append(s.of.arrived, fmt.Sprintf("%s: %s %d", s.name, batch[i].ID, batch[i].Attempt))
	}
}

const redriveYAML = `
version: 1
node: {data: /w/data, lanes: 2}
sources:
  in: {file: {path: in.ndjson}, key: data.k, expire: {after: 1h}}
routes:
  a: {when: {type: [A]}, to: [far, kept]}
sinks:
  far: {picky: {}, retry: {park_after: 1m}}
  kept: {file: {path: kept.ndjson}}
`

// desk is a data folder with what works on it.
type desk struct {
	t     *testing.T
	mem   *vfs.Mem
	picky *picky
	yaml  string
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, mem: vfs.NewMem(), picky: &picky{}, yaml: redriveYAML}
	must(t, d.mem.MkdirAll("/w"))
	return d
}

func (d *desk) write(name string, lines ...string) {
	f, err := d.mem.Append("/w/" + name)
	must(d.t, err)
	_, err = f.Write([]byte(strings.Join(lines, "\n") + "\n"))
	must(d.t, errors.Join(err, f.Sync(), f.Close(), d.mem.SyncDir("/"), d.mem.SyncDir("/w")))
}

func (d *desk) open(on vfs.FS) (*engine.Engine, error) {
	all := []transports.Transport{file.New(), local.New(), memory.New(), d.picky}
	plan, err := config.Load(config.Options{File: "/w/weir.yaml", Data: []byte(d.yaml), Transports: all})
	must(d.t, err)
	return engine.New(engine.Config{Plan: plan, Transports: all, FS: on, Seed: 1, DrainLimit: time.Second})
}

func (d *desk) run() engine.Status {
	d.t.Helper()
	e, err := d.open(d.mem)
	must(d.t, err)
	must(d.t, e.Run(d.t.Context()))
	return e.Status()
}

// do carries out an order on a stopped instance, and waits for what was parked.
func (d *desk) do(o letters.Order) (r letters.Result) {
	d.t.Helper()
	e, err := d.open(d.mem)
	must(d.t, err)
	must(d.t, e.Do(d.t.Context(), func(ctx context.Context) (err error) {
		r, err = e.CarryLetters(ctx, &o)
		time.Sleep(5 * time.Minute) // virtual: parked deliveries end
		return err
	}))
	return r
}

func (d *desk) letters() (list []string) {
	d.t.Helper()
	e, err := d.open(d.mem)
	must(d.t, err)
	must(d.t, e.EachLetter(d.t.Context(), &letters.Filter{}, func(l *letters.Letter) error {
		list = append(list, fmt.Sprintf("%d %s %s attempts=%d", l.Number, l.ID, l.Way(), l.Attempts))
		return nil
	}))
	must(d.t, e.Close())
	return list
}

func (d *desk) same(what string, got, want []string) {
	d.t.Helper()
	if !slices.Equal(got, want) {
		d.t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func cloud(id, kind, key string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":%q,"data":{"k":%q}}`, id, kind, key)
}

// TestRedriveToTheSinkOnly: what a sink refused goes to that sink and no other, in
// order per key, with its attempts counted on; what is refused again comes back.
func TestRedriveToTheSinkOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.write("in.ndjson", cloud("1", "A", "x"), cloud("2", "A", "y"), cloud("3", "A", "x"), cloud("4", "A", "z"))
		d.picky.refuses = func(string, *transports.Entry) transports.Class { return transports.Poison }
		st := d.run()
		if st.DeadLetters["poison"] != 4 {
			t.Fatalf("%v", st.DeadLetters)
		}
		count := d.do(letters.Order{Count: true, Filter: letters.Filter{Sink: "far"}})
		if count.Letters != 4 || count.Done != 0 || count.ByReason["poison"] != 4 || count.ByWay["to sink far"] != 4 {
			t.Errorf("a dry run counts %+v", count)
		}
		d.picky.refuses = func(_ string, e *transports.Entry) transports.Class {
			if strings.HasPrefix(e.ID, "2/") {
				return transports.Poison
			}
			return transports.OK
		}
		if r := d.do(letters.Order{Filter: letters.Filter{Key: "x"}}); r.Done != 2 || r.Kept != 0 {
			t.Errorf("by key: %+v", r)
		}
		d.same("arrived", d.picky.arrived, []string{"far: 1/a 2", "far: 3/a 2"})
		if r := d.do(letters.Order{}); r.Done != 2 {
			t.Errorf("the rest: %+v", r)
		}
		d.same("arrived", d.picky.arrived, []string{"far: 1/a 2", "far: 3/a 2", "far: 4/a 2"})
		left := d.letters()
		if len(left) != 1 || !strings.HasSuffix(left[0], "2/a/far/poison sink attempts=2") {
			t.Errorf("left: %q", left)
		}
		got, err := linesIn(d.mem, "/w/kept.ndjson")
		must(t, err)
		if len(got) != 4 {
			t.Errorf("the other sink holds %d events, want 4", len(got))
		}
		d.do(letters.Order{Drop: true})
		d.same("left", d.letters(), nil)
	})
}

// TestRedriveOfEarlierStages: an event comes in once more as from its source, past
// de-duplication and expiry; what fails again comes back with its attempts added.
func TestRedriveOfEarlierStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		event := func(id string) string {
			return `{"Metadata":{"event_id":"` + id + `","event_type":"A","event_time_iso8601":"2001-01-01T00:00:00Z"},"Data":{"k":"x"}}`
		}
		d.yaml = strings.Replace(redriveYAML, "key: data.k,", "codec: cloudevents, key: data.k,", 1)
		d.write("in.ndjson", event("m1"), event("m2"), "{broken")
		d.run() // another envelope than the configuration says: all are refused
		if n := len(d.letters()); n != 3 {
			t.Fatalf("letters: %q", d.letters())
		}
		d.yaml = strings.Replace(redriveYAML, "key: data.k,", "codec: metadata, missing: {source: /shop}, key: data.k,", 1) // far too old, but a redrive is not held to expiry
		if r := d.do(letters.Order{}); r.Done != 3 || r.ByWay["as from source in"] != 3 {
			t.Errorf("%+v", r)
		}
		slices.Sort(d.picky.arrived)
		d.same("arrived", d.picky.arrived, []string{"far: m1/a 1", "far: m2/a 1"})
		left := d.letters()
		if len(left) != 1 || !strings.HasSuffix(left[0], "/invalid_json source attempts=2") {
			t.Errorf("left: %q", left)
		}
		d.do(letters.Order{})
		if left = d.letters(); len(left) != 1 || !strings.HasSuffix(left[0], "attempts=3") {
			t.Errorf("left: %q", left)
		}
		d.yaml = strings.ReplaceAll(strings.ReplaceAll(d.yaml, "  in:", "  other:"), "in.ndjson", "other.ndjson")
		d.write("other.ndjson")
		if r := d.do(letters.Order{}); r.Done != 0 || r.Kept != 1 || !strings.Contains(r.Why[0].Reason, `source "in" is not in the configuration`) {
			t.Errorf("a source that is gone: %+v", r)
		}
		// The journal tells which letters were redriven.
		var told []string
		l, err := commit.Open(commit.Config{FS: d.mem, Dir: "/w/data"}, nil, func(record []byte, _ time.Duration) error {
			return journal.Read(record, &journal.Visitor{Redelivered: func(_ uint64, sink string, r *journal.Redelivery) error {
				told = append(told, fmt.Sprintf("%s %d %v", sink, r.Ordinal, r.Outcome))
				return nil
			}})
		})
		must(t, err)
		must(t, l.Close(t.Context()))
		d.same("journal", told, []string{"dead_letters/dead 0 redriven", "dead_letters/dead 1 redriven", "dead_letters/dead 2 redriven", "dead_letters/dead 3 redriven"})
	})
}

// TestRedriveForOneRoute: an event that failed at one of its routes comes again for
// that route alone; where that does not take it any more it is a dead letter again.
func TestRedriveForOneRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		// S3 events cannot be written, so the sink's codec refuses every event.
		d.yaml = strings.Replace(redriveYAML, "far: {picky: {},", "far: {picky: {}, codec: eventhub,", 1)
		d.write("in.ndjson", `{"specversion":"1.0","id":"1","source":"/s","type":"A","data_base64":"AAE="}`)
		d.run()
		if got := d.letters(); len(got) != 1 || !strings.HasSuffix(got[0], "1/a/far/encode_failed source attempts=0") {
			t.Fatalf("letters: %q", got)
		}
		gone := strings.Replace(redriveYAML, "type: [A]", "type: [B]", 1)
		d.yaml = gone
		d.do(letters.Order{})
		if got := d.letters(); len(got) != 1 || !strings.HasSuffix(got[0], "1/no_longer_taken source attempts=2") {
			t.Errorf("a route that does not take it: %q", got)
		}
		d.yaml = redriveYAML
		d.do(letters.Order{})
		d.same("arrived", d.picky.arrived, []string{"far: 1/a 1"})
		got, err := linesIn(d.mem, "/w/kept.ndjson")
		must(t, err)
		if len(got) != 1 || len(d.letters()) != 0 {
			t.Errorf("the route's other sink holds %d events, want 1; letters %q", len(got), d.letters())
		}
	})
}

// TestRedriveIsCommittedOnce crashes at every operation of the file system: after the
// next redrive each event is in the local sink exactly once (I1, I5).
func TestRedriveIsCommittedOnce(t *testing.T) {
	d := newDesk(t)
	d.write("in.ndjson", cloud("1", "A", "x"), cloud("2", "A", "y"), cloud("3", "A", "x"))
	d.picky.refuses = func(string, *transports.Entry) transports.Class { return transports.Poison }
	d.run()
	// What was far is a file now, so that effects can be counted exactly; the broken
	// line comes in again, and is a dead letter again.
	d.yaml = strings.Replace(redriveYAML, "picky: {}", "file: {path: far.ndjson}", 1)
	whole, crashes := d.mem, 0
	step := uint64(3)
	if *sweepAll {
		step = 1
	}
	for k := uint64(1); ; k += step {
		d.mem = whole.Crash(*seedFlag)
		faulty := vfs.NewFaults(d.mem, vfs.Fault{At: k})
		redrive := func(on vfs.FS) error {
			e, err := d.open(on)
			if err != nil {
				return err
			}
			return e.Do(t.Context(), func(ctx context.Context) error {
				_, err := e.CarryLetters(ctx, &letters.Order{})
				return err
			})
		}
		err := redrive(faulty)
		if !faulty.Crashed() {
			must(t, err)
			break
		}
		crashes++
		d.mem = d.mem.Crash(*seedFlag + k)
		must(t, redrive(d.mem))
		got, err := linesIn(d.mem, "/w/far.ndjson")
		must(t, err)
		slices.Sort(got)
		if want := []string{cloud("1", "A", "x"), cloud("2", "A", "y"), cloud("3", "A", "x")}; !slices.Equal(got, want) {
			t.Fatalf("a crash at operation %d (-seed %d): far holds\n%s", k, *seedFlag, strings.Join(got, "\n"))
		}
		if left := d.letters(); len(left) != 0 {
			t.Fatalf("a crash at operation %d leaves %q", k, left)
		}
	}
	if crashes < 20 {
		t.Errorf("only %d crashes", crashes)
	}
}

// TestRedriveKeepsToItsRate, and one order is carried out at a time.
func TestRedriveKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		var lines []string
		for i := range 100 {
			lines = append(lines, cloud(fmt.Sprint(i), "A", fmt.Sprint(i)))
		}
		d.write("in.ndjson", lines...)
		d.picky.refuses = func(string, *transports.Entry) transports.Class { return transports.Poison }
		d.run()
		d.picky.refuses = nil
		e, err := d.open(d.mem)
		must(t, err)
		must(t, e.Do(t.Context(), func(ctx context.Context) error {
			begun := time.Now()
			second := make(chan error)
			go func() {
				time.Sleep(time.Second) // virtual
				_, err := e.CarryLetters(ctx, &letters.Order{Drop: true})
				second <- err
			}()
			r, err := e.CarryLetters(ctx, &letters.Order{Rate: 20, Limit: 60})
			if took := time.Since(begun); r.Done != 60 || !r.More || took < 3*time.Second || took > 4*time.Second {
				t.Errorf("%v for %+v", took, r)
			}
			if err := <-second; !errors.Is(err, flow.ErrAtWork) {
				t.Errorf("another order beside it: %v", err)
			}
			return err
		}))
		if n := len(d.letters()); n != 40 {
			t.Errorf("%d letters are left, want 40", n)
		}
	})
}

// TestNoLettersHere: where dead letters are not kept, the commands say where they are.
func TestNoLettersHere(t *testing.T) {
	for setting, want := range map[string]string{
		"false":                       "dead_letters: false",
		"{file: {path: dead.ndjson}}": "dead letters go to file path /w/dead.ndjson, which is no local queue",
		"{local: {topic: dead}}":      "dead letters go to local topic dead, which is no local queue",
	} {
		d := newDesk(t)
		d.yaml = "dead_letters: " + setting + redriveYAML
		e, err := d.open(d.mem)
		must(t, err)
		err = e.EachLetter(t.Context(), &letters.Filter{}, nil)
		var not *letters.NotHere
		if !errors.As(err, &not) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", setting, err)
		}
		must(t, e.Close())
	}
}
