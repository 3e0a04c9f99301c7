//go:build !linux

package dedup

func settlePages[T entry | uint32]([]T) {}
