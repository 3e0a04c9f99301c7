package pattern

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weir-project/weir/engine/field"
)

// operatorNames are what stands in an operator's object and, inside $or, in no
// other.
var operatorNames = map[string]bool{
	"prefix": true, "suffix": true, "equals-ignore-case": true, "wildcard": true,
	"exists": true, "cidr": true, "numeric": true, "anything-but": true,
}

// equals is what a plain value is called where an operator's name is due.
const equals = "equals"

const operatorList = "anything-but, cidr, equals-ignore-case, exists, numeric, prefix, suffix or wildcard"

// values reads a field's array of values and operators.
func (c *compiler) values() ([]*predicate, error) {
	start := c.at
	var all []*predicate
	for range c.elements() {
		p, err := c.entry()
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil, c.refuse(start, "an empty array matches nothing: want at least one value or operator")
	}
	return all, nil
}

// entry reads one value or operator.
func (c *compiler) entry() (*predicate, error) {
	switch c.peek() {
	case '[':
		return nil, c.refuse(c.at, "an array in an array: list the values in one array")
	case '{':
		return c.operator()
	}
	at := c.at
	t := c.value()
	return &predicate{tests: []test{t}, operator: equals, operand: string(c.text[at:c.at])}, nil
}

// value reads a scalar.
func (c *compiler) value() test {
	t := test{op: exact}
	switch c.peek() {
	case '"':
		t.kind, t.text = field.String, c.str()
		return t
	case 't':
		t.kind = field.True
	case 'f':
		t.kind = field.False
	case 'n':
		t.kind = field.Null
	default:
		t.kind = field.Number
	}
	t.text = c.word()
	if t.kind == field.Number {
		t.num, t.whole = field.Float64([]byte(t.text))
	}
	return t
}

// operator reads an object of exactly one operator.
func (c *compiler) operator() (*predicate, error) {
	start := c.at
	var p *predicate
	for range c.members() {
		at := c.at
		name := c.str()
		c.colon()
		if p != nil {
			return nil, c.refuse(at, "a second operator %q in one object: give each an object of its own", name)
		}
		var err error
		from := c.at
		if p, err = c.operand(name, at); err != nil {
			return nil, err
		}
		p.operator, p.operand = name, string(c.text[from:c.at])
	}
	if p == nil {
		return nil, c.refuse(start, "an empty object: want one of %s", operatorList)
	}
	return p, nil
}

// operand reads what stands after an operator's name.
func (c *compiler) operand(name string, at int) (*predicate, error) {
	var t test
	var err error
	switch name {
	case "anything-but":
		return c.anythingBut()
	case "prefix", "suffix":
		t, err = c.affix(name)
	case "equals-ignore-case", "wildcard":
		t, err = c.oneString(name)
	case "exists":
		t, err = c.exists()
	case "cidr":
		t, err = c.cidr()
	case "numeric":
		t, err = c.numeric()
	default:
		return nil, c.refuse(at, "unknown operator %q: want one of %s", name, operatorList)
	}
	if err != nil {
		return nil, err
	}
	return &predicate{tests: []test{t}}, nil
}

// affix reads the operand of prefix or suffix: a string, or
// {"equals-ignore-case": string}.
func (c *compiler) affix(name string) (test, error) {
	if c.peek() != '{' {
		return c.oneString(name)
	}
	start, found := c.at, false
	var t test
	for range c.members() {
		at := c.at
		inner := c.str()
		c.colon()
		if inner != "equals-ignore-case" || found {
			return t, c.refuse(at, `%s takes a string or {"equals-ignore-case": string}, found the name %q`, name, inner)
		}
		found = true
		var err error
		if t, err = c.oneString(inner); err != nil {
			return t, err
		}
	}
	if !found {
		return t, c.refuse(start, `%s takes a string or {"equals-ignore-case": string}, found an empty object`, name)
	}
	t.op = prefixIgnoreCase
	if name == "suffix" {
		t.op = suffixIgnoreCase
	}
	return t, nil
}

// oneString reads the operand of an operator that takes one string.
func (c *compiler) oneString(name string) (test, error) {
	if c.peek() != '"' {
		return test{}, c.refuse(c.at, "%s takes a string, found %s", name, c.found())
	}
	at := c.at
	t := test{text: c.str()}
	switch name {
	case "prefix":
		t.op = prefix
	case "suffix":
		t.op = suffix
	case "equals-ignore-case":
		t.op, t.folds = ignoreCase, fold(t.text)
	case "wildcard":
		runs, wrong := parseWildcard(t.text)
		if wrong != "" {
			return t, c.refuse(at, "wildcard %s: %s", strconv.Quote(t.text), wrong)
		}
		t.op, t.runs = wild, runs
	}
	return t, nil
}

func (c *compiler) exists() (test, error) {
	at := c.at
	if b := c.peek(); b != 't' && b != 'f' {
		return test{}, c.refuse(at, "exists takes true or false, found %s", c.found())
	}
	if c.word() == "true" {
		return test{op: present}, nil
	}
	return test{op: absent}, nil
}

func (c *compiler) cidr() (test, error) {
	at := c.at
	if c.peek() != '"' {
		return test{}, c.refuse(at, `cidr takes a string such as "10.0.0.0/8", found %s`, c.found())
	}
	s := c.str()
	block, err := netip.ParsePrefix(s)
	if err != nil {
		return test{}, c.refuse(at, `cidr %q: want an address block such as "10.0.0.0/8" or "2001:db8::/32"`, s)
	}
	if block.IsSingleIP() {
		return test{}, c.refuse(at, "cidr %q: a block of one address is refused, as EventBridge does: want at most %d bits, or the address as a plain value", s, block.Bits()-1)
	}
	return test{op: cidr, text: s, block: block.Masked()}, nil
}

// numeric reads a list of one comparison, or of a lower and an upper bound.
func (c *compiler) numeric() (test, error) {
	start := c.at
	if c.peek() != '[' {
		return test{}, c.refuse(start, `numeric takes an array such as [">", 0, "<=", 5], found %s`, c.found())
	}
	t := test{op: numeric, span: span{low: math.Inf(-1), high: math.Inf(1)}}
	var seen []string // comparisons read
	comparison := ""
	for range c.elements() {
		at := c.at
		if comparison == "" {
			if c.peek() != '"' {
				return t, c.refuse(at, `numeric wants a comparison (=, <, <=, > or >=) here, found %s`, c.found())
			}
			comparison = c.str()
			if wrong := comparisonWrong(seen, comparison); wrong != "" {
				return t, c.refuse(at, "numeric: %s", wrong)
			}
			seen = append(seen, comparison)
			continue
		}
		x, err := c.number()
		if err != nil {
			return t, err
		}
		t.span.bound(comparison, x)
		comparison = ""
		if len(seen) == 2 && t.span.low >= t.span.high {
			return t, c.refuse(at, "numeric: the upper bound must be greater than the lower")
		}
	}
	if len(seen) == 0 || comparison != "" {
		return t, c.refuse(start, `numeric wants comparisons each followed by a number, such as [">", 0, "<=", 5]`)
	}
	return t, nil
}

// comparisonWrong says what is wrong with a comparison after those in seen.
func comparisonWrong(seen []string, comparison string) string {
	switch comparison {
	case "=", "<", "<=":
		if len(seen) == 1 && seen[0][0] == '>' && comparison != "=" {
			return ""
		}
		if len(seen) == 0 {
			return ""
		}
	case ">", ">=":
		if len(seen) == 0 {
			return ""
		}
	default:
		return fmt.Sprintf("%q is not a comparison: want =, <, <=, > or >=", comparison)
	}
	return fmt.Sprintf(`%q cannot follow %q: want one comparison, or a lower bound (> or >=) and then an upper one (< or <=)`, comparison, strings.Join(seen, " "))
}

// bound narrows the span by one comparison.
func (s *span) bound(comparison string, x float64) {
	switch comparison {
	case "=":
		s.low, s.high = x, x
	case "<", "<=":
		s.high, s.openHigh = x, comparison == "<"
	default:
		s.low, s.openLow = x, comparison == ">"
	}
}

// number reads a number that can be compared.
func (c *compiler) number() (float64, error) {
	at := c.at
	if b := c.peek(); b != '-' && b-'0' > 9 {
		return 0, c.refuse(at, "want a number here, found %s", c.found())
	}
	s := c.word()
	x, whole := field.Float64([]byte(s))
	if !whole {
		return 0, c.refuse(at, "the number %s does not survive a 64-bit float and cannot be compared: want at most 15 digits, or up to 17 that do", s)
	}
	return x, nil
}

// anythingBut reads a scalar, a list of strings or of numbers, or one of the
// operators that it takes.
func (c *compiler) anythingBut() (*predicate, error) {
	p := &predicate{not: true}
	start := c.at
	switch c.peek() {
	case '{':
		return p, c.anythingButOperator(p)
	case '[':
		for range c.elements() {
			if err := c.anythingButValue(p); err != nil {
				return nil, err
			}
		}
		if len(p.tests) == 0 {
			return nil, c.refuse(start, "anything-but takes at least one value, found an empty array")
		}
		return p, nil
	}
	return p, c.anythingButValue(p)
}

// anythingButValue reads a string or number, of the kind of those before it.
func (c *compiler) anythingButValue(p *predicate) error {
	at := c.at
	switch b := c.peek(); {
	case b == '"':
		p.tests = append(p.tests, c.value())
	case b == '-' || b-'0' <= 9:
		if _, err := c.number(); err != nil {
			return err
		}
		c.at = at
		p.tests = append(p.tests, c.value())
	default:
		return c.refuse(at, "anything-but takes strings or numbers, found %s", c.found())
	}
	if p.tests[0].kind != p.tests[len(p.tests)-1].kind {
		return c.refuse(at, "anything-but takes strings or numbers, not both in one list")
	}
	return nil
}

// anythingButOperator reads {"prefix": string or strings} and its like.
func (c *compiler) anythingButOperator(p *predicate) error {
	const allowed = "prefix, suffix, equals-ignore-case or wildcard"
	start := c.at
	for range c.members() {
		at := c.at
		name := c.str()
		c.colon()
		switch name {
		case "prefix", "suffix", "equals-ignore-case", "wildcard":
		default:
			return c.refuse(at, "anything-but takes %s, found the name %q", allowed, name)
		}
		if len(p.tests) > 0 {
			return c.refuse(at, "a second operator %q under one anything-but: give each an anything-but of its own", name)
		}
		if c.peek() != '[' {
			if err := c.anythingButText(p, name); err != nil {
				return err
			}
			continue
		}
		from := c.at
		for range c.elements() {
			if err := c.anythingButText(p, name); err != nil {
				return err
			}
		}
		if len(p.tests) == 0 {
			return c.refuse(from, "%s under anything-but takes at least one string, found an empty array", name)
		}
	}
	if len(p.tests) == 0 {
		return c.refuse(start, "an empty object: anything-but takes %s", allowed)
	}
	return nil
}

func (c *compiler) anythingButText(p *predicate, name string) error {
	at := c.at
	t, err := c.oneString(name)
	if err != nil {
		return err
	}
	if t.text == "" && (t.op == prefix || t.op == suffix) {
		return c.refuse(at, "the empty %s fits every string, so that nothing would match: want at least one character", name)
	}
	p.tests = append(p.tests, t)
	return nil
}
