// Package scenarios_test runs whole engines in virtual time, each on a disk in memory,
// and compares what came of the events with what the scenario says must come.
//
// A scenario is a txtar file, testdata/NAME.txtar: a comment, then sections that begin
// with a line `-- name --`:
//
//	weir.yaml          the configuration, weir.yaml.NAME others; its folder is /w, its data folder must be /w/data
//	NAME               a file in /w; NAME.fake is a plug-in of the fake host, see plugin_test.go
//	script             what happens, one step a line; see below
//	want/SINK          the bytes that a sink holds at the end, an event a line
//	want/SINK.log      every entry of every write to a remote sink, with its result
//	want/dead          dead letters, shortened
//	want/journal       what became of every event, in the order of the records
//	want/journal.tail  its last five lines
//	want/holds         what the steps "holds" saw
//	want/reloads       what the steps "reload" and "rollback" answered
//	want/status        counters of the last run
//	want/error         the error of the last run
//
// Sections of the script may be asked to be compared without order. Steps are:
//
//	put QUEUE [key=K] EVENT      put an event into a queue of the memory transport
//	end QUEUE                    no more will be put: its source ends
//	answer SINK EVENT CLASS...   what a remote sink says to the writes of an event (by its id, * = any),
//	                             one class an attempt, the last one for ever; slow:D takes so long first
//	start                        start the engine
//	wait D                       let virtual time pass
//	finish                       wait until the engine ends by itself
//	stop                         ask it to stop and wait
//	crash                        cut the power; the next start finds what was durable
//	append FILE EVENT            append a line to a file
//	take QUEUE                   take the oldest event out of a queue
//	holds QUEUE                  note what a queue of the memory transport has not been acked for
//	file FILE SECTION            replace a file, or a plug-in, by what a section holds
//	reload [SECTION]             put the configuration of a section to work
//	config SECTION               what the next start or reload reads
//	rollback                     go back to the one before
//	unordered SECTION            compare a want section without regard to order
//
// Lines of the script that begin with # are remarks. -update writes the want sections anew.
package scenarios_test
