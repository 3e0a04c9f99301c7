package wasm_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/plugins/plugintest"
	"github.com/weir-project/weir/plugins/wasm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConformance holds the host against the contract and every hostile guest
// (I11, I12, I15).
func TestConformance(t *testing.T) {
	plugintest.Run(t, wasm.New(wasm.Config{}), plugintest.Guests())
}
