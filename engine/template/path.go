package template

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-project/weir/engine/field"
)

// Ref is what a placeholder stands for: a field of the event, or something that is
// known of it.
type Ref struct {
	Path  field.Path // canonical; nil with Known
	Known Known
}

// Known is what a reserved name stands for.
type Known uint8

// What is known of an event besides its fields.
const (
	NotKnown     Known = iota // a field
	WholeEvent                // the event as it came
	WithoutData               // the same without its data
	WorkTime                  // when it is worked on, RFC 3339
	RouteName                 // the route's name
	RouteAddress              // urn:weir:route:NAME
)

// reserved names begin with these.
const (
	theirs = "aws."
	ours   = "weir."
)

var knownNames = map[string]Known{
	"aws.events.event.json":           WholeEvent,
	"aws.events.event":                WithoutData,
	"aws.events.event.ingestion-time": WorkTime,
	"aws.events.rule-name":            RouteName,
	"aws.events.rule-arn":             RouteAddress,
	"weir.event":                      WholeEvent,
	"weir.time":                       WorkTime,
	"weir.route":                      RouteName,
}

// step goes on from a value that was found: to a member, an element or all elements.
type step struct {
	name  string // a member where index is noIndex
	index int
}

const (
	noIndex  = -1
	eachItem = -2
)

// Limits of paths.
const (
	maxPath  = 256 // bytes
	maxIndex = 65_535
)

// attributes are those that every event may have.
var attributes = []string{"id", "source", "type", "subject", "time", "datacontenttype", "dataschema"}

// openRoots hold values of any kind.
var openRoots = []string{"data", "detail", "resources"}

// plainRoots are further names that hold a text.
var plainRoots = []string{"detail-type", "account", "region"}

// resolve turns a placeholder's name into what it refers to and the steps from there.
func (o *Options) resolve(name string) (Ref, []step, error) {
	if k, ok := knownNames[name]; ok {
		return Ref{Known: k}, nil, nil
	}
	if strings.HasPrefix(name, theirs) || strings.HasPrefix(name, ours) {
		return Ref{}, nil, fmt.Errorf("<%s> is no reserved name", name)
	}
	if path, ok := o.Paths[name]; ok {
		return ParsePath(path)
	}
	root, _, dotted := strings.Cut(name, ".")
	if len(o.Paths) > 0 && !dotted && !strings.ContainsAny(name, "$[") && !isRoot(root) {
		return Ref{}, nil, fmt.Errorf("<%s> is not among the paths that have names; an extension attribute is <$.%s>", name, name)
	}
	return ParsePath(name)
}

func isRoot(name string) bool {
	return slices.Contains(attributes, name) || slices.Contains(openRoots, name) || slices.Contains(plainRoots, name)
}

// ParsePath reads a path. The steps are those from its first [ on.
func ParsePath(text string) (Ref, []step, error) {
	if len(text) > maxPath {
		return Ref{}, nil, fmt.Errorf("a path of %d bytes, at most %d are allowed", len(text), maxPath)
	}
	if text == "$" {
		return Ref{Known: WholeEvent}, nil, nil
	}
	rest, _ := strings.CutPrefix(text, "$.")
	steps, err := parseSteps(rest)
	if err != nil {
		return Ref{}, nil, fmt.Errorf("path %q: %w", text, err)
	}
	n := slices.IndexFunc(steps, func(s step) bool { return s.index != noIndex })
	if n < 0 {
		n = len(steps)
	}
	var path field.Path
	for _, s := range steps[:n] {
		path = append(path, s.name)
	}
	if err := checkPath(path, steps[n:]); err != nil {
		return Ref{}, nil, fmt.Errorf("path %q: %w", text, err)
	}
	return Ref{Path: path}, steps[n:], nil
}

// parseSteps splits names at dots and takes indices.
func parseSteps(text string) (steps []step, err error) {
	for len(text) > 0 || len(steps) == 0 {
		n := strings.IndexAny(text, ".[")
		if n < 0 {
			n = len(text)
		}
		if n == 0 {
			return nil, fmt.Errorf("a name is missing before %q", text)
		}
		if c := strings.IndexFunc(text[:n], notOfName); c >= 0 {
			return nil, fmt.Errorf("%q cannot stand in a name", text[c:c+1])
		}
		steps = append(steps, step{name: text[:n], index: noIndex})
		text = text[n:]
		for strings.HasPrefix(text, "[") {
			end := strings.IndexByte(text, ']')
			if end < 0 {
				return nil, fmt.Errorf("[ is not closed")
			}
			index, err := parseIndex(text[1:end])
			if err != nil {
				return nil, err
			}
			steps = append(steps, step{index: index})
			text = text[end+1:]
		}
		switch {
		case text == "":
			return steps, nil
		case text[0] != '.':
			return nil, fmt.Errorf("%q after ]", text)
		}
		if text = text[1:]; text == "" {
			return nil, fmt.Errorf("it ends with a dot")
		}
	}
	return steps, nil
}

func notOfName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-/:@", r) && r < 0x80
}

func parseIndex(text string) (int, error) {
	if text == "*" {
		return eachItem, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > maxIndex || strconv.FormatUint(n, 10) != text {
		return 0, fmt.Errorf("[%s] is neither [*] nor an index from 0 to %d", text, maxIndex)
	}
	return int(n), nil
}

// checkPath refuses what no event can have.
func checkPath(path field.Path, steps []step) error {
	root := path[0]
	inside := len(path) > 1 || len(steps) > 0
	switch {
	case root == "data" || root == "detail":
		return nil
	case root == "resources":
		if len(path) > 1 {
			return fmt.Errorf("resources is a list of texts: [0] is the first")
		}
		return nil
	case root == "specversion":
		return fmt.Errorf("specversion is no attribute that templates see")
	case !slices.Contains(attributes, root) && !slices.Contains(plainRoots, root) && !validExtension(root):
		return fmt.Errorf("no event has a field %q: attributes have lower-case letters and digits only, all else is below data", root)
	case inside:
		return fmt.Errorf("%s is an attribute: there is nothing inside of it", root)
	}
	return nil
}

func validExtension(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
