package config

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/transports"
)

// Plan is a whole configuration that has been checked: names resolve, settings
// have their Go types, defaults are filled in, paths are absolute. Lists are
// sorted by name. It is immutable once made, and holds the values of secrets:
// never print or log it.
type Plan struct {
	// Dir is the folder of the configuration file, absolute; relative paths of
	// the configuration start there.
	Dir string
	// Digest is the SHA-256, in hex, of everything below. Two files that mean
	// the same have the same digest.
	Digest string

	Node        Node
	Sources     []Source
	Plugins     []Plugin
	Routes      []Route
	Unmatched   []string // sinks that take what no pattern matched
	Sinks       []Sink
	DeadLetters DeadLetters
	Journal     Journal
	Registry    Registry

	// Warnings are findings that do not keep the plan from running, such as a
	// sink that no route uses.
	Warnings []Mistake

	// Files are those that the plan was made of.
	Files Made

	places  map[string]place
	secrets []string
}

// Made says what files a plan was made of. Modules of plug-ins are no part of it.
type Made struct {
	Names    []string // the configuration first, then files of values; absolute
	Patterns []string // of included files, as package filepath matches them; absolute
}

// Node is this instance of the engine.
type Node struct {
	Data   string // data folder, absolute
	Lanes  int    // 0 = one a core
	Limits Limits
	Log    Log
	Admin  Admin
	Trace  Trace
}

// Trace is where traces of events go, in the form of OpenTelemetry over HTTP.
type Trace struct {
	Endpoint string  // URL; "" = off
	Ratio    float64 // of the events without a traceparent of their own
	Parent   bool    // a traceparent decides for its event: sampled or not
	Header   string  // secret, "Name: value"; sent with each request
	Queue    int     // events that wait to be sent
	Timeout  time.Duration
	Service  string // name of this service in the traces
}

// Limits are a node's ceilings. They are never zero.
type Limits struct {
	Event         int   // bytes of one event
	InFlight      int   // events taken from sources and not settled
	InFlightBytes int64 // bytes of what the lanes are not done with
	Disk          int64 // bytes of the data folder
}

// Log says how much the program tells of itself, and in which form.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // text, json
}

// Admin is the API over TCP; the socket in the data folder is always there.
type Admin struct {
	Listen string   // host:port; "" = no TCP
	Token  string   // secret
	Hosts  []string // further names by which clients may reach it
	TLS    AdminTLS
}

// AdminTLS is the certificate of the API over TCP. Paths are absolute.
type AdminTLS struct {
	Cert, Key string // PEM files; "" = no TLS
	ClientCA  string // PEM file: clients must have a certificate of it; "" = they need none
}

// Source is an inbound end.
type Source struct {
	Name      string
	Transport string
	Settings  transports.Settings
	Codec     []string // from outside in; never empty
	Missing   event.Missing
	Key       string // canonical field path; "" = the transport's own key, else the identity
	Dedup     *Dedup // nil = off
	Expire    Expire
	State     string // "" or "per_node"
	Digest    string // SHA-256 of the fields above, in hex
}

// Dedup is a source's de-duplication.
type Dedup struct {
	Window      time.Duration
	MaxIDs      int
	OnConflict  string   // dead_letter or duplicate
	ID          []string // field paths of the identity; nil = the codec's
	Version     string   // field path of the version; "" = the codec's
	UpdateTypes []string // event types whose higher version passes; nil = all
}

// Expire discards stale events. With On and no After only an event's own
// expirytime counts.
type Expire struct {
	On    bool
	After time.Duration // age at which events are stale; 0 = never
}

// Plugin is a plug-in to load.
type Plugin struct {
	Name    string
	Host    string // name of the plug-in host, such as "wasm"
	Path    string // absolute
	Config  json.RawMessage
	Limits  plugins.Limits  // zero values = the manifest's, else the defaults
	OnError plugins.OnError // "" = the manifest's, else dead_letter
	Digest  string          // SHA-256 of the fields above, in hex; not of the module
}

// Route sends the events of some sources that match a pattern to sinks.
type Route struct {
	Name   string
	From   []string // names of sources, sorted; all of them where the file names none
	When   []byte   // the pattern as JSON text; nil = every event
	Filter []string // names of plug-ins, in order; all must say yes
	// Transform changes the event for this route's sinks and reactions, step by step.
	Transform []Step
	React     []Step   // each emits a derived event
	To        []string // names of sinks, in the file's order; empty with Switch
	Switch    *Switch  // nil = To
}

// Step makes an event out of another one.
type Step struct {
	Template []byte            // as package template reads it
	Paths    map[string]string // names for paths, which the template uses
}

// Switch sends an event to the sinks of those outputs that a plug-in names.
type Switch struct {
	Plugin  string
	Outputs []Output // sorted by name, without else
	Else    []string // sinks for events for which the plug-in names no output; nil = dropped by the filter's no
}

// Output is a named output of a plug-in and the sinks it goes to.
type Output struct {
	Name string
	To   []string
}

// Sink is an outbound end.
type Sink struct {
	Name       string
	Transport  string
	Settings   transports.Settings
	Codec      []string // from outside in; {"original"} = byte for byte
	Batch      Batch
	Retry      Retry
	Duplicates string // ok: an unknown outcome is tried again; reject: it is a dead letter
	// Templates names the settings in which placeholders stand for fields of each event,
	// in the transport's order.
	Templates []string
	Escapes   []transports.Escaping // of Templates, in their order
	Digest    string                // SHA-256 of the fields above, in hex
}

// Batch bounds what a sink collects before it writes.
type Batch struct {
	Count int
	Wait  time.Duration
}

// Retry says how long a sink's deliveries are tried, and how they wait.
type Retry struct {
	ParkAfter  time.Duration // unfinished after this: into the park queue
	MaxAge     time.Duration // then a dead letter
	BlockedKey string        // wait, or park: later events of the key are dead-lettered with it
	BackoffMin time.Duration
	BackoffMax time.Duration
}

// DeadLetters is where events go that cannot be delivered.
type DeadLetters struct {
	Sink Sink // named DeadLettersName; Transport "" = off, reasons stand in the journal only
	Keep time.Duration
	Max  int64 // bytes
}

// DeadLettersName is the name of the dead letters' sink; no other may have it.
const DeadLettersName = "dead_letters"

// Journal is the record of what became of every event.
type Journal struct {
	Keep time.Duration
	Max  int64    // bytes
	To   []string // sinks that get it as events
}

// Registry is where services say which events they want; see package registry.
type Registry struct {
	URL     string // "" = none
	Every   time.Duration
	Timeout time.Duration
	Token   string // secret
	Max     int64  // bytes of a list
	From    []string
	Codec   []string
}

// Defaults of what a file does not say.
const (
	DefaultRegistryEvery   = 30 * time.Second
	DefaultRegistryTimeout = 10 * time.Second
	DefaultRegistryMax     = 1 << 20

	DefaultData          = "./weir-data"
	DefaultEvent         = 1 << 20
	DefaultInFlight      = 10_000
	DefaultInFlightBytes = 64 << 20
	DefaultDisk          = 20 << 30

	DefaultDedupWindow = 10 * time.Minute
	DefaultDedupMaxIDs = 2_000_000

	DefaultBatchCount = 500
	DefaultBatchWait  = 5 * time.Millisecond
	DefaultParkAfter  = time.Second
	DefaultMaxAge     = time.Hour
	DefaultBackoffMin = 10 * time.Millisecond
	DefaultBackoffMax = 5 * time.Second

	DefaultDeadLettersKeep = 14 * 24 * time.Hour
	DefaultDeadLettersMax  = 5 << 30
	DefaultJournalKeep     = 7 * 24 * time.Hour
	DefaultJournalMax      = 10 << 30
)

// Source returns the source of a name, nil where there is none.
func (p *Plan) Source(name string) *Source {
	for i := range p.Sources {
		if p.Sources[i].Name == name {
			return &p.Sources[i]
		}
	}
	return nil
}

// Sink returns the sink of a name, nil where there is none.
func (p *Plan) Sink(name string) *Sink {
	for i := range p.Sinks {
		if p.Sinks[i].Name == name {
			return &p.Sinks[i]
		}
	}
	return nil
}

// Plugin returns the plug-in of a name, nil where there is none.
func (p *Plan) Plugin(name string) *Plugin {
	for i := range p.Plugins {
		if p.Plugins[i].Name == name {
			return &p.Plugins[i]
		}
	}
	return nil
}

// Mistake makes a mistake at the place where the configuration says path, such
// as "plugins.vip.wasm", or at the nearest place above it. It is for what only
// shows when the plan is put to work: a module that does not load, a broker
// that refuses the password.
func (p *Plan) Mistake(path, problem, hint string) Mistake {
	m := Mistake{Path: path, Error: problem, Hint: hint}
	for at := path; ; at = parentPath(at) {
		if pl, ok := p.places[at]; ok {
			m.File, m.Line, m.Column = pl.file, pl.line, pl.column
			return m
		}
		if at == "" {
			return m
		}
	}
}

// Derives says that some route emits events.
func (p *Plan) Derives() bool {
	return slices.ContainsFunc(p.Routes, func(r Route) bool { return len(r.React) > 0 })
}
