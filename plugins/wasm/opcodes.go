package wasm

import "fmt"

// The instructions that the rewriter names or writes.
const (
	opUnreachable = 0x00
	opLoop        = 0x03
	opIf          = 0x04
	opEnd         = 0x0b
	opCall        = 0x10
	opReturnCall  = 0x12
	opLocalGet    = 0x20
	opLocalTee    = 0x22
	opGlobalGet   = 0x23
	opGlobalSet   = 0x24
	opMemoryGrow  = 0x40
	opI64Const    = 0x42
	opI64LtS      = 0x53
	opI64Sub      = 0x7d
	opI64ShrU     = 0x88
	opI64ExtendU  = 0xad
	opBulk        = 0xfc
	opVector      = 0xfd

	blockEmpty = 0x40

	bulkTableGrow = 15
)

// skip passes the immediates of an instruction: MVP, sign extension,
// multi-value, reference types, SIMD and tail calls. Calls, global accesses,
// loops and bulk operations are read by the caller.
func skip(r *reader, op byte) {
	switch {
	case op == 0x02 || op == opIf: // block, if: a block type
		r.leb(5)
	case op == 0x0c || op == 0x0d: // br, br_if
		r.u32()
	case op == 0x0e: // br_table
		for range r.count() {
			r.u32()
		}
		r.u32()
	case op == 0x11 || op == 0x13: // call_indirect, return_call_indirect
		r.u32()
		r.u32()
	case op == 0x1c: // select with types
		r.bytes(r.u32())
	case op >= 0x20 && op <= 0x26: // locals, table.get, table.set
		r.u32()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.u32()
		r.u32()
	case op == 0x3f: // memory.size
		r.byte()
	case op == 0x41: // i32.const
		r.leb(5)
	case op == opI64Const:
		r.leb(10)
	case op == 0x43: // f32.const
		r.bytes(4)
	case op == 0x44: // f64.const
		r.bytes(8)
	case op == 0xd0: // ref.null
		r.byte()
	case op == 0xd2: // ref.func
		r.u32()
	case op == opVector:
		skipVector(r, r.u32())
	case plain(op):
	default:
		r.fail(fmt.Errorf("instruction %#x is not supported", op))
	}
}

// plain says whether an instruction has no immediates.
func plain(op byte) bool {
	switch op {
	case opUnreachable, 0x01, 0x05, opEnd, 0x0f, 0x1a, 0x1b, 0xd1:
		return true
	}
	return op >= 0x45 && op <= 0xc4
}

func skipBulk(r *reader, sub uint32) {
	switch {
	case sub <= 7: // saturating truncations
	case sub == 8: // memory.init
		r.u32()
		r.byte()
	case sub == 10: // memory.copy
		r.bytes(2)
	case sub == 11: // memory.fill
		r.byte()
	case sub == 12 || sub == 14: // table.init, table.copy
		r.u32()
		r.u32()
	case sub == 9 || sub == 13 || (sub >= bulkTableGrow && sub <= 17):
		r.u32()
	default:
		r.fail(fmt.Errorf("instruction 0xfc %d is not supported", sub))
	}
}

// bulkShift is by how many bits the count of a bulk operation is shifted to
// get its cost, -1 where it has none.
func bulkShift(sub uint32) int {
	switch sub {
	case 8, 10, 11:
		return 4
	case 12, 14, 17:
		return 1
	}
	return -1
}

func skipVector(r *reader, sub uint32) {
	switch {
	case sub <= 11 || sub == 92 || sub == 93: // loads and stores
		r.u32()
		r.u32()
	case sub == 12 || sub == 13: // v128.const, shuffle
		r.bytes(16)
	case sub >= 21 && sub <= 34: // lanes
		r.byte()
	case sub >= 84 && sub <= 91: // loads and stores of lanes
		r.u32()
		r.u32()
		r.byte()
	case sub > 0xff:
		r.fail(fmt.Errorf("instruction 0xfd %d is not supported", sub))
	}
}
