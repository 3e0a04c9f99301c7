// Package registry makes routes of a list of services: each service that registers gets
// a local queue and a local topic, and the events that it asked for.
//
// # The list
//
// A registry answers GET with JSON, an array of services:
//
//	[{"name":"kitchen","queue":["order:created","order:*"],"topic":["menu:changed"]}]
//
// queue lists what one instance of the service is to react to, topic what every instance
// is: names of events, in which * stands for any run of characters. Other members are
// left alone. Names of services are letters, digits, _ . and -, at most 48, and begin
// with a letter or digit.
//
// # The document
//
// Document makes a part of a configuration of it, which stands in the data folder as
// File and is read with the rest of the configuration: the last good list outlives an
// outage of the registry and restarts. Per service, as far as it asks for it:
//
//	sinks   hub.kitchen.queue {local: {queue: kitchen}}   hub.kitchen.topic {local: {topic: kitchen}}
//	routes  hub.kitchen.queue {from, when: {type: [..]}}  hub.kitchen.topic
//
// Promise: whatever a registry says, the document holds queues, topics and patterns and
// nothing else. What is not understood is refused whole, with its place and reason.
package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/weir-project/weir/engine/pattern"
)

// File is the document's name in the data folder.
const File = "registry.json"

// Limits of a list.
const (
	MaxServices = 400 // each may have two sinks
	MaxEvents   = 256 // names of events in each queue or topic
	MaxName     = 256 // bytes of an event's name
)

// Service is one that registered.
type Service struct {
	Name  string   `json:"name"`
	Queue []string `json:"queue"`
	Topic []string `json:"topic"`
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$`)

// Parse reads a list and checks it. The error joins all that is wrong, each with its place.
func Parse(body []byte) ([]Service, error) {
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) == 0 || first[0] != '[' {
		return nil, errors.New("the list is no JSON array")
	}
	var list []Service
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("the list: %w", err)
	}
	if len(list) > MaxServices {
		return nil, fmt.Errorf("%d services, at most %d are allowed", len(list), MaxServices)
	}
	var errs []error
	seen := map[string]int{}
	for i, s := range list {
		at := fmt.Sprintf("service %d", i)
		if !nameForm.MatchString(s.Name) {
			errs = append(errs, fmt.Errorf("%s: name %.60q: letters, digits, _ . and -, at most 48, beginning with a letter or digit", at, s.Name))
		} else if other, twice := seen[s.Name]; twice {
			errs = append(errs, fmt.Errorf("%s: name %q is that of service %d already", at, s.Name, other))
		}
		seen[s.Name] = i
		errs = append(errs, checkEvents(at+": queue", s.Queue), checkEvents(at+": topic", s.Topic))
	}
	return list, errors.Join(errs...)
}

func checkEvents(at string, names []string) error {
	if len(names) > MaxEvents {
		return fmt.Errorf("%s: %d names of events, at most %d are allowed", at, len(names), MaxEvents)
	}
	var errs []error
	for i, name := range names {
		if name == "" || len(name) > MaxName {
			errs = append(errs, fmt.Errorf("%s[%d]: a name of %d bytes, 1 to %d are allowed", at, i, len(name), MaxName))
			continue
		}
		if _, err := pattern.Compile(when([]string{name})); err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %.60q: %w", at, i, name, err))
		}
	}
	return errors.Join(errs...)
}

// when is the pattern of some names of events.
func when(names []string) []byte {
	values := make([]any, len(names))
	for i, name := range names {
		switch {
		case name == "*":
			values[i] = map[string]bool{"exists": true}
		case strings.Contains(name, "*"):
			values[i] = map[string]string{"wildcard": strings.ReplaceAll(name, `\`, `\\`)}
		default:
			values[i] = name
		}
	}
	text, _ := json.Marshal(map[string]any{"type": values}) // texts always marshal
	return text
}

// Document makes the part of a configuration: from names the sources whose events
// services may get, codec the envelopes in which they get them. The same list in
// another order gives the same document.
func Document(list []Service, from, codec []string) []byte {
	list = slices.SortedFunc(slices.Values(list), func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	sinks, routes := map[string]any{}, map[string]any{}
	add := func(kind, service string, names []string) {
		if len(names) == 0 {
			return
		}
		name := "hub." + service + "." + kind
		names = slices.Compact(slices.Sorted(slices.Values(names)))
		sinks[name] = map[string]any{"local": map[string]string{kind: service}, "codec": codec}
		routes[name] = map[string]any{"from": from, "when": json.RawMessage(when(names)), "to": []string{name}}
	}
	for _, s := range list {
		add("queue", s.Name, s.Queue)
		add("topic", s.Name, s.Topic)
	}
	text, _ := json.MarshalIndent(map[string]any{"version": 1, "sinks": sinks, "routes": routes}, "", "  ") // texts always marshal
	// A dollar begins a reference to the environment, which is none of a registry's business.
	return append(bytes.ReplaceAll(text, []byte("$"), []byte("$$")), '\n')
}
