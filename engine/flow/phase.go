package flow

// Phase is how far a flow has come in its life.
type Phase uint32

// The phases, in their order.
const (
	Recovered Phase = iota // Run was not called yet
	Opening                // sources are being opened
	Running                // events are taken
	Draining               // no more events are taken; those in flight are settled
	Stopped                // Run has ended
)

var phaseNames = [...]string{"recovered", "opening", "running", "draining", "stopped"}

// String returns the phase as /status names it.
func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return "phase?"
}

// enter goes on to a phase, never back.
func (f *Flow) enter(p Phase) {
	for {
		now := f.phase.Load()
		if now >= uint32(p) || f.phase.CompareAndSwap(now, uint32(p)) {
			return
		}
	}
}
