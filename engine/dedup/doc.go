// Package dedup decides whether an event has been seen before.
//
// A Table belongs to one source of the configuration. It has two parts: the
// committed window, which holds the identities whose effects are durable, and
// the claims, which hold the identities of events in flight.
//
// Promise:
//
//   - Of all events of one identity at most one holds the claim at any time; the
//     others attach to it and are settled with it (I5).
//   - An identity enters the window only by Commit. An attempt that fails gives
//     its claim to the oldest follower or frees the identity; it never burns it (I6).
//   - A token names one attempt. A completion that comes after its claim was
//     released finishes nothing, least of all its successor's claim.
//   - A committed identity is known for Config.Window of engine time after its
//     commit, and at least Config.MaxIDs identities are kept. Where the count
//     bound takes one away before its time, Evicted says so. Claims in flight
//     never expire.
//
// Engine time is monotonic, is stored in records and stands still while the
// engine is down. It is kept in ticks of 10 ms, rounded up, so that an identity
// is known for the window and at most one tick longer.
//
// Identities are told apart by exact 128-bit fingerprints that the caller
// computes; whoever can make two of them equal can make two identities one.
//
// # How it is built
//
// Fingerprints are mixed with a secret of the table. The top bits of the mix
// choose a stripe, which has one lock. Its committed window is a ring of 32-byte
// entries in commit order, in blocks of 1,024, and an index of 32-bit slots:
//
//	slot   tag (low bits of the mix, never 0) | position in the ring      0 = empty
//	entry  Hi u64 | Lo u64 | Data u64 | at i32, ticks after the block's origin | Version u32
//
// The tag makes a miss touch the index only: a new identity costs about one
// cache miss, which overlaps with those of its batch, and a commit one write to
// that same line and one append. A slot whose position lies outside the ring's
// live range is dead: so expiry drops whole blocks at the ring's tail without
// touching the index, and dead slots are used again by later commits. The index
// is cut into units of a few hundred slots in which the tag alone says where a
// probe begins: so a stripe's index grows in one pass over its slots, without a
// look at the entries (4 ms at 300,000 ids a stripe). Neither entries nor slots
// hold pointers, so the garbage collector never reads them.
//
// A repeated commit of an identity (an update) rewrites its entry in place.
// When its block's time is over, such an entry moves to the head of the ring.
//
// # Snapshot format
//
// A snapshot is a sequence of slices, in any order, each complete by itself.
// Little-endian:
//
//	0   magic  "WDW1"
//	4   u32    count of entries
//	8   i64    origin: engine time in ticks of 10 ms
//	16  count entries of 32 bytes:
//	      0   u64  Hi
//	      8   u64  Lo
//	      16  u64  Data
//	      24  i32  engine time of the commit, in ticks after origin
//	      28  u32  Version
//
// Checksums and framing are those of the file that the slices stand in.
package dedup
