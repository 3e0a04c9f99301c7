//go:build wasip1

package weir

import "unsafe"

const minor = 0 // of ABI 1

//go:wasmimport weir1 log
func hostLog(event, level int32, ptr unsafe.Pointer, n uint32)

//go:wasmimport weir1 fail
func hostFail(event, class int32, ptr unsafe.Pointer, n uint32)

//go:wasmimport weir1 reason
func hostReason(event int32, ptr unsafe.Pointer, n uint32)

//go:wasmimport weir1 field
func hostField(event int32, path unsafe.Pointer, n uint32, out unsafe.Pointer, cap uint32) int32

//go:wasmimport weir1 now
func hostNow(event int32) int64

// Buffers of the host, as words so that they are 8-aligned.
var (
	buffers [2][]uint64
	batch   Batch
	event   Event
)

func bytesOf(words []uint64, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), n)
}

//go:wasmexport weir_abi_1
func abi() int32 { return minor }

//go:wasmexport weir_buf
func buffer(kind, least int32) unsafe.Pointer {
	b := &buffers[kind&1]
	if words := (int(uint32(least)) + 7) / 8; words > len(*b) || len(*b) == 0 {
		*b = make([]uint64, max(words, len(*b)*3/2, 8<<10))
	}
	return unsafe.Pointer(unsafe.SliceData(*b))
}

//go:wasmexport weir_init
func initialise(n int32) int32 {
	if opener == nil {
		return refuse("the plug-in called neither weir.Filter nor weir.Switch in an init function")
	}
	config := Config{append([]byte(nil), bytesOf(buffers[0], int(n))...)}
	if err := opener(config); err != nil {
		return refuse(err.Error())
	}
	if yes == nil && choose == nil {
		return refuse("the plug-in gave no filter")
	}
	return 0
}

//go:wasmexport weir_filter
func filter(n int32) int32 {
	var ok bool
	batch, ok = ReadBatch(bytesOf(buffers[0], int(uint32(n))))
	if !ok {
		return refuse("the in buffer holds no batch")
	}
	out := unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(buffers[1]))), batch.Len())
	batch.answer(&event, out)
	return 0
}

func refuse(text string) int32 {
	hostFail(-1, 0, unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
	return 1
}

// Log writes a line to the engine's log: level 0 debug, 1 info, 2 warn, 3 error.
func Log(level int, text string) {
	hostLog(-1, int32(level), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

// Reason says why the event got its answer; `weir explain` shows it.
func (e *Event) Reason(text string) {
	hostReason(int32(e.index), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

// Fail says why the plug-in fails on the event; answer Failed then.
func (e *Event) Fail(text string) {
	hostFail(int32(e.index), 0, unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

// Now is the event's time in nanoseconds since 1970.
func (e *Event) Now() int64 { return hostNow(int32(e.index)) }

// Field appends the JSON text of a field that the manifest does not name to
// buf; ok is false if the event does not have it.
func (e *Event) Field(path string, buf []byte) (raw []byte, ok bool) {
	for {
		room := buf[len(buf):cap(buf)]
		n := hostField(int32(e.index), unsafe.Pointer(unsafe.StringData(path)), uint32(len(path)),
			unsafe.Pointer(unsafe.SliceData(room)), uint32(len(room)))
		if n < 0 {
			return buf, false
		}
		if int(n) <= len(room) {
			return buf[:len(buf)+int(n)], true
		}
		buf = append(make([]byte, 0, len(buf)+int(n)), buf...)
	}
}
