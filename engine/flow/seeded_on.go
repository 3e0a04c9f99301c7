//go:build seeded

package flow

import (
	"os"
	"slices"
	"strings"
)

// See seeded_off.go. WEIR_SEEDED names the bugs to plant, separated by commas.
var (
	bugAckBeforeSync = seeded("ack-before-sync")
	bugClaimKept     = seeded("claim-kept")
	bugLowMarkSlack  = map[bool]int{true: 1}[seeded("low-mark")]
)

func seeded(bug string) bool {
	return slices.Contains(strings.Split(os.Getenv("WEIR_SEEDED"), ","), bug)
}
