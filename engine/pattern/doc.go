// Package pattern compiles event patterns, matches sets of them against
// events, and explains verdicts. The language is Amazon EventBridge's:
//
//	{
//	  "type": ["OrderPlaced", "OrderChanged"],
//	  "data": {
//	    "total":   [{"numeric": [">", 100, "<=", 5000]}],
//	    "country": [{"anything-but": ["US", "CA"]}],
//	    "coupon":  [{"exists": false}]
//	  }
//	}
//
// All names must be satisfied, each by one of the values in its array. Values
// are strings, numbers, true, false, null, or one operator: prefix, suffix
// (both also with equals-ignore-case), equals-ignore-case, wildcard, exists,
// cidr, numeric, anything-but (of values, or of prefix, suffix,
// equals-ignore-case or wildcard). "$or" takes two or more patterns of which
// one must be satisfied; what an alternative says of a field replaces what was
// said of it before the $or.
//
// # Semantics
//
// Types are strict: 1 is not "1". Numbers are equal by value (300 = 3.0e2)
// where they survive a float64; one with more digits equals only its own
// spelling, satisfies no numeric and passes every anything-but of numbers.
// Arrays of the event are gone into, and one element that satisfies the
// condition is enough; but two fields are never satisfied by two different
// elements of one array, and exists:false asks whether the field is absent
// from the elements that satisfied the other fields. Only scalars exist: [],
// {} and objects do not. A number is compared with cidr never, and IPv4 and
// IPv6 addresses are different families; an IPv4 address in IPv6 form is IPv4.
//
// # Use
//
// Compile each pattern, put those that see the same events into a Set, let
// field.Program scan the Set's Fields, and hand every event's scan to Match
// as a View. Patterns and Sets are immutable and safe for concurrent use; a
// Scratch belongs to one goroutine. Match does not allocate once its Scratch
// has warmed up.
package pattern
