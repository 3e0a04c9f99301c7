package transporttest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
	"github.com/weir-project/weir/transports/transporttest"
)

const (
	faultEnv = "WEIR_TRANSPORTTEST_FAULT"
	// shortPatience is enough to wait for what a broken transport never brings. Sound
	// ones are given the kit's own.
	shortPatience = "4s"
)

// faults are transports with one bug each, and the case that must find it.
var faults = []struct{ kind, name, caught string }{
	{"memory", "none", ""},
	{"memory", "drops an entry", "01-set-and-order"},
	{"memory", "repeats an entry", "01-set-and-order"},
	{"memory", "swaps two of a key", "01-set-and-order"},
	{"memory", "changes a byte", "01-set-and-order"},
	{"memory", "loses headers", "01-set-and-order"},
	{"memory", "loses keys", "01-set-and-order"},
	{"memory", "gives more than it was asked for", "01-set-and-order"},
	{"memory", "settles with fewer errors than settlements", "01-set-and-order"},
	{"memory", "leaves results unset", "01-set-and-order"},
	{"memory", "forgets the delay", "03-nack-with-delay"},
	{"memory", "loses the nacked", "03-nack-with-delay"},
	{"memory", "counts no attempts", "03-nack-with-delay"},
	{"memory", "takes every settlement", "05-late-double-and-failed-ack"},
	{"memory", "extends nothing", "06-leases"},
	{"memory", "takes every settlement", "06-leases"},
	{"memory", "gives a key to two", "07-consumers-join-and-leave"},
	{"memory", "loses what a closed source held", "09-poison"},
	{"memory", "shifts results by one", "10-partial-failure"},
	{"memory", "takes all there is into memory", "12-stopped-consumer"},
	{"memory", "goes on after Close", "13-close-under-load"},
	{"memory", "leaks a goroutine", "13-close-under-load"},
	{"memory", "does not wait", "14-idle"},
	{"memory", "loses what a closed source held", "16-every-event-is-accounted-for"},
	{"memory", "loses an ack", "16-every-event-is-accounted-for"},
	{"memory", "loses acks in Close", "16-every-event-is-accounted-for"},
	{"memory", "drops an entry", "17-soak"},
	{"memory", "offers what it lacks", "06-leases"},
	{"memory", "says nothing of what it lacks", "15-logins"},
	{"local", "none", "04-ack-then-crash"},
	{"local", "says durable before it is", "04-ack-then-crash"},
	{"web", "none", ""},
	{"web", "does not come back", "08-moving-under-load"},
	{"web", "hangs in a black hole", "11-faults"},
	{"web", "gives up after an error", "11-faults"},
	{"web", "takes silence for consent", "11-faults"},
	{"web", "reconnects without a pause", "11-faults"},
	{"web", "a wrong token is tried again", "15-logins"},
	{"web", "sorts an error otherwise", "18-classes"},
}

// TestEveryFaultIsFound runs the kit against each of them in a process of its
// own, since the kit fails the test it runs in.
func TestEveryFaultIsFound(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.kind+"/"+fault.name+"/"+fault.caught, func(t *testing.T) {
			t.Parallel()
			only, sound := "^TestFaulty$", fault.name == "none"
			if fault.caught != "" {
				only += "/^" + fault.caught + "$"
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run="+only, "-test.v")
			cmd.Env = append(os.Environ(), faultEnv+"="+fault.kind+"/"+fault.name)
			if !sound {
				cmd.Env = append(cmd.Env, "WEIR_PATIENCE="+shortPatience)
			}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			switch {
			case sound && err != nil:
				t.Errorf("a sound transport fails: %v\n%s", err, out)
			case !sound && !errors.As(err, &exit):
				t.Errorf("not found (%v):\n%s", err, out)
			case !sound && !strings.Contains(string(out), "--- FAIL: TestFaulty/"+fault.caught):
				t.Errorf("found by another case:\n%s", out)
			}
		})
	}
}

func TestFaulty(t *testing.T) {
	kind, bug, ok := strings.Cut(os.Getenv(faultEnv), "/")
	if !ok {
		return // only as a child of TestEveryFaultIsFound
	}
	switch kind {
	case "memory":
		transporttest.Run(t, memoryFactory(bug))
	case "local":
		transporttest.Run(t, transporttest.Factory{
			Name:      "faulty",
			Transport: func() transports.Transport { return &hasty{local.New(), bug != "none"} },
			Source:    transports.Settings{"queue": "q", "share": true},
			Sink:      transports.Settings{"queue": "q"},
		})
	case "web":
		transporttest.Run(t, webFactory(bug))
	}
}

func memoryFactory(bug string) transporttest.Factory {
	lacks := transporttest.Lacking("all is in this process", transporttest.Crash, transporttest.Kill, transporttest.Moving,
		transporttest.Faulting, transporttest.LoggedIn, transporttest.Classed)
	switch bug {
	case "offers what it lacks":
		lacks[transporttest.Lease] = "it says"
	case "says nothing of what it lacks":
		delete(lacks, transporttest.LoggedIn)
	}
	return transporttest.Factory{
		Name:      "faulty",
		Transport: func() transports.Transport { return &faulty{Transport: memory.New(), fault: bug} },
		Place: func(_ *testing.T, transport transports.Transport, _ string) transporttest.Place {
			const lease = 200 * time.Millisecond
			queue := transport.(*faulty).Queue("q")
			return transporttest.Place{
				Source: transports.Settings{"queue": "q"}, Sink: transports.Settings{"queue": "q"},
				Lease: lease, LeaseSource: transports.Settings{"queue": "q", "lease": lease},
				Refuse: func(match func([]byte) bool) {
					queue.OnWrite(func(e transports.Entry) transports.Result {
						if match != nil && match(e.Data) {
							return transports.Result{Class: transports.Retry, Err: errors.New("refused by the test")}
						}
						return transports.Result{}
					})
				},
			}
		},
		Carries: transporttest.Carries{Keys: true, Headers: true, Binary: true, Empty: true},
		Lacks:   lacks,
	}
}

// hasty is the local transport on files whose Sync does nothing.
type hasty struct {
	*local.Transport
	on bool
}

func (h *hasty) env(env transports.Env) transports.Env {
	if h.on {
		env.FS = lazyFS{env.FS}
	}
	return env
}

func (h *hasty) NewSource(env transports.Env, s transports.Settings) (transports.Source, error) {
	return h.Transport.NewSource(h.env(env), s)
}

func (h *hasty) NewSink(env transports.Env, s transports.Settings) (transports.Sink, error) {
	return h.Transport.NewSink(h.env(env), s)
}

type lazyFS struct{ vfs.FS }

func (l lazyFS) Create(name string) (vfs.File, error) {
	f, err := l.FS.Create(name)
	return lazyFile{f}, err
}

func (l lazyFS) Append(name string) (vfs.File, error) {
	f, err := l.FS.Append(name)
	return lazyFile{f}, err
}

func (l lazyFS) Overwrite(name string, at int64) (vfs.File, error) {
	f, err := l.FS.Overwrite(name, at)
	return lazyFile{f}, err
}

type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error { return nil }

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
		one := batch[i : i+1 : i+1]
		if s.fault == "gives a key to two" {
			hidden := batch[i]
			hidden.Headers = append(slices.Clone(hidden.Headers), transports.Header{Name: "key", Value: string(hidden.Key)})
			hidden.Key = nil
			one = []transports.Entry{hidden}
		}
		if s.count%60 == 0 {
			switch s.fault {
			case "drops an entry":
				results[i] = transports.Result{}
				continue
			case "repeats an entry":
				s.Sink.Write(ctx, one, results[i:i+1])
			case "leaves results unset":
				continue
			}
		}
		s.Sink.Write(ctx, one, results[i:i+1])
	}
	switch s.fault {
	case "goes on after Close":
		clear(results)
	case "shifts results by one":
		results[0], results[len(results)-1] = results[len(results)-1], results[0]
	}
}

type faultySource struct {
	transports.Source
	fault string
	held  map[string]bool
	acks  []transports.Settlement
	count int
	ahead []transports.Delivery
}

func (s *faultySource) Open(ctx context.Context, resume map[string]transports.Position, l transports.Listener) error {
	if err := s.Source.Open(ctx, resume, l); err != nil {
		return err
	}
	switch s.fault {
	case "leaks a goroutine":
		go func() { <-make(chan struct{}) }()
	case "takes all there is into memory":
		var err error
		s.ahead, err = s.Source.Receive(ctx, 100_000, 0)
		return err
	}
	return nil
}

func (s *faultySource) Extend(ctx context.Context, ids []string) []error {
	if s.fault == "extends nothing" {
		return nil
	}
	return s.Source.(transports.Extender).Extend(ctx, ids)
}

func (s *faultySource) Receive(ctx context.Context, max int, wait time.Duration) ([]transports.Delivery, error) {
	switch {
	case s.fault == "gives more than it was asked for":
		max++
	case s.fault == "does not wait":
		wait = 0
	case len(s.ahead) > 0:
		n := min(max, len(s.ahead))
		got := s.ahead[:n]
		s.ahead = s.ahead[n:]
		return got, nil
	}
	got, err := s.Source.Receive(ctx, max, wait)
	for i := range got {
		s.held[got[i].ID] = true
		s.change(&got[i])
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

func (s *faultySource) change(d *transports.Delivery) {
	switch s.fault {
	case "changes a byte":
		if len(d.Data) > 300 {
			d.Data = append([]byte(nil), d.Data...)
			d.Data[len(d.Data)-3] ^= 1
		}
	case "loses headers":
		d.Headers = nil
	case "loses keys":
		d.Key = nil
	case "counts no attempts":
		d.Attempt = 1
	case "gives a key to two":
		if last := len(d.Headers) - 1; last >= 0 && d.Headers[last].Name == "key" {
			d.Key, d.Headers = []byte(d.Headers[last].Value), d.Headers[:last]
			if last == 0 {
				d.Headers = nil
			}
		}
	}
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
	s.count += len(list)
	switch {
	case s.fault == "loses an ack" && s.count%5 == 0:
		return nil
	case s.fault == "loses acks in Close":
		list, s.acks = s.acks, append([]transports.Settlement(nil), list...) // one call late
	}
	errs := s.Source.Settle(ctx, list)
	switch s.fault {
	case "takes every settlement", "loses acks in Close":
		return nil
	case "settles with fewer errors than settlements":
		return errs[:len(errs)/2]
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
