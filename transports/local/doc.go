// Package local is the transport of durable queues and topics that live in the
// node's own data folder, without any server. A queue gives each entry to one
// of the sources that read it; a topic gives every entry to each of its
// consumers.
//
// Promise: an entry that was accepted (Write answered OK, Send returned nil,
// Publish was called) is there after a crash and is given to its consumers until
// they settle it; entries are read in the order in which they were accepted; an
// entry of a key never comes before an unsettled earlier one of that key. A
// staged sink is exactly-once across crashes: readers go on to the published
// mark only.
//
// # Folders
//
//	<data>/queues/<name>/           a queue; <data>/topics/<name>/ a topic
//	    segments/                   the entries, an engine/segment log
//	    published.a published.b     the mark up to which readers go
//	    consumers/<name>.a .b       one consumer's position; a queue's only consumer is "queue"
//
// # Entry
//
// What stands in one entry of the segment log (which adds length and CRC).
// Integers of fixed size are little-endian, uv is an unsigned varint.
//
//	+--------------+-----------+--------+----+--------+-------+- - - - - - -+- - - - - - - - - -+------+
//	| 0x10 + flags | published | uv len | id | uv len | route | uv len, key | uv count, headers | data |
//	| 1 B          | int64     |        |    |        |       | flag 1      | flag 2            | rest |
//	+--------------+-----------+--------+----+--------+-------+- - - - - - -+- - - - - - - - - -+------+
//
// The first byte holds the version (1) in its upper half and flags in its lower:
// 1 = a key follows (it may be empty), 2 = headers follow. A header is
// uv len, name, uv len, value. published is the wall clock at acceptance, in
// nanoseconds since 1970.
//
// # Note files
//
// Positions and published marks are kept in a pair of files that take turns.
// Each is a run of records, with what is left of an earlier turn behind it. Of the
// two files that one counts whose first record has the higher sequence; its last
// record that is whole ends it, later ones win:
//
//	+-------+--------+----------+------+
//	| crc   | length | sequence | body |
//	| u32   | u32    | u64      |      |    crc = CRC-32C over all that follows it
//	+-------+--------+----------+------+
//
//	bodies   'm' staged u8, file u64, length i64, entries u64   a published mark; staged = 1 where only
//	                                         an engine's commit, or this note, says how far readers go
//	         's' uv low, runs, tries                 a consumer's whole state: begins each file of the pair
//	         'r' runs                                these entries were settled
//	         't' tries                               these entries were nacked
//	runs     uv count, then for each: uv gap since the end of the one before, uv length
//	tries    uv count, then for each: uv entry, uv attempts so far
//
// A file that holds more than 256 KiB is synced and the other one begins anew: it is
// written over from its beginning. What stands behind its last record is older, which
// its sequence tells: records of a file have consecutive ones.
package local
