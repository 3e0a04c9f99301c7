// Package engine is Weir as a library: it reads a configuration, opens what it
// names and runs the data path.
//
//	eng, err := engine.New(engine.Config{
//		File:       "weir.yaml",
//		Transports: []transports.Transport{file.New(), local.New()},
//		Plugins:    []plugins.Host{wasm.New(wasm.Config{})},
//	})
//	...
//	err = eng.Run(ctx)
//
// A program lists the transports and plug-in hosts that it wants; nothing
// registers itself, so a program that lists no broker links no broker's client.
//
// # The map
//
// An event passes these stages, in this order; each has its package or file:
//
//	receive    flow/intake.go     sources are asked for chunks while the in-flight limits leave room
//	decode     flow/scan.go       one scan validates the JSON and projects the wanted fields (field, event)
//	validate   flow/read.go       envelope, attributes, limits; what fails is dead-lettered with its reason
//	stamp      flow/read.go       an id where the producer gave none
//	match      flow/read.go       routes' patterns (pattern), still in parallel over chunks
//	           ---- from here on events of one key are in order: hash(key) picks a lane ----
//	expire     flow/flow.go
//	claim      flow/flow.go       one effect per identity (dedup)
//	filter     flow/flow.go       plug-ins say yes or no (plugins)
//	transform  flow/transform.go  templates change the event for a route, and emit events (template, derive)
//	deliver    flow/flow.go       local sinks take part in the commit; others through dispatch
//	settle     flow/lane.go       all deliveries arrived, were parked or dead-lettered
//	commit     flow/ticket.go     one record a batch, groups of records in one fsync (commit, segment)
//	ack        flow/source.go     only now positions move and sources are told
//	re-enter   flow/derive.go     emitted events, in the record of their cause, come back as a source of their own
//
// Beside the path:
//
//	reload     flow/reload.go     another generation is put to work while events flow; retire.go ends the one before
//	redrive    flow/redrive.go    dead letters go on their way again (letters)
//	poison     flow/poison.go     what a lane runs is noted, so that an event that kills the process is found (poison)
//	upkeep     flow/upkeep.go     journal and dead letters are kept within bounds, sources wait before the disk is full
//	tell       flow/tap.go, tracing.go, export.go, examine.go: a live view, spans, the journal in sinks, explanations
//
// # Promises
//
// What a source was acked for was delivered, dead-lettered or dropped by a named
// rule (I1), and is durable (I3). After a failed write or sync nothing is acked any
// more and Run returns (I4). A start after a crash goes on where the commit log
// ends: local sinks hold each event once, others may see a repeat of what was in
// flight, with the same id (I5). Events of one key reach a sink in order (I7).
package engine
