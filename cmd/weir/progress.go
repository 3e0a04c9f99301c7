package main

import (
	"fmt"
	"io"
	"time"

	"github.com/weir-project/weir/engine"
)

// How often a run is looked at, and told of.
const (
	lookEvery  = 100 * time.Millisecond
	drawEvery  = 500 * time.Millisecond // at a terminal, in place
	printEvery = 10 * time.Second       // elsewhere, a line each
	idleAfter  = time.Second            // run --once: nothing received and nothing settled for so long
)

// progress writes how far a run has come.
type progress struct {
	w        io.Writer
	terminal bool
}

func (g progress) every() time.Duration {
	if g.terminal {
		return drawEvery
	}
	return printEvery
}

// show writes one state of affairs.
func (g progress) show(events uint64, perSecond float64, inFlight int64) {
	line := fmt.Sprintf("%s events, %s a second, %s in flight", thousands(events), thousands(uint64(perSecond)), thousands(uint64(max(inFlight, 0))))
	if g.terminal {
		fmt.Fprintf(g.w, "\r\x1b[K%s", line)
		return
	}
	fmt.Fprintf(g.w, "weir: %s\n", line)
}

// clear leaves a terminal's line empty for what comes after.
func (g progress) clear() {
	if g.terminal {
		fmt.Fprint(g.w, "\r\x1b[K")
	}
}

// watch looks at a run from time to time.
type watch struct {
	status   func() engine.Status
	progress progress
	idle     func() // called once nothing has happened for a while; nil = never
}

func newWatch(status func() engine.Status, g progress) *watch {
	return &watch{status: status, progress: g}
}

// start begins to look; the function it returns ends that.
func (w *watch) start() (end func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		w.loop(done)
		w.progress.clear()
	}()
	return func() {
		close(done)
		<-ended
	}
}

func (w *watch) loop(done <-chan struct{}) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	shown, moved := time.Now(), time.Now()
	var shownEvents, lastReceived, lastEvents uint64
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		now, st := time.Now(), w.status()
		received, events := totals(st)
		// What is still in flight when this stops is drained, and InFlight counts
		// room that waiting sources hold, so only movement tells.
		if received != lastReceived || events != lastEvents {
			lastReceived, lastEvents, moved = received, events, now
		}
		if w.idle != nil && now.Sub(moved) >= idleAfter {
			w.idle()
		}
		if since := now.Sub(shown); since >= w.progress.every() {
			w.progress.show(events, float64(events-min(shownEvents, events))/since.Seconds(), st.InFlight)
			shown, shownEvents = now, events
		}
	}
}

// totals adds up what all sources received and what was settled of it.
func totals(st engine.Status) (received, settled uint64) {
	for _, s := range st.Sources {
		received += s.Received
		for _, n := range s.Outcomes {
			settled += n
		}
	}
	return received, settled
}
