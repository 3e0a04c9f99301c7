package plugintest

import "encoding/binary"

// A small assembler for guests that no compiler would write.

const (
	i32 = "\x7f"
	i64 = "\x7e"
)

type imported struct{ module, name, params, results string }

type function struct {
	name            string // its export, "" = none
	params, results string
	locals          int // of i32
	body            []byte
}

// guest is a module. The zero value of a member leaves its section out.
type guest struct {
	imports  []imported
	funcs    []function
	pages    uint32 // memory at the start
	memories int    // 0 = one
	hidden   bool   // memory is not exported
	table    bool   // a table of one funcref, growing without bound
	global   bool   // one mutable i64, exported under globalAs
	globalAs string
	start    int // function index + 1
	sections []custom
}

type custom struct {
	name string
	data []byte
}

func leb(v uint64) []byte { return binary.AppendUvarint(nil, v) }

func named(s string) []byte { return append(leb(uint64(len(s))), s...) }

func cat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func vec(items [][]byte) []byte { return append(leb(uint64(len(items))), cat(items...)...) }

func sect(id byte, body []byte) []byte { return cat([]byte{id}, leb(uint64(len(body))), body) }

func (g guest) bytes() []byte {
	var types, imports, funcs, exports, code [][]byte
	addType := func(params, results string) []byte {
		types = append(types, cat([]byte{0x60}, named(params), named(results)))
		return leb(uint64(len(types) - 1))
	}
	for _, i := range g.imports {
		imports = append(imports, cat(named(i.module), named(i.name), []byte{0}, addType(i.params, i.results)))
	}
	if !g.hidden {
		exports = append(exports, cat(named("memory"), []byte{2, 0}))
	}
	if g.globalAs != "" {
		exports = append(exports, cat(named(g.globalAs), []byte{3, 0}))
	}
	for n, f := range g.funcs {
		funcs = append(funcs, addType(f.params, f.results))
		if f.name != "" {
			exports = append(exports, cat(named(f.name), []byte{0}, leb(uint64(len(g.imports)+n))))
		}
		locals := []byte{0}
		if f.locals > 0 {
			locals = cat([]byte{1}, leb(uint64(f.locals)), []byte(i32))
		}
		body := cat(locals, f.body, []byte{0x0b})
		code = append(code, append(leb(uint64(len(body))), body...))
	}
	out := cat([]byte("\x00asm\x01\x00\x00\x00"), sect(1, vec(types)), sect(2, vec(imports)), sect(3, vec(funcs)))
	if g.table {
		out = append(out, sect(4, []byte{1, 0x70, 0, 1})...)
	}
	memory := append([]byte{0}, leb(uint64(g.pages))...)
	memories := [][]byte{memory}
	for range g.memories - 1 {
		memories = append(memories, memory)
	}
	out = append(out, sect(5, vec(memories))...)
	if g.global {
		out = append(out, sect(6, []byte{1, 0x7e, 1, 0x42, 0, 0x0b})...)
	}
	out = append(out, sect(7, vec(exports))...)
	if g.start > 0 {
		out = append(out, sect(8, leb(uint64(g.start-1)))...)
	}
	out = append(out, sect(10, vec(code))...)
	for _, s := range g.sections {
		out = append(out, sect(0, append(named(s.name), s.data...))...)
	}
	return out
}

// Instructions.
func i32c(v int32) []byte { return append([]byte{0x41}, signed(int64(v))...) }

func signed(v int64) []byte {
	var out []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(out, c)
		}
		out = append(out, c|0x80)
	}
}

func get(local byte) []byte { return []byte{0x20, local} }

func set(local byte) []byte { return []byte{0x21, local} }

func call(f uint32) []byte { return append([]byte{0x10}, leb(uint64(f))...) }

func load(at int32) []byte { return cat(i32c(at), []byte{0x28, 2, 0}) }

func store(at, value []byte) []byte { return cat(at, value, []byte{0x36, 2, 0}) }

var (
	drop        = []byte{0x1a}
	unreachable = []byte{0x00}
	endBlock    = []byte{0x0b}
	add         = []byte{0x6a}
	mul         = []byte{0x6c}
	equal       = []byte{0x46}
	greater     = []byte{0x4b} // unsigned
	memorySize  = []byte{0x3f, 0}
	memoryGrow  = []byte{0x40, 0}
)

func when(body ...[]byte) []byte { return cat([]byte{0x04, 0x40}, cat(body...), endBlock) }

// forever runs a body without end.
func forever(body ...[]byte) []byte {
	return cat([]byte{0x03, 0x40}, cat(body...), []byte{0x0c, 0}, endBlock)
}

// Where the plain guest has its buffers.
const (
	inAt  = 1024
	outAt = 512 << 10
)

// eachEvent runs a body for each event of the batch, with its index in local 1.
func eachEvent(body ...[]byte) []byte {
	return cat(
		[]byte{0x02, 0x40, 0x03, 0x40},              // block, loop
		get(1), load(inAt+4), []byte{0x4f, 0x0d, 1}, // index >= count: leave
		cat(body...),                                            //
		get(1), i32c(1), add, set(1), []byte{0x0c, 0, 0xb, 0xb}, // next
	)
}

// answer writes the answer of the event in local 1.
func answer(value []byte) []byte {
	return store(cat(get(1), i32c(4), mul, i32c(outAt), add), value)
}

const plainManifest = `{"name":"plain","version":"1.2.3","kind":"filter","fields":["type"]}`

// plain is a guest that keeps the contract and says yes to every event. Its
// functions are, after imports: 0 abi, 1 buf, 2 init, 3 filter.
func plain(imports ...imported) guest {
	return guest{
		imports: imports,
		pages:   16,
		funcs: []function{
			{name: "weir_abi_1", results: i32, body: i32c(0)},
			{name: "weir_buf", params: i32 + i32, results: i32, body: cat(
				i32c(outAt), i32c(inAt), get(0), []byte{0x1b})}, // select
			{name: "weir_init", params: i32, results: i32, body: i32c(0)},
			{name: "weir_filter", params: i32, results: i32, locals: 1, body: cat(eachEvent(answer(i32c(1))), i32c(0))},
		},
		sections: []custom{{"weir.manifest", []byte(plainManifest)}},
	}
}

const (
	fnBuf    = 1
	fnInit   = 2
	fnFilter = 3
)

// with replaces the body of a function; extra locals are i32.
func (g guest) with(fn int, body ...[]byte) guest {
	g.funcs = append([]function(nil), g.funcs...)
	g.funcs[fn].body = cat(body...)
	g.funcs[fn].locals = 4
	return g
}

func (g guest) manifest(text string) guest {
	g.sections = []custom{{"weir.manifest", []byte(text)}}
	return g
}
