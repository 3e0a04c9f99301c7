// Package template makes events and texts out of the fields of an event, by the
// rules of Amazon EventBridge's input transformer.
//
// Promise: whatever the event holds, what an event template renders is valid JSON,
// and a value from the event never becomes more than the value at its place: it
// cannot end a string or add a member. Rendering does not parse the event: it copies
// values that somebody has found already.
//
// # Templates
//
// A template is JSON in which placeholders stand for fields of the event:
//
//	{"type": "OrderShipped", "data": {"order": <data.order_id>, "note": "to <data.address.city>"}}
//
// A placeholder that stands alone is the field's value with its JSON type. Where the
// event has no such field, the member or array element that it would be is left out;
// in a string it is empty. In a string a string is its text, a number, true, false or
// null its JSON, an object or array its JSON without white space and without the
// quotes of the strings in it. A placeholder cannot be part of a member's name.
// Two < stand for one.
//
// # Placeholders
//
// What stands between < and > is, in this order,
//
//   - a reserved name:
//     <aws.events.event.json> or <weir.event>: the event as it came,
//     <aws.events.event>: the same without its data,
//     <aws.events.event.ingestion-time> or <weir.time>: when it is worked on,
//     <aws.events.rule-name> or <weir.route>: the route,
//     <aws.events.rule-arn>: urn:weir:route: and the route's name;
//   - a name that Options.Paths gives to a path;
//   - a path: an attribute (id, source, type, subject, time, datacontenttype,
//     dataschema or an extension), data or something in it, or EventBridge's names
//     detail, detail-type, account, region and resources. It may begin with "$.".
//
// The names of a path are separated by dots. [3] is an element of an array, [*] an
// array of what the rest of the path finds in each of the elements. A path without
// them does not look into arrays.
package template
