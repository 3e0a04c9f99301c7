// Package dedup decides whether an event has been seen before.
//
// A Table belongs to one source of the configuration. It holds the committed
// window, the identities whose effects are durable, and the claims, the identities
// of events in flight.
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
//     commit, and at least Config.MaxIDs identities are kept, those claimed last.
//     Where the count bound takes one away before its time, Evicted says so. Claims in flight
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
// choose a stripe, which has one lock. It has a ring of 32-byte entries in the order
// of their claims, in blocks of 1,024, and an index of 32-bit slots:
//
//	slot   tag (low bits of the mix, never 0) | position in the ring      0 = empty
//	entry  Hi u64 | Lo u64 | Data u64 | at i32, ticks after the block's origin | Version u32
//
// A claim appends its entry, marked as in flight, at its final place, and a commit
// writes the time over the mark: it looks nothing up. A claim that is released leaves
// a freed entry behind. Claims for which the ring is not the place stand in a hash
// table of their own: updates, whose identity has a committed entry already; those
// that the tail of the ring comes to; and all beyond one entry without a commit for
// each 16 of Config.MaxIDs, so that such entries never crowd out the window.
//
// The tag makes a miss touch the index only: a new identity costs about one
// cache miss, which overlaps with those of its batch, and one append. A slot whose
// position lies outside the ring's live range is dead: so expiry drops whole blocks
// at the ring's tail without touching the index, and dead slots are used again by
// later claims. The index is cut into units of a few hundred slots in which the tag
// alone says where a probe begins: so a stripe's index grows in one pass over its
// slots, without a look at the entries (4 ms at 300,000 ids a stripe). Neither
// entries nor slots hold pointers, so the garbage collector never reads them.
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
