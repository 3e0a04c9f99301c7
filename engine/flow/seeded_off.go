//go:build !seeded

package flow

// The checker of the checker: with the build tag seeded these are variables that a
// test sets, each a bug that the reliability checker must catch. Without it they are
// constants, and the compiler removes what depends on them.
const (
	bugAckBeforeSync = false // sources are told before the record is durable
	bugClaimKept     = false // a failed attempt does not release its claim
	bugLowMarkSlack  = 0     // unsettled events that the low mark may pass
)
