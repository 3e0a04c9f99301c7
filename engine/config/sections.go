package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/engine/program"
	"github.com/weir-project/weir/plugins"
)

// Limits of what one configuration may hold.
const (
	maxSources = 1024
	maxPlugins = 1024
	maxSinks   = 1024
	maxRoutes  = 1_000_000
	maxOutputs = 31 // bits of a plug-in's answer
)

// reader describes a whole configuration file.
func (f *file) reader() reader {
	p := &f.plan
	members := []member{
		{name: "version", doc: "Version of this form: 1.", reader: versionReader(&f.version)},
		{name: "include", doc: "Patterns of further files with sources, plugins, routes and sinks.", reader: f.includeReader()},
		{name: "node", doc: "This instance.", reader: f.nodeReader()},
		{name: "unmatched", doc: "Sinks for events that no route's pattern matched.", reader: f.names(&p.Unmatched, "sink")},
		{name: "dead_letters", doc: "Where events go that cannot be delivered.", reader: f.deadLettersReader()},
		{name: "journal", doc: "The record of what became of every event.", reader: object(
			member{name: "keep", doc: "How long; default 7d.", reader: duration(&p.Journal.Keep, time.Minute, longest)},
			member{name: "max", doc: "How much on disk; default 10GiB.", reader: size(&p.Journal.Max, 1<<20, maxBytes)},
			member{name: "to", doc: "Sinks that get it as events.", reader: f.names(&p.Journal.To, "sink")},
		)},
		{name: "registry", doc: "Where services say which events they want.", reader: f.registryReader()},
		later("fences"), later("templates"),
	}
	return object(append(members, f.parts()...)...)
}

// versionReader takes the only version of the form that there is so far.
func versionReader(dst *int) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if *dst = 1; n.kind != scalar || n.text != "1" {
				f.add(n.at, path, n.what()+" is not a known version of this form", "version: 1")
			}
		},
		schema: func() schema { return schema{"const": 1} },
	}
}

// partReader describes an included file.
func (f *file) partReader() reader {
	return object(append(f.parts(), member{
		name: "version", reader: versionReader(new(int)),
	})...)
}

// parts are the sections of named things, which included files may hold too.
func (f *file) parts() []member {
	p := &f.plan
	return []member{
		{name: "sources", doc: "Where events come from.", reader: f.defining("source", named("source", maxSources,
			func(name string) (*Source, reader) { s := &Source{Name: name}; return s, f.sourceReader(s) },
			func(s *Source) { p.Sources = append(p.Sources, *s) }))},
		{name: "plugins", doc: "Code of users.", reader: f.defining("plug-in", named("plug-in", maxPlugins,
			func(name string) (*Plugin, reader) { x := &Plugin{Name: name}; return x, f.pluginReader(x) },
			func(x *Plugin) { p.Plugins = append(p.Plugins, *x) }))},
		{name: "routes", doc: "Which events go where.", reader: f.defining("route", named("route", maxRoutes,
			func(name string) (*Route, reader) { r := &Route{Name: name}; return r, f.routeReader(r) },
			func(r *Route) { p.Routes = append(p.Routes, *r) }))},
		{name: "sinks", doc: "Where events go to.", reader: f.defining("sink", named("sink", maxSinks,
			func(name string) (*Sink, reader) { s := newSink(name); return s, f.sinkReader(s) },
			func(s *Sink) { p.Sinks = append(p.Sinks, *s) }))},
	}
}

// defining refuses names that another file has defined.
func (f *file) defining(what string, r reader) reader {
	read := r.read
	r.read = func(fs *findings, n *node, path string) {
		if n.kind != mapping {
			read(fs, n, path)
			return
		}
		fresh := node{at: n.at, kind: mapping}
		if len(n.twice) > 0 {
			f.uncertain[what] = true
		}
		for _, p := range n.pairs {
			full := join(path, p.key)
			if first, ok := f.defined[full]; ok {
				f.uncertain[what] = true
				fs.add(p.at, full, "defined twice", fmt.Sprintf("first at %s:%d", first.file, first.line))
				continue
			}
			f.defined[full] = p.at
			fresh.put(p)
		}
		read(fs, &fresh, path)
	}
	return r
}

func (f *file) includeReader() reader {
	var patterns []string
	return texts(&patterns, func(_ *findings, n *node, _ string) bool {
		f.include = append(f.include, n)
		return true
	})
}

func (f *file) sourceReader(s *Source) reader {
	dedup, expire := true, false
	s.Dedup = &Dedup{Window: DefaultDedupWindow, MaxIDs: DefaultDedupMaxIDs, OnConflict: "dead_letter"}
	s.Codec = []string{"auto"}
	var codec *node
	d := s.Dedup
	members := []member{
		{name: "codec", doc: "The envelope of events, or a list from outside in; default auto.", reader: f.codecReader(&s.Codec, &codec)},
		{name: "missing", doc: "What stands in for what an envelope lacks.", reader: object(
			member{name: "source", doc: "The event's source, a URI reference.", reader: uriReference(&s.Missing.Source)},
			member{name: "zone", doc: "Time zone of times without an offset, such as UTC or Europe/Berlin.", reader: zone(&s.Missing.Zone)},
			member{name: "epoch_unit", doc: "Unit of times that are numbers.", reader: text(&s.Missing.EpochUnit, "s", "ms", "us", "ns")},
		)},
		{name: "key", doc: "Field whose value keeps events in order; default: the transport's own key, else the identity.", reader: fieldPath(&s.Key)},
		{name: "dedup", doc: "De-duplication; on by default.", reader: switchable(&dedup, object(
			member{name: "window", doc: "How long an id is known; default 10m.", reader: duration(&d.Window, time.Second, 366*24*time.Hour)},
			member{name: "max_ids", doc: "How many ids are known; default 2_000_000.", reader: whole(&d.MaxIDs, 1, 1_000_000_000)},
			member{name: "on_conflict", doc: "What becomes of an id that comes again with other data.", reader: text(&d.OnConflict, "dead_letter", "duplicate")},
			member{name: "id", doc: "Fields that make the identity, instead of the envelope's own.", reader: fieldPaths(&d.ID)},
			member{name: "version", doc: "Field with the version of an event.", reader: fieldPath(&d.Version)},
			member{name: "update_types", doc: "The only event types whose higher version passes.", reader: texts(&d.UpdateTypes, nil)},
		))},
		{name: "expire", doc: "Discard stale events; off by default.", reader: switchable(&expire, object(
			member{name: "after", doc: "Age at which an event is stale.", reader: duration(&s.Expire.After, time.Millisecond, longest)},
		))},
		{name: "state", doc: "per_node: state of this source's events may stay with one node.", reader: text(&s.State, "per_node")},
		later("fix"),
	}
	return f.endReader(members, sourceEnd, &s.Transport, &s.Settings, func(fs *findings, n *node, path string) {
		if !dedup {
			s.Dedup = nil
		}
		s.Expire.On = expire
		if s.Name == derive.Name {
			fs.add(n.at, path, "the name is taken: it stands for the events that routes derive", "")
		}
		if s.Transport == program.Name {
			f.programCodec(&s.Codec, codec, path)
			return
		}
		f.checkSourceCodec(s, codec, n, path)
	})
}

// programCodec fixes the codec of an end that lies in the program: what passes there
// are events, not bytes.
func (f *file) programCodec(codec *[]string, at *node, path string) {
	*codec = []string{event.CloudEvents.String()}
	if at != nil {
		f.add(at.at, join(path, "codec"), "the program's own ends have none", "events come and go whole; leave codec out")
	}
}

// checkSourceCodec refuses a codec that would refuse every event.
func (f *file) checkSourceCodec(s *Source, codec, n *node, path string) {
	c, err := event.ParseCodec(s.Codec)
	if err == nil {
		err = c.CheckSource(s.Missing)
	}
	if err == nil {
		return
	}
	if codec == nil {
		codec = n
	}
	f.refuseCodec(codec, path, err)
}

// refuseCodec reports an error about a codec without what references brought.
func (f *file) refuseCodec(codec *node, path string, err error) {
	problem := strings.TrimPrefix(err.Error(), "codec: ")
	if codec.raw != "" || slices.ContainsFunc(codec.items, func(n *node) bool { return n.raw != "" }) {
		problem = "no such envelope comes with the reference"
	}
	f.add(codec.at, join(path, "codec"), problem, "")
}

// codecReader takes one envelope or a list of them; what they mean is checked
// by the section that they stand in.
func (f *file) codecReader(dst *[]string, at **node) reader {
	r := texts(dst, nil)
	read := r.read
	r.read = func(fs *findings, n *node, path string) {
		*at = n
		before := len(fs.mistakes)
		fallback := *dst
		read(fs, n, path)
		if len(fs.mistakes) > before || len(*dst) == 0 {
			*dst = fallback
		}
	}
	return r
}

func (f *file) pluginReader(x *Plugin) reader {
	members := []member{
		{name: "config", doc: "Handed to the plug-in as JSON.", reader: jsonValue(&x.Config)},
		{name: "limits", doc: "Narrow the plug-in's own limits.", reader: object(
			member{name: "memory", doc: "Bytes an instance; default 16MiB.", reader: size(&x.Limits.Memory, 64<<10, 4<<30)},
			member{name: "fuel_per_call", doc: "Instructions a call.", reader: whole(&x.Limits.FuelPerCall, 1, 1_000_000_000_000)},
			member{name: "timeout", doc: "Of one blocking call.", reader: duration(&x.Limits.Timeout, time.Millisecond, time.Hour)},
		)},
		{name: "on_error", doc: "What becomes of an event on which the plug-in fails.", reader: text((*string)(&x.OnError),
			string(plugins.DeadLetter), string(plugins.Retry), string(plugins.Pass), string(plugins.Drop))},
	}
	var hosts []string
	for _, host := range f.hosts {
		hosts = append(hosts, host)
		members = append(members, member{name: host, doc: "Path of the plug-in, relative to this file.", reader: f.pluginPath(x, host)})
	}
	if !contains(hosts, "process") {
		members = append(members, later("process"))
	}
	r := object(members...)
	read, describe := r.read, r.schema
	r.read = func(fs *findings, n *node, path string) {
		before := len(fs.mistakes)
		read(fs, n, path)
		if count := countKeys(n, hosts); count != 1 && n.kind == mapping && len(fs.mistakes) == before {
			fs.add(n.at, path, fmt.Sprintf("needs exactly one of: %s", strings.Join(hosts, ", ")), "it says where the code is")
		}
	}
	r.schema = func() schema { return exactlyOne(describe(), hosts) }
	return r
}

// pluginPath reads where a plug-in's code is and looks whether it is there.
func (f *file) pluginPath(x *Plugin, host string) reader {
	var p string
	r := text(&p)
	read := r.read
	r.read = func(fs *findings, n *node, path string) {
		if read(fs, n, path); p == "" {
			if n.isText() {
				fs.add(n.at, path, "must not be empty", "")
			}
			return
		}
		x.Host, x.Path = host, absolute(f.dir, p)
		if info, err := f.files.Stat(x.Path); err != nil {
			fs.add(n.at, path, fmt.Sprintf("%s: %v", n.what(), cause(err)), "")
		} else if info.IsDir() {
			fs.add(n.at, path, fmt.Sprintf("%s is a folder", n.what()), "")
		}
	}
	return r
}

func (f *file) routeReader(r *Route) reader {
	return withCheck(object(
		member{name: "from", doc: "Sources; default all.", reader: f.names(&r.From, "source")},
		member{name: "when", doc: "The pattern that events must match; default all.", reader: pattern(&r.When)},
		member{name: "filter", doc: "Plug-ins that must all say yes.", reader: f.names(&r.Filter, "plug-in")},
		member{name: "to", doc: "Sinks, or a plug-in's outputs with their sinks.", reader: f.destination(r)},
		member{name: "transform", doc: "Templates that change the event for this route, one after the other.", reader: steps(&r.Transform, false)},
		member{name: "react", doc: "Templates of events that are emitted and take their own way.", reader: steps(&r.React, true)},
		later("template"), later("templates"),
	), func(fs *findings, n *node, path string) {
		if n.kind == mapping && n.get("to") == nil && n.get("react") == nil {
			fs.add(n.at, path, "the route does nothing", "name sinks under to:, or events to emit under react:")
		}
	})
}

// destination reads names of sinks, or a switch.
func (f *file) destination(r *Route) reader {
	to := f.names(&r.To, "sink")
	s := &Switch{}
	var plugin []string
	switched := object(
		member{name: "switch", doc: "The plug-in that names outputs.", required: true, reader: f.one(&plugin, "plug-in")},
		member{name: "outputs", doc: "Sinks of each output; else: of events for which the plug-in names none.", required: true, reader: f.outputs(s)},
	)
	return reader{
		read: func(fs *findings, n *node, path string) {
			if n.kind == mapping {
				switched.read(fs, n, path)
				if len(plugin) == 1 {
					s.Plugin = plugin[0]
				}
				r.Switch = s
				return
			}
			before := len(fs.mistakes)
			to.read(fs, n, path)
			if len(r.To) == 0 && len(fs.mistakes) == before {
				fs.add(n.at, path, "the route does nothing", "name sinks here")
			}
		},
		schema: func() schema { return schema{"anyOf": []schema{textsSchema(), switched.schema()}} },
	}
}

// outputs reads the sinks of each output.
func (f *file) outputs(s *Switch) reader {
	r := named("output", maxOutputs,
		func(name string) (*Output, reader) {
			o := &Output{Name: name}
			return o, withCheck(f.names(&o.To, "sink"), func(fs *findings, n *node, path string) {
				if (n.kind == list && len(n.items) == 0) || n.kind == mapping {
					fs.add(n.at, path, "an output without sinks", "leave it out to drop its events")
				}
			})
		},
		func(o *Output) {
			if o.Name == "else" {
				s.Else = o.To
				return
			}
			s.Outputs = append(s.Outputs, *o)
		})
	return withCheck(r, func(fs *findings, n *node, path string) {
		if n.kind == mapping && len(n.pairs) == 0 {
			fs.add(n.at, path, "the route does nothing", "name outputs and their sinks")
		}
	})
}

func newSink(name string) *Sink {
	return &Sink{
		Name:  name,
		Codec: []string{"original"},
		Batch: Batch{Count: DefaultBatchCount, Wait: DefaultBatchWait},
		Retry: Retry{
			ParkAfter: DefaultParkAfter, MaxAge: DefaultMaxAge, BlockedKey: "wait",
			BackoffMin: DefaultBackoffMin, BackoffMax: DefaultBackoffMax,
		},
		Duplicates: "ok",
	}
}

func (f *file) sinkReader(s *Sink) reader {
	var codec *node
	r := &s.Retry
	members := []member{
		{name: "codec", doc: "The envelope to write; default original, byte for byte.", reader: f.codecReader(&s.Codec, &codec)},
		{name: "batch", doc: "What is collected before a write.", reader: object(
			member{name: "count", doc: "Events; default 500.", reader: whole(&s.Batch.Count, 1, 100_000)},
			member{name: "wait", doc: "Time; default 5ms.", reader: duration(&s.Batch.Wait, 0, time.Minute)},
		)},
		{name: "retry", doc: "How deliveries that fail are tried again.", reader: object(
			member{name: "park_after", doc: "Unfinished after this: parked on disk; default 1s.", reader: duration(&r.ParkAfter, time.Millisecond, time.Hour)},
			member{name: "max_age", doc: "Then a dead letter; default 1h.", reader: duration(&r.MaxAge, time.Millisecond, 366*24*time.Hour)},
			member{name: "blocked_key", doc: "Later events of a key wait, or are dead-lettered with it (park).", reader: text(&r.BlockedKey, "wait", "park")},
			member{name: "backoff", doc: "Pause between attempts, doubled each time, with jitter.", reader: object(
				member{name: "min", doc: "Default 10ms.", reader: duration(&r.BackoffMin, time.Millisecond, time.Hour)},
				member{name: "max", doc: "Default 5s.", reader: duration(&r.BackoffMax, time.Millisecond, 24*time.Hour)},
			)},
		)},
		{name: "duplicates", doc: "ok: an unknown outcome is tried again; reject: it is a dead letter.", reader: text(&s.Duplicates, "ok", "reject")},
	}
	return f.endReader(members, sinkEnd, &s.Transport, &s.Settings, func(fs *findings, n *node, path string) {
		if s.Name == DeadLettersName {
			fs.add(n.at, path, "the name is taken by the dead letters' own sink", "")
		}
		if s.Transport == program.Name {
			f.programCodec(&s.Codec, codec, path)
		} else {
			f.checkSinkCodec(s, codec, path)
		}
		f.checkSinkTemplates(s, path)
		if r.BackoffMin > r.BackoffMax {
			fs.add(f.placeOf(path+".retry.backoff", n), path+".retry.backoff", "min is above max", "")
		}
		if r.MaxAge < r.ParkAfter {
			fs.add(f.placeOf(path+".retry", n), path+".retry", "max_age is below park_after", "")
		}
	})
}

func (f *file) checkSinkCodec(s *Sink, codec *node, path string) {
	if codec == nil {
		return
	}
	c, err := event.ParseCodec(s.Codec)
	if err == nil {
		err = c.CheckSink()
	}
	if err != nil {
		f.refuseCodec(codec, path, err)
	}
}

func (f *file) deadLettersReader() reader {
	d := &f.plan.DeadLetters
	r := switchable(&f.deadLettersOn, f.endReader([]member{
		{name: "keep", doc: "How long; default 14d.", reader: duration(&d.Keep, time.Minute, longest)},
		{name: "max", doc: "How much on disk; default 5GiB.", reader: size(&d.Max, 1<<20, maxBytes)},
	}, deadEnd, &d.Sink.Transport, &d.Sink.Settings, func(_ *findings, _ *node, path string) { f.refuseTemplates(&d.Sink, path) }))
	read := r.read
	r.read = func(fs *findings, n *node, path string) {
		before := len(fs.mistakes)
		read(fs, n, path)
		f.deadLettersWrong = len(fs.mistakes) > before
	}
	return r
}

// jsonValue reads any value as JSON.
func jsonValue(dst *json.RawMessage) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			var t jsonText
			before := len(f.mistakes)
			t.write(f, n, path)
			if len(f.mistakes) == before {
				*dst = t.data
			}
		},
		schema: func() schema { return schema{} },
	}
}
