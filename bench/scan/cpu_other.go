//go:build !linux

package scan

import "time"

// spent is a clock; here of the wall.
func spent() time.Duration { return time.Since(started) }
