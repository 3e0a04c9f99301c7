package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/transports"
)

// end picks one end of a transport.
type end struct {
	name     string
	options  func(transports.Transport) []transports.Option
	optional bool // it may go without a transport: there is a default
}

var (
	sourceEnd = end{"source", func(t transports.Transport) []transports.Option { s, _ := t.Options(); return s }, false}
	sinkEnd   = end{"sink", func(t transports.Transport) []transports.Option { _, s := t.Options(); return s }, false}
	deadEnd   = end{"sink", sinkEnd.options, true}
)

// elsewhere are transports by this project that a program may lack; naming one
// is no slip of the pen.
var elsewhere = []string{
	"memory", "local", "file", "http", "pulsar", "kinesis", "eventbridge", "sqs", "kafka", "nats", "redis",
}

// endReader reads a source or sink: its own members, and exactly one transport
// with its settings. check runs last.
func (f *file) endReader(members []member, e end, name *string, settings *transports.Settings,
	check func(fs *findings, n *node, path string),
) reader {
	var known []string
	for _, t := range f.transports {
		options := e.options(t)
		if options == nil {
			continue
		}
		known = append(known, t.Name())
		inner := settingsReader(settings, options, f.dir)
		members = append(members, member{name: t.Name(), doc: "Transport.", reader: reader{
			read: func(fs *findings, n *node, path string) {
				*name = t.Name()
				inner.read(fs, n, path)
			},
			schema: inner.schema,
		}})
	}
	r := object(members...)
	return reader{
		read: func(fs *findings, n *node, path string) {
			if n.kind != mapping {
				fs.wrongType(n, path, "a mapping")
				return
			}
			own := f.refuseStrangers(fs, n, path, e, known)
			r.read(fs, own, path)
			f.countTransports(fs, n, own, path, e, known)
			check(fs, n, path)
		},
		schema: func() schema {
			if e.optional {
				return r.schema()
			}
			return exactlyOne(r.schema(), known)
		},
	}
}

// refuseStrangers reports transports that this program or end lacks, and
// returns the mapping without them.
func (f *file) refuseStrangers(fs *findings, n *node, path string, e end, known []string) *node {
	own := node{at: n.at, kind: mapping}
	for _, p := range n.pairs {
		linked := slices.ContainsFunc(f.transports, func(t transports.Transport) bool { return t.Name() == p.key })
		switch {
		case slices.Contains(known, p.key):
		case linked:
			fs.add(p.at, join(path, p.key), fmt.Sprintf("the transport %s has no %ss", p.key, e.name), "")
			continue
		case slices.Contains(elsewhere, p.key):
			fs.add(p.at, join(path, p.key), "this program has no such transport", didYouMean("", known))
			continue
		}
		own.put(p)
	}
	return &own
}

// countTransports wants exactly one.
func (f *file) countTransports(fs *findings, n, own *node, path string, e end, known []string) {
	strangers := len(n.pairs) - len(own.pairs)
	switch count := countKeys(own, known); {
	case count == 0 && strangers == 0 && !e.optional:
		fs.add(n.at, path, "the transport is missing", "exactly one of: "+strings.Join(known, ", "))
	case count > 1:
		fs.add(n.at, path, "more than one transport", "exactly one of: "+strings.Join(known, ", "))
	}
}

func countKeys(n *node, keys []string) int {
	count := 0
	for _, p := range n.pairs {
		if slices.Contains(keys, p.key) {
			count++
		}
	}
	return count
}

// exactlyOne adds to a section's schema that it needs one of some keys.
func exactlyOne(s schema, keys []string) schema {
	var one []schema
	for _, k := range keys {
		one = append(one, schema{"required": []string{k}})
	}
	s["type"] = "object"
	if len(one) > 0 {
		s["oneOf"] = one
	}
	return s
}

// CodecAt is the codec of a sink's entries: its own, or the one that its end needs.
func (s *Sink) CodecAt(end transports.Sink) (event.Codec, error) {
	codec, err := event.ParseCodec(s.Codec)
	if err != nil {
		return codec, err
	}
	encoded, ok := end.(transports.Encoded)
	if !ok || encoded.Codec() == nil {
		return codec, nil
	}
	needs, err := event.ParseCodec(encoded.Codec())
	if err == nil && !codec.IsOriginal() && codec.String() != needs.String() {
		err = fmt.Errorf("codec: %v, but %s needs %v here; leave codec out", codec, s.Transport, needs)
	}
	return needs, err
}
