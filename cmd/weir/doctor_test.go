package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
)

// TestDoctor breaks one thing after the other.
func TestDoctor(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	admin := func(p *program) {
		p.env = func(name string) (string, bool) {
			return map[string]string{"WEIR_TOKEN": "0123456789abcdef0"}[name], name == "WEIR_TOKEN"
		}
	}
	listening := strings.Replace(goodConfig, "node: {lanes: 1}", "node: {lanes: 1, admin: {listen: \""+taken.Addr().String()+"\", token: \"${WEIR_TOKEN}\"}}", 1)
	for _, test := range []struct {
		name, config string
		prepare      func(t *testing.T)
		code         int
		check, state string
	}{
		{"a new folder", goodConfig, nil, 0, "data folder", stateOK},
		{"a folder in use before", goodConfig, func(t *testing.T) {
			if err := os.Mkdir("weir-data", 0o700); err != nil {
				t.Fatal(err)
			}
		}, 0, "fsync", ""},
		{"a folder for everybody", goodConfig, func(t *testing.T) {
			if err := os.Mkdir("weir-data", 0o755); err != nil {
				t.Fatal(err)
			}
		}, 0, "data folder", stateWarning},
		{"a file in its place", goodConfig, func(t *testing.T) {
			if err := os.WriteFile("weir-data", nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, 1, "data folder", stateFault},
		{"a port that is taken", listening, nil, 1, "node.admin.listen", stateFault},
		{"a file to read that is missing", strings.Replace(goodConfig, "orders.ndjson", "gone.ndjson", 1), nil, 0, "sources.orders.file", stateWarning},
		{"a window larger than memory", strings.Replace(goodConfig, "orders.ndjson}", "orders.ndjson}, dedup: {max_ids: 1_000_000_000}", 1), nil, 0, "machine", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder(t, map[string]string{"weir.yaml": test.config, "orders.ndjson": orders})
			if test.prepare != nil {
				test.prepare(t)
			}
			got := weirWith(admin, "", "doctor", "--json")
			var e struct{ Result []finding }
			if err := json.Unmarshal([]byte(got.out), &e); err != nil {
				t.Fatalf("%v\n%s%s", err, got.out, got.diag)
			}
			found := false
			for _, f := range e.Result {
				if f.State != stateOK && f.State != stateNote && f.Do == "" {
					t.Errorf("nothing is said of what to do: %+v", f)
				}
				found = found || f.Check == test.check && (test.state == "" || f.State == test.state)
			}
			// What this machine lacks besides is not the test's.
			if !found || test.code == exitNo && got.code != exitNo {
				t.Errorf("exits with %d, want %d and %s: %s\n%s", got.code, test.code, test.check, test.state, got.out)
			}
			left, err := os.ReadDir(".")
			if err != nil || len(left) > 3 {
				t.Errorf("it left something behind: %v %v", left, err)
			}
		})
	}
}
