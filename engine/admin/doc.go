// Package admin is the HTTP API of a running engine: health, status, metrics, and
// what operators ask of it and tell it to do.
//
// Promise: nobody reads or changes anything without a credential (I13). Over the
// unix socket admin.sock in the data folder that is the right to open it: its mode is
// 0600, the folder's 0700. Over TCP, which is only there if asked for, it is the
// token, compared in constant time; off loopback the connection is TLS besides.
// /healthz, /readyz and /metrics do without the token, and tell no more than
// numbers and names of the configuration. What a browser was tricked into sending is
// refused: a foreign Host (DNS rebinding), a foreign Origin, a form's content type.
// No answer holds a secret. What a client may take of the process is bounded: see
// the limits below.
//
// A program that embeds the engine starts a Server beside Engine.Run, or mounts
// Server.Handler in a server of its own; package engine itself opens no port and
// links nothing of this.
//
// # Answers
//
// An answer is JSON: what was asked for, with status 200, or {"errors": [...]} with
// the same members as in the envelope of the program's --json: file, line, column,
// path, error, hint. A stream is one JSON value a line, for as long as the client
// stays. Paths are matched exactly and byte for byte; parameters stand in the query;
// an unknown one is refused.
//
// # Adding endpoints
//
// An Endpoint says its method, path, parameters and what answers. Those of this
// package stand in a file a topic, and are listed in endpoints; a program adds its
// own by Config.Endpoints. The guard (guard.go) has seen every request before.
package admin
