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
		Golden:    "../transporttest/testdata/matrix.golden",
	})
}
