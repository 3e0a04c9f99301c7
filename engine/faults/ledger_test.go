package faults_test

import (
	"strings"
	"testing"

	"github.com/weir-project/weir/engine/faults"
)

// TestLedgerFindsWhatIsWrong: the checker sees each sort of fault, and nothing
// where nothing is wrong.
func TestLedgerFindsWhatIsWrong(t *testing.T) {
	l := faults.NewLedger(1)
	a0, a1, b0 := l.Issue("a", "T", "out"), l.Issue("a", "T", "out"), l.Issue("b", "T", "out", "copy")
	l.Issue("c", "T", "out") // never confirmed
	l.Oblige(a0, a1, b0)
	at := func(sink string, events ...faults.Event) (list []faults.Delivered) {
		for _, e := range events {
			list = append(list, faults.Delivered{Sink: sink, Data: e.Data})
		}
		return list
	}
	whole := append(at("out", a0, b0, a1), at("copy", b0)...)
	broken := b0
	broken.Data = []byte(strings.Replace(string(b0.Data), `"seq":0`, `"seq":1`, 1))
	for _, c := range []struct {
		name  string
		found faults.Found
		want  string // "" = nothing is wrong
	}{
		{"whole", faults.Found{Delivered: whole}, ""},
		{"lost", faults.Found{Delivered: whole[:2]}, "2 lost (I1): a-000001 at out; b-000002 at copy"},
		{"dead", faults.Found{Delivered: whole[:2], Dead: []faults.Dead{{ID: a1.ID}, {ID: b0.ID, Sink: "copy"}}}, ""},
		{"dead elsewhere", faults.Found{Delivered: whole[:3], Dead: []faults.Dead{{ID: b0.ID, Sink: "out"}}}, "1 lost (I1)"},
		{"dropped", faults.Found{Delivered: whole[:3], Dropped: []faults.Dropped{{ID: b0.ID, Rule: "expired"}}}, ""},
		{"a copy dropped", faults.Found{Delivered: whole[:3], Dropped: []faults.Dropped{{ID: b0.ID, Rule: "duplicate"}}}, "1 lost (I1)"},
		{"never issued", faults.Found{Delivered: append(at("out", faults.Event{Data: []byte(`{"id":"x"}`)}), whole...)}, "1 invented (I2)"},
		{"other bytes", faults.Found{Delivered: append(at("out", broken), whole...)}, "1 invented (I2)"},
		{"wrong sink", faults.Found{Delivered: append(at("copy", a0), whole...)}, "1 invented (I2)"},
		{"doubled", faults.Found{Delivered: append(whole, at("out", b0)...)}, "1 doubled (I5)"},
		{"disordered", faults.Found{Delivered: append(at("out", a1, a0, b0), at("copy", b0)...)}, "1 disordered (I7)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := l.Check(c.found).Err()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("found %v where nothing is wrong", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("found %v, want %q", err, c.want)
			}
		})
	}
	if err := l.Check(faults.Found{Delivered: append(whole, at("out", b0)...)}, "out").Err(); err != nil {
		t.Errorf("a repeat at a sink that may repeat: %v", err)
	}
}
