package local_test

import (
	"testing"

	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/transporttest"
)

const matrix = "../transporttest/testdata/matrix.golden"

func factory(name string, source transports.Settings) transporttest.Factory {
	source["queue"] = "orders"
	return transporttest.Factory{
		Name:      name,
		Transport: func() transports.Transport { return local.New() },
		Source:    source,
		Sink:      transports.Settings{"queue": "orders"},
		Carries:   transporttest.Carries{Keys: true, Headers: true, Binary: true, Empty: true},
		Lacks:     lacks(source),
		Golden:    matrix,
	}
}

func lacks(source transports.Settings) map[transporttest.Power]string {
	lacks := transporttest.Lacking("a queue on this machine has no other side", transporttest.Faulting, transporttest.LoggedIn, transporttest.Classed)
	lacks[transporttest.Lease] = "entries are a source's until it closes or its process ends"
	lacks[transporttest.Moving] = "a queue is one partition"
	if !source.Bool("share") {
		lacks[transporttest.Group] = "without share the queue is one source's"
	}
	return lacks
}

// TestConformance reads alone, behind a staged sink, as an engine does.
func TestConformance(t *testing.T) {
	transporttest.Run(t, factory("local", transports.Settings{}))
}

// TestConformanceShared has the queue keep the positions and the sink written plainly.
func TestConformanceShared(t *testing.T) {
	f := factory("local-share", transports.Settings{"share": true})
	f.PlainWrite = true
	transporttest.Run(t, f)
}

// TestConformanceChunks reads runs of entries.
func TestConformanceChunks(t *testing.T) {
	f := factory("local-chunks", transports.Settings{"chunks": true})
	f.Carries.Keys, f.Carries.Headers = false, false
	transporttest.Run(t, f)
}
