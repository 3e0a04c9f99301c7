package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a file. They keep a hostile one from costing memory or stack.
const (
	maxFile    = 16 << 20  // bytes of one file
	maxDepth   = 100       // nesting of values
	maxAliased = 1_000_000 // values that aliases (*name) repeat, in one file
)

// readYAML reads a file of one YAML document. It returns nil where the file
// cannot be read as YAML at all; the mistakes then say why.
func readYAML(r *refs, file string, data []byte) *node {
	y := &yamlReader{refs: r, file: file, anchors: map[string]ast.Node{}}
	if !utf8.Valid(data) {
		r.add(y.at(validLine(data), 1), "", "the file is not UTF-8", "")
		return nil
	}
	root, err := y.parse(string(data))
	if err != nil {
		y.syntax(err, data)
		return nil
	}
	if root == nil {
		return &node{at: y.at(1, 1), kind: mapping}
	}
	return y.convert(root, 0)
}

// validLine is the line of the first bytes that are not UTF-8.
func validLine(data []byte) int {
	line := 1
	for len(data) > 0 {
		c, size := utf8.DecodeRune(data)
		if c == utf8.RuneError && size == 1 {
			break
		}
		if c == '\n' {
			line++
		}
		data = data[size:]
	}
	return line
}

// yamlReader turns the parser's tree into nodes.
type yamlReader struct {
	refs    *refs
	file    string
	anchors map[string]ast.Node
	aliased int // values converted because of aliases
	inside  int // aliases around the value at hand
}

func (y *yamlReader) at(line, column int) place {
	return place{file: y.file, line: max(line, 1), column: max(column, 1)}
}

func (y *yamlReader) place(t *token.Token) place {
	if t == nil || t.Position == nil {
		return y.at(1, 1)
	}
	return y.at(t.Position.Line, t.Position.Column)
}

// placed is an error with its place.
type placed struct {
	at   place
	text string
}

func (e *placed) Error() string { return e.text }

// parse returns the body of the only document, nil for an empty file. The
// parser is recursive and not ours, so depth is checked before it and a panic
// of it is an error.
func (y *yamlReader) parse(text string) (root ast.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			root, err = nil, errors.New("the file cannot be read as YAML")
		}
	}()
	tokens := lexer.Tokenize(text)
	if err := y.checkDepth(tokens); err != nil {
		return nil, err
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	for _, doc := range f.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if root != nil {
			return nil, &placed{y.start(doc.Body), "a second document: a configuration is one"}
		}
		root = doc.Body
	}
	return root, nil
}

// checkDepth bounds nesting by what can deepen it: brackets, and indicators or
// columns that start a block.
func (y *yamlReader) checkDepth(tokens token.Tokens) error {
	flow, run := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			run++
		case token.StringType, token.DoubleQuoteType, token.SingleQuoteType:
			run = 0
		}
		if flow > maxDepth || run > maxDepth || (t.Position != nil && t.Position.IndentNum > 20*maxDepth) {
			return &placed{y.place(t), fmt.Sprintf("nested deeper than %d", maxDepth)}
		}
	}
	return nil
}

// syntax reports an error of the parser.
func (y *yamlReader) syntax(err error, data []byte) {
	at, text, hint := y.at(1, 1), err.Error(), ""
	var own *placed
	var theirs yaml.Error
	switch {
	case errors.As(err, &own):
		at = own.at
	case errors.As(err, &theirs):
		at, text = y.place(theirs.GetToken()), theirs.GetMessage()
	}
	if strings.Contains(lineOf(data, at.line), "${") {
		hint = "a reference inside { } or [ ] stands in quotes"
	}
	text, _, _ = strings.Cut(text, "\n") // the rest shows the source, which may hold secrets
	y.refs.add(at, "", "not YAML: "+text, hint)
}

func lineOf(data []byte, line int) string {
	for i, l := range strings.Split(string(data), "\n") {
		if i+1 == line {
			return l
		}
	}
	return ""
}

// convert makes a node of a tree.
func (y *yamlReader) convert(n ast.Node, depth int) *node {
	at := y.place(n.GetToken())
	if depth > maxDepth {
		y.refs.add(at, "", fmt.Sprintf("nested deeper than %d", maxDepth), "")
		return &node{at: at, plain: true, broken: true}
	}
	if y.inside > 0 {
		if y.aliased++; y.aliased > maxAliased {
			if y.aliased == maxAliased+1 {
				y.refs.add(at, "", fmt.Sprintf("aliases repeat more than %d values", maxAliased), "")
			}
			return &node{at: at, plain: true, broken: true}
		}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return y.mapping(n.Values, n.IsFlowStyle, at, depth)
	case *ast.MappingValueNode:
		return y.mapping([]*ast.MappingValueNode{n}, false, at, depth)
	case *ast.SequenceNode:
		out := &node{at: at, kind: list}
		for _, v := range n.Values {
			out.items = append(out.items, y.convert(v, depth+1))
		}
		return out
	case *ast.AnchorNode:
		out := y.convert(n.Value, depth+1)
		y.anchors[n.Name.GetToken().Value] = n.Value // after the value: nothing holds itself
		return out
	case *ast.AliasNode:
		return y.alias(n, depth)
	case *ast.TagNode:
		return y.tagged(n, depth)
	case *ast.LiteralNode:
		return y.refs.scalar(at, n.Value.GetToken().Value, false)
	case *ast.StringNode:
		t := n.GetToken()
		return y.refs.scalar(at, t.Value, t.Type == token.StringType)
	case *ast.NullNode:
		return &node{at: at, plain: true}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return y.refs.scalar(at, n.GetToken().Value, true)
	}
	y.refs.add(at, "", "this form of YAML is not understood here", "")
	return &node{at: at, plain: true, broken: true}
}

// alias converts what an anchor named, once more.
func (y *yamlReader) alias(n *ast.AliasNode, depth int) *node {
	at, name := y.place(n.GetToken()), n.Value.GetToken().Value
	target, ok := y.anchors[name]
	if !ok {
		y.refs.add(at, "", fmt.Sprintf("no anchor &%s before this alias", shorten(name)), "")
		return &node{at: at, plain: true, broken: true}
	}
	y.inside++
	defer func() { y.inside-- }()
	return y.convert(target, depth+1)
}

// tagged takes !!str, which makes a string of any scalar; other tags would
// mean types that a configuration does not have.
func (y *yamlReader) tagged(n *ast.TagNode, depth int) *node {
	at := y.place(n.GetToken())
	if tag := n.GetToken().Value; tag != "!!str" {
		y.refs.add(at, "", fmt.Sprintf("tag %s is not understood here", shorten(tag)), "")
		return &node{at: at, plain: true, broken: true}
	}
	out := &node{at: at}
	if n.Value != nil {
		out = y.convert(n.Value, depth+1)
		out.plain = false
	}
	return out
}

// mapping reads members. Where a block mapping has members, it stands at its
// first key: the parser would point at a colon.
func (y *yamlReader) mapping(values []*ast.MappingValueNode, flow bool, at place, depth int) *node {
	out := &node{at: at, kind: mapping}
	if !flow && len(values) > 0 {
		out.at = y.place(values[0].Key.GetToken())
	}
	var merged []*node
	for _, v := range values {
		key := v.Key.GetToken()
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			merged = append(merged, y.convert(v.Value, depth+1))
			continue
		}
		text, ok := keyText(v.Key)
		if !ok {
			y.refs.add(y.place(key), "", "a key must be a name", "")
			continue
		}
		value := y.convert(v.Value, depth+1)
		if _, isNull := v.Value.(*ast.NullNode); isNull {
			value.at = y.place(key)
		}
		out.add(y.refs, pair{key: text, at: y.place(key), value: value})
	}
	for _, m := range merged {
		y.merge(out, m)
	}
	return out
}

// add takes a member whose key is new.
func (n *node) add(r *refs, p pair) {
	if i := n.find(p.key); i >= 0 {
		r.add(p.at, "", fmt.Sprintf("key %q is there twice", shorten(p.key)),
			fmt.Sprintf("first on line %d", n.pairs[i].at.line))
		n.twice = append(n.twice, p.key)
		return
	}
	n.put(p)
}

// merge adds the members of << that the mapping does not have itself.
func (y *yamlReader) merge(into, from *node) {
	switch from.kind {
	case list:
		for _, item := range from.items {
			y.merge(into, item)
		}
	case mapping:
		for _, p := range from.pairs {
			if into.get(p.key) == nil {
				into.put(p)
			}
		}
	default:
		y.refs.add(from.at, "", "<< takes a mapping", "")
	}
}

// start is where a tree begins.
func (y *yamlReader) start(n ast.Node) place {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return y.place(m.Values[0].Key.GetToken())
	}
	return y.place(n.GetToken())
}

// keyText is a key as it is written, without quotes.
func keyText(n ast.MapKeyNode) (string, bool) {
	switch k := n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return k.GetToken().Value, true
	case *ast.NullNode:
		t := k.GetToken()
		return t.Value, t.Type == token.NullType
	}
	return "", false
}
