// Package transporttest is the conformance kit: the cases that every transport
// passes, whoever wrote it. A transport runs it in a test of its own:
//
//	func TestConformance(t *testing.T) {
//		transporttest.Run(t, transporttest.Factory{
//			Name:      "mine",
//			Transport: func() transports.Transport { return mine.New() },
//			Source:    transports.Settings{"queue": "orders"},
//			Sink:      transports.Settings{"queue": "orders"},
//			Carries:   transporttest.Carries{Keys: true, Headers: true, Binary: true, Empty: true},
//			Lacks:     transporttest.Lacking("all is in this process", transporttest.Crash, transporttest.Kill),
//		})
//	}
//
// Each case is a subtest. What a transport cannot do it says in Carries and
// Lacks, or its source says it in its Capabilities: a case that needs it is
// printed as NOT APPLICABLE with the reason. A power that the factory neither
// offers nor gives up makes its case fail: nothing is left out in silence.
//
// The kit uses sources and sinks as the engine does: it keeps the positions
// and the marks that the engine would keep, settles in order, never has two
// entries of a key under way at once unless the sink keeps their order, sends
// again what failed for now, and calls Staged where a sink has it.
//
// Randomised cases print their seed; WEIR_SEED repeats one. WEIR_SOAK is how
// long case 17 runs, such as 10m, instead of 2s. WEIR_PATIENCE is how long a case
// waits for what must come, 1m by default; a shorter one tells sooner what is broken,
// where the machine has nothing else to do.
package transporttest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
)

// Factory says how to make a source and a sink on the same place.
type Factory struct {
	// Name is the transport's row in the matrix.
	Name string
	// Transport makes the transport, as a process that starts would. It may be
	// called several times in one test: after a crash nothing of the former one is used.
	Transport func() transports.Transport
	// Source and Sink are settings for the two ends; options that are missing get
	// their defaults. Options with Path are relative to a fresh folder.
	Source, Sink transports.Settings
	// Place, where set, makes a fresh place (a topic, a port) for a case and is
	// used instead of Source and Sink. name is unique to the place; where the
	// factory has Kill, another process calls it with the same name and must get
	// the same place. It may call Absent.
	Place func(t *testing.T, transport transports.Transport, name string) Place
	// Carries says what reaches the source of what an entry has.
	Carries Carries
	// Lacks gives the reason for every power that is missing.
	Lacks map[Power]string
	// PlainWrite drives the sink through Write even where it is Staged.
	PlainWrite bool
	// Answered says that Write returns when the other end has settled what was
	// sent, as an HTTP request that is answered after the commit. What is given
	// back or lost is then sent again by the sink, as another delivery: ids and
	// attempts are not the source's to keep.
	Answered bool
	// Slow says that an event takes the sink milliseconds: case 1 sends a tenth of its
	// 10,000 events, case 12 fewer and larger ones.
	Slow bool
	// AckWindow is how long after Settle an ack may still be lost by a crash.
	AckWindow time.Duration
	// Classes is the transport's table of what a foreign error means; see Class.
	Classes []Class
	// Golden, where set, is the file that holds the matrix; ClassesGolden the one
	// that holds the classes. They are compared, and written with -update (where
	// the test defines it) or WEIR_UPDATE=1.
	Golden, ClassesGolden string
}

// Place is where a source and a sink meet, and what a test may do to it.
type Place struct {
	Source, Sink transports.Settings
	// Lease, where not 0, is how long a delivery to a source made with LeaseSource
	// is held before it is given to another.
	Lease       time.Duration
	LeaseSource transports.Settings
	// Refuse makes the other side refuse those entries of coming writes that
	// match, for now (Retry, Throttled) or for good (Poison); nil ends it.
	Refuse func(match func(data []byte) bool)
	// Network, where set, lets the kit put a fault proxy between the ends and the other side.
	Network *Network
	// Faults are the other side's own ways to fail, such as its end by kill -9.
	Faults []Fault
	// Move does what operators do to a place in use: adds partitions, moves a topic.
	Move func() error
	// Logins are ways to be let in, or not.
	Logins []Login
}

// Network is how the ends reach the other side.
type Network struct {
	Target string // host:port of the other side
	// Via returns the settings of ends that reach it at another address.
	Via  func(address string) (source, sink transports.Settings)
	HTTP bool // requests can be answered by the proxy: 5xx, 429
}

// Fault is a way in which the other side fails for a while.
type Fault struct {
	Name       string
	Begin, End func() error
}

// Login is one combination of credentials or TLS settings. What does not let in
// must say so as Fatal, and soon.
type Login struct {
	Name         string
	Source, Sink transports.Settings // nil = the place's
	Works        bool
}

// Class is a row of a transport's classification: what an error of the other
// side, as a person would name it, makes of an entry.
type Class struct {
	Cause string
	Class transports.Class
}

// Carries says what reaches the source of what an entry has besides text.
type Carries struct{ Keys, Headers, Binary, Empty bool }

// Power is what a factory may lack.
type Power string

// Powers that cases need.
const (
	Crash    Power = "crash"    // what was durable is there after the loss of everything else
	Kill     Power = "kill"     // the same across kill -9 of the process
	Lease    Power = "lease"    // deliveries are held for a time: Place.Lease
	Group    Power = "group"    // several sources share a place
	Moving   Power = "moving"   // the place changes under way: Place.Move
	Refusal  Power = "refusal"  // single entries are refused: Place.Refuse, or Limits.EntryBytes
	Faulting Power = "faulting" // the other side fails: Place.Network or Place.Faults
	LoggedIn Power = "login"    // there is a door: Place.Logins
	Classed  Power = "classes"  // foreign errors are sorted: Factory.Classes
)

var powers = []Power{Crash, Kill, Lease, Group, Moving, Refusal, Faulting, LoggedIn, Classed}

// Lacking is a value for Lacks: one reason for several powers.
func Lacking(reason string, list ...Power) map[Power]string {
	lacks := map[Power]string{}
	for _, p := range list {
		lacks[p] = reason
	}
	return lacks
}

// conformanceCase is one of the numbered cases.
type conformanceCase struct {
	name string
	run  func(t *testing.T, f Factory)
}

var cases = []conformanceCase{
	{"01-set-and-order", setAndOrder},
	{killCase, killAtRandom},
	{"03-nack-with-delay", nackWithDelay},
	{"04-ack-then-crash", ackThenCrash},
	{"05-late-double-and-failed-ack", oddAcks},
	{"06-leases", leases},
	{"07-consumers-join-and-leave", joinAndLeave},
	{"08-moving-under-load", movingUnderLoad},
	{"09-poison", poison},
	{"10-partial-failure", partialFailure},
	{"11-faults", faults},
	{"12-stopped-consumer", stoppedConsumer},
	{"13-close-under-load", closeUnderLoad},
	{"14-idle", idle},
	{"15-logins", logins},
	{"16-every-event-is-accounted-for", accounted},
	{"17-soak", soak},
	{"18-classes", classes},
}

// Run runs all cases, each as a subtest of its own. Where f.Golden is set, what
// became of each is compared with the lines of that file that begin with the
// factory's name.
func Run(t *testing.T, f Factory) {
	t.Helper()
	if childRole() != "" {
		t.Run(killCase, func(t *testing.T) { killChild(t, f) })
		return
	}
	must(t, errPatience)
	must(t, f.Validate())
	row := map[string]string{}
	for _, c := range cases {
		became := "" // stays so where -test.run leaves the case out
		ok := t.Run(c.name, func(t *testing.T) {
			became = "pass"
			defer func() {
				if t.Skipped() {
					became = skipped(t)
				}
			}()
			c.run(t, f)
		})
		if !ok {
			became = "FAIL"
		}
		if became != "" {
			row[c.name] = became
		}
	}
	if f.Golden != "" && len(row) == len(cases) {
		compareRow(t, f, row)
	}
}

// Validate says what the factory lacks to be run.
func (f Factory) Validate() error {
	var errs []error
	if f.Name == "" || f.Transport == nil {
		errs = append(errs, errors.New("it needs Name and Transport"))
	}
	if f.Place == nil && (f.Source == nil || f.Sink == nil) {
		errs = append(errs, errors.New("it needs Source and Sink, or Place"))
	}
	for _, p := range slices.Sorted(maps.Keys(f.Lacks)) {
		if !slices.Contains(powers, p) || f.Lacks[p] == "" {
			errs = append(errs, fmt.Errorf("the entry Lacks[%q] = %q needs a power (%q) and a reason", p, f.Lacks[p], powers))
		}
	}
	if len(f.Classes) > 0 && f.ClassesGolden == "" {
		errs = append(errs, errors.New("with Classes it needs ClassesGolden"))
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("transporttest: factory %q: %w", f.Name, errors.Join(errs...))
}

// may ends the case as not applicable where the factory lacks a power that
// needs nothing of it but to be there.
func (f Factory) may(t *testing.T, p Power) {
	t.Helper()
	_, lacks := f.Lacks[p]
	f.needs(t, p, !lacks)
}

// needs ends the case as not applicable where the factory lacks a power, and
// as failed where it neither offers it nor says why not.
func (f Factory) needs(t *testing.T, p Power, offered bool) {
	t.Helper()
	reason, lacks := f.Lacks[p]
	switch {
	case lacks && offered:
		t.Fatalf("the factory offers what its Lacks[%q] says it lacks: %s", p, reason)
	case lacks:
		notApplicable(t, "lacks %s: %s", p, reason)
	case !offered:
		t.Fatalf("the factory offers nothing for %s, and Lacks[%q] gives no reason", p, p)
	}
}
