package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// hostFunction is one import that guests may have. Arguments and results stand
// on the stack, as wazero hands them over.
type hostFunction struct {
	typ  signature
	call func(in *instance, mem api.Memory, stack []uint64)
}

const (
	maxPath  = 1 << 10 // bytes of a field path
	maxPaths = 256     // paths that an instance remembers
)

// weirFunctions are the imports that need no capability.
var weirFunctions = map[string]hostFunction{
	"log":    {signature{i32 + i32 + i32 + i32, ""}, guestLog},
	"fail":   {signature{i32 + i32 + i32 + i32, ""}, guestFail},
	"reason": {signature{i32 + i32 + i32, ""}, guestReason},
	"field":  {signature{i32 + i32 + i32 + i32 + i32, i32}, guestField},
	"now":    {signature{i32, i64}, guestNow},
}

// fault is what a guest did wrong in a call of the host; it ends the guest's
// call as a trap does.
type fault struct{ error }

func faultf(format string, args ...any) { panic(fault{fmt.Errorf(format, args...)}) }

// instantiateHostModules puts weir1 and WASI into a runtime.
func instantiateHostModules(ctx context.Context, r wazero.Runtime) error {
	for name, functions := range map[string]map[string]hostFunction{moduleWeir: weirFunctions, moduleWASI: wasiFunctions} {
		b := r.NewHostModuleBuilder(name)
		for export, f := range functions {
			call := f.call
			enter := func(ctx context.Context, mod api.Module, stack []uint64) {
				call(ctx.(*callContext).in, mod.Memory(), stack)
			}
			b = b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(enter),
				[]api.ValueType(f.typ.params), []api.ValueType(f.typ.results)).Export(export)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("host module %s: %w", name, err)
		}
	}
	return nil
}

// view gives a guest's bytes, valid until the guest runs again.
func view(mem api.Memory, what string, ptr, n uint64) []byte {
	if mem == nil {
		faultf("%s: the guest has no memory", what)
	}
	b, ok := mem.Read(uint32(ptr), uint32(n))
	if !ok {
		faultf("%s: %d bytes at %d are outside the guest's memory", what, uint32(n), uint32(ptr))
	}
	return b
}

// event checks an event index of a guest: -1 outside a batch's events.
func (in *instance) event(what string, v uint64) int {
	e := int(int32(v))
	if e < -1 || e >= in.count {
		faultf("%s: event %d of a batch of %d", what, e, in.count)
	}
	return e
}

func guestLog(in *instance, mem api.Memory, s []uint64) {
	e := in.event("log", s[0])
	level := slog.LevelInfo
	switch s[1] & 0xffffffff {
	case 0:
		level = slog.LevelDebug
	case 1:
	case 2:
		level = slog.LevelWarn
	case 3:
		level = slog.LevelError
	default:
		faultf("log: level %d, want 0 to 3", uint32(s[1]))
	}
	in.log.line(level, e, view(mem, "log", s[2], s[3]))
}

func guestFail(in *instance, mem api.Memory, s []uint64) {
	e := in.event("fail", s[0])
	if class := uint32(s[1]); class > 1 {
		faultf("fail: class %d, want 0 (permanent) or 1 (transient)", class)
	}
	text := view(mem, "fail", s[2], s[3])
	if e < 0 {
		in.failText = append(in.failText[:0], text[:min(len(text), MaxReason)]...)
		return
	}
	in.reasons.set(e, text)
}

func guestReason(in *instance, mem api.Memory, s []uint64) {
	if e := in.event("reason", s[0]); e >= 0 {
		in.reasons.set(e, view(mem, "reason", s[1], s[2]))
	}
}

var errNoSource = errors.New("field: the batch has no source to ask, only its slots")

func guestField(in *instance, mem api.Memory, s []uint64) {
	e := in.event("field", s[0])
	if uint32(s[2]) > maxPath {
		faultf("field: a path of %d bytes, at most %d", uint32(s[2]), maxPath)
	}
	path := view(mem, "field", s[1], s[2])
	out := view(mem, "field", s[3], s[4])
	if e < 0 {
		s[0] = uint64(0xffffffff)
		return
	}
	if in.source == nil {
		panic(fault{errNoSource})
	}
	raw, ok := in.source.Field(e, in.path(path))
	switch {
	case !ok:
		s[0] = uint64(0xffffffff)
	case len(raw) > len(out):
		s[0] = uint64(uint32(len(raw)))
	default:
		s[0] = uint64(uint32(copy(out, raw)))
	}
}

// path gives a field path as a string of the host's own, without allocating
// for paths that were asked before.
func (in *instance) path(b []byte) string {
	if s, ok := in.paths[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(in.paths) < maxPaths {
		if in.paths == nil {
			in.paths = map[string]string{}
		}
		in.paths[s] = s
	}
	return s
}

func guestNow(in *instance, _ api.Memory, s []uint64) {
	s[0] = uint64(in.now(in.event("now", s[0])))
}

// stillTime is the time where there is no event to take it from: 2020-01-01.
const stillTime = 1_577_836_800_000_000_000

func (in *instance) now(event int) int64 {
	if event < 0 || in.source == nil {
		return stillTime
	}
	return in.source.Time(event)
}
