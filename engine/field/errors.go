package field

import "strconv"

// Reason is why a document was refused.
type Reason uint8

// Reasons for which Scan refuses a document.
const (
	ReasonSyntax       Reason = iota + 1 // not JSON by RFC 8259
	ReasonUTF8                           // a string holds bytes that are not UTF-8
	ReasonDepth                          // nested deeper than Limits.Depth
	ReasonSize                           // longer than MaxSize
	ReasonDuplicateKey                   // a wanted member is named twice in one object
	ReasonElements                       // more values through arrays than Limits.Elements
)

var reasons = [...]string{
	ReasonSyntax:       "invalid JSON",
	ReasonUTF8:         "invalid UTF-8 in a string",
	ReasonDepth:        "nested too deep",
	ReasonSize:         "document too large",
	ReasonDuplicateKey: "duplicate name of a wanted field",
	ReasonElements:     "too many values in arrays of wanted fields",
}

// String says the reason in words.
func (r Reason) String() string {
	if int(r) < len(reasons) && reasons[r] != "" {
		return reasons[r]
	}
	return "reason " + strconv.Itoa(int(r))
}

// Error is Scan's refusal of a document. It belongs to the Values that was
// scanned into and is overwritten by its next Scan.
type Error struct {
	Offset int    // byte at fault; the document's length where it ended too soon
	Reason Reason // what a caller may switch on
}

// Error says where and why.
func (e *Error) Error() string {
	return "scan JSON: " + e.Reason.String() + " at byte " + strconv.Itoa(e.Offset)
}
