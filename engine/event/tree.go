package event

import "strconv"

// tree is an event's envelopes taken apart, each member raw and in its place,
// so that single members can be changed.
type tree struct {
	chain  []Envelope
	levels []object // one an envelope
	// nested holds, of Metadata and Attributes, the object inside the level
	// that holds the attributes.
	nested []object
}

// nestName is the member that holds an envelope's attributes, "" where they
// stand at its top.
func (e Envelope) nestName() string {
	switch e {
	case Metadata:
		return "Metadata"
	case Attributes:
		return "attributes"
	}
	return ""
}

// parseTree takes valid JSON apart; its marks must hold.
func parseTree(raw []byte, chain []Envelope) (tree, *Error) {
	t := tree{chain: chain, levels: make([]object, len(chain)), nested: make([]object, len(chain))}
	for i, e := range chain {
		row := &envelopes[e]
		marks := row.marks
		if i > 0 && row.inner != nil {
			marks = row.inner
		}
		if m := unmarked(raw, marks); m != nil {
			return t, &Error{Field: pathText(m.Path), Reason: "is missing: not in the " + e.String() + " envelope", Offset: -1}
		}
		t.levels[i], _ = parseObject(raw)
		if nest := e.nestName(); nest != "" {
			t.nested[i], _ = parseObject(t.levels[i].get(nest))
		}
		for _, o := range [2]object{t.levels[i], t.nested[i]} {
			if name := o.duplicate(); name != "" {
				return t, &Error{Field: name, Reason: "stands twice in the " + e.String() + " envelope", Offset: -1}
			}
		}
		if i < len(chain)-1 {
			raw = find(raw, row.data)
		}
	}
	return t, nil
}

// newTree is a tree without attributes.
func newTree(chain []Envelope) tree {
	t := tree{chain: chain, levels: make([]object, len(chain)), nested: make([]object, len(chain))}
	for i, e := range chain {
		if nest := e.nestName(); nest != "" {
			t.levels[i].set(nest, []byte("{}"))
		}
	}
	return t
}

// holder is the object and the name in it that a path within the i-th envelope means.
func (t *tree) holder(i int, path []string) (*object, string) {
	if len(path) == 2 {
		return &t.nested[i], path[1]
	}
	return &t.levels[i], path[0]
}

func (t *tree) get(i int, path []string) []byte {
	o, name := t.holder(i, path)
	return o.get(name)
}

func (t *tree) set(i int, path []string, value []byte) {
	o, name := t.holder(i, path)
	o.set(name, value)
}

func (t *tree) last() int { return len(t.chain) - 1 }

// attributes is the innermost envelope's object of attributes.
func (t *tree) attributes() *object {
	if t.chain[t.last()].nestName() != "" {
		return &t.nested[t.last()]
	}
	return &t.levels[t.last()]
}

// bytes puts the event together again.
func (t *tree) bytes() []byte {
	var out []byte
	for i := t.last(); i >= 0; i-- {
		level := append(object(nil), t.levels[i]...)
		if nest := t.chain[i].nestName(); nest != "" {
			level.set(nest, t.nested[i].appendTo(nil))
		}
		if i < t.last() {
			level.set(envelopes[t.chain[i]].data[0], out)
		}
		out = level.appendTo(nil)
	}
	return out
}

// order sorts an envelope's members into the order of names; others stay
// behind them as they were.
func (o object) order(names ...string) object {
	sorted := make(object, 0, len(o))
	for _, name := range names {
		if i := o.index(name); i >= 0 {
			sorted = append(sorted, o[i])
		}
	}
next:
	for i := range o {
		for _, name := range names {
			if o[i].name == name {
				continue next
			}
		}
		sorted = append(sorted, o[i])
	}
	return sorted
}

// put sets a canonical attribute to a string, bool or int32 (nil removes it).
// It is false where the envelopes have no place for it.
func (t *tree) put(name string, value any) bool {
	last := t.last()
	row := &envelopes[t.chain[last]]
	for _, p := range row.places {
		if p.name == name {
			return t.putCore(last, p, value)
		}
	}
	if isCore(name) {
		return value == nil
	}
	for i := range t.chain {
		bridge := t.chain[i] == EventBridge
		if i < last && !(bridge && (bridgeOwns(name) || name == "traceparent" && !row.open)) {
			continue
		}
		for _, p := range envelopes[t.chain[i]].extensions {
			if p.name == name {
				return t.putExtension(i, p, value)
			}
		}
	}
	if row.open {
		t.levels[last].set(name, rawValue(value))
		return true
	}
	return value == nil
}

func (t *tree) putCore(i int, p place, value any) bool {
	e, text := t.chain[i], ""
	if value != nil {
		text = value.(string)
	}
	switch {
	case e == EventBridge && p.name == "subject":
		t.putBridgeSubject(i, text)
		return true
	case e == Attributes && p.name == "subject":
		current := t.get(i, p.path)
		return current != nil && current[0] == '"' && unquote(current) == text
	}
	t.set(i, p.path, rawValue(value))
	return true
}

func (t *tree) putExtension(i int, p place, value any) bool {
	text, isText := value.(string)
	switch p.name {
	case "awsresources":
		if value != nil && (!isText || validateJSON([]byte(text), DefaultDepth) != nil || trim([]byte(text))[0] != '[') {
			return false
		}
		if value == nil {
			t.set(i, p.path, nil)
			return true
		}
		t.set(i, p.path, trim([]byte(text)))
		return true
	case "traceparent":
		return t.putTrace(i, p.path, value)
	case "eventid":
		current := t.get(i, p.path)
		return isText && current != nil && current[0] == '"' && unquote(current) == text
	case "eventcount":
		raw := rawValue(value)
		if isText {
			raw = []byte(text)
		}
		if _, ok := parseCount(raw); value != nil && !ok {
			return false
		}
		t.set(i, p.path, raw)
		return true
	}
	t.set(i, p.path, rawValue(value))
	return true
}

// rawValue is an attribute's value as JSON, nil for nil.
func rawValue(value any) []byte {
	switch v := value.(type) {
	case string:
		return appendString(nil, v)
	case bool:
		return strconv.AppendBool(nil, v)
	case int32:
		return strconv.AppendInt(nil, int64(v), 10)
	}
	return nil
}

func pathText(path []string) string {
	text := ""
	for i, name := range path {
		if i > 0 {
			text += "."
		}
		text += name
	}
	return text
}
