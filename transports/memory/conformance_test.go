package memory_test

import (
	"errors"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
	"github.com/weir-project/weir/transports/transporttest"
)

func TestConformance(t *testing.T) {
	const why = "all is in this process"
	transporttest.Run(t, transporttest.Factory{
		Name:      "memory",
		Transport: func() transports.Transport { return memory.New() },
		Place:     place,
		Carries:   transporttest.Carries{Keys: true, Headers: true, Binary: true, Empty: true},
		Lacks: transporttest.Lacking(why, transporttest.Crash, transporttest.Kill, transporttest.Moving,
			transporttest.Faulting, transporttest.LoggedIn, transporttest.Classed),
		Golden: "../transporttest/testdata/matrix.golden",
	})
}

func place(_ *testing.T, transport transports.Transport, _ string) transporttest.Place {
	const lease = 300 * time.Millisecond
	queue := transport.(*memory.Transport).Queue("orders")
	return transporttest.Place{
		Source: transports.Settings{"queue": "orders"}, Sink: transports.Settings{"queue": "orders"},
		Lease: lease, LeaseSource: transports.Settings{"queue": "orders", "lease": lease},
		Refuse: func(match func([]byte) bool) {
			if match == nil {
				queue.OnWrite(nil)
				return
			}
			queue.OnWrite(func(e transports.Entry) transports.Result {
				if match(e.Data) {
					return transports.Result{Class: transports.Retry, Err: errors.New("refused by the test")}
				}
				return transports.Result{}
			})
		},
	}
}
