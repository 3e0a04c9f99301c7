package wasm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-project/weir/plugins"
)

const (
	moduleWeir = "weir1"
	moduleWASI = "wasi_snapshot_preview1"

	i32 = "\x7f"
	i64 = "\x7e"
)

// capabilities name the imports of weir1 that a manifest asks for. None is
// granted to filters in this version.
var capabilities = map[string][]string{
	"data":   {"data"},
	"kv":     {"kv_get", "kv_put", "kv_delete", "kv_add"},
	"metric": {"metric_add"},
	"emit":   nil,
}

type wanted struct {
	name     string
	typ      signature
	optional bool
}

// contractExports are the functions of ABI v1.
func contractExports(kind plugins.Kind) []wanted {
	all := []wanted{
		{name: "weir_abi_1", typ: signature{"", i32}},
		{name: "weir_buf", typ: signature{i32 + i32, i32}},
		{name: "weir_init", typ: signature{i32, i32}},
		{name: "weir_close", optional: true},
		{name: "_initialize", optional: true},
	}
	if kind == plugins.Filter {
		all = append(all, wanted{name: "weir_filter", typ: signature{i32, i32}})
	}
	return all
}

// checkContract lists every import and export that breaks the contract.
func checkContract(m *module, kind plugins.Kind) []error {
	var all []error
	for _, i := range m.imports {
		if err := checkImport(i); err != nil {
			all = append(all, err)
		}
	}
	if e, ok := m.export("memory"); !ok || e.kind != kindMemory {
		all = append(all, fmt.Errorf("export \"memory\" is missing%s", didYouMean("memory", exportNames(m))))
	}
	if len(m.memories) > 1 {
		all = append(all, fmt.Errorf("%d memories, want one", len(m.memories)))
	}
	for _, t := range m.tables {
		if t.min > maxTableSize {
			all = append(all, fmt.Errorf("a table begins with %d entries, at most %d", t.min, maxTableSize))
		}
	}
	if typ, ok := m.funcType(m.start); m.hasStart && (!ok || typ != signature{}) {
		all = append(all, fmt.Errorf("the start function has the signature %s, want ()", typ))
	}
	for _, w := range contractExports(kind) {
		if err := checkExport(m, w); err != nil {
			all = append(all, err)
		}
	}
	return all
}

func checkImport(i importEntry) error {
	subject := fmt.Sprintf("import %.64q.%.64q", i.module, i.name)
	var known map[string]hostFunction
	switch i.module {
	case moduleWeir:
		known = weirFunctions
	case moduleWASI:
		known = wasiFunctions
	default:
		return fmt.Errorf("%s: no module of that name%s; guests import from %q and %q", subject,
			didYouMean(i.module, []string{moduleWeir, moduleWASI}), moduleWeir, moduleWASI)
	}
	for capability, names := range capabilities {
		if i.module == moduleWeir && slices.Contains(names, i.name) {
			return fmt.Errorf("%s: not granted: it needs the capability %q, which is not available to a filter yet", subject, capability)
		}
	}
	f, ok := known[i.name]
	if !ok {
		return fmt.Errorf("%s: no function of that name%s", subject, didYouMean(i.name, keys(known)))
	}
	if i.kind != kindFunc {
		return fmt.Errorf("%s is no function", subject)
	}
	if i.typ != f.typ {
		return fmt.Errorf("%s has the signature %s, want %s", subject, i.typ, f.typ)
	}
	return nil
}

func checkExport(m *module, w wanted) error {
	e, ok := m.export(w.name)
	if !ok && w.optional {
		return nil
	}
	if !ok {
		return fmt.Errorf("export %q is missing, want %s%s", w.name, w.typ, exportHint(m, w.name))
	}
	typ, found := m.funcType(e.index)
	if e.kind != kindFunc || !found {
		return fmt.Errorf("export %q is no function, want %s", w.name, w.typ)
	}
	if typ != w.typ {
		return fmt.Errorf("export %q has the signature %s, want %s", w.name, typ, w.typ)
	}
	return nil
}

func exportHint(m *module, name string) string {
	names := exportNames(m)
	if name == "weir_abi_1" {
		for _, n := range names {
			if major, ok := strings.CutPrefix(n, "weir_abi_"); ok {
				return fmt.Sprintf(": the module speaks ABI %.16s, this host speaks ABI 1", major)
			}
		}
	}
	if slices.Contains(names, "_start") && !slices.Contains(names, "_initialize") {
		return ": the module is built as a program; build a reactor (Go: -buildmode=c-shared, wasi-libc: -mexec-model=reactor)"
	}
	return didYouMean(name, names)
}

func exportNames(m *module) []string {
	var names []string
	for _, e := range m.exports {
		if _, right := contractName(e.name); !right {
			names = append(names, e.name)
		}
	}
	return names
}

func contractName(name string) (wanted, bool) {
	for _, w := range contractExports(plugins.Filter) {
		if w.name == name {
			return w, true
		}
	}
	return wanted{}, false
}

func checkMemory(m *module, most int64) error {
	for _, mem := range m.memories {
		if start := int64(mem.min) << 16; start > most {
			return fmt.Errorf("the module starts with %d bytes of memory, granted are %d: set limits.memory", start, most)
		}
	}
	return nil
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// didYouMean names the nearest of the right names, if one is near.
func didYouMean(got string, names []string) string {
	best, least := "", len(got)/3+2
	for _, n := range names {
		if len(n) > 64 {
			continue
		}
		if d := distance(got, n); d < least {
			best, least = n, d
		}
	}
	if best == "" || len(got) > 64 {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is the number of single-byte edits between two short names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
