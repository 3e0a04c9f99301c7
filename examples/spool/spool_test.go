package spool_test

import (
	"testing"

	"github.com/weir-project/weir/examples/spool"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/transporttest"
)

func TestConformance(t *testing.T) {
	transporttest.Run(t, transporttest.Factory{
		Name:      "spool",
		Transport: func() transports.Transport { return spool.New() },
		Source:    transports.Settings{"path": "orders"},
		Sink:      transports.Settings{"path": "orders"},
		Carries:   transporttest.Carries{Keys: true, Headers: true, Binary: true, Empty: true},
		Lacks: transporttest.Lacking("a folder on this machine, read by one source", transporttest.Lease, transporttest.Group,
			transporttest.Moving, transporttest.Faulting, transporttest.LoggedIn, transporttest.Classed),
		Slow:   true, // each event is a file that is synced
		Golden: "testdata/matrix.golden",
	})
}
