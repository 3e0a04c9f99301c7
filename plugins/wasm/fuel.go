package wasm

import (
	"errors"
	"fmt"
)

// Fuel. A guest that loops cannot be interrupted from outside at an acceptable
// price, and while it loops Go's garbage collector waits for it. So a module
// is rewritten before it is compiled: it gets one more mutable i64 global, and
// every function entry and every loop subtracts the cost of the instructions
// up to the next such place and traps below zero. The host fills the global
// before each call.
//
//	cost of a stretch of n instructions   min(n, 32) + n/64
//	and for each call of an import        + 40
//	            memory.grow, table.grow   + 100
//	memory.fill, copy, init of n bytes    + n/16, when it runs
//	table.fill, copy, init of n entries   + n/2, when it runs
//
// The global stands past the module's own ones, so a body that names its index
// is refused here; the compiler would accept it.

const (
	// Reserved: a module that exports one of these is refused.
	fuelExport  = "weir_fuel"
	startExport = "weir_start" // the start function, which the host calls itself

	maxFunctions = 50_000 // compiling costs some 20 us each, and cannot be interrupted
	maxLocals    = 50_000 // of one function
	maxAllLocals = 1 << 20
	maxTableSize = 1 << 16 // entries; table.grow takes no guest memory

	costImport = 40
	costGrow   = 100
)

var errFuelGlobal = errors.New("a function names a global that the module does not have")

// meter rewrites one module.
type meter struct {
	m      *module
	fuel   uint32 // index of the global
	locals uint64 // of all functions
}

// addFuel returns the module with its fuel global, its checks, and bounds on
// its tables.
func addFuel(m *module, start int64) ([]byte, error) {
	for _, name := range []string{fuelExport, startExport} {
		if _, forged := m.export(name); forged {
			return nil, fmt.Errorf("export %q is reserved for the host", name)
		}
	}
	if n := len(m.funcs); n > maxFunctions {
		return nil, fmt.Errorf("%d functions, at most %d", n, maxFunctions)
	}
	x := &meter{m: m, fuel: uint32(m.globals)}
	out := append(make([]byte, 0, m.size+m.size/2), wasmHeader...)
	var wroteGlobal, wroteExport bool
	for _, s := range m.sections {
		if s.id == secCustom && s.name != "name" {
			continue // debug information points into bodies that change here
		}
		if !wroteGlobal && s.id != secCustom && after(s.id, secGlobal) {
			out, wroteGlobal = appendSection(out, secGlobal, x.globalSection(nil, start)), true
		}
		if !wroteExport && s.id != secCustom && after(s.id, secExport) {
			out, wroteExport = appendSection(out, secExport, x.exportSection(nil)), true
		}
		switch s.id {
		case secGlobal:
			out, wroteGlobal = appendSection(out, s.id, x.globalSection(s.body, start)), true
		case secExport:
			out, wroteExport = appendSection(out, s.id, x.exportSection(s.body)), true
		case secStart: // runs under the host's eyes, by its export
		case secTable:
			out = appendSection(out, s.id, tableSection(m.tables))
		case secCode:
			body, err := x.codeSection(s.body)
			if err != nil {
				return nil, err
			}
			out = appendSection(out, s.id, body)
		default:
			out = appendSection(out, s.id, s.body)
		}
	}
	if !wroteGlobal {
		out = appendSection(out, secGlobal, x.globalSection(nil, start))
	}
	if !wroteExport {
		out = appendSection(out, secExport, x.exportSection(nil))
	}
	return out, nil
}

// after says whether a section comes after another in a module; data count
// stands before code.
func after(id, other byte) bool {
	if id == secCount {
		return true
	}
	return id > other
}

// grown is a vector section with one more entry.
func grown(body, entry []byte) []byte {
	r := &reader{b: body}
	n := uint64(0)
	if len(body) > 0 {
		n = uint64(r.u32())
	}
	out := appendLEB(make([]byte, 0, len(body)+len(entry)+5), n+1)
	out = append(out, body[r.at:]...)
	return append(out, entry...)
}

func (x *meter) globalSection(body []byte, start int64) []byte {
	entry := []byte{0x7e, 1, opI64Const}
	entry = appendSLEB(entry, start)
	return grown(body, append(entry, opEnd))
}

func (x *meter) exportSection(body []byte) []byte {
	body = grown(body, export(fuelExport, kindGlobal, x.fuel))
	if x.m.hasStart {
		body = grown(body, export(startExport, kindFunc, x.m.start))
	}
	return body
}

func export(name string, kind byte, index uint32) []byte {
	entry := append(appendLEB(nil, uint64(len(name))), name...)
	return appendLEB(append(entry, kind), uint64(index))
}

// tableSection gives every table a maximum: growing past it answers -1.
func tableSection(tables []bounds) []byte {
	out := appendLEB(nil, uint64(len(tables)))
	for _, t := range tables {
		limit := uint64(maxTableSize)
		if t.hasMax {
			limit = min(limit, t.max)
		}
		out = append(out, t.elem, 1)
		out = appendLEB(out, t.min)
		out = appendLEB(out, max(limit, t.min))
	}
	return out
}

func (x *meter) codeSection(body []byte) ([]byte, error) {
	r := &reader{b: body}
	n := r.count()
	if n != len(x.m.funcs) {
		return nil, fmt.Errorf("%d functions declared, %d bodies", len(x.m.funcs), n)
	}
	out := appendLEB(make([]byte, 0, len(body)+len(body)/2), uint64(n))
	var scratch []byte
	var marks []mark
	for i := range n {
		code := r.bytes(r.u32())
		if r.err != nil {
			return nil, fmt.Errorf("function %d: %w", i+x.m.importFns, r.err)
		}
		var err error
		scratch, marks, err = x.function(scratch[:0], marks[:0], code, x.m.funcs[i])
		if err != nil {
			return nil, fmt.Errorf("function %d: %w", i+x.m.importFns, err)
		}
		out = appendLEB(out, uint64(len(scratch)))
		out = append(out, scratch...)
	}
	return out, r.err
}

// mark is a place of a body where a check goes in.
type mark struct {
	at    int
	n     int // instructions of the stretch that begins here
	extra int // what some of them cost beyond that
	shift int // of a bulk operation: its count costs count >> shift; -1 = none
}

func (k mark) cost() int64 { return int64(min(k.n, 32) + k.n/64 + k.extra) }

func (x *meter) function(dst []byte, marks []mark, code []byte, typ uint32) ([]byte, []mark, error) {
	if int(typ) >= len(x.m.types) {
		return dst, marks, fmt.Errorf("no type %d", typ)
	}
	r := &reader{b: code}
	groups := r.count()
	first := r.at
	locals := uint64(len(x.m.types[typ].params))
	for range groups {
		locals += uint64(r.u32())
		r.byte()
	}
	x.locals += locals
	if locals > maxLocals || x.locals > maxAllLocals {
		return dst, marks, fmt.Errorf("%d locals, %d so far: at most %d and %d", locals, x.locals, maxLocals, maxAllLocals)
	}
	start := r.at
	marks, err := x.scan(r, append(marks, mark{at: start, shift: -1}))
	if err != nil {
		return dst, marks, err
	}
	// Two more locals: the fuel left (i64), and a bulk operation's count (i32).
	dst = appendLEB(dst, uint64(groups+2))
	dst = append(dst, code[first:start]...)
	dst = append(dst, 1, 0x7e, 1, 0x7f)
	from := start
	for _, k := range marks {
		dst = append(dst, code[from:k.at]...)
		dst = x.check(dst, k, locals)
		from = k.at
	}
	return append(dst, code[from:]...), marks, nil
}

// check subtracts a cost from the fuel and traps below zero.
func (x *meter) check(dst []byte, k mark, locals uint64) []byte {
	left, count := locals, locals+1
	if k.shift >= 0 {
		dst = appendLEB(append(dst, opLocalTee), count)
	}
	dst = appendLEB(append(dst, opGlobalGet), uint64(x.fuel))
	if k.shift >= 0 {
		dst = appendLEB(append(dst, opLocalGet), count)
		dst = append(dst, opI64ExtendU, opI64Const, byte(k.shift), opI64ShrU)
	} else {
		dst = appendSLEB(append(dst, opI64Const), k.cost())
	}
	dst = append(dst, opI64Sub)
	dst = appendLEB(append(dst, opLocalTee), left)
	dst = appendLEB(append(dst, opGlobalSet), uint64(x.fuel))
	dst = appendLEB(append(dst, opLocalGet), left)
	return append(dst, opI64Const, 0, opI64LtS, opIf, blockEmpty, opUnreachable, opEnd)
}

// scan walks the instructions of a body and notes where checks go.
func (x *meter) scan(r *reader, marks []mark) ([]mark, error) {
	stretch := len(marks) - 1
	for r.more() {
		at := r.at
		op := r.byte()
		marks[stretch].n++
		switch op {
		case opLoop:
			r.leb(5)
			marks = append(marks, mark{at: r.at, shift: -1})
			stretch = len(marks) - 1
			continue
		case opGlobalGet, opGlobalSet:
			if r.u32() >= x.fuel {
				return marks, errFuelGlobal
			}
			continue
		case opCall, opReturnCall:
			if int(r.u32()) < x.m.importFns {
				marks[stretch].extra += costImport
			}
			continue
		case opMemoryGrow:
			r.byte()
			marks[stretch].extra += costGrow
			continue
		case opBulk:
			sub := r.u32()
			skipBulk(r, sub)
			if sub == bulkTableGrow {
				marks[stretch].extra += costGrow
			}
			if shift := bulkShift(sub); shift >= 0 {
				marks = append(marks, mark{at: at, shift: shift})
			}
			continue
		}
		skip(r, op)
	}
	if r.err == nil && (len(r.b) == 0 || r.b[len(r.b)-1] != opEnd) {
		r.fail(errors.New("a body does not end"))
	}
	return marks, r.err
}
