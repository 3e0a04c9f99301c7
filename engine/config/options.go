package config

import (
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/weir-project/weir/transports"
)

// longest is the ceiling of durations that have no other.
const longest = 100 * 365 * 24 * time.Hour

// settingsReader reads a transport's options of one end.
func settingsReader(dst *transports.Settings, options []transports.Option, dir string) reader {
	settings := transports.Settings{}
	for _, o := range options {
		if o.Default != nil {
			settings[o.Name] = o.Default
		}
	}
	var members []member
	for _, o := range options {
		members = append(members, member{
			name: o.Name, doc: o.Doc, required: o.Required,
			reader: optionReader(settings, o, dir),
		})
	}
	r := object(members...)
	read := r.read
	r.read = func(f *findings, n *node, path string) {
		read(f, n, path)
		*dst = settings
	}
	return r
}

// optionReader reads one option into settings, with the Go type its contract names.
func optionReader(settings transports.Settings, o transports.Option, dir string) reader {
	read := func(f *findings, n *node, path string) {
		if o.Secret {
			f.keepSecret(n)
		}
		switch o.Type {
		case transports.Int:
			store(f, n, path, settings, o.Name, func(v *int64) reader { return whole(v, math.MinInt64, math.MaxInt64) })
		case transports.Bool:
			store(f, n, path, settings, o.Name, yesNo)
		case transports.Size:
			store(f, n, path, settings, o.Name, func(v *int64) reader { return size(v, 0, math.MaxInt64) })
		case transports.Duration:
			store(f, n, path, settings, o.Name, func(v *time.Duration) reader { return duration(v, 0, longest) })
		case transports.Strings:
			if o.Secret && refuseSecrets(f, n, path) {
				return
			}
			store(f, n, path, settings, o.Name, func(v *[]string) reader { return texts(v, nil) })
		default:
			readStringOption(f, n, path, settings, o, dir)
		}
	}
	return reader{read: read, schema: func() schema { return optionSchema(o) }}
}

// store reads a value and keeps it in settings where it was right.
func store[T any](f *findings, n *node, path string, settings transports.Settings, name string, to func(*T) reader) {
	var v T
	before := len(f.mistakes)
	to(&v).read(f, n, path)
	if len(f.mistakes) == before {
		settings[name] = v
	}
}

func readStringOption(f *findings, n *node, path string, settings transports.Settings, o transports.Option, dir string) {
	if o.Secret && !f.literal && n.kind == scalar && n.raw == "" && n.text != "" {
		f.add(n.at, path, "a secret stands in the file", "bring it by reference: ${VAR} or ${file:path}")
		return
	}
	var v string
	before := len(f.mistakes)
	text(&v, o.Enum...).read(f, n, path)
	switch {
	case len(f.mistakes) > before:
		return
	case o.Required && v == "":
		f.add(n.at, path, "must not be empty", o.Doc)
		return
	case o.Path:
		v = absolute(dir, v)
	}
	settings[o.Name] = v
}

// refuseSecrets reports secrets of a list that stand in the file.
func refuseSecrets(f *findings, n *node, path string) (found bool) {
	for _, item := range append([]*node{n}, n.items...) {
		if !f.literal && item.kind == scalar && item.raw == "" && item.text != "" {
			f.add(item.at, path, "a secret stands in the file", "bring it by reference: ${VAR} or ${file:path}")
			found = true
		}
	}
	return found
}

// absolute makes a path absolute; "" and "-" (standard input or output) are no paths.
func absolute(dir, path string) string {
	if path == "" || path == "-" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// defaultText writes a default as the file would.
func defaultText(o transports.Option) any {
	switch v := o.Default.(type) {
	case time.Duration:
		return formatDuration(v)
	case int64:
		if o.Type == transports.Size {
			return formatSize(v)
		}
		return v
	case string, bool, int, []string:
		return v
	}
	return fmt.Sprint(o.Default)
}
