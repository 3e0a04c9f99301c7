package transports

import "time"

// Option is one setting of a transport: what configuration checks, `weir
// schema` prints and docs list. Values arrive in Settings under Name with the
// Go type that Type names.
type Option struct {
	Name     string
	Type     OptionType
	Required bool
	Default  any      // of Type's Go type; nil = zero value
	Enum     []string // String only: the values allowed
	Doc      string   // one sentence
	Secret   bool     // only by reference; never printed
	Path     bool     // String only: a path, made absolute against Env.BaseDir
	// Template lets placeholders in the value stand for fields of each event, such as
	// "orders-<data.region>". Of sinks, String and Strings only: what the texts are for
	// an event stands in Entry.Rendered, in the order of Options and of the elements.
	// Settings that are not set have no place there. Settings hold the text with its placeholders.
	Template bool
	Escape   Escaping // of templates: how values are written into the text
}

// OptionType names the Go type of an option's value.
type OptionType uint8

// Option types and the Go types of their values.
const (
	String   OptionType = iota // string
	Int                        // int64
	Bool                       // bool
	Size                       // int64, bytes; written as 16MiB
	Duration                   // time.Duration; written as 5s
	Strings                    // []string
)

// Settings are a source's or sink's checked options by name, defaults filled in.
type Settings map[string]any

// String returns a String option, "" where unset.
func (s Settings) String(name string) string { v, _ := s[name].(string); return v }

// Int returns an Int or Size option, 0 where unset.
func (s Settings) Int(name string) int64 { v, _ := s[name].(int64); return v }

// Bool returns a Bool option, false where unset.
func (s Settings) Bool(name string) bool { v, _ := s[name].(bool); return v }

// Duration returns a Duration option, 0 where unset.
func (s Settings) Duration(name string) time.Duration { v, _ := s[name].(time.Duration); return v }

// Strings returns a Strings option, nil where unset.
func (s Settings) Strings(name string) []string { v, _ := s[name].([]string); return v }
