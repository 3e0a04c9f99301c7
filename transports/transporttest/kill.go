package transporttest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

const (
	killCase   = "02-kill"
	childEnv   = "WEIR_TRANSPORTTEST_CHILD"
	childLine  = "@weir "
	kills      = 20
	killKeys   = 7
	killBatch  = 5               // entries a send
	killTake   = 8               // events a receive
	killWithin = 150             // ms from the child's first line to its end
	killLimit  = 2 * time.Minute // of a child that is never killed
)

func childRole() string { return os.Getenv(childEnv) }

// kept is what the engine's commit log would hold: a child writes it to its
// parent at each commit, and the next child begins from it.
type kept struct {
	Dir     string
	Place   string
	Seed    uint64
	Mark    transports.Mark
	Resume  map[string]transports.Position
	Settled map[string]uint64
	Sent    int // events before it are accepted
}

// report is one line of a child.
type report struct {
	Kept  kept
	Got   []gotEvent
	Acked []int
}

type gotEvent struct {
	N  int
	ID string
}

// killEvent is event n, the same in whichever process makes it.
func killEvent(f Factory, n int) transports.Entry {
	m := newMaker(f, uint64(n))
	key := fmt.Sprint("k", n%killKeys)
	m.n, m.seq[key] = n, n/killKeys
	return m.next(key, n%300)
}

// killAtRandom is case 2: a process that sends and receives is killed at
// random points; what was accepted comes, repeats are only what was under way,
// ids are stable and first deliveries in order (I1, I2, I3, I7).
func killAtRandom(t *testing.T, f Factory) {
	f.may(t, Kill)
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	state := kept{Dir: t.TempDir(), Place: placeName(), Resume: map[string]transports.Position{}, Settled: map[string]uint64{}}
	j := killJudge{staged: stagedSink(t, f, state), first: map[int]string{}, acked: map[int]bool{}, last: map[string]int{}}
	for i := range kills {
		state.Seed = rng.Uint64()
		reports := runChild(t, state, time.Duration(rng.IntN(killWithin))*time.Millisecond)
		for _, rep := range reports {
			must(t, j.judge(rep))
			if rep.Kept.Dir != "" {
				state = rep.Kept
			}
		}
		if len(reports) == 0 {
			t.Logf("kill %d came before anything happened", i)
		}
	}
	drainKilled(t, f, state, &j)
	if state.Sent < kills {
		t.Errorf("only %d events were accepted in %d runs", state.Sent, kills)
	}
	if most := kills * (killBatch + killTake); j.repeats > most {
		t.Errorf("%d repeats, more than the %d that can have been under way", j.repeats, most)
	}
	t.Logf("%d events, %d kills, %d repeats", state.Sent, kills, j.repeats)
}

// runChild runs this test binary as a child and kills it some time after its
// first line. It returns what the child said.
func runChild(t *testing.T, state kept, after time.Duration) []report {
	t.Helper()
	raw, err := json.Marshal(&state)
	must(t, err)
	name, _, _ := strings.Cut(t.Name(), "/"+killCase)
	cmd := exec.Command(os.Args[0], "-test.run="+pattern(name)+"/^"+killCase+"$", "-test.timeout="+killLimit.String())
	cmd.Env = append(os.Environ(), childEnv+"="+string(raw))
	var errText bytes.Buffer
	cmd.Stderr = &errText
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var reports []report
	var other strings.Builder
	var timer *time.Timer
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		text, ours := strings.CutPrefix(line, childLine)
		if ours && err == nil {
			var rep report
			must(t, json.Unmarshal([]byte(text), &rep))
			reports = append(reports, rep)
		} else {
			other.WriteString(line)
		}
		if timer == nil && ours {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it may have ended by itself
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
	}
	if timer != nil {
		timer.Stop()
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() >= 0 {
		t.Fatalf("the child was not killed: %v\n%s%s", err, other.String(), errText.String())
	}
	return reports
}

// pattern makes the -test.run pattern of exactly one test.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// killChild sends and receives until it is killed.
func killChild(t *testing.T, f Factory) {
	var state kept
	must(t, json.Unmarshal([]byte(childRole()), &state))
	r := killRig(t, f, state)
	must(t, r.open())
	rng := rand.New(rand.NewPCG(state.Seed, 4))
	say := func(rep report) {
		if rep.Kept.Dir != "" {
			rep.Kept.Seed, rep.Kept.Mark, rep.Kept.Resume, rep.Kept.Settled = state.Seed, r.mark, r.resume, r.settled
		}
		raw, err := json.Marshal(&rep)
		must(t, err)
		_, err = os.Stdout.Write(append(append([]byte(childLine), raw...), '\n'))
		must(t, err)
	}
	for sent := state.Sent; ; {
		var batch []transports.Entry
		for range 1 + rng.IntN(killBatch) {
			batch = append(batch, killEvent(f, sent+len(batch)))
		}
		next := sent + len(batch)
		staged := r.staged() != nil
		r.commit = func() { say(report{Kept: kept{Dir: state.Dir, Place: state.Place, Sent: next}}) }
		must(t, r.send(batch...))
		if !staged {
			r.commit()
		}
		sent = next
		got, err := r.receive(killTake, 20*time.Millisecond)
		must(t, err)
		rep := report{Kept: kept{Dir: state.Dir, Place: state.Place, Sent: sent}}
		numbers := make([]int, len(got))
		for i, it := range got {
			n, err := parse(it.Data)
			must(t, err)
			numbers[i] = n.N
			rep.Got = append(rep.Got, gotEvent{n.N, it.ID})
		}
		say(rep)
		ack := report{Kept: kept{Dir: state.Dir, Place: state.Place, Sent: sent}, Acked: numbers}
		r.commit = func() { say(ack) }
		must(t, r.ack(got...))
		if r.caps.Positions == transports.KeptByBroker {
			say(ack)
		}
	}
}

// stagedSink says whether the factory's sink takes part in the commit.
func stagedSink(t *testing.T, f Factory, state kept) bool {
	t.Helper()
	r := killRig(t, f, state)
	must(t, r.openSink())
	defer func() { must(t, r.closeSink()) }()
	return r.staged() != nil
}

func killRig(t *testing.T, f Factory, state kept) *rig {
	t.Helper()
	r := newRig(t, f, vfs.OS{}, state.Dir, state.Place)
	r.mark = state.Mark
	if state.Resume != nil {
		r.resume = state.Resume
	}
	if state.Settled != nil {
		r.settled = state.Settled
	}
	return r
}

// killJudge checks what children said, in the order in which they said it.
type killJudge struct {
	staged  bool
	first   map[int]string // by event: the id it came with first
	acked   map[int]bool
	last    map[string]int
	repeats int
}

func (j *killJudge) judge(rep report) error {
	for _, g := range rep.Got {
		id, again := j.first[g.N]
		if again {
			j.repeats++
			// An event that was sent again after a kill may stand there twice, but for a
			// sink that takes part in the commit.
			if id != g.ID && j.staged {
				return fmt.Errorf("event %d came as %q and then as %q", g.N, id, g.ID)
			}
			if j.acked[g.N] && id == g.ID {
				return fmt.Errorf("event %d came after its ack", g.N)
			}
			continue
		}
		j.first[g.N] = g.ID
		key := fmt.Sprint(g.N % killKeys)
		if last, ok := j.last[key]; ok && g.N < last {
			return fmt.Errorf("I7: event %d came first after %d, which is later and of its key", g.N, last)
		}
		j.last[key] = g.N
	}
	for _, n := range rep.Acked {
		j.acked[n] = true
	}
	return nil
}

// drainKilled takes what is left and checks that nothing was lost.
func drainKilled(t *testing.T, f Factory, state kept, j *killJudge) {
	t.Helper()
	r := killRig(t, f, state)
	must(t, r.open())
	for {
		got, err := r.receive(100, quiet)
		must(t, err)
		if len(got) == 0 {
			break
		}
		var rep report
		for _, it := range got {
			n, err := parse(it.Data)
			must(t, err)
			if want := killEvent(f, n.N); !bytes.Equal(want.Data, it.Data) {
				t.Fatalf("I2: event %d came as %.80q, and %.80q was sent", n.N, it.Data, want.Data)
			}
			rep.Got = append(rep.Got, gotEvent{n.N, it.ID})
		}
		must(t, j.judge(rep))
		must(t, r.ack(got...))
	}
	must(t, r.close())
	for n := range state.Sent {
		if _, ok := j.first[n]; !ok {
			t.Errorf("I1: event %d of %d was accepted and never came", n, state.Sent)
		}
	}
}
