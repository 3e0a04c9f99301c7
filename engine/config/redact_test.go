package config

import (
	"strings"
	"testing"

	"github.com/weir-project/weir/transports"
)

// TestSecretsAreStruckOut: those of the node and of transports, in lists too.
func TestSecretsAreStruckOut(t *testing.T) {
	env := map[string]string{"TOKEN": "the token of the node", "PASSWORD": "pass\"word", "SHORT": "abc"}
	plan, err := Load(Options{
		File: "weir.yaml",
		Env:  func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		Data: []byte("version: 1\nnode: {admin: {listen: \"127.0.0.1:0\", token: \"${TOKEN}\"}}\n" +
			"sources: {in: {closed: {password: \"${PASSWORD}\", pin: \"${SHORT}\"}}}\nroutes: {all: {to: [out]}}\nsinks: {out: {closed: {}}}\ndead_letters: false\n"),
		Transports: []transports.Transport{closed{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := string(plan.Redact([]byte(`["the token of the node", "x pass\"word y", "abc", {"a":"pass\"word"}]`)))
	if want := `["(secret)", "x (secret) y", "abc", {"a":"(secret)"}]`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if text := "nothing of the kind"; string(plan.Redact([]byte(text))) != text || strings.Contains(got, "token") {
		t.Error("it strikes out what is no secret")
	}
}

// closed is a transport with secrets.
type closed struct{ transports.Transport }

func (closed) Name() string { return "closed" }

func (closed) Options() (source, sink []transports.Option) {
	return []transports.Option{{Name: "password", Type: transports.String, Secret: true}, {Name: "pin", Type: transports.String, Secret: true}}, []transports.Option{}
}
