package flow

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/measure"
	"github.com/weir-project/weir/transports"
)

// What is counted here is counted by chunk, record, call or write, never by event.

// sourceMeasures is what a source has done and how long it took.
type sourceMeasures struct {
	bytes       atomic.Uint64 // received
	redelivered atomic.Uint64 // deliveries that came again
	acked       atomic.Uint64 // settlements that the other side took
	nacked      atomic.Uint64
	leaseLost   atomic.Uint64 // settlements of what was not held any more
	failed      atomic.Uint64 // settlements that failed otherwise
	settled     atomic.Int64  // when the last event was durable, in nanoseconds since 1970
	latency     measure.Histogram
	settle      measure.Histogram
}

func newSourceMeasures() *sourceMeasures {
	m := &sourceMeasures{}
	m.latency.Seconds()
	m.settle.Seconds()
	return m
}

// received counts a chunk that came just now.
func (m *sourceMeasures) received(c *chunk) {
	c.at = time.Now()
	m.bytes.Add(uint64(len(c.Data)))
	again := uint64(0)
	for i := range c.deliveries {
		if c.deliveries[i].Attempt > 1 {
			again++
		}
	}
	if again > 0 {
		m.redelivered.Add(again)
	}
}

// durable counts events of a chunk whose record was synced.
func (m *sourceMeasures) durable(came time.Time, events int) {
	now := time.Now()
	m.latency.Observe(now.Sub(came).Seconds(), uint64(events))
	m.settled.Store(now.UnixNano())
}

// told counts settlements and what became of each.
func (m *sourceMeasures) told(began time.Time, list []transports.Settlement, errs []error) {
	m.settle.Since(began, 1)
	for i := range list {
		var err error
		if i < len(errs) {
			err = errs[i]
		}
		switch {
		case errors.Is(err, transports.ErrNotHeld):
			m.leaseLost.Add(1)
		case err != nil:
			m.failed.Add(1)
		case list[i].Nack:
			m.nacked.Add(1)
		default:
			m.acked.Add(1)
		}
	}
}

// pluginMeasures is what a plug-in has done, in all lanes and versions.
type pluginMeasures struct {
	events atomic.Uint64 // asked about
	passed atomic.Uint64 // among them those that it said yes to
	failed atomic.Uint64 // among them those on which it failed
	traps  atomic.Uint64 // calls that failed
	calls  measure.Histogram
}

// measured holds the measures of plug-ins by name, so that they outlive generations.
type measured struct {
	mu sync.Mutex // guards by
	by map[string]*pluginMeasures
}

// plugin returns the measures of a plug-in, made where it is new.
func (m *measured) plugin(name string) *pluginMeasures {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.by[name]
	if p == nil {
		if m.by == nil {
			m.by = map[string]*pluginMeasures{}
		}
		p = &pluginMeasures{}
		p.calls.Seconds()
		m.by[name] = p
	}
	return p
}

// PluginStatus is what a plug-in has done since the start.
type PluginStatus struct {
	Version string
	Digest  string               // of the module, SHA-256 in hex
	Events  uint64               // that it was asked about
	Passed  uint64               // among them those that it said yes to, or chose an output for
	Failed  uint64               // among them those on which it failed
	Traps   uint64               // calls that failed
	Calls   measure.Distribution // seconds
}

// LaneStatus is how far behind a lane is.
type LaneStatus struct {
	Chunks, MaxChunks   int // waiting for the lane
	Records, MaxRecords int // at the commit log
}

func (f *Flow) laneStatus() []LaneStatus {
	list := make([]LaneStatus, len(f.lanes))
	for i, l := range f.lanes {
		list[i] = LaneStatus{Chunks: len(l.work), MaxChunks: cap(l.work), Records: cap(l.free) - len(l.free), MaxRecords: cap(l.free)}
	}
	return list
}

func (f *Flow) pluginStatus() map[string]PluginStatus {
	all := map[string]PluginStatus{}
	g := f.gen.Load()
	for i := range g.plugins {
		p := &g.plugins[i]
		m := f.measured.plugin(p.name)
		all[p.name] = PluginStatus{
			Version: p.loaded.Manifest().Version, Digest: p.loaded.Digest(),
			Events: m.events.Load(), Passed: m.passed.Load(), Failed: m.failed.Load(), Traps: m.traps.Load(), Calls: m.calls.Read(),
		}
	}
	return all
}

// status fills in what a source's settlements and times are.
func (m *sourceMeasures) status(st *SourceStatus) {
	st.Bytes, st.Redelivered = m.bytes.Load(), m.redelivered.Load()
	st.Acked, st.Nacked, st.LeaseLost, st.Unsettled = m.acked.Load(), m.nacked.Load(), m.leaseLost.Load(), m.failed.Load()
	st.Latency, st.Settle = m.latency.Read(), m.settle.Read()
	if at := m.settled.Load(); at != 0 {
		st.LastDurable = time.Unix(0, at)
	}
}

// measuresOf is what a source or sink says of its other side.
func measuresOf(end any) *transports.Measures {
	m, ok := end.(transports.Measured)
	if !ok {
		return nil
	}
	got := m.Measures()
	return &got
}
