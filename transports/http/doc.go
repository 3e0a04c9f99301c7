// Package http takes events in by HTTP and sends them out as webhooks.
//
// # Promise
//
// A source answers a request when all its events are settled and durable (I3):
// whoever got an answer of 2xx need not send again, and whoever did not may. With
// answer: accept it answers as soon as the events are in memory; a crash then
// loses them. A request is taken whole or not at all. A sink sends each entry with
// its id, never follows a redirect, and says of each failure whether the entry may
// have arrived. Events may decide on path, query and headers of requests, never on whom
// they go to, nor on how many segments and names a URL has.
//
// # Requests to a source
//
//	content-type                              the body is
//	application/cloudevents+json              one CloudEvent
//	application/cloudevents-batch+json        an array of CloudEvents
//	any, with a ce-specversion header         the data of a CloudEvent in binary mode
//	application/json, */*+json                one event, or an array of events, in the source's codec
//	application/x-ndjson, application/jsonl   one event a line
//
// Events reach the engine byte for byte, but for those in binary mode: they become
// structured CloudEvents.
//
// # Answers of a source
//
//	200 {"accepted":100}                          all are durable
//	202 {"accepted":100}                          answer: accept: all are in memory
//	207 {"accepted":99,"refused":[{"index":7,"reason":"invalid_field","detail":".."}]}
//	400 {"accepted":0,"refused":[..]}             no event of it was accepted
//	4xx, 5xx {"error":"..","hint":".."}           nothing was taken
//
// What stands in refused is a dead letter by then, with the same reason. After any
// other answer than these, and after none, a request may be sent again as it was:
// events that were taken before are duplicates by their ids. Events without ids get
// some made from the request's Idempotency-Key or webhook-id header, where it has
// one, and are new each time where it has not.
//
// # Signatures
//
// Of the body alone (signature: body), in hex or base64, with or without a name in front:
//
//	X-Signature-256: sha256=5257a869..
//
// In the manner of Standard Webhooks (signature: webhook), which is also how a sink signs:
//
//	webhook-id: ID
//	webhook-timestamp: 1760000000
//	webhook-signature: v1,BASE64 v1,BASE64      HMAC-SHA-256 of ID.TIMESTAMP.BODY, one a secret
package http
