package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	dir := t.TempDir()
	chosen, o, err := parse([]string{"dedup", "--quick", "pipeline", "--only", "wasm", "--seed=7", "--dir", dir}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if len(chosen) != 2 || chosen[0].name != "dedup" || chosen[1].name != "pipeline" {
		t.Fatalf("chosen: %v", chosen)
	}
	if !o.Quick || o.Only != "wasm" || o.Seed != 7 || o.Dir != dir {
		t.Fatalf("options: %+v", o)
	}
	if !o.Wants("wasm") || o.Wants("pattern") {
		t.Fatal("--only chooses the wrong case")
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"nonsense"}, {"dedup", "--nonsense"}, {"--quick"}, {"-h"}} {
		var diag bytes.Buffer
		if code := run(args, &bytes.Buffer{}, &diag); code != 2 || !strings.Contains(diag.String(), "usage: go run ./bench") {
			t.Errorf("%q: code %d, %s", args, code, &diag)
		}
	}
}
