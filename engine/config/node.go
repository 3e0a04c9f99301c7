package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/viper"
)

// NodeSetting is a setting of the node that environment and flags may override.
type NodeSetting struct {
	Path    string // such as node.limits.event
	Env     string // such as WEIR_NODE_LIMITS_EVENT
	Default string // as the file would say it
	Doc     string
	Secret  bool // not for command lines, which others can read
}

// NodeSettings lists the settings of the node, for programs that offer them as flags.
func NodeSettings() []NodeSetting {
	var out []NodeSetting
	for _, s := range nodeSettings(&Node{}) {
		out = append(out, s.NodeSetting)
	}
	return out
}

// nodeSetting is a setting with its place in a Node.
type nodeSetting struct {
	NodeSetting
	reader
}

const (
	maxLanes    = 1024
	maxEvent    = 256 << 20
	maxInFlight = 10_000_000
	minDisk     = 64 << 20
	maxBytes    = 1 << 50 // ceiling of sizes on disk that have no other
)

func nodeSettings(n *Node) []nodeSetting {
	settings := []nodeSetting{
		{NodeSetting{Path: "data", Default: DefaultData, Doc: "Data folder: commit log, snapshots, queues; relative to this file."}, text(&n.Data)},
		{NodeSetting{Path: "lanes", Default: "0", Doc: "Ordered workers; 0 = one a core."}, whole(&n.Lanes, 0, maxLanes)},
		{NodeSetting{Path: "limits.event", Default: formatSize(DefaultEvent), Doc: "Largest event."}, size(&n.Limits.Event, 1, maxEvent)},
		{NodeSetting{Path: "limits.in_flight", Default: "10_000", Doc: "Events taken from sources and not settled."}, whole(&n.Limits.InFlight, 1, maxInFlight)},
		{NodeSetting{Path: "limits.in_flight_bytes", Default: formatSize(DefaultInFlightBytes), Doc: "Bytes of events in flight."}, size(&n.Limits.InFlightBytes, 1, maxBytes)},
		{NodeSetting{Path: "limits.disk", Default: formatSize(DefaultDisk), Doc: "Bytes of the data folder."}, size(&n.Limits.Disk, minDisk, maxBytes)},
		{NodeSetting{Path: "log.level", Default: "info", Doc: "How much is logged."}, text(&n.Log.Level, "debug", "info", "warn", "error")},
		{NodeSetting{Path: "log.format", Default: "text", Doc: "Form of the log."}, text(&n.Log.Format, "text", "json")},
		{NodeSetting{Path: "admin.listen", Default: "", Doc: "Address host:port of the API; none without it."}, text(&n.Admin.Listen)},
		{NodeSetting{Path: "admin.token", Default: "", Doc: "What clients of the API must show; by reference only.", Secret: true}, text(&n.Admin.Token)},
		{NodeSetting{Path: "admin.hosts", Default: "", Doc: "Further names by which clients may reach the API."}, hostNames(&n.Admin.Hosts)},
		{NodeSetting{Path: "admin.tls.cert", Default: "", Doc: "Certificate of the API, a PEM file."}, text(&n.Admin.TLS.Cert)},
		{NodeSetting{Path: "admin.tls.key", Default: "", Doc: "Its key, a PEM file."}, text(&n.Admin.TLS.Key)},
		{NodeSetting{Path: "admin.tls.client_ca", Default: "", Doc: "Clients of the API must have a certificate of this authority, a PEM file."}, text(&n.Admin.TLS.ClientCA)},
		{NodeSetting{Path: "trace.endpoint", Default: "", Doc: "Where traces go: the URL of an OTLP receiver over HTTP; none without it."}, text(&n.Trace.Endpoint)},
		{NodeSetting{Path: "trace.ratio", Default: "0.01", Doc: "Part of the events without a traceparent that are traced."}, ratio(&n.Trace.Ratio)},
		{NodeSetting{Path: "trace.parent", Default: "true", Doc: "A traceparent says itself whether its event is traced."}, yesNo(&n.Trace.Parent)},
		{NodeSetting{Path: "trace.header", Default: "", Doc: "Header of requests to the receiver, such as Authorization: Bearer ...; by reference only.", Secret: true}, text(&n.Trace.Header)},
		{NodeSetting{Path: "trace.queue", Default: "2_048", Doc: "Traced events that wait to be sent; more are dropped and counted."}, whole(&n.Trace.Queue, 1, maxTraceQueue)},
		{NodeSetting{Path: "trace.timeout", Default: "10s", Doc: "How long a request to the receiver may take."}, duration(&n.Trace.Timeout, 100*time.Millisecond, 5*time.Minute)},
		{NodeSetting{Path: "trace.service", Default: "weir", Doc: "Name of this service in the traces."}, text(&n.Trace.Service)},
	}
	for i := range settings {
		s := &settings[i]
		s.Env = envPrefix + strings.ToUpper(strings.ReplaceAll(s.Path, ".", "_"))
		s.Path = "node." + s.Path
	}
	return settings
}

// nodeMembers describes the section in the file. Its values are only collected:
// environment and flags may come before them.
func nodeMembers(settings []nodeSetting, collected map[string]*node) []member {
	type leaf struct {
		rest []string // names below this level
		member
	}
	var level func(leaves []leaf) []member
	level = func(leaves []leaf) []member {
		var members []member
		below := map[string][]leaf{}
		for _, l := range leaves {
			name := l.rest[0]
			if len(l.rest) == 1 {
				l.name = name
				members = append(members, l.member)
				continue
			}
			if below[name] == nil {
				members = append(members, member{name: name})
			}
			l.rest = l.rest[1:]
			below[name] = append(below[name], l)
		}
		for i := range members {
			if inner := below[members[i].name]; inner != nil {
				members[i].reader = object(level(inner)...)
			}
		}
		return members
	}
	leaves := make([]leaf, len(settings))
	for i, s := range settings {
		leaves[i] = leaf{strings.Split(strings.TrimPrefix(s.Path, "node."), "."), member{doc: s.Doc, reader: reader{
			read: func(_ *findings, n *node, at string) {
				if !n.isNull() {
					collected[at] = n
				}
			},
			schema: s.schema,
		}}}
	}
	return level(leaves)
}

func (f *file) nodeReader() reader {
	return reader{
		read: func(_ *findings, n *node, path string) { f.readNode(n, path) },
		schema: func() schema {
			return objectSchema(nodeMembers(nodeSettings(&Node{}), nil))
		},
	}
}

// readNode layers defaults, file, environment and flags. Viper is handed the
// leaves with their places, so that a mistake is reported where the value came from.
func (f *file) readNode(section *node, path string) {
	settings := nodeSettings(&f.plan.Node)
	inFile := map[string]*node{}
	object(nodeMembers(settings, inFile)...).read(f.findings, section, path)

	v := viper.New()
	inEnv := map[string]*node{}
	for _, s := range settings {
		v.SetDefault(s.Path, &node{at: section.at, text: s.Default, plain: true, given: true})
		if value, set := f.refs.env(s.Env); set && value != "" {
			inEnv[s.Path] = &node{at: place{file: s.Env}, text: value, plain: true, given: true}
		}
		if s.Secret {
			f.checkSecret(inFile[s.Path], s.Path)
		}
	}
	for _, layer := range []map[string]*node{inFile, inEnv} {
		if err := v.MergeConfigMap(nested(layer)); err != nil {
			f.add(section.at, path, fmt.Sprintf("cannot be layered: %v", err), "")
			return
		}
	}
	f.setFlags(v, settings)
	f.checkEnviron(settings)
	for _, s := range settings {
		n, ok := v.Get(s.Path).(*node)
		if !ok {
			continue
		}
		f.places[s.Path] = n.at
		if s.Secret && n.kind == scalar && n.raw == "" {
			n.raw = "(secret)" // so that no error shows it
		}
		if s.Secret {
			f.keepSecret(n)
		}
		s.read(f.findings, n, s.Path)
	}
	f.checkNode(v, section)
}

func (f *file) checkSecret(n *node, path string) {
	if !f.literal && n != nil && n.kind == scalar && n.raw == "" && n.text != "" {
		f.add(n.at, path, "a secret stands in the file", "bring it by reference: ${VAR} or ${file:path}")
	}
}

// nested makes maps of dotted paths, as viper wants them.
func nested(leaves map[string]*node) map[string]any {
	root := map[string]any{}
	for path, n := range leaves {
		at := root
		parts := strings.Split(path, ".")
		for _, part := range parts[:len(parts)-1] {
			next, ok := at[part].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[part] = next
			}
			at = next
		}
		at[parts[len(parts)-1]] = n
	}
	return root
}

func (f *file) setFlags(v *viper.Viper, settings []nodeSetting) {
	known := map[string]bool{}
	var names []string
	for _, s := range settings {
		known[s.Path] = true
		names = append(names, s.Path)
	}
	for name, value := range f.flags {
		at := place{file: "--" + name}
		if !known[name] {
			f.add(at, "", "no such setting", didYouMean(name, names))
			continue
		}
		v.Set(name, &node{at: at, text: value, plain: true, given: true})
	}
}

// envPrefix begins the names of variables that override settings of the node.
const envPrefix = "WEIR_NODE_"

// orchestrated are the variables that Kubernetes sets in every pod where there is
// a service called weir-node: they are no misspelt settings.
var orchestrated = regexp.MustCompile(`^WEIR_NODE_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// checkEnviron refuses variables that look like settings of the node and are none:
// who sets one expects it to count.
func (f *file) checkEnviron(settings []nodeSetting) {
	if f.environ == nil {
		return
	}
	var names []string
	for _, s := range settings {
		names = append(names, s.Env)
	}
	for _, line := range f.environ() {
		name, _, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(names, name) || orchestrated.MatchString(name) {
			continue
		}
		f.add(place{file: shorten(name)}, "", "no such setting", didYouMean(name, names))
	}
}

// checkNode checks what settings of the node mean together.
func (f *file) checkNode(v *viper.Viper, section *node) {
	n := &f.plan.Node
	data, _ := v.Get("node.data").(*node)
	switch {
	case n.Data == "":
		f.add(f.placeOf("node.data", section), "node.data", "must not be empty", "")
	case data != nil && data.given && data.at != section.at:
		// From a flag or the environment: relative to where the user stands.
		if full, err := filepath.Abs(n.Data); err == nil {
			n.Data = full
		}
	}
	n.Data = absolute(f.dir, n.Data)
	if n.Limits.Event > 0 && n.Limits.InFlightBytes > 0 && n.Limits.InFlightBytes < int64(n.Limits.Event) {
		f.add(f.placeOf("node.limits.in_flight_bytes", section), "node.limits.in_flight_bytes",
			fmt.Sprintf("less than one event (node.limits.event is %s)", formatSize(int64(n.Limits.Event))), "")
	}
	f.checkAdmin(section)
	f.checkTrace(section)
}

func (f *file) placeOf(path string, otherwise *node) place {
	if at, ok := f.places[path]; ok {
		return at
	}
	return otherwise.at
}
