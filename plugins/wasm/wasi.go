package wasm

import (
	"encoding/binary"
	"fmt"
	"log/slog"

	"github.com/tetratelabs/wazero/api"
)

// The part of WASI preview 1 that toolchains need to start: no arguments, no
// environment, no files, no sockets. Time is the event's, random bytes are
// seeded by what the call got, so a replay sees the same; output goes to the
// log. Whatever else a standard library links against is there, and answers
// that the guest has no such right.

const (
	errnoOK         = 0
	errnoBadFile    = 8
	errnoInvalid    = 28
	errnoNotCapable = 76

	maxVectors       = 1 << 10 // of one fd_write
	maxSubscriptions = 1 << 10 // of one poll_oneoff
	maxRandom        = 1 << 20 // bytes of one random_get
	keptOutput       = 2 << 10 // bytes of output kept for the error of a call
)

type exited struct{ code uint32 }

func (e exited) Error() string {
	return fmt.Sprintf("the guest ended itself with proc_exit(%d)", e.code)
}

var wasiFunctions = map[string]hostFunction{
	"args_get":          {signature{i32 + i32, i32}, answer(errnoOK)},
	"args_sizes_get":    {signature{i32 + i32, i32}, wasiNoStrings},
	"environ_get":       {signature{i32 + i32, i32}, answer(errnoOK)},
	"environ_sizes_get": {signature{i32 + i32, i32}, wasiNoStrings},
	"clock_time_get":    {signature{i32 + i64 + i32, i32}, wasiClock},
	"fd_write":          {signature{i32 + i32 + i32 + i32, i32}, wasiWrite},
	"random_get":        {signature{i32 + i32, i32}, wasiRandom},
	"poll_oneoff":       {signature{i32 + i32 + i32 + i32, i32}, wasiPoll},
	"sched_yield":       {signature{"", i32}, answer(errnoOK)},
	"proc_exit":         {signature{i32, ""}, func(_ *instance, _ api.Memory, s []uint64) { panic(exited{uint32(s[0])}) }},
	"fd_close":          {signature{i32, i32}, answer(errnoBadFile)},
	"fd_fdstat_get":     {signature{i32 + i32, i32}, wasiFdstat},
	"fd_prestat_get":    {signature{i32 + i32, i32}, answer(errnoBadFile)},
	"fd_seek":           {signature{i32 + i64 + i32 + i32, i32}, answer(errnoBadFile)},

	// Linked by standard libraries, never granted.
	"clock_res_get":           {signature{i32 + i32, i32}, answer(errnoNotCapable)},
	"fd_advise":               {signature{i32 + i64 + i64 + i32, i32}, answer(errnoNotCapable)},
	"fd_allocate":             {signature{i32 + i64 + i64, i32}, answer(errnoNotCapable)},
	"fd_datasync":             {signature{i32, i32}, answer(errnoNotCapable)},
	"fd_fdstat_set_flags":     {signature{i32 + i32, i32}, answer(errnoNotCapable)},
	"fd_fdstat_set_rights":    {signature{i32 + i64 + i64, i32}, answer(errnoNotCapable)},
	"fd_filestat_get":         {signature{i32 + i32, i32}, answer(errnoNotCapable)},
	"fd_filestat_set_size":    {signature{i32 + i64, i32}, answer(errnoNotCapable)},
	"fd_filestat_set_times":   {signature{i32 + i64 + i64 + i32, i32}, answer(errnoNotCapable)},
	"fd_pread":                {signature{i32 + i32 + i32 + i64 + i32, i32}, answer(errnoNotCapable)},
	"fd_prestat_dir_name":     {signature{i32 + i32 + i32, i32}, answer(errnoBadFile)},
	"fd_pwrite":               {signature{i32 + i32 + i32 + i64 + i32, i32}, answer(errnoNotCapable)},
	"fd_read":                 {signature{i32 + i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"fd_readdir":              {signature{i32 + i32 + i32 + i64 + i32, i32}, answer(errnoNotCapable)},
	"fd_renumber":             {signature{i32 + i32, i32}, answer(errnoNotCapable)},
	"fd_sync":                 {signature{i32, i32}, answer(errnoNotCapable)},
	"fd_tell":                 {signature{i32 + i32, i32}, answer(errnoNotCapable)},
	"path_create_directory":   {signature{i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"path_filestat_get":       {signature{i32 + i32 + i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"path_filestat_set_times": {signature{i32 + i32 + i32 + i32 + i64 + i64 + i32, i32}, answer(errnoNotCapable)},
	"path_link":               {signature{i32 + i32 + i32 + i32 + i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"path_open":               {signature{i32 + i32 + i32 + i32 + i32 + i64 + i64 + i32 + i32, i32}, answer(errnoNotCapable)},
	"path_readlink":           {signature{i32 + i32 + i32 + i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"path_remove_directory":   {signature{i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"path_rename":             {signature{i32 + i32 + i32 + i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"path_symlink":            {signature{i32 + i32 + i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"path_unlink_file":        {signature{i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"sock_accept":             {signature{i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"sock_recv":               {signature{i32 + i32 + i32 + i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"sock_send":               {signature{i32 + i32 + i32 + i32 + i32, i32}, answer(errnoNotCapable)},
	"sock_shutdown":           {signature{i32 + i32, i32}, answer(errnoNotCapable)},
}

func answer(errno uint64) func(*instance, api.Memory, []uint64) {
	return func(_ *instance, _ api.Memory, s []uint64) { s[0] = errno }
}

func wasiNoStrings(_ *instance, mem api.Memory, s []uint64) {
	binary.LittleEndian.PutUint32(view(mem, "args_sizes_get", s[0], 4), 0)
	binary.LittleEndian.PutUint32(view(mem, "args_sizes_get", s[1], 4), 0)
	s[0] = errnoOK
}

// wasiClock gives the first event's time as the wall clock, and a counter that
// moves with each read as every other clock: Go's runtime dies of a clock that
// is 0 or stands still.
func wasiClock(in *instance, mem api.Memory, s []uint64) {
	out := view(mem, "clock_time_get", s[2], 8)
	if uint32(s[0]) == 0 {
		first := 0
		if in.count == 0 {
			first = -1
		}
		binary.LittleEndian.PutUint64(out, uint64(in.now(first)))
	} else {
		in.ticks++
		binary.LittleEndian.PutUint64(out, in.ticks)
	}
	s[0] = errnoOK
}

func wasiWrite(in *instance, mem api.Memory, s []uint64) {
	fd, vectors := uint32(s[0]), s[2]&0xffffffff
	if fd != 1 && fd != 2 {
		s[0] = errnoBadFile
		return
	}
	if vectors > maxVectors {
		s[0] = errnoInvalid
		return
	}
	list := view(mem, "fd_write", s[1], vectors*8)
	total := uint32(0)
	for ; len(list) >= 8; list = list[8:] {
		ptr, n := binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:])
		in.output.write(&in.log, fd, view(mem, "fd_write", uint64(ptr), uint64(n)))
		total += n
	}
	binary.LittleEndian.PutUint32(view(mem, "fd_write", s[3], 4), total)
	s[0] = errnoOK
}

// output gathers what a guest prints into lines.
type output struct {
	line []byte
	tail []byte // the end of what the call printed to stderr
}

func (o *output) write(log *guestLogger, fd uint32, b []byte) {
	if fd == 2 {
		if len(b) >= keptOutput {
			o.tail = append(o.tail[:0], b[len(b)-keptOutput:]...)
		} else {
			if over := len(o.tail) + len(b) - keptOutput; over > 0 {
				o.tail = o.tail[:copy(o.tail, o.tail[over:])]
			}
			o.tail = append(o.tail, b...)
		}
	}
	for _, c := range b {
		if c == '\n' {
			o.flush(log)
		} else if len(o.line) < maxLogLine {
			o.line = append(o.line, c)
		}
	}
}

func (o *output) flush(log *guestLogger) {
	if len(o.line) > 0 {
		log.line(slog.LevelInfo, -1, o.line)
		o.line = o.line[:0]
	}
}

// wasiRandom is SplitMix64 over a seed that the call's input gives.
func wasiRandom(in *instance, mem api.Memory, s []uint64) {
	if uint32(s[1]) > maxRandom {
		s[0] = errnoInvalid
		return
	}
	out := view(mem, "random_get", s[0], s[1])
	if !in.seeded {
		in.seed, in.seeded = in.freshSeed(), true
	}
	var word [8]byte
	for len(out) > 0 {
		in.seed += 0x9e3779b97f4a7c15
		z := in.seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		binary.LittleEndian.PutUint64(word[:], z^z>>31)
		out = out[copy(out, word[:]):]
	}
	s[0] = errnoOK
}

// wasiPoll reports every subscription as due at once, and lets the counter
// jump over a time that the guest wanted to sleep.
func wasiPoll(in *instance, mem api.Memory, s []uint64) {
	n := s[2] & 0xffffffff
	if n == 0 || n > maxSubscriptions {
		s[0] = errnoInvalid
		return
	}
	const subscription, event = 48, 32
	subs := view(mem, "poll_oneoff", s[0], n*subscription)
	out := view(mem, "poll_oneoff", s[1], n*event)
	for i := range int(n) {
		sub, ev := subs[i*subscription:][:subscription], out[i*event:][:event]
		var answer [event]byte
		copy(answer[:8], sub[:8]) // user data
		answer[10] = sub[8]       // what was waited for
		if sub[8] == 0 {
			const relative = 0
			timeout := binary.LittleEndian.Uint64(sub[24:])
			if binary.LittleEndian.Uint16(sub[40:])&1 == relative {
				in.ticks += min(timeout, 1<<40)
			} else if id := binary.LittleEndian.Uint32(sub[16:]); id != 0 {
				in.ticks = max(in.ticks, min(timeout, in.ticks+1<<40))
			}
		} else {
			binary.LittleEndian.PutUint16(answer[8:], errnoBadFile)
		}
		copy(ev, answer[:])
	}
	binary.LittleEndian.PutUint32(view(mem, "poll_oneoff", s[3], 4), uint32(n))
	s[0] = errnoOK
}

// wasiFdstat describes stdout and stderr as character devices to write to.
func wasiFdstat(_ *instance, mem api.Memory, s []uint64) {
	fd := uint32(s[0])
	if fd > 2 {
		s[0] = errnoBadFile
		return
	}
	out := view(mem, "fd_fdstat_get", s[1], 24)
	clear(out)
	out[0] = 2 // character device
	if fd > 0 {
		out[8] = 1 << 6 // the right to write
	}
	s[0] = errnoOK
}
