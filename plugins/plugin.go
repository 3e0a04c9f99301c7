// Package plugins is the contract between Weir and the code that its users
// write. A host carries plug-ins of one sort (WASM guests, processes); all
// hosts take the same batch bytes, manifest and limits, so that moving a
// plug-in from one to the other changes one line of configuration.
//
// A plug-in sees only what its manifest asks for and its configuration grants,
// and a failure of any kind (trap, bad answer, limit) comes back as an error
// of the call: the engine then runs the batch event by event, so that only the
// event at fault meets on_error.
package plugins

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"
)

// Host loads plug-ins of one sort. It is safe for concurrent use.
type Host interface {
	// Name is the key under which configuration names the host, such as "wasm".
	Name() string
	// Load reads, checks and compiles a plug-in and runs its self-test. Errors
	// name the file, the import, export or field, and what would be right.
	Load(ctx context.Context, spec Spec) (Plugin, error)
	// Close frees what plug-ins of this host share; all must be closed before.
	Close(ctx context.Context) error
}

// Identifier is an optional power of a host: what Load would say as Plugin.Digest,
// without loading. With it a reload keeps unchanged plug-ins as they are, at no cost.
type Identifier interface {
	Identify(ctx context.Context, spec Spec) (digest string, err error)
}

// Spec is what configuration says of a plug-in.
type Spec struct {
	Name   string          // the plug-in's name in the configuration
	Path   string          // the module or program, absolute
	Config json.RawMessage // handed to the plug-in's init; nil = {}
	Limits Limits          // narrow the manifest's, never widen it
	Cache  string          // folder for compiled code, "" = none
	Log    *slog.Logger
}

// Limits bound a plug-in. Zero values mean the defaults.
type Limits struct {
	Memory      int64         // bytes an instance, default 16 MiB
	FuelPerCall int64         // instructions a call, default 2 M + 0.5 M an event, at most 20 M
	Timeout     time.Duration // of one blocking call in a process
}

// Kind is what a plug-in does with an event.
type Kind string

// Kinds of plug-ins.
const (
	Filter    Kind = "filter"    // says yes or no, or which of its outputs
	Transform Kind = "transform" // event to events
	Reaction  Kind = "reaction"  // event to emitted events
)

// OnError is what becomes of an event on which a plug-in fails.
type OnError string

// What may become of an event on which a plug-in fails.
const (
	DeadLetter OnError = "dead_letter" // the default
	Retry      OnError = "retry"
	Pass       OnError = "pass"
	Drop       OnError = "drop"
)

// Manifest is what a plug-in says of itself. It stands in the module's custom
// section "weir.manifest" as JSON.
type Manifest struct {
	Name         string          `json:"name"`
	Version      string          `json:"version"`
	Kind         Kind            `json:"kind"`
	Fields       []string        `json:"fields"`         // field paths, in slot order
	Data         bool            `json:"data,omitempty"` // the event's data as the last slot
	Outputs      []string        `json:"outputs,omitempty"`
	Capabilities []string        `json:"capabilities,omitempty"`
	Limits       *ManifestLimits `json:"limits,omitempty"`
	OnError      OnError         `json:"on_error,omitempty"`
	StateVersion int             `json:"state_version,omitempty"`
	ConfigSchema json.RawMessage `json:"config_schema,omitempty"`
	Samples      []Sample        `json:"samples,omitempty"`
}

// ManifestLimits are the limits a plug-in asks for.
type ManifestLimits struct {
	Memory      int64 `json:"memory,omitempty"`
	FuelPerCall int64 `json:"fuel_per_call,omitempty"`
}

// Sample is a self-test: an event (CloudEvents JSON) and the verdict it must get.
type Sample struct {
	Name   string          `json:"name,omitempty"`
	Event  json.RawMessage `json:"event"`
	Expect string          `json:"expect"`           // yes, no, or an output's name
	Config json.RawMessage `json:"config,omitempty"` // instead of Spec.Config
}

// Plugin is a loaded, immutable version of a plug-in.
type Plugin interface {
	Manifest() Manifest
	// Digest is the SHA-256 of the module, in hex.
	Digest() string
	// Instance makes an instance for one lane, initialised with Spec.Config.
	Instance(ctx context.Context) (Instance, error)
	// Close frees the version; its instances must be closed before.
	Close(ctx context.Context) error
}

// Instance runs events. It belongs to one goroutine. After an error it is
// spent: close it and ask the plug-in for another.
type Instance interface {
	// Filter answers for each event of the batch in answers, which has its
	// length: bits 0..30 the outputs taken (bit 0 = yes), bit 31 = the plug-in
	// failed on this event.
	Filter(ctx context.Context, batch *Batch, answers []uint32) error
	// Reason is what the last call gave as explanation for an event, "" if nothing.
	Reason(event int) string
	Close(ctx context.Context) error
}

// Failed is the bit of an answer that says the plug-in failed on the event.
const Failed = 1 << 31
