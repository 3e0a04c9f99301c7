package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "dev"

// build says what this binary was made of.
type build struct {
	Version    string   `json:"version"`
	Commit     string   `json:"commit,omitempty"`
	Go         string   `json:"go"`
	Platform   string   `json:"platform"`
	Transports []string `json:"transports"`
	Hosts      []string `json:"plugin_hosts"`
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which version this is and what is linked into it",
		Args:  cobra.NoArgs,
		RunE: p.action(func(context.Context, *cobra.Command, []string) (answer, error) {
			b := p.build()
			return answer{result: b, text: func(w io.Writer) {
				fmt.Fprintf(w, "weir %s", b.Version)
				if b.Commit != "" {
					fmt.Fprintf(w, " (%s)", b.Commit)
				}
				fmt.Fprintf(w, ", %s, %s\n", b.Go, b.Platform)
				fmt.Fprintf(w, "transports: %s\nplug-in hosts: %s\n", list(b.Transports), list(b.Hosts))
			}}, nil
		}),
	}
}

func (p *program) build() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Hosts: p.hostNames()}
	for _, t := range p.transports {
		b.Transports = append(b.Transports, t.Name())
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	changed := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				changed = "+changes"
			}
		}
	}
	if b.Commit != "" {
		b.Commit += changed
	}
	return b
}
