package journal

import "fmt"

// announced is a generation's names, ready to be looked up. A nil one knows none.
type announced struct{ Generation }

// Lines makes lines of entries that are not in the log yet, by one generation's names.
type Lines struct{ names *announced }

// NewLines returns the maker of a generation's lines.
func NewLines(g *Generation) Lines { return Lines{&announced{*g}} }

// Line is the line of an entry, without what only its record will tell: time and place.
func (l Lines) Line(s *Section, e *Entry) *Line {
	line := lineOf(l.names, s, e)
	line.Epoch, line.Generation = l.names.Epoch, l.names.Number
	return line
}

// generationKey tells generations of different starts apart.
type generationKey struct{ epoch, number uint64 }

// maxNames bounds how many generations are remembered.
const maxNames = 4096

// names remembers what generations' records said. find, where set, looks in the
// log for one that was not met.
type names struct {
	by   map[generationKey]*announced
	find func(epoch, number uint64) error
	last generationKey
	hit  *announced
}

func newNames() *names { return &names{by: map[generationKey]*announced{}} }

// learn takes a generation's record.
func (n *names) learn(g *Generation) {
	if len(n.by) >= maxNames {
		clear(n.by)
	}
	a := &announced{*g}
	key := generationKey{g.Epoch, g.Number}
	n.by[key], n.hit = a, nil
}

// known is a generation that was met, or nil.
func (n *names) known(epoch, number uint64) *announced {
	key := generationKey{epoch, number}
	if n.hit == nil || n.last != key {
		n.last, n.hit = key, n.by[key]
	}
	return n.hit
}

// of is a generation, looked for in the log where it was not met; nil where its
// record is no longer held.
func (n *names) of(epoch, number uint64) (*announced, error) {
	if g := n.known(epoch, number); g != nil || n.find == nil {
		return g, nil
	}
	key := generationKey{epoch, number}
	if _, looked := n.by[key]; looked {
		return nil, nil
	}
	if err := n.find(epoch, number); err != nil {
		return nil, err
	}
	if n.by[key] == nil {
		n.by[key] = nil // do not look again
	}
	return n.by[key], nil
}

// route is a route's name; without names its number.
func (g *announced) route(i uint32) string {
	switch {
	case i == NoRoute:
		return ""
	case g == nil || int(i) >= len(g.Routes):
		return fmt.Sprintf("#%d", i)
	}
	return g.Routes[i]
}

func (g *announced) sink(i uint32) string {
	switch {
	case i == NoRoute:
		return ""
	case g == nil || int(i) >= len(g.Sinks):
		return fmt.Sprintf("#%d", i)
	}
	return g.Sinks[i]
}

// exits calls do for the sinks of a route, or of events without one.
func (g *announced) exits(route, taken uint32, do func(sink uint32)) {
	list := func(sinks []uint32) {
		for _, s := range sinks {
			do(s)
		}
	}
	switch {
	case g == nil:
	case route == NoRoute:
		list(g.Unmatched)
	case int(route) >= len(g.Exits):
	case taken == NoOutputs:
		list(g.Exits[route].To)
	case taken == ElseOutput:
		list(g.Exits[route].Else)
	default:
		for bit, o := range g.Exits[route].Outputs {
			if taken&(1<<bit) != 0 {
				list(o.To)
			}
		}
	}
}
