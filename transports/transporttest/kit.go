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
//		})
//	}
//
// What a transport cannot do it says in Carries and Lacks, or its source says
// it in its Capabilities: such a case is skipped and the skip names what is
// missing. The kit uses sources and sinks as the engine does: it keeps the
// positions and the marks that the engine would keep, settles in order, and
// calls Staged where a sink has it.
package transporttest

import (
	"fmt"
	"maps"
	"slices"
	"testing"

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
	// Carries says what reaches the source of what an entry has.
	Carries Carries
	// Lacks gives the reason for every power that is missing.
	Lacks map[Power]string
	// PlainWrite drives the sink through Write even where it is Staged.
	PlainWrite bool
	// Golden, where set, is the file that holds the matrix; see Run.
	Golden string
}

// Carries says what reaches the source of what an entry has besides text.
type Carries struct{ Keys, Headers, Binary, Empty bool }

// Power is what a factory may lack.
type Power string

// Powers that cases need.
const (
	Crash Power = "crash" // what was durable is there after the loss of everything else
	Kill  Power = "kill"  // the same across kill -9 of the process
)

// conformanceCase is one of the numbered cases.
type conformanceCase struct {
	name string
	run  func(t *testing.T, f Factory)
}

var cases = []conformanceCase{
	{"01-set-and-order", setAndOrder},
	{"02-kill", killAtRandom},
	{"03-nack-with-delay", nackWithDelay},
	{"04-ack-then-crash", ackThenCrash},
	{"05-late-double-and-failed-ack", oddAcks},
	{"10-partial-failure", partialFailure},
	{"13-close-under-load", closeUnderLoad},
	{"16-every-event-is-accounted-for", accounted},
}

// Run runs all cases, each as a subtest of its own. Where f.Golden is set, what
// became of each is compared with the lines of that file that begin with the
// factory's name; with -update (where the test defines it) or WEIR_UPDATE=1 they
// are written instead.
func Run(t *testing.T, f Factory) {
	t.Helper()
	if childRole() != "" {
		t.Run(killCase, func(t *testing.T) { killChild(t, f) })
		return
	}
	if err := f.validate(); err != nil {
		t.Fatal(err)
	}
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

func (f Factory) validate() error {
	if f.Name == "" || f.Transport == nil || f.Source == nil || f.Sink == nil {
		return fmt.Errorf("transporttest: Factory %q needs Name, Transport, Source and Sink", f.Name)
	}
	for _, power := range slices.Sorted(maps.Keys(f.Lacks)) {
		if (power != Crash && power != Kill) || f.Lacks[power] == "" {
			return fmt.Errorf("transporttest: Factory %s: Lacks[%q] = %q needs a known power and a reason", f.Name, power, f.Lacks[power])
		}
	}
	return nil
}

// needs skips the test where the factory lacks a power.
func (f Factory) needs(t *testing.T, p Power) {
	t.Helper()
	if reason, ok := f.Lacks[p]; ok {
		skip(t, "lacks %s: %s", p, reason)
	}
}
