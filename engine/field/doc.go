// Package field reads the fields that a generation needs out of an event's
// JSON in one pass that also decides whether the bytes are JSON at all.
//
// A Program is compiled once from the wanted paths; Scan then validates a
// document and records, slot by slot, where the wanted values lie. Nothing is
// copied: a Value is an offset and a length into the document. A Scan that
// finds nothing wrong allocates nothing once its Values has warmed up.
//
// A document is accepted exactly if all of this holds:
//
//   - it is JSON by RFC 8259, as encoding/json.Valid judges it: any value at
//     the top, white space around it, no byte order mark;
//   - its strings are valid UTF-8 (lone surrogates written as escapes, such as
//     "\ud83d", are legal JSON and pass);
//   - objects and arrays nest no deeper than Limits.Depth;
//   - no object on the way to a wanted value names a wanted member twice, names
//     being compared after unescaping;
//   - no more than Limits.Elements values are recorded through arrays.
//
// # Paths
//
// A path is a list of names. "data.service_info" is the member service_info of
// the member data. A member whose own name has dots is the same path as the
// nested objects it looks like: {"data.service_info": 1} and
// {"data": {"service_info": 1}} both hold data.service_info, as they do in
// Amazon EventBridge.
//
// A path goes through arrays: in {"a":[{"b":1},{"b":2}]} the path a.b has two
// values. A wanted path that leads to an array records the array itself first
// (the whole slice) and then every scalar in it, nested arrays flattened:
//
//	{"a":[1,[2,"x"],{"y":3}]}   a = [1,[2,"x"],{"y":3}], then 1, 2, "x"
//
// Value.Elem names the chain of array elements that a value came through, so
// that a caller can tell whether two values lie in the same element
// (Values.Consistent). Only elements that are objects or arrays count: the
// scalars of one array all belong to what is around it, as in EventBridge.
package field
