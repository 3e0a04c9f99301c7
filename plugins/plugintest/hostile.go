package plugintest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/weir-project/weir/plugins"
)

// imports of weir1 and WASI that the cases use, in the order of the call index.
var (
	impLog    = imported{"weir1", "log", i32 + i32 + i32 + i32, ""}
	impFail   = imported{"weir1", "fail", i32 + i32 + i32 + i32, ""}
	impReason = imported{"weir1", "reason", i32 + i32 + i32, ""}
	impField  = imported{"weir1", "field", i32 + i32 + i32 + i32 + i32, i32}
	impNow    = imported{"weir1", "now", i32, i64}
	impExit   = imported{"wasi_snapshot_preview1", "proc_exit", i32, ""}
	impWrite  = imported{"wasi_snapshot_preview1", "fd_write", i32 + i32 + i32 + i32, i32}
	impRandom = imported{"wasi_snapshot_preview1", "random_get", i32 + i32, i32}
	impClock  = imported{"wasi_snapshot_preview1", "clock_time_get", i32 + i64 + i32, i32}
	impOpen   = imported{"wasi_snapshot_preview1", "path_open", i32 + i32 + i32 + i32 + i32 + i64 + i64 + i32 + i32, i32}
)

// Guests gives the modules that hosts of WASM guests must pass.
func Guests() Modules {
	return Modules{Plain: plain().bytes(), Cases: slices.Concat(
		endless(), pointers(), calls(), contractBreakers(), broken(), manifests(), wellBehaved())}
}

// yesToAll ends a filter that answers every event with yes.
var yesToAll = cat(eachEvent(answer(i32c(1))), i32c(0))

// endless guests use up time or memory.
func endless() []Case {
	fill := func(sub byte) []byte { return []byte{0xfc, sub, 0} }
	recursive := plain().with(fnFilter, get(0), call(fnFilter))
	startLoop := plain()
	startLoop.funcs = append(startLoop.funcs, function{body: forever()})
	startLoop.start = len(startLoop.funcs)
	closing := plain()
	closing.funcs = append(closing.funcs, function{name: "weir_close", body: forever()})
	tables := plain().with(fnFilter,
		[]byte{0xd0, 0x70}, i32c(1<<30), []byte{0xfc, 15, 0}, i32c(-1), equal, // table.grow by 2^30 must give -1
		[]byte{0x45, 0x04, 0x40}, unreachable, endBlock, yesToAll)
	tables.table = true
	return []Case{
		{Name: "loop", File: plain().with(fnFilter, forever(), unreachable).bytes(), Fails: FailCall, Says: []string{"fuel"}},
		{Name: "loop with less fuel", File: plain().with(fnFilter, forever(), unreachable).bytes(), Limits: plugins.Limits{FuelPerCall: 1000}, Fails: FailCall, Says: []string{"fuel"}},
		{Name: "loop in weir_buf", File: plain().with(fnBuf, get(0), when(forever()), i32c(inAt)).bytes(), Fails: FailCall, Says: []string{"fuel"}},
		{Name: "loop in start", File: startLoop.bytes(), Fails: FailLoad, Says: []string{"fuel"}},
		{Name: "loop in init", File: plain().with(fnInit, forever(), unreachable).bytes(), Fails: FailLoad, Says: []string{"weir_init", "fuel"}},
		{Name: "loop in close", File: closing.bytes(), Fails: MayFail},
		{Name: "recursion", File: recursive.bytes(), Fails: FailCall},
		{Name: "memory.grow without end", File: plain().with(fnFilter,
			i32c(64), set(2), []byte{0x03, 0x40}, i32c(16), memoryGrow, i32c(-1), []byte{0x47, 0x0d, 0, 0x0b}, // until it gives -1
			memorySize, i32c(256), greater, when(unreachable), yesToAll).bytes()},
		{Name: "memory.grow past a narrow cap", Limits: plugins.Limits{Memory: 2 << 20}, File: plain().with(fnFilter,
			i32c(17), memoryGrow, i32c(-1), equal, []byte{0x45}, when(unreachable), yesToAll).bytes()},
		{Name: "table.grow", File: tables.bytes()},
		{Name: "memory.fill without end", File: plain().with(fnFilter, forever(i32c(0), i32c(0), i32c(1<<20), fill(11)), unreachable).bytes(), Fails: FailCall, Says: []string{"fuel"}},
		{Name: "10 million host calls", File: plain(impNow).with(fnFilter, forever(i32c(0), call(0), drop), unreachable).bytes(), Fails: FailCall, Says: []string{"fuel"}},
	}
}

// pointers are answers of weir_buf and results that point elsewhere.
func pointers() []Case {
	buf := func(at int32) []byte {
		return plain().with(fnBuf, i32c(at), i32c(inAt), get(0), []byte{0x1b}).bytes()
	}
	values := func(v int32) []byte {
		return plain().with(fnFilter, eachEvent(answer(i32c(v))), i32c(0)).bytes()
	}
	half := cat(eachEvent(get(1), i32c(32), []byte{0x49}, when(answer(i32c(1)))), i32c(0))
	return []Case{
		{Name: "out buffer past the end", File: buf(1 << 20), Fails: FailCall, Says: []string{"weir_buf", "outside"}},
		{Name: "out buffer ends past the end", File: buf(1<<20 - 8), Fails: FailCall, Says: []string{"weir_buf", "outside"}},
		{Name: "out buffer negative", File: buf(-8), Fails: FailCall, Says: []string{"weir_buf", "outside"}},
		{Name: "out buffer overlaps", File: buf(inAt + 64), Fails: FailCall, Says: []string{"overlap"}},
		{Name: "out buffer not aligned", File: buf(outAt + 4), Fails: FailCall, Says: []string{"aligned"}},
		{Name: "out buffer refused", File: buf(0), Fails: FailCall, Says: []string{"no room"}},
		{Name: "answer short", File: plain().with(fnFilter, half).bytes(), Fails: FailCall, Says: []string{"event 32", "no answer"}},
		{Name: "no answer at all", File: plain().with(fnFilter, i32c(0)).bytes(), Fails: FailCall, Says: []string{"event 0", "no answer"}},
		{Name: "answer names an output that is not", File: values(2), Fails: FailCall, Says: []string{"0x2", "manifest"}},
		{Name: "status not 0", File: plain().with(fnFilter, i32c(7)).bytes(), Fails: FailCall, Says: []string{"status 7"}},
		{Name: "failed events", File: values(-1 << 31), Check: func(t *testing.T, _ plugins.Instance, answers []uint32) {
			for i, a := range answers {
				if a != plugins.Failed {
					t.Fatalf("answer %d is %#x", i, a)
				}
			}
		}},
	}
}

// calls misuse what the host offers.
func calls() []Case {
	one := func(imp imported, body ...[]byte) []byte {
		return plain(imp).with(fnFilter, append(body, call(0), yesToAll)...).bytes()
	}
	flood := cat(i32c(0), set(2), []byte{0x03, 0x40}, i32c(-1), i32c(1), i32c(0), i32c(64), call(0),
		get(2), i32c(1), add, []byte{0x22, 2}, i32c(20_000), []byte{0x49, 0x0d, 0, 0x0b}, yesToAll)
	trap37 := cat(eachEvent(get(1), i32c(36), equal, when(unreachable), answer(i32c(1))), i32c(0))
	return []Case{
		{Name: "trap on the 37th event", File: plain().with(fnFilter, trap37).bytes(), Fails: FailCall, Says: []string{"1.2.3", "unreachable"}},
		{Name: "trap in init", File: plain().with(fnInit, unreachable).bytes(), Fails: FailLoad, Says: []string{"weir_init", "unreachable"}},
		{Name: "init refuses", File: plain(impFail).with(fnInit, store(i32c(8), i32c('n'|'o'<<8|'p'<<16|'e'<<24)),
			i32c(-1), i32c(0), i32c(8), i32c(4), call(0), i32c(1)).bytes(), Fails: FailLoad, Says: []string{"refuses", "nope"}},
		{Name: "proc_exit", File: one(impExit, i32c(3)), Fails: FailCall, Says: []string{"proc_exit(3)"}},
		{Name: "length of 4 GiB", File: one(impLog, i32c(-1), i32c(1), i32c(0), i32c(-1)), Fails: FailCall, Says: []string{"log", "outside"}},
		{Name: "log level", File: one(impLog, i32c(-1), i32c(9), i32c(0), i32c(0)), Fails: FailCall, Says: []string{"level 9"}},
		{Name: "event past the batch", File: one(impReason, i32c(64), i32c(0), i32c(0)), Fails: FailCall, Says: []string{"event 64 of a batch of 64"}},
		{Name: "path of a megabyte", File: plain(impField).with(fnFilter, i32c(0), i32c(0), i32c(1<<20), i32c(0), i32c(0), call(0), drop, yesToAll).bytes(), Fails: FailCall, Says: []string{"path"}},
		{Name: "log flood", File: plain(impLog).with(fnFilter, flood).bytes()},
		{Name: "fd_write with too many vectors", File: plain(impWrite).with(fnFilter, i32c(1), i32c(0), i32c(1<<28), i32c(0), call(0),
			i32c(28), equal, []byte{0x45}, when(unreachable), yesToAll).bytes()}, // EINVAL
		{Name: "files are not granted", File: plain(impOpen).with(fnFilter,
			i32c(3), i32c(0), i32c(0), i32c(0), i32c(0), []byte{0x42, 0, 0x42, 0}, i32c(0), i32c(0), call(0),
			i32c(76), equal, []byte{0x45}, when(unreachable), yesToAll).bytes()},
		{
			Name: "reason with bad UTF-8 and no bounds", File: plain(impReason).with(fnFilter,
				store(i32c(8), i32c(-2)), eachEvent(get(1), i32c(8), i32c(64<<10), call(0), answer(i32c(1))), i32c(0)).bytes(),
			Check: func(t *testing.T, in plugins.Instance, _ []uint32) {
				for i := range events {
					if r := in.Reason(i); len(r) > 4<<10 || !utf8.ValidString(r) || (i == 0 && r == "") {
						t.Fatalf("reason %d has %d bytes", i, len(r))
					}
				}
			},
		},
	}
}

// contractBreakers lack or misspell a part of the contract.
func contractBreakers() []Case {
	without := func(fn int) guest {
		g := plain()
		g.funcs = slices.Clone(g.funcs)
		g.funcs[fn].name = ""
		return g
	}
	renamed := func(fn int, name string) guest {
		g := without(fn)
		g.funcs[fn].name = name
		return g
	}
	signature := plain()
	signature.funcs = slices.Clone(signature.funcs)
	signature.funcs[fnFilter].params = i32 + i32
	signature.funcs[fnFilter].locals = 0
	signature.funcs[fnFilter].body = i32c(0)
	big, two, hidden, forged, start := plain(), plain(), plain(), plain(), plain()
	big.pages = 300
	two.memories = 2
	hidden.hidden = true
	forged.global, forged.globalAs = true, "weir_fuel"
	start.funcs = append(slices.Clone(without(0).funcs), function{name: "_start"})
	refill := plain().with(fnFilter, []byte{0x42, 0xc0, 0x84, 0x3d, 0x24, 0}, yesToAll) // global.set 0 without a global
	read := plain().with(fnFilter, []byte{0x23, 0}, drop, yesToAll)
	load := func(name string, g guest, says ...string) Case {
		return Case{Name: name, File: g.bytes(), Fails: FailLoad, Says: says}
	}
	return []Case{
		load("import unknown", plain(imported{"weir1", "lgo", i32, ""}), `"lgo"`, `did you mean "log"`),
		load("import of an unknown module", plain(imported{"env", "abort", i32, ""}), `"env"`, "weir1"),
		load("import not granted", plain(imported{"weir1", "kv_get", i32, ""}), "kv_get", "not granted", `"kv"`),
		load("import of WASI unknown", plain(imported{"wasi_snapshot_preview1", "fd_wriet", i32, ""}), `did you mean "fd_write"`),
		load("import with a wrong signature", plain(imported{"weir1", "now", i64, i64}), "(i64) -> i64", "want (i32) -> i64"),
		load("export with a wrong signature", signature, "weir_filter", "(i32, i32) -> i32", "want (i32) -> i32"),
		load("export missing", without(fnFilter), `"weir_filter" is missing`),
		load("export misspelt", renamed(fnFilter, "weir_fliter"), `"weir_filter" is missing`, "weir_fliter"),
		load("wrong ABI", renamed(0, "weir_abi_2"), "ABI 2", "ABI 1"),
		load("a program", start, "-buildmode=c-shared"),
		load("memory not exported", hidden, `"memory" is missing`),
		load("memory starts over the cap", big, "limits.memory"),
		load("two memories", two, "2 memories"),
		load("forged fuel export", forged, "weir_fuel", "reserved"),
		load("fuel written by index", refill, "global"),
		load("fuel read by index", read, "global"),
	}
}

// broken files are no modules, or hardly.
func broken() []Case {
	good := plain().bytes()
	cases := []Case{
		{Name: "empty file", Fails: FailLoad, Says: []string{"not a WASM module"}},
		{Name: "a component", File: []byte("\x00asm\x0d\x00\x01\x00"), Fails: FailLoad, Says: []string{"component"}},
		{Name: "junk", File: bytes.Repeat([]byte("junk"), 1000), Fails: FailLoad, Says: []string{"not a WASM module"}},
		{Name: "8 MiB and more", File: append(slices.Clone(good), make([]byte, 8<<20)...), Fails: FailLoad, Says: []string{"larger than 8 MiB"}},
		{Name: "8 MiB of junk in a module", File: append(slices.Clone(good), bytes.Repeat([]byte{0xff}, 7<<20)...), Fails: FailLoad},
		{Name: "300k functions", File: crowd().bytes(), Fails: MayFail},
	}
	for at := 9; at < len(good)-1; at += 1 + len(good)/12 {
		cases = append(cases, Case{Name: fmt.Sprintf("truncated at %d", at), File: good[:at], Fails: FailLoad})
	}
	for at := 8; at < len(good); at += 1 + len(good)/60 {
		flipped := slices.Clone(good)
		flipped[at] ^= 1 << (at % 8)
		cases = append(cases, Case{Name: fmt.Sprintf("bit flipped at %d", at), File: flipped, Fails: MayFail})
	}
	return cases
}

// crowd has very many functions of the same type. Types are not shared by the
// assembler, so it stays at what 8 MiB hold.
func crowd() guest {
	g := plain()
	g.funcs = slices.Clone(g.funcs)
	for range 300_000 {
		g.funcs = append(g.funcs, function{})
	}
	return g
}

func manifests() []Case {
	load := func(name, manifest string, says ...string) Case {
		return Case{Name: "manifest " + name, File: plain().manifest(manifest).bytes(), Fails: FailLoad, Says: says}
	}
	twice, none := plain(), plain()
	twice.sections = append(slices.Clone(twice.sections), twice.sections...)
	none.sections = nil
	edit := func(from, to string) string { return strings.Replace(plainManifest, from, to, 1) }
	sample := func(expect string) string {
		return edit(`"fields"`, `"samples":[{"name":"s1","event":{"type":"x"},"expect":"`+expect+`"}],"fields"`)
	}
	return []Case{
		{Name: "manifest missing", File: none.bytes(), Fails: FailLoad, Says: []string{"no manifest"}},
		{Name: "manifest twice", File: twice.bytes(), Fails: FailLoad, Says: []string{"2 manifests"}},
		load("huge", edit("1.2.3", strings.Repeat("1", 300<<10)), "manifest of"),
		load("no JSON", "{", "manifest"),
		load("and more", plainManifest+"{}", "more follows"),
		load("unknown key", edit(`"kind"`, `"on_eror":"pass","kind"`), "on_eror"),
		load("of an unknown kind", edit(`"filter"`, `"filtre"`), "filtre"),
		load("of a kind to come", edit(`"filter"`, `"transform"`), "transform", "not available yet"),
		load("asks for a capability", edit(`"fields"`, `"capabilities":["kv"],"fields"`), `"kv"`, "not granted"),
		load("asks for an unknown capability", edit(`"fields"`, `"capabilities":["dtaa"],"fields"`), `did you mean "data"`),
		load("asks for more memory", edit(`"fields"`, `"limits":{"memory":1073741824},"fields"`), "limits.memory"),
		load("asks for more fuel", edit(`"fields"`, `"limits":{"fuel_per_call":1000000000},"fields"`), "limits.fuel_per_call"),
		load("field twice", edit(`["type"]`, `["type","type"]`), "stands twice"),
		load("too many outputs", edit(`"fields"`, `"outputs":["`+strings.Repeat(`a","`, 40)+`b"],"fields"`), "outputs"),
		load("bad name", edit(`"plain"`, `"Plain One"`), "Plain One"),
		load("sample fails", sample("no"), `"s1"`, "the answer is yes, want no"),
		load("sample expects what cannot be", sample("maybe"), "maybe"),
		{Name: "manifest sample traps", File: plain().with(fnFilter, unreachable).manifest(sample("yes")).bytes(), Fails: FailLoad, Says: []string{`"s1"`, "unreachable"}},
		{Name: "manifest sample passes", File: plain().manifest(sample("yes")).bytes()},
	}
}

// wellBehaved guests check what the host's functions give.
func wellBehaved() []Case {
	equalTo := func(value []byte) []byte { return cat(value, equal, []byte{0x45}, when(unreachable)) }
	reason := plain(impReason).with(fnFilter,
		eachEvent(store(i32c(8), cat(i32c('A'), get(1), add)), get(1), i32c(8), i32c(1), call(0), answer(i32c(1))), i32c(0))
	field := plain(impField).with(fnFilter, store(i32c(8), i32c('i'|'d'<<8)), store(i32c(16), i32c(0)),
		i32c(3), i32c(8), i32c(2), i32c(16), i32c(3), call(0), equalTo(i32c(4)), // 4 needed, 3 given
		load(16), equalTo(i32c(0)), // nothing written
		i32c(3), i32c(8), i32c(2), i32c(16), i32c(4), call(0), equalTo(i32c(4)),
		load(16), equalTo(i32c('"'|'e'<<8|'3'<<16|'"'<<24)),
		i32c(3), i32c(8), i32c(1), i32c(16), i32c(4), call(0), equalTo(i32c(-1)), // no field "i"
		yesToAll)
	now := plain(impNow).with(fnFilter,
		i32c(5), call(0), []byte{0x42}, signed(5e9), []byte{0x52}, when(unreachable), yesToAll)
	clock := plain(impClock).with(fnFilter,
		i32c(1), []byte{0x42, 0}, i32c(8), call(0), drop, load(8), set(2),
		i32c(1), []byte{0x42, 0}, i32c(8), call(0), drop, load(8), get(2), greater, []byte{0x45}, when(unreachable), yesToAll)
	random := plain(impRandom, impReason).with(fnFilter,
		i32c(8), i32c(8), call(0), drop, i32c(0), i32c(8), i32c(8), call(1), yesToAll)
	var first string
	replayed := func(t *testing.T, in plugins.Instance, _ []uint32) {
		first = hex.EncodeToString([]byte(in.Reason(0)))
		if err := filter(in, events); err != nil {
			t.Fatal(err)
		}
		if again := hex.EncodeToString([]byte(in.Reason(0))); again != first || first == "" {
			t.Errorf("random bytes of the same batch: %s, then %s", first, again)
		}
	}
	return []Case{
		{Name: "reason", File: reason.bytes(), Check: func(t *testing.T, in plugins.Instance, _ []uint32) {
			for i := range 20 {
				if got, want := in.Reason(i), string(rune('A'+i)); got != want {
					t.Fatalf("reason %d is %q, want %q", i, got, want)
				}
			}
		}},
		{Name: "field", File: field.bytes()},
		{Name: "now", File: now.bytes()},
		{Name: "clock moves", File: clock.bytes()},
		{Name: "random bytes repeat on a replay", File: random.bytes(), Check: replayed},
		{Name: "same digest twice", File: plain().bytes()},
		{Name: "same digest a third time", File: plain().bytes()},
	}
}
