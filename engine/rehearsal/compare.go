package rehearsal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weir-project/weir/engine/config"
)

// compare says what is not as the test expects.
func (p *play) compare() (failures []string) {
	for _, name := range slices.Sorted(maps.Keys(p.test.Expect)) {
		x := p.test.Expect[name]
		failures = append(failures, compareAt(name, "deliveries", p.arrived(name), &x)...)
	}
	letters := p.letters()
	x := p.test.DeadLetters
	if x == nil {
		x = &config.Expected{Line: p.test.Line}
	}
	failures = append(failures, compareAt("dead letters", "dead letters", letters, x)...)
	if p.ends.waiting() {
		failures = append(failures, "not every event was settled within limit: see the log with --verbose")
	}
	for name, s := range p.status.Sinks {
		if s.Parked > 0 {
			failures = append(failures, fmt.Sprintf("%s: %d deliveries are still parked after %v", name, s.Parked, p.test.Limit))
		}
	}
	return append(failures, p.compareOutcomes()...)
}

func (p *play) compareOutcomes() (failures []string) {
	if p.test.Outcomes == nil {
		return nil
	}
	got := map[string]uint64{}
	for _, s := range p.status.Sources {
		for name, n := range s.Outcomes {
			got[name] += n
		}
	}
	names := slices.Collect(maps.Keys(got))
	names = append(names, slices.Collect(maps.Keys(p.test.Outcomes))...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if got[name] != p.test.Outcomes[name] {
			failures = append(failures, fmt.Sprintf("outcomes: %d events are %s, want %d", got[name], name, p.test.Outcomes[name]))
		}
	}
	return failures
}

// seen is one thing that arrived, as expectations are held against it.
type seen struct {
	value any    // decoded JSON; text where it is none
	text  string // as it came
	key   string
	extra map[string]any // by $name
}

func (p *play) arrived(sink string) (list []seen) {
	r := p.ends.sinks[sink]
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.arrived {
		a := &r.arrived[i]
		headers := map[string]any{}
		for _, h := range a.headers {
			headers[h.Name] = h.Value
		}
		list = append(list, seen{value: decode(a.data), text: shown(a.data), key: a.key, extra: map[string]any{
			"$key": a.key, "$id": a.id, "$route": a.route, "$headers": headers,
			"$attempt": json.Number(fmt.Sprint(a.attempt)), "$at": a.at.Truncate(10 * time.Millisecond).String(), "$text": string(a.data),
		}})
	}
	return list
}

// letters are the dead letters; their data is what expectations speak of.
func (p *play) letters() (list []seen) {
	for _, s := range p.arrived(config.DeadLettersName) {
		if letter, ok := s.value.(map[string]any); ok {
			data, _ := letter["data"].(map[string]any)
			s.value = data
			s.text = fmt.Sprintf("%v of %v: %v", data["reason"], data["event_id"], data["detail"])
		}
		list = append(list, s)
	}
	return list
}

// decode reads JSON and keeps the digits of numbers; other bytes are a text.
func decode(data []byte) any {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return string(data)
	}
	return v
}

// maxShown is how much of an event a failure shows, in bytes.
const maxShown = 300

func shown(data []byte) string {
	if !utf8.Valid(data) {
		return fmt.Sprintf("%d bytes that are not UTF-8", len(data))
	}
	if len(data) > maxShown {
		return strings.ToValidUTF8(string(data[:maxShown]), "") + "..."
	}
	return string(data)
}

// compareAt holds what arrived at one place against what is expected there.
func compareAt(place, what string, got []seen, want *config.Expected) []string {
	head := fmt.Sprintf("%s (line %d): ", place, want.Line)
	if want.Counted {
		if len(got) == want.Count {
			return nil
		}
		return []string{fmt.Sprintf("%s%d %s, want %d%s", head, len(got), what, want.Count, all(got))}
	}
	wanted := make([]any, len(want.List))
	for i, raw := range want.List {
		wanted[i] = decode(raw)
	}
	by := assign(wanted, got)
	var lines []string
	taken := make([]bool, len(got))
	for i, at := range by {
		if at >= 0 {
			taken[at] = true
			continue
		}
		lines = append(lines, "  missing     "+string(want.List[i])+nearest(wanted[i], got, by))
	}
	if !want.Contains {
		for i, s := range got {
			if !taken[i] {
				lines = append(lines, "  unexpected  "+s.text)
			}
		}
	}
	lines = append(lines, disorder(by, got, want)...)
	if len(lines) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s%d %s, want %d\n", head, len(got), what, len(want.List)) + strings.Join(lines, "\n")}
}

func all(got []seen) string {
	var b strings.Builder
	for _, s := range got {
		b.WriteString("\n  arrived     " + s.text)
	}
	return b.String()
}

// assign gives every expectation an arrival of its own that matches, -1 where there
// is none left, so that as many as possible have one, and those of one key in the
// order of arrival wherever that can be.
func assign(want []any, got []seen) []int {
	by, owner := make([]int, len(want)), make([]int, len(got))
	for i := range owner {
		owner[i] = -1
	}
	matches := func(i, j int) bool { return differs(want[i], got[j].value, got[j].extra, "") == "" }
	var find func(i int, tried []bool) bool
	find = func(i int, tried []bool) bool {
		for j := range got {
			if tried[j] || !matches(i, j) {
				continue
			}
			tried[j] = true
			if owner[j] < 0 || find(owner[j], tried) {
				owner[j], by[i] = i, j
				return true
			}
		}
		return false
	}
	for i := range want {
		by[i] = -1
		find(i, make([]bool, len(got)))
	}
	for again := true; again; {
		again = false
		for a := range by {
			for b := a + 1; b < len(by); b++ {
				if by[a] >= 0 && by[b] >= 0 && by[a] > by[b] && matches(a, by[b]) && matches(b, by[a]) {
					by[a], by[b], again = by[b], by[a], true
				}
			}
		}
	}
	return by
}

// disorder names expectations of one key that arrived in another order.
func disorder(by []int, got []seen, want *config.Expected) (lines []string) {
	last := map[string]int{} // by key: the expectation that arrived last so far
	for i, at := range by {
		if at < 0 || got[at].key == "" {
			continue
		}
		if before, ok := last[got[at].key]; ok && by[before] > at {
			lines = append(lines, fmt.Sprintf("  out of order for key %q: %s arrived before %s", got[at].key, want.List[i], want.List[before]))
			continue
		}
		last[got[at].key] = i
	}
	return lines
}

// nearest says what the most similar arrival that nothing else expects has otherwise.
func nearest(want any, got []seen, by []int) string {
	best, least := "", 0
	for j := range got {
		if slices.Contains(by, j) {
			continue
		}
		var all []string
		collect(want, got[j].value, got[j].extra, "", &all)
		if best == "" || len(all) < least {
			best, least = strings.Join(all[:min(len(all), 3)], "; "), len(all)
		}
	}
	if best == "" {
		return ""
	}
	return "\n    nearest:  " + best
}

// differs is the first difference, "" where there is none.
func differs(want, got any, extra map[string]any, path string) string {
	var all []string
	collect(want, got, extra, path, &all)
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// collect notes where a value is not what is expected. Members that an expectation
// does not name are not looked at; lists have as many elements as it names.
func collect(want, got any, extra map[string]any, path string, out *[]string) {
	differ := func(format string, args ...any) {
		*out = append(*out, strings.TrimPrefix(path+" ", " ")+fmt.Sprintf(format, args...))
	}
	switch w := want.(type) {
	case map[string]any:
		members, isObject := got.(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(w)) {
			at := strings.TrimPrefix(path+"."+name, ".")
			value, there := members[name]
			if special, ok := extra[name]; ok && path == "" {
				value, there = special, true
			}
			switch {
			case isAbsent(w[name]):
				if there {
					*out = append(*out, fmt.Sprintf("%s is %s, want none", at, inShort(value)))
				}
			case !there && isObject:
				*out = append(*out, at+" is missing")
			case !there:
				differ("is %s, want an object", inShort(got))
				return
			default:
				collect(w[name], value, nil, at, out)
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(w) {
			differ("is %s, want %s", inShort(got), inShort(want))
			return
		}
		for i := range w {
			collect(w[i], list[i], nil, fmt.Sprintf("%s[%d]", path, i), out)
		}
	default:
		if !equal(want, got) {
			differ("is %s, want %s", inShort(got), inShort(want))
		}
	}
}

// isAbsent is true for {"$absent": true}: a member that must not be there.
func isAbsent(want any) bool {
	w, ok := want.(map[string]any)
	return ok && len(w) == 1 && w["$absent"] == true
}

// equal compares scalars; numbers by value.
func equal(want, got any) bool {
	a, ok := want.(json.Number)
	b, also := got.(json.Number)
	if !ok || !also {
		return want == got
	}
	if a == b {
		return true
	}
	x, err := a.Float64()
	y, bad := b.Float64()
	return err == nil && bad == nil && x == y && roundTrips(a) && roundTrips(b)
}

// roundTrips: integers beyond 53 bits are equal only as they are written.
func roundTrips(n json.Number) bool { return len(strings.TrimLeft(string(n), "-0.")) <= 15 }

func inShort(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return shown(b)
}
