//go:build !wasip1

package weir

// Outside a host, as in a plug-in's own tests, these do nothing: there is no
// log, the event has no more fields than its slots, and its time is 1970.

// Log writes a line to the engine's log: level 0 debug, 1 info, 2 warn, 3 error.
func Log(int, string) {}

// Reason says why the event got its answer; `weir explain` shows it.
func (e *Event) Reason(string) {}

// Fail says why the plug-in fails on the event; answer Failed then.
func (e *Event) Fail(string) {}

// Now is the event's time in nanoseconds since 1970.
func (e *Event) Now() int64 { return 0 }

// Field appends the JSON text of a field that the manifest does not name to
// buf; ok is false if the event does not have it.
func (e *Event) Field(_ string, buf []byte) (raw []byte, ok bool) { return buf, false }
