// Package examples holds those of the example files that the program weir hands out:
// what `weir new` writes.
package examples

import "embed"

// Starter is a working folder, below "starter".
//
//go:embed starter
var Starter embed.FS

// Vip is a filter with its source, below "plugins/vip-rust".
//
//go:embed plugins/vip-rust/src plugins/vip-rust/manifest.json plugins/vip-rust/vip-rust.wasm
var Vip embed.FS
