package wasm

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Section ids of the binary format.
const (
	secCustom   = 0
	secType     = 1
	secImport   = 2
	secFunction = 3
	secTable    = 4
	secMemory   = 5
	secGlobal   = 6
	secExport   = 7
	secStart    = 8
	secElement  = 9
	secCode     = 10
	secData     = 11
	secCount    = 12
)

// Kinds of imports and exports.
const (
	kindFunc   = 0
	kindTable  = 1
	kindMemory = 2
	kindGlobal = 3
)

var wasmHeader = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

var errTruncated = errors.New("the module is truncated")

// reader walks bytes of a module. After a failure every read gives zero, and
// err keeps the first cause.
type reader struct {
	b   []byte
	at  int
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
		r.at = len(r.b)
	}
}

func (r *reader) more() bool { return r.err == nil && r.at < len(r.b) }

func (r *reader) byte() byte {
	if r.at >= len(r.b) {
		r.fail(errTruncated)
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

func (r *reader) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)-r.at) {
		r.fail(errTruncated)
		return nil
	}
	r.at += int(n)
	return r.b[r.at-int(n) : r.at : r.at]
}

func (r *reader) u32() uint32 { return uint32(r.leb(5)) }

// leb reads an unsigned LEB128 number of at most n bytes; to skip, it serves
// for signed ones too.
func (r *reader) leb(n int) uint64 {
	var v uint64
	for i := range n {
		c := r.byte()
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v
		}
	}
	r.fail(errors.New("a number is too long"))
	return 0
}

func (r *reader) name() string {
	s := string(r.bytes(r.u32()))
	if !utf8.ValidString(s) {
		r.fail(errors.New("a name is not UTF-8"))
	}
	return s
}

// count reads a vector's length; each element has at least a byte.
func (r *reader) count() int {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)-r.at) {
		r.fail(errTruncated)
		return 0
	}
	return int(n)
}

func appendLEB(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// appendSLEB writes a signed LEB128 number.
func appendSLEB(dst []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(dst, c)
		}
		dst = append(dst, c|0x80)
	}
}

func appendSection(dst []byte, id byte, body []byte) []byte {
	dst = append(dst, id)
	dst = appendLEB(dst, uint64(len(body)))
	return append(dst, body...)
}

type section struct {
	id   byte
	body []byte // without id and size
	name string // of a custom section
	data []byte // of a custom section, after its name
}

// signature is a function's type as the binary format's value-type bytes.
type signature struct{ params, results string }

type importEntry struct {
	module, name string
	kind         byte
	typ          signature // of a function
}

type exportEntry struct {
	name  string
	kind  byte
	index uint32
}

type bounds struct {
	min    uint64
	max    uint64
	hasMax bool
	flags  byte
	elem   byte // of a table
}

// module is what the host must know of a module before it is compiled. Its
// slices stand in the module's bytes.
type module struct {
	sections  []section
	types     []signature
	imports   []importEntry
	funcs     []uint32 // type indices of own functions
	tables    []bounds
	memories  []bounds
	globals   int
	exports   []exportEntry
	size      int
	hasStart  bool
	start     uint32 // function index
	importFns int
}

// parse reads a module's sections. It checks what it reads, not what the
// compiler validates later.
func parse(b []byte) (*module, error) {
	if len(b) < len(wasmHeader) || string(b[:4]) != string(wasmHeader[:4]) {
		return nil, errors.New("not a WASM module (it does not begin with \\0asm)")
	}
	if string(b[4:8]) != string(wasmHeader[4:]) {
		if b[6] == 1 {
			return nil, errors.New("a WASM component; a core module is needed")
		}
		return nil, fmt.Errorf("WASM version %d, want 1", b[4])
	}
	m := &module{size: len(b)}
	r := &reader{b: b, at: len(wasmHeader)}
	for r.more() {
		id := r.byte()
		s := section{id: id, body: r.bytes(r.u32())}
		if r.err != nil {
			break
		}
		in := &reader{b: s.body}
		if id == secCustom {
			s.name = in.name()
			s.data = s.body[min(in.at, len(s.body)):]
		} else {
			m.read(id, in)
		}
		if in.err != nil {
			return nil, fmt.Errorf("section %d: %w", id, in.err)
		}
		m.sections = append(m.sections, s)
	}
	return m, r.err
}

func (m *module) read(id byte, r *reader) {
	switch id {
	case secType:
		for range r.count() {
			m.types = append(m.types, readSignature(r))
		}
	case secImport:
		for range r.count() {
			m.imports = append(m.imports, m.readImport(r))
		}
	case secFunction:
		for range r.count() {
			m.funcs = append(m.funcs, r.u32())
		}
	case secTable:
		for range r.count() {
			m.tables = append(m.tables, readTable(r))
		}
	case secMemory:
		for range r.count() {
			m.memories = append(m.memories, readBounds(r))
		}
	case secGlobal:
		m.globals += r.count()
	case secExport:
		for range r.count() {
			m.exports = append(m.exports, exportEntry{name: r.name(), kind: r.byte(), index: r.u32()})
		}
	case secStart:
		m.hasStart, m.start = true, r.u32()
	}
}

func readSignature(r *reader) signature {
	if form := r.byte(); form != 0x60 {
		r.fail(fmt.Errorf("type form %#x is not a function", form))
	}
	return signature{params: string(r.bytes(r.u32())), results: string(r.bytes(r.u32()))}
}

func readBounds(r *reader) bounds {
	var b bounds
	b.flags = r.byte()
	if b.flags > 1 {
		r.fail(fmt.Errorf("limits %#x: shared or 64-bit memories and tables are not supported", b.flags))
	}
	b.hasMax = b.flags&1 != 0
	b.min = uint64(r.u32())
	if b.hasMax {
		b.max = uint64(r.u32())
	}
	return b
}

func readTable(r *reader) bounds {
	elem := r.byte()
	b := readBounds(r)
	b.elem = elem
	return b
}

func (m *module) readImport(r *reader) importEntry {
	i := importEntry{module: r.name(), name: r.name(), kind: r.byte()}
	switch i.kind {
	case kindFunc:
		m.importFns++
		if t := r.u32(); int(t) < len(m.types) {
			i.typ = m.types[t]
		} else {
			r.fail(fmt.Errorf("import %s.%s: no type %d", i.module, i.name, t))
		}
	case kindTable:
		readTable(r)
	case kindMemory:
		readBounds(r)
	case kindGlobal:
		r.byte()
		r.byte()
	default:
		r.fail(fmt.Errorf("import %s.%s: kind %d", i.module, i.name, i.kind))
	}
	return i
}

// export finds an export by name.
func (m *module) export(name string) (exportEntry, bool) {
	for _, e := range m.exports {
		if e.name == name {
			return e, true
		}
	}
	return exportEntry{}, false
}

// funcType is the signature of a function by its index, own or imported.
func (m *module) funcType(index uint32) (signature, bool) {
	if int(index) < m.importFns {
		n := int(index)
		for _, i := range m.imports {
			if i.kind != kindFunc {
				continue
			}
			if n == 0 {
				return i.typ, true
			}
			n--
		}
	}
	own := int(index) - m.importFns
	if own < 0 || own >= len(m.funcs) || int(m.funcs[own]) >= len(m.types) {
		return signature{}, false
	}
	return m.types[m.funcs[own]], true
}

// custom finds custom sections by name.
func (m *module) custom(name string) (data []byte, count int) {
	for _, s := range m.sections {
		if s.id == secCustom && s.name == name {
			if count == 0 {
				data = s.data
			}
			count++
		}
	}
	return data, count
}

var valueTypes = map[byte]string{
	0x7f: "i32", 0x7e: "i64", 0x7d: "f32", 0x7c: "f64", 0x7b: "v128", 0x70: "funcref", 0x6f: "externref",
}

func typeList(types string) string {
	out := ""
	for i := range len(types) {
		if i > 0 {
			out += ", "
		}
		if name, ok := valueTypes[types[i]]; ok {
			out += name
		} else {
			out += fmt.Sprintf("%#x", types[i])
		}
	}
	return out
}

// String writes a signature as Rust would: (i32, i32) -> i64.
func (s signature) String() string {
	out := "(" + typeList(s.params) + ")"
	if s.results != "" {
		out += " -> " + typeList(s.results)
	}
	return out
}
