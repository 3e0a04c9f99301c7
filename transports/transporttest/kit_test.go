package transporttest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
	"github.com/weir-project/weir/transports/transporttest"
)

const faultEnv = "WEIR_TRANSPORTTEST_FAULT"

// faults are transports with one bug each, and the case that must find it.
var faults = []struct{ name, caught string }{
	{"none", ""},
	{"drops an entry", "01-set-and-order"},
	{"repeats an entry", "01-set-and-order"},
	{"swaps two of a key", "01-set-and-order"},
	{"changes a byte", "01-set-and-order"},
	{"loses headers", "01-set-and-order"},
	{"loses keys", "01-set-and-order"},
	{"forgets the delay", "03-nack-with-delay"},
	{"loses the nacked", "03-nack-with-delay"},
	{"takes every settlement", "05-late-double-and-failed-ack"},
	{"goes on after Close", "13-close-under-load"},
	{"loses what a closed source held", "16-every-event-is-accounted-for"},
}

// TestEveryFaultIsFound runs the kit against each of them in a process of its
// own, since the kit fails the test it runs in.
func TestEveryFaultIsFound(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			only := "^TestFaulty$"
			if fault.caught != "" {
				only += "/^" + fault.caught + "$"
			}
			cmd := exec.Command(os.Args[0], "-test.run="+only, "-test.v")
			cmd.Env = append(os.Environ(), faultEnv+"="+fault.name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			switch {
			case fault.caught == "" && err != nil:
				t.Errorf("a sound transport fails: %v\n%s", err, out)
			case fault.caught != "" && !errors.As(err, &exit):
				t.Errorf("not found (%v):\n%s", err, out)
			case fault.caught != "" && !strings.Contains(string(out), "--- FAIL: TestFaulty/"+fault.caught):
				t.Errorf("found by another case:\n%s", out)
			}
		})
	}
}

func TestFaulty(t *testing.T) {
	fault := os.Getenv(faultEnv)
	if fault == "" {
		return // only as a child of TestEveryFaultIsFound
	}
	transporttest.Run(t, transporttest.Factory{
		Name:      "faulty",
		Transport: func() transports.Transport { return &faulty{Transport: memory.New(), fault: fault} },
		Source:    transports.Settings{"queue": "q"},
		Sink:      transports.Settings{"queue": "q"},
		Carries:   transporttest.Carries{Keys: true, Headers: true, Binary: true, Empty: true},
		Lacks: transporttest.Lacking("all is in this process", transporttest.Crash, transporttest.Kill, transporttest.Lease, transporttest.Moving,
			transporttest.Refusal, transporttest.Faulting, transporttest.LoggedIn, transporttest.Classed),
	})
}

type faulty struct {
	*memory.Transport
	fault string
}

func (f *faulty) NewSource(env transports.Env, s transports.Settings) (transports.Source, error) {
	source, err := f.Transport.NewSource(env, s)
	return &faultySource{Source: source, fault: f.fault, held: map[string]bool{}}, err
}

func (f *faulty) NewSink(env transports.Env, s transports.Settings) (transports.Sink, error) {
	sink, err := f.Transport.NewSink(env, s)
	return &faultySink{Sink: sink, fault: f.fault}, err
}

type faultySink struct {
	transports.Sink
	fault string
	count int
}

func (s *faultySink) Write(ctx context.Context, batch []transports.Entry, results []transports.Result) {
	for i := range batch {
		s.count++
		one := batch[i : i+1]
		if s.count%60 == 0 {
			switch s.fault {
			case "drops an entry":
				results[i] = transports.Result{}
				continue
			case "repeats an entry":
				s.Sink.Write(ctx, one, results[i:i+1])
			}
		}
		s.Sink.Write(ctx, one, results[i:i+1])
	}
	if s.fault == "goes on after Close" {
		clear(results)
	}
}

type faultySource struct {
	transports.Source
	fault string
	held  map[string]bool
}

func (s *faultySource) Receive(ctx context.Context, max int, wait time.Duration) ([]transports.Delivery, error) {
	got, err := s.Source.Receive(ctx, max, wait)
	for i := range got {
		s.held[got[i].ID] = true
		switch s.fault {
		case "changes a byte":
			if len(got[i].Data) > 300 {
				got[i].Data = append([]byte(nil), got[i].Data...)
				got[i].Data[len(got[i].Data)-3] ^= 1
			}
		case "loses headers":
			got[i].Headers = nil
		case "loses keys":
			got[i].Key = nil
		}
	}
	if s.fault == "swaps two of a key" {
		for i := range got {
			for j := i + 1; j < len(got); j++ {
				if string(got[i].Key) == string(got[j].Key) {
					got[i], got[j] = got[j], got[i]
					return got, err
				}
			}
		}
	}
	return got, err
}

func (s *faultySource) Settle(ctx context.Context, list []transports.Settlement) []error {
	for i := range list {
		delete(s.held, list[i].ID)
		switch {
		case s.fault == "forgets the delay":
			list[i].Delay = 0
		case s.fault == "loses the nacked":
			list[i].Nack = false
		}
	}
	errs := s.Source.Settle(ctx, list)
	if s.fault == "takes every settlement" {
		return nil
	}
	return errs
}

func (s *faultySource) Close(ctx context.Context) error {
	if s.fault == "loses what a closed source held" {
		for id := range s.held {
			if err := errors.Join(s.Source.Settle(ctx, []transports.Settlement{{ID: id}})...); err != nil && !errors.Is(err, transports.ErrNotHeld) {
				return err
			}
		}
	}
	return s.Source.Close(ctx)
}
