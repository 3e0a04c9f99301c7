package config

import (
	"encoding/json"
	"slices"

	"github.com/weir-project/weir/transports"
)

// schema is a part of a JSON Schema (draft 2020-12).
type schema map[string]any

// Schema returns the JSON Schema of a configuration file for a program with
// these transports and plug-in hosts, indented, for editors and other tools.
// It accepts every file that Load accepts; what names refer to, and what
// settings mean together, only Load checks.
func Schema(ts []transports.Transport, hosts []string) []byte {
	f := &file{transports: ts, hosts: hosts}
	root := f.reader().schema()
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Weir configuration"
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		// Only defaults of options come from outside; they are plain values by contract.
		panic("config: a transport's default is no plain value: " + err.Error())
	}
	return append(out, '\n')
}

// reference is how values look before references are replaced.
var reference = schema{"type": "string", "pattern": `\$\{`}

func orReference(s schema) schema { return schema{"anyOf": []schema{s, reference}} }

func objectSchema(members []member) schema {
	properties := schema{}
	var required []string
	for _, m := range members {
		if m.later {
			continue
		}
		s := m.schema()
		if m.doc != "" {
			s["description"] = m.doc
		}
		properties[m.name] = s
		if m.required {
			required = append(required, m.name)
		}
	}
	out := schema{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["type"] = "object"
		out["required"] = slices.Sorted(slices.Values(required))
	}
	return out
}

func textSchema(enum []string) schema {
	if len(enum) == 0 {
		// A reference without quotes is still text here, whatever it brings.
		return schema{"type": "string"}
	}
	return orReference(schema{"enum": enum})
}

func textsSchema() schema {
	one := schema{"type": "string"}
	return schema{"anyOf": []schema{one, {"type": "array", "items": one}, {"type": "null"}}}
}

func wholeSchema(lowest, highest int64) schema {
	return schema{"anyOf": []schema{
		{"type": "integer", "minimum": lowest, "maximum": highest},
		{"type": "string", "pattern": `^-?[1-9][0-9_]*$`}, // 10_000 is text to most readers of YAML
		reference,
	}}
}

func sizeSchema() schema {
	return schema{"anyOf": []schema{
		{"type": "integer", "minimum": 0},
		{"type": "string", "pattern": `^[0-9][0-9_]*(\.[0-9_]+)? *([KMGT]i?B|kB|B)?$`},
		reference,
	}}
}

func durationSchema() schema {
	return schema{"anyOf": []schema{
		{"const": 0},
		{"type": "string", "pattern": `^(0|([0-9]*\.?[0-9]*(d|h|m|s|ms|us|µs|μs|ns))+)$`},
		reference,
	}}
}

// optionSchema describes a transport's option.
func optionSchema(o transports.Option) schema {
	var s schema
	switch o.Type {
	case transports.Int:
		s = schema{"anyOf": []schema{{"type": "integer"}, {"type": "string", "pattern": `^-?[1-9][0-9_]*$`}, reference}}
	case transports.Bool:
		s = orReference(schema{"type": "boolean"})
	case transports.Size:
		s = sizeSchema()
	case transports.Duration:
		s = durationSchema()
	case transports.Strings:
		s = textsSchema()
		if o.Secret {
			one := schema{"type": "string", "pattern": `\$\{`}
			s = schema{"anyOf": []schema{one, {"type": "array", "items": one}, {"type": "null"}}}
		}
	default:
		s = textSchema(o.Enum)
		if o.Secret {
			s = schema{"type": "string", "pattern": `\$\{`}
		}
	}
	if o.Default != nil && !o.Secret {
		s["default"] = defaultText(o)
	}
	return s
}
