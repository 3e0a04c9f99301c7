package pattern

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weir-project/weir/engine/field"
)

// Bounds of a pattern.
const (
	MaxBytes        = 64 << 10 // of its text, by default
	MaxFields       = 256
	MaxDepth        = 32    // objects in objects
	MaxAlternatives = 1_000 // combinations of all its $or
)

// Options of Compile. Zero values mean the defaults.
type Options struct {
	Bytes int // longest text, default MaxBytes
	// LastWins takes a field that is mentioned twice and heeds its last
	// mention only. By default that is refused, since a condition would be
	// lost without a word.
	LastWins bool
}

// EventBridge is what Amazon EventBridge takes.
func EventBridge() Options { return Options{Bytes: 2048, LastWins: true} }

// Pattern is a compiled pattern. It is immutable and safe for concurrent use.
type Pattern struct {
	fields       []field.Path
	alternatives []conjunction // one of them must hold
	text         string
}

// Fields are the fields that the pattern asks about, each once, in the order
// of their first mention.
func (p *Pattern) Fields() []field.Path { return slices.Clone(p.fields) }

// String is the pattern's text.
func (p *Pattern) String() string { return p.text }

// Compile compiles a pattern with the default options. Its error is an *Error.
func Compile(text []byte) (*Pattern, error) { return Options{}.Compile(text) }

// Compile compiles a pattern. Its error is an *Error.
func (o Options) Compile(text []byte) (*Pattern, error) {
	limit := o.Bytes
	if limit <= 0 {
		limit = MaxBytes
	}
	if len(text) > limit {
		return nil, refuse(text, limit, "the pattern has %d bytes, at most %d are allowed", len(text), limit)
	}
	if err := syntax(text); err != nil {
		return nil, err
	}
	c := &compiler{reader: reader{text: text}, lastWins: o.LastWins, index: map[string]int{}, alternatives: []alternative{{}}}
	if err := c.compile(); err != nil {
		return nil, err
	}
	return &Pattern{fields: c.fields, alternatives: c.conjunctions(), text: string(text)}, nil
}

// syntax checks that text is JSON, so that the compiler need not.
func syntax(text []byte) error {
	const operatorNesting = 8 // arrays and objects below the last name
	p, err := field.Compile(nil, field.Options{Limits: field.Limits{Depth: 3*MaxDepth + operatorNesting}})
	if err != nil {
		return fmt.Errorf("compile pattern: %w", err)
	}
	var v field.Values
	if err := p.Scan(text, &v); err != nil {
		e, ok := err.(*field.Error)
		if !ok {
			return fmt.Errorf("compile pattern: %w", err)
		}
		if e.Reason == field.ReasonSyntax && e.Offset >= len(text) {
			return refuse(text, e.Offset, "the text ends too soon: want a JSON object, complete to its closing brace")
		}
		if e.Reason == field.ReasonSyntax {
			return refuse(text, e.Offset, "%s: want one JSON object and nothing after its closing brace", e.Reason)
		}
		return refuse(text, e.Offset, "%s", e.Reason)
	}
	return nil
}

// alternative is a conjunction in the making: what is asked of each field. A
// field that is mentioned again replaces what was said of it.
type alternative map[int][]*predicate

// compiler walks a pattern's text, which is known to be JSON.
type compiler struct {
	reader
	lastWins     bool
	fields       []field.Path
	index        map[string]int // path -> index into fields
	alternatives []alternative
	scope        map[string]bool // paths mentioned, for the innermost $or alternative
	names        []string        // on the way to where the compiler is
}

func (c *compiler) compile() error {
	c.space()
	if c.peek() != '{' {
		return c.refuse(c.at, "want an object, such as {\"type\": [\"OrderPlaced\"]}, found %s", c.found())
	}
	c.scope = map[string]bool{}
	return c.object(1, false)
}

// object compiles the members of a pattern. Inside $or the names of operators
// are refused, since a list of operators is what was meant.
func (c *compiler) object(depth int, insideOr bool) error {
	start := c.at
	if depth > MaxDepth {
		return c.refuse(start, "objects nested deeper than %d", MaxDepth)
	}
	empty, or := true, false
	for range c.members() {
		at := c.at
		name := c.str()
		empty = false
		c.colon()
		if name == "$or" {
			if or {
				return c.refuse(at, "a second $or in one object: put it into an alternative of the first, or into an object of its own")
			}
			or = true
			if err := c.or(at, depth); err != nil {
				return err
			}
			continue
		}
		if insideOr && operatorNames[name] {
			return c.refuse(at, "%q is an operator and cannot be a field name inside $or: want objects of fields", name)
		}
		if err := c.member(name, at, depth, insideOr); err != nil {
			return err
		}
	}
	if empty {
		return c.refuse(start, "an empty object: want at least one field")
	}
	return nil
}

// member compiles what stands after a field's name.
func (c *compiler) member(name string, at, depth int, insideOr bool) error {
	c.names = append(c.names, name)
	defer func() { c.names = c.names[:len(c.names)-1] }()
	switch c.peek() {
	case '{':
		return c.object(depth+1, insideOr)
	case '[':
	default:
		if n := len(c.names); n > 1 && operatorNames[name] {
			return c.refuse(at, "%q is an operator and stands in an array: write %q: [{%q: %s}]", name, c.names[n-2], name, c.excerpt())
		}
		return c.refuse(c.at, "the condition on %q must be an array of values, such as [%s], or an object of fields", name, c.excerpt())
	}
	path := strings.Join(c.names, ".")
	if c.scope[path] && !c.lastWins {
		return c.refuse(at, "the field %q is mentioned twice: put both conditions into one array", path)
	}
	c.scope[path] = true
	i, known := c.index[path]
	if !known {
		if i = len(c.fields); i == MaxFields {
			return c.refuse(at, "more than %d fields", MaxFields)
		}
		p := field.ParsePath(path)
		if len(p) > field.MaxSegments {
			return c.refuse(at, "the field %q has %d names, at most %d are allowed", path, len(p), field.MaxSegments)
		}
		c.fields = append(c.fields, p)
		c.index[path] = i
	}
	predicates, err := c.values()
	if err != nil {
		return err
	}
	for _, a := range c.alternatives {
		a[i] = predicates
	}
	return nil
}

// or compiles a $or: every alternative so far, with every one of the list.
func (c *compiler) or(at, depth int) error {
	if c.peek() != '[' {
		return c.refuse(c.at, "$or takes an array of two or more objects, found %s", c.found())
	}
	before, scope := c.alternatives, c.scope
	var after []alternative
	count := 0
	for range c.elements() {
		if c.peek() != '{' {
			return c.refuse(c.at, "$or takes objects of fields, found %s", c.found())
		}
		count++
		c.alternatives, c.scope = nil, map[string]bool{}
		if len(before)+len(after) > MaxAlternatives {
			return c.refuse(at, "the $or of this pattern have more than %d combinations", MaxAlternatives)
		}
		for _, a := range before {
			c.alternatives = append(c.alternatives, maps.Clone(a))
		}
		if err := c.object(depth+1, true); err != nil {
			return err
		}
		after = append(after, c.alternatives...)
	}
	if count < 2 {
		return c.refuse(at, "$or has %d alternatives, want two or more", count)
	}
	if len(after) > MaxAlternatives {
		return c.refuse(at, "the $or of this pattern have more than %d combinations", MaxAlternatives)
	}
	c.alternatives, c.scope = after, scope
	return nil
}

// conjunctions puts each alternative's fields in the order of the pattern.
func (c *compiler) conjunctions() []conjunction {
	all := make([]conjunction, 0, len(c.alternatives))
	for _, a := range c.alternatives {
		conj := make(conjunction, 0, len(a))
		for _, i := range slices.Sorted(maps.Keys(a)) {
			conj = append(conj, condition{field: i, predicates: a[i]})
		}
		all = append(all, conj)
	}
	return all
}
