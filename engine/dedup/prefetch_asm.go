//go:build amd64 || arm64

package dedup

// prefetch begins to bring the line at p into the cache and does not wait. It
// reads nothing that a program could see, so it needs no lock.
//
//go:noescape
func prefetch(p *uint32)
