package memory_test

import (
	"testing"

	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
	"github.com/weir-project/weir/transports/transporttest"
)

func TestConformance(t *testing.T) {
	transporttest.Run(t, transporttest.Factory{
		Name:      "memory",
		Transport: func() transports.Transport { return memory.New() },
		Source:    transports.Settings{"queue": "orders"},
		Sink:      transports.Settings{"queue": "orders"},
		Carries:   transporttest.Carries{Keys: true, Headers: true, Binary: true, Empty: true},
		Lacks: map[transporttest.Power]string{
			transporttest.Crash: "memory keeps nothing",
			transporttest.Kill:  "memory keeps nothing",
		},
		Golden: "../transporttest/testdata/matrix.golden",
	})
}
