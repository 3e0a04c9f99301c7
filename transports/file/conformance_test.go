package file_test

import (
	"testing"

	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/transporttest"
)

// TestConformance has a source follow the file that a sink writes.
func TestConformance(t *testing.T) {
	transporttest.Run(t, transporttest.Factory{
		Name:      "file",
		Transport: func() transports.Transport { return file.New() },
		Source:    transports.Settings{"path": "events.ndjson", "follow": true},
		Sink:      transports.Settings{"path": "events.ndjson"},
		Lacks:     lacks(),
		Golden:    "../transporttest/testdata/matrix.golden",
	})
}

func lacks() map[transporttest.Power]string {
	lacks := transporttest.Lacking("a file on this machine has no other side", transporttest.Faulting, transporttest.LoggedIn, transporttest.Classed)
	for _, p := range []transporttest.Power{transporttest.Lease, transporttest.Group} {
		lacks[p] = "a file is read by one source, whose positions the engine keeps"
	}
	lacks[transporttest.Moving] = "a file has no partitions; its rotation is tested in this package"
	return lacks
}
