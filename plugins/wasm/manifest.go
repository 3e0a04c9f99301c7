package wasm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/weir-project/weir/plugins"
)

// ManifestSection is the custom section that holds the manifest.
const ManifestSection = "weir.manifest"

const (
	maxOutputs = 31 // bits 0..30 of an answer
	maxSamples = 256
	maxText    = 128 // bytes of a name or version
)

var pluginName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)

// Info is what Inspect finds in a module.
type Info struct {
	Digest    string            // SHA-256 of the file, in hex
	Size      int               // bytes
	Manifest  *plugins.Manifest // nil if it has none that can be read
	Imports   []Function
	Exports   []Function // functions only
	MemoryMin int64      // bytes at the start
	MemoryMax int64      // bytes it may grow to, 0 = unbounded
	Problems  []string   // why a host would refuse it, none = it keeps the contract
}

// Function is an imported or exported function.
type Function struct {
	Module string // of an import
	Name   string
	Type   string // such as "(i32, i32) -> i32"
}

// Inspect describes a module, also one that a host would refuse. It fails only
// where the bytes are no module.
func Inspect(file []byte) (Info, error) {
	digest := sha256.Sum256(file)
	info := Info{Digest: hex.EncodeToString(digest[:]), Size: len(file)}
	m, err := parse(file)
	if err != nil {
		return info, err
	}
	for _, i := range m.imports {
		info.Imports = append(info.Imports, Function{Module: i.module, Name: i.name, Type: i.typ.String()})
	}
	for _, e := range m.exports {
		if e.kind != kindFunc {
			continue
		}
		typ, _ := m.funcType(e.index)
		info.Exports = append(info.Exports, Function{Name: e.name, Type: typ.String()})
	}
	if len(m.memories) > 0 {
		info.MemoryMin = int64(m.memories[0].min) << 16
		info.MemoryMax = int64(m.memories[0].max) << 16
	}
	if len(file) > MaxModule {
		info.Problems = append(info.Problems, fmt.Sprintf("the module is larger than %d MiB", MaxModule>>20))
	}
	manifest, err := readManifest(m)
	if err == nil {
		info.Manifest = manifest
	}
	kind := plugins.Filter
	if manifest != nil {
		kind = manifest.Kind
	}
	for _, err := range append([]error{err}, checkContract(m, kind)...) {
		if err != nil {
			info.Problems = append(info.Problems, err.Error())
		}
	}
	if _, err := addFuel(m, startFuel); err != nil {
		info.Problems = append(info.Problems, err.Error())
	}
	return info, nil
}

// Pack returns the module with the manifest in it, in place of one that it
// had. The manifest is checked; the module's code is not touched.
func Pack(file, manifest []byte) ([]byte, error) {
	m, err := parse(file)
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	if _, err := parseManifest(manifest); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	var text bytes.Buffer
	if err := json.Compact(&text, manifest); err != nil {
		return nil, fmt.Errorf("pack: manifest: %w", err)
	}
	out := append(make([]byte, 0, len(file)+text.Len()+32), wasmHeader...)
	for _, s := range m.sections {
		if s.id != secCustom || s.name != ManifestSection {
			out = appendSection(out, s.id, s.body)
		}
	}
	body := appendLEB(nil, uint64(len(ManifestSection)))
	body = append(append(body, ManifestSection...), text.Bytes()...)
	return appendSection(out, secCustom, body), nil
}

// check reads a module and holds it against the contract. The error lists
// every mistake.
func check(file []byte) (*module, *plugins.Manifest, error) {
	m, err := parse(file)
	if err != nil {
		return nil, nil, err
	}
	manifest, err := readManifest(m)
	kind := plugins.Filter
	if manifest != nil {
		kind = manifest.Kind
	}
	all := checkContract(m, kind)
	if err != nil {
		all = append([]error{err}, all...)
	}
	return m, manifest, errors.Join(all...)
}

func readManifest(m *module) (*plugins.Manifest, error) {
	data, n := m.custom(ManifestSection)
	switch {
	case n == 0:
		return nil, fmt.Errorf("no manifest: the custom section %q is missing (`weir plugin pack` adds it)", ManifestSection)
	case n > 1:
		return nil, fmt.Errorf("%d manifests: the custom section %q may stand once", n, ManifestSection)
	}
	return parseManifest(data)
}

func parseManifest(data []byte) (*plugins.Manifest, error) {
	if len(data) > MaxManifest {
		return nil, fmt.Errorf("manifest of %d bytes, at most %d", len(data), MaxManifest)
	}
	var m plugins.Manifest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields() // a misspelt on_error must not mean the default
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("manifest: more follows after the JSON object")
	}
	return &m, errors.Join(checkManifest(&m)...)
}

func checkManifest(m *plugins.Manifest) []error {
	var all []error
	bad := func(format string, args ...any) { all = append(all, fmt.Errorf("manifest: "+format, args...)) }
	if !pluginName.MatchString(m.Name) {
		bad("name is %.70q, want lower-case letters, digits, '_', '.', '-', at most 64", m.Name)
	}
	if m.Version == "" || len(m.Version) > maxText {
		bad("version is %.70q, want 1 to %d bytes", m.Version, maxText)
	}
	switch m.Kind {
	case plugins.Filter:
	case plugins.Transform, plugins.Reaction:
		bad("kind %q is not available yet, only \"filter\" is", m.Kind)
	default:
		bad("kind is %.70q, want \"filter\"", m.Kind)
	}
	if n := len(m.Fields); n >= plugins.MaxSlots {
		bad("%d fields, at most %d", n, plugins.MaxSlots-1)
	}
	checkNames(bad, "fields", m.Fields, maxPath)
	if n := len(m.Outputs); n > maxOutputs {
		bad("%d outputs, at most %d", n, maxOutputs)
	}
	checkNames(bad, "outputs", m.Outputs, maxText)
	for _, reserved := range []string{"yes", "no", "else"} {
		if slices.Contains(m.Outputs, reserved) {
			bad("output %q has a meaning of its own, name it otherwise", reserved)
		}
	}
	for _, c := range m.Capabilities {
		if _, known := capabilities[c]; known {
			bad("capability %q is not granted: no capability is available to a filter yet", c)
		} else {
			bad("capability %.70q does not exist%s", c, didYouMean(c, keys(capabilities)))
		}
	}
	switch m.OnError {
	case "", plugins.DeadLetter, plugins.Retry, plugins.Pass, plugins.Drop:
	default:
		bad("on_error is %.70q, want dead_letter, retry, pass or drop%s", m.OnError,
			didYouMean(string(m.OnError), []string{"dead_letter", "retry", "pass", "drop"}))
	}
	if m.StateVersion < 0 {
		bad("state_version is %d, want 0 or more", m.StateVersion)
	}
	if l := m.Limits; l != nil && (l.Memory < 0 || l.FuelPerCall < 0) {
		bad("limits are negative")
	}
	if n := len(m.Samples); n > maxSamples {
		bad("%d samples, at most %d", n, maxSamples)
	}
	for i, s := range m.Samples {
		if _, err := expected(m, s.Expect); err != nil {
			bad("sample %s: %w", sampleName(i, s), err)
		}
	}
	return all
}

func checkNames(bad func(string, ...any), what string, names []string, longest int) {
	seen := map[string]bool{}
	for _, n := range names {
		if n == "" || len(n) > longest {
			bad("%s: %.70q, want 1 to %d bytes", what, n, longest)
		}
		if seen[n] {
			bad("%s: %.70q stands twice", what, n)
		}
		seen[n] = true
	}
}

// limits are those of one plug-in, settled from manifest and configuration.
type limits struct {
	memory int64
	fuel   int64 // a call; 0 = by its events
}

func settleLimits(m *plugins.Manifest, granted plugins.Limits) (limits, error) {
	var asked plugins.ManifestLimits
	if m.Limits != nil {
		asked = *m.Limits
	}
	if granted.Memory < 0 || granted.Memory > MaxMemory {
		return limits{}, fmt.Errorf("limits.memory is %d, want at most %d", granted.Memory, MaxMemory)
	}
	if granted.FuelPerCall < 0 || granted.FuelPerCall > MaxFuel {
		return limits{}, fmt.Errorf("limits.fuel_per_call is %d, want at most %d", granted.FuelPerCall, int64(MaxFuel))
	}
	memory := granted.Memory
	if memory == 0 {
		memory = DefaultMemory
		if asked.Memory > memory {
			return limits{}, fmt.Errorf("the manifest asks for %d bytes of memory, granted are %d: set limits.memory", asked.Memory, memory)
		}
	}
	if asked.Memory > 0 {
		memory = min(memory, asked.Memory)
	}
	fuel := granted.FuelPerCall
	if fuel == 0 && asked.FuelPerCall > defaultFuelMost {
		return limits{}, fmt.Errorf("the manifest asks for %d of fuel a call, granted are %d: set limits.fuel_per_call", asked.FuelPerCall, defaultFuelMost)
	}
	if asked.FuelPerCall > 0 && (fuel == 0 || asked.FuelPerCall < fuel) {
		fuel = asked.FuelPerCall
	}
	return limits{memory: memory &^ (1<<16 - 1), fuel: fuel}, nil
}

func (l limits) budget(events int) int64 {
	if l.fuel > 0 {
		return l.fuel
	}
	return min(defaultFuel+int64(events)*defaultFuelEvent, defaultFuelMost)
}

// answerMask has the bits that a right answer may have.
func answerMask(outputs int) uint32 {
	if outputs == 0 {
		return plugins.Failed | 1
	}
	return plugins.Failed | uint32(1)<<outputs - 1
}
