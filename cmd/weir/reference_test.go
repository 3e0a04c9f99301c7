package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestReference holds docs/cli.md against the commands. After a change of a command:
//
//	go test ./cmd/weir -run TestReference -update
func TestReference(t *testing.T) {
	var page bytes.Buffer
	var root *cobra.Command
	weirWith(func(p *program) { root = p.root() }, "", "version")
	page.WriteString(`# Commands

This page is made from the commands: ` + "`go test ./cmd/weir -run TestReference -update`" + ` writes it.

Exit codes: 0 fine; 1 it ran and the answer is no; 2 wrong usage or configuration; 3 the environment failed (a port taken, a broker away, a disk full).

With ` + "`--json`" + ` a command prints one envelope ` + "`{command, ok, result, errors}`" + ` on standard output and nothing else there; an error is ` + "`{file, line, column, path, error, hint}`" + `. Colours and progress are for terminals; ` + "`NO_COLOR`" + ` turns colours off.

## Flags of all commands

`)
	flagsOf(&page, root.PersistentFlags())
	commandsOf(&page, root)
	golden := filepath.Join("..", "..", "docs", "cli.md")
	if *update {
		if err := os.WriteFile(golden, page.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(golden, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(page.Bytes(), want) {
		t.Error("docs/cli.md is not what the commands say: go test ./cmd/weir -run TestReference -update")
	}
}

func commandsOf(w *bytes.Buffer, parent *cobra.Command) {
	for _, c := range parent.Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		if c.HasSubCommands() {
			commandsOf(w, c)
			continue
		}
		fmt.Fprintf(w, "\n## %s\n\n", c.CommandPath())
		text := c.Long
		if text == "" {
			text = c.Short + "."
		}
		fmt.Fprintf(w, "```text\n%s\n```\n\n%s\n", c.UseLine(), block(text))
		if c.Example != "" {
			fmt.Fprintf(w, "\n```text\n%s\n```\n", strings.TrimRight(c.Example, "\n"))
		}
		all := pflag.NewFlagSet("", pflag.ContinueOnError)
		all.AddFlagSet(c.LocalFlags())
		if all.HasAvailableFlags() || c.Parent() != c.Root() && c.Parent().PersistentFlags().HasAvailableFlags() {
			w.WriteString("\n")
			if c.Parent() != c.Root() {
				all.AddFlagSet(c.Parent().PersistentFlags())
			}
			flagsOf(w, all)
		}
	}
}

// block sets lines that are indented as they stand, and joins the others.
func block(text string) string {
	var out []string
	open := false
	for _, line := range strings.Split(text, "\n") {
		indented := strings.HasPrefix(line, "  ")
		if indented && !open {
			out = append(out, "```text")
		}
		if open && !indented && line != "" {
			if out[len(out)-1] == "" {
				out = out[:len(out)-1]
			}
			out = append(out, "```", "")
			open = false
		}
		open = open || indented
		out = append(out, strings.TrimPrefix(line, "  "))
	}
	if open {
		out = append(out, "```")
	}
	return strings.Join(out, "\n")
}

func flagsOf(w *bytes.Buffer, flags *pflag.FlagSet) {
	w.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		value := f.DefValue
		if value == "false" || value == "0" || value == "0s" || value == "[]" {
			value = ""
		}
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s |\n", name, value, strings.ReplaceAll(f.Usage, "|", `\|`))
	})
}
