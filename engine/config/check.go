package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weir-project/weir/engine/derive"
	"github.com/weir-project/weir/transports"
)

// complete fills in what depends on all that the file says.
func (f *file) complete(root *node) {
	p := &f.plan
	f.completeDeadLetters(root)
	if p.Journal.Keep == 0 {
		p.Journal.Keep = DefaultJournalKeep
	}
	if p.Journal.Max == 0 {
		p.Journal.Max = DefaultJournalMax
	}
	var all []string
	for _, s := range p.Sources {
		all = append(all, s.Name)
	}
	for i := range p.Routes {
		r := &p.Routes[i]
		if len(r.From) == 0 {
			r.From = slices.Clone(all)
			if p.Derives() {
				r.From = append(r.From, derive.Name)
			}
		}
		slices.Sort(r.From)
		if r.Switch != nil {
			slices.SortFunc(r.Switch.Outputs, func(a, b Output) int { return strings.Compare(a.Name, b.Name) })
		}
	}
}

// completeDeadLetters makes the default: a local queue called dead.
func (f *file) completeDeadLetters(root *node) {
	d := &f.plan.DeadLetters
	if d.Keep == 0 {
		d.Keep = DefaultDeadLettersKeep
	}
	if d.Max == 0 {
		d.Max = DefaultDeadLettersMax
	}
	if !f.deadLettersOn || d.Sink.Transport != "" || f.deadLettersWrong {
		return
	}
	for _, t := range f.transports {
		if t.Name() != "local" {
			continue
		}
		at := &node{at: root.at, kind: mapping, pairs: []pair{{
			key: "queue", at: root.at, value: &node{at: root.at, text: "dead"},
		}}}
		settingsReader(&d.Sink.Settings, sinkEnd.options(t), f.dir).read(f.findings, at, "dead_letters.local")
		d.Sink.Transport = "local"
		return
	}
	f.add(root.at, "dead_letters", "is missing, and this program lacks the transport local, where they go by default",
		"name a transport, or write dead_letters: false")
}

// check looks at what refers to what.
func (f *file) check(root *node) {
	p := &f.plan
	known := map[string][]string{}
	for _, s := range p.Sources {
		known["source"] = append(known["source"], s.Name)
	}
	for _, x := range p.Plugins {
		known["plug-in"] = append(known["plug-in"], x.Name)
	}
	for _, s := range p.Sinks {
		known["sink"] = append(known["sink"], s.Name)
	}
	if len(known["source"]) == 0 && root.kind == mapping {
		f.add(root.at, "sources", "there are none, so nothing would run", "")
	}
	known["source"] = append(known["source"], derive.Name)
	used := f.checkUses(known)
	f.checkUnused(used)
	f.checkShared()
}

// checkUses reports names that nothing defines, and returns those in use.
func (f *file) checkUses(known map[string][]string) map[string]bool {
	defined := map[string]bool{}
	for what, names := range known {
		for _, name := range names {
			defined[what+" "+name] = true
		}
	}
	used := map[string]bool{}
	for _, u := range f.uses {
		used[u.what+" "+u.name] = true
		if defined[u.what+" "+u.name] || f.uncertain[u.what] {
			continue // of two definitions under one name, one may have been meant for this
		}
		name, hint := u.name, didYouMean(u.name, known[u.what])
		if u.raw != "" {
			name, hint = u.raw, ""
		}
		f.add(u.at, u.path, fmt.Sprintf("no %s %q", u.what, shorten(name)), hint)
	}
	return used
}

// checkUnused warns of what is there for nothing.
func (f *file) checkUnused(used map[string]bool) {
	p := &f.plan
	for _, s := range p.Sinks {
		if path := "sinks." + s.Name; !used["sink "+s.Name] {
			f.warn(f.places[path], path, "no route uses this sink", "")
		}
	}
	for _, x := range p.Plugins {
		if path := "plugins." + x.Name; !used["plug-in "+x.Name] {
			f.warn(f.places[path], path, "no route uses this plug-in", "")
		}
	}
	if used["source "+derive.Name] && !p.Derives() {
		f.warn(f.placeOfUse(derive.Name), "routes", "a route takes derived events, and no route emits any", "")
	}
	taken := map[string]bool{}
	for _, r := range p.Routes {
		for _, name := range r.From {
			taken[name] = true
		}
	}
	for _, name := range p.Registry.From { // services' routes come later
		taken[name] = true
	}
	for _, s := range p.Sources {
		if path := "sources." + s.Name; !taken[s.Name] && len(p.Unmatched) == 0 {
			f.warn(f.places[path], path, "no route takes events from this source", "")
		}
	}
}

// placeOfUse is where the configuration names a source first.
func (f *file) placeOfUse(source string) place {
	for _, u := range f.uses {
		if u.what == "source" && u.name == source {
			return u.at
		}
	}
	return place{file: f.name, line: 1, column: 1}
}

// owner is an end that a place on disk belongs to.
type owner struct{ path, setting string }

// checkShared refuses two ends that would write the same file or queue, or
// take each other's entries from one queue: neither would see the other.
func (f *file) checkShared() {
	writers, readers := map[string]owner{}, map[string]owner{}
	claim := func(owners map[string]owner, path, transport string, s transports.Settings, verb string) {
		for key, setting := range placesOf(transport, s) {
			first, taken := owners[key]
			if !taken {
				owners[key] = owner{path, setting}
				continue
			}
			at := path + "." + transport + "." + setting
			f.add(f.nearest(at), at, fmt.Sprintf("%s what %s %s already", verb, first.path, verb), "")
		}
	}
	for _, s := range f.plan.Sinks {
		claim(writers, "sinks."+s.Name, s.Transport, s.Settings, "writes")
	}
	if d := f.plan.DeadLetters.Sink; d.Transport != "" {
		claim(writers, "dead_letters", d.Transport, d.Settings, "writes")
	}
	for _, s := range f.plan.Sources {
		if s.Transport == "local" {
			claim(readers, "sources."+s.Name, s.Transport, s.Settings, "reads")
			continue
		}
		f.checkLoop(s, writers)
	}
}

// checkLoop refuses a source that reads the file that a sink writes.
func (f *file) checkLoop(s Source, writers map[string]owner) {
	for key, setting := range placesOf(s.Transport, s.Settings) {
		if w, ok := writers[key]; ok {
			at := "sources." + s.Name + "." + s.Transport + "." + setting
			f.add(f.nearest(at), at, fmt.Sprintf("reads the file that %s writes: its events would go round", w.path), "use a local queue between them")
		}
	}
}

// placesOf names what an end has on disk for itself, with the setting that says so.
func placesOf(transport string, s transports.Settings) map[string]string {
	out := map[string]string{}
	if transport == "local" {
		for _, setting := range []string{"queue", "topic"} {
			if name := s.String(setting); name != "" {
				out[strings.Join([]string{"local", setting, name, s.String("consumer")}, "\x00")] = setting
			}
		}
		return out
	}
	if path := s.String("path"); transport == "file" && path != "" && path != "-" && !strings.HasPrefix(path, "/dev/") {
		out["file\x00"+filepath.Clean(path)] = "path"
	}
	return out
}

// nearest is the place of a setting, or of what it stands in.
func (f *file) nearest(path string) place {
	for ; path != ""; path = parentPath(path) {
		if at, ok := f.places[path]; ok {
			return at
		}
	}
	return place{file: f.name, line: 1, column: 1}
}
