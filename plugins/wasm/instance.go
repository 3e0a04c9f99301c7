package wasm

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/weir-project/weir/plugins"
)

// Buffers of weir_buf.
const (
	bufIn  = 0
	bufOut = 1
)

// noAnswer stands in the out buffer before a call. No right answer is it: a
// failed event takes no output.
const noAnswer = 0xffffffff

const maxErrorText = 4 << 10 // bytes of a guest's stack or output in an error

// instance is a running module. Every view of its memory is read anew after
// each call, since the memory may have grown or moved.
type instance struct {
	p    *plugin
	mod  api.Module
	mem  api.Memory
	fuel api.MutableGlobal
	ctx  *callContext

	buf, filter, closer api.Function
	stack               [2]uint64

	count    int // events of the running call
	batch    *plugins.Batch
	source   plugins.Source
	reasons  reasons
	failText []byte
	log      guestLogger
	output   output
	paths    map[string]string
	ticks    uint64
	seed     uint64
	seeded   bool
	spent    bool
	closed   bool
}

// callContext carries the instance to the host's functions without a search
// through values. While the module is set up, it answers as setup does.
type callContext struct {
	context.Context
	in    *instance
	setup context.Context
}

// Value answers nil once the instance runs: nothing that wazero looks for on
// each call is set.
func (c *callContext) Value(key any) any {
	if c.setup != nil {
		return c.setup.Value(key)
	}
	return nil
}

// start makes an instance and initialises it.
func (p *plugin) start(ctx context.Context, config json.RawMessage) (*instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	in := &instance{p: p}
	in.log = guestLogger{log: p.log, most: p.host.config.LogLines}
	memory := allocate(uint64(p.limits.memory))
	if memory == nil {
		return nil, p.errorf("start", fmt.Errorf("the system refuses %d bytes of memory", p.limits.memory))
	}
	taken := false
	in.ctx = &callContext{Context: context.Background(), in: in}
	in.ctx.setup = experimental.WithMemoryAllocator(context.Background(),
		experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory {
			taken = true
			return memory
		}))
	mod, err := p.engine.runtime.InstantiateModule(in.ctx, p.compiled,
		wazero.NewModuleConfig().WithName("").WithStartFunctions())
	in.ctx.setup = nil
	if err != nil {
		memory.Free() // nobody else can: there is no module
		return nil, p.errorf("start", in.cause(err))
	}
	if !taken {
		memory.Free()
	}
	in.mod, in.mem = mod, mod.Memory()
	in.fuel = mod.ExportedGlobal(fuelExport).(api.MutableGlobal)
	in.buf = mod.ExportedFunction("weir_buf")
	in.filter = mod.ExportedFunction("weir_filter")
	in.closer = mod.ExportedFunction("weir_close")
	if err := in.init(config); err != nil {
		in.discard(ctx)
		return nil, err
	}
	return in, nil
}

func (in *instance) init(config json.RawMessage) error {
	in.fuel.Set(startFuel)
	for _, name := range []string{startExport, "_initialize"} {
		if f := in.mod.ExportedFunction(name); f != nil {
			if _, err := in.call(f); err != nil {
				return in.p.errorf(name, err)
			}
		}
	}
	if _, err := in.call(in.mod.ExportedFunction("weir_abi_1")); err != nil {
		return in.p.errorf("weir_abi_1", err)
	}
	if len(config) == 0 {
		config = json.RawMessage("{}")
	}
	at, err := in.buffer(bufIn, len(config))
	if err != nil {
		return in.p.errorf("weir_init", err)
	}
	view, _ := in.mem.Read(at, uint32(len(config)))
	copy(view, config)
	in.stack[0] = uint64(len(config))
	status, err := in.call(in.mod.ExportedFunction("weir_init"))
	if err != nil {
		return in.p.errorf("weir_init", err)
	}
	if status != 0 {
		return in.p.errorf("weir_init refuses the configuration", in.said(status))
	}
	return nil
}

// said is the text that the guest gave by fail, else its status.
func (in *instance) said(status uint32) error {
	if len(in.failText) > 0 {
		return errors.New(clip(in.failText, MaxReason))
	}
	return fmt.Errorf("status %d and no text by fail", int32(status))
}

// call runs a function whose argument stands in stack[0].
func (in *instance) call(f api.Function) (uint32, error) {
	if err := f.CallWithStack(in.ctx, in.stack[:]); err != nil {
		return 0, in.cause(err)
	}
	return uint32(in.stack[0]), nil
}

// cause says why a call ended: fuel, an exit, a fault, or a trap with the
// guest's stack and what it printed last.
func (in *instance) cause(err error) error {
	var said fault
	var exit exited
	var cause error
	switch {
	case in.fuel != nil && int64(in.fuel.Get()) < 0:
		return ErrFuel
	case errors.As(err, &exit):
		cause = exit
	case errors.As(err, &said):
		cause = said.error
	default:
		text := err.Error()
		// After a recovered panic, wazero adds the host's own stack.
		text, _, _ = strings.Cut(text, "\n\nGo runtime stack trace:")
		cause = errors.New(clip([]byte(text), maxErrorText))
	}
	if tail := strings.TrimSpace(clip(in.output.tail, keptOutput)); tail != "" {
		cause = fmt.Errorf("%w\nthe guest printed: %s", cause, tail)
	}
	return cause
}

// buffer asks the guest for room and checks what it answers.
func (in *instance) buffer(kind uint64, n int) (uint32, error) {
	in.stack[0], in.stack[1] = kind, uint64(n)
	at, err := in.call(in.buf)
	if err != nil {
		return 0, err
	}
	switch {
	case at == 0:
		return 0, fmt.Errorf("weir_buf(%d, %d): the guest has no room", kind, n)
	case at&7 != 0:
		return 0, fmt.Errorf("weir_buf(%d, %d) = %d is not 8-aligned", kind, n, at)
	case uint64(at)+uint64(n) > uint64(in.mem.Size()):
		return 0, fmt.Errorf("weir_buf(%d, %d) = %d ends outside the guest's memory of %d bytes", kind, n, at, in.mem.Size())
	}
	return at, nil
}

// Filter hands a batch to the guest and reads its answers.
func (in *instance) Filter(_ context.Context, batch *plugins.Batch, answers []uint32) error {
	if in.spent || in.closed {
		return in.p.errorf("filter", errors.New("the instance is spent"))
	}
	if err := batch.Err(); err != nil {
		return in.p.errorf("filter", err)
	}
	count := batch.Len()
	if len(answers) != count || batch.Slots() != in.p.slots() {
		return in.p.errorf("filter", fmt.Errorf("%d events of %d slots, %d answers: want %d slots and an answer an event",
			count, batch.Slots(), len(answers), in.p.slots()))
	}
	if count == 0 {
		return nil
	}
	in.begin(batch)
	err := in.run(batch, answers)
	in.count, in.batch, in.source = 0, nil, nil
	if err != nil {
		in.spent = true
		in.output.flush(&in.log)
		return in.p.errorf("filter", err)
	}
	return nil
}

func (in *instance) begin(batch *plugins.Batch) {
	in.count, in.batch, in.source = batch.Len(), batch, batch.Source()
	in.reasons.reset(in.count)
	in.failText = in.failText[:0]
	in.output.tail = in.output.tail[:0]
	in.seeded = false
	in.fuel.Set(uint64(in.p.limits.budget(in.count)))
}

func (in *instance) run(batch *plugins.Batch, answers []uint32) error {
	size, out := batch.Size(), len(answers)*4
	at, err := in.buffer(bufIn, size)
	if err != nil {
		return err
	}
	to, err := in.buffer(bufOut, out)
	if err != nil {
		return err
	}
	if uint64(at) < uint64(to)+uint64(out) && uint64(to) < uint64(at)+uint64(size) {
		return fmt.Errorf("weir_buf: the buffers overlap: in %d+%d, out %d+%d", at, size, to, out)
	}
	view, ok := in.mem.Read(at, uint32(size))
	if !ok {
		return fmt.Errorf("the in buffer at %d left the guest's memory", at)
	}
	answer, ok := in.mem.Read(to, uint32(out))
	if !ok {
		return fmt.Errorf("the out buffer at %d left the guest's memory", to)
	}
	batch.CopyTo(view)
	for i := range answer {
		answer[i] = 0xff // so that an event without an answer shows
	}
	in.stack[0] = uint64(size)
	status, err := in.call(in.filter)
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("weir_filter failed: %w", in.said(status))
	}
	if answer, ok = in.mem.Read(to, uint32(out)); !ok {
		return fmt.Errorf("the out buffer at %d left the guest's memory", to)
	}
	wrong := uint32(0)
	for i := range answers {
		a := binary.LittleEndian.Uint32(answer[i*4:])
		answers[i] = a
		wrong |= a &^ in.p.answerMask
		if a == noAnswer {
			wrong = a
		}
	}
	if wrong != 0 {
		return in.wrongAnswer(answers)
	}
	return nil
}

func (in *instance) wrongAnswer(answers []uint32) error {
	for i, a := range answers {
		if a == noAnswer {
			return fmt.Errorf("event %d of %d has no answer", i, len(answers))
		}
		if a&^in.p.answerMask != 0 {
			return fmt.Errorf("the answer %#x for event %d names an output that the manifest does not have", a, i)
		}
	}
	return nil
}

// freshSeed is the same for the same input: module, and batch if one runs.
func (in *instance) freshSeed() uint64 {
	h := fnv.New64a()
	h.Write([]byte(in.p.digest))
	if in.batch != nil {
		h.Write(in.batch.Bytes())
	}
	return h.Sum64()
}

// Reason is what the guest said of an event in the last call.
func (in *instance) Reason(event int) string { return in.reasons.get(event) }

// Close lets the guest end, unless it is spent, and frees its memory.
func (in *instance) Close(ctx context.Context) error {
	if in.closed {
		return nil
	}
	defer in.p.returned()
	return in.shut(ctx)
}

func (in *instance) shut(ctx context.Context) error {
	var err error
	if in.closer != nil && !in.spent {
		in.fuel.Set(uint64(in.p.limits.budget(1)))
		if _, e := in.call(in.closer); e != nil {
			err = in.p.errorf("weir_close", e)
		}
	}
	in.output.flush(&in.log)
	in.log.report()
	return errors.Join(err, in.discard(ctx))
}

// discard frees the instance without asking the guest.
func (in *instance) discard(ctx context.Context) error {
	in.closed, in.spent = true, true
	in.mem = nil
	return in.mod.Close(ctx)
}
