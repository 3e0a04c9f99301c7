package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/weir-project/weir/engine/config"
)

// envelope is what --json prints.
type envelope struct {
	Command string           `json:"command"`
	OK      bool             `json:"ok"`
	Result  any              `json:"result"`
	Errors  []config.Mistake `json:"errors"`
}

// finish prints what a command found and returns the exit code.
func (p *program) finish(a answer, err error) int {
	code := exitCode(a, err)
	if p.json && a.lines && err == nil {
		return code
	}
	if p.json {
		p.printEnvelope(a, err, code)
		return code
	}
	if a.text != nil {
		a.text(p.out)
	}
	if err == nil {
		return code
	}
	for _, m := range mistakesOf(err) {
		fmt.Fprintln(p.diag, p.paint(red, "weir: ")+m.String())
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(p.diag, "Try "+strings.TrimSpace("weir "+p.command)+" --help.")
	}
	return code
}

func (p *program) printEnvelope(a answer, err error, code int) {
	e := envelope{Command: p.command, OK: code == exitFine, Result: a.result, Errors: mistakesOf(err)}
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if encErr := enc.Encode(e); encErr != nil {
		fmt.Fprintf(p.diag, "weir: the answer cannot be written: %v\n", encErr)
	}
}

// mistakesOf takes an error apart; it is never nil, so that --json has a list.
func mistakesOf(err error) []config.Mistake {
	var all *config.Errors
	switch {
	case err == nil:
		return []config.Mistake{}
	case errors.As(err, &all):
		return all.Mistakes
	}
	return []config.Mistake{{Error: withoutFatal(err)}}
}

// Colours of a terminal.
const (
	red    = "31"
	yellow = "33"
	bold   = "1"
)

// paint colours text for people at a terminal; NO_COLOR turns that off.
func (p *program) paint(colour, text string) string {
	if v, _ := p.env("NO_COLOR"); v != "" || !isTerminal(p.diag) {
		return text
	}
	if v, _ := p.env("TERM"); v == "dumb" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
