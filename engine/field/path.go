package field

import "strings"

// Path is a field's place in a document, one name a segment, from the outside
// in. A Path without segments is the document itself.
type Path []string

// ParsePath splits a path at its dots. The result has at least one segment;
// the empty string is the member whose name is empty.
func ParsePath(s string) Path { return strings.Split(s, ".") }

// String joins the segments with dots.
func (p Path) String() string { return strings.Join(p, ".") }

// canonical splits segments that have dots themselves, so that equal paths
// have equal segments.
func (p Path) canonical() Path {
	if len(p) == 0 {
		return nil
	}
	return ParsePath(p.String())
}
