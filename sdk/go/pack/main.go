// Command pack puts a manifest into a module, in place: what `weir plugin pack`
// does, for builds that have no weir at hand. It does not check the manifest;
// the host does when it loads the module.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
)

const name = "weir.manifest"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack MODULE.wasm MANIFEST.json")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(modulePath, manifestPath string) error {
	module, err := os.ReadFile(modulePath)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(module, []byte("\x00asm\x01\x00\x00\x00")) {
		return fmt.Errorf("%s is no core WASM module", modulePath)
	}
	manifest, err := os.ReadFile(manifestPath)
	if err != nil {
		return err
	}
	if bytes.Contains(module, []byte(name)) {
		return fmt.Errorf("%s has a manifest already", modulePath)
	}
	body := append([]byte{byte(len(name))}, name...)
	var text bytes.Buffer
	if err := json.Compact(&text, manifest); err != nil {
		return fmt.Errorf("%s: %w", manifestPath, err)
	}
	body = append(body, text.Bytes()...)
	module = append(module, 0) // a custom section
	module = binary.AppendUvarint(module, uint64(len(body)))
	return os.WriteFile(modulePath, append(module, body...), 0o644)
}
