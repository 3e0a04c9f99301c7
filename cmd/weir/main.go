// Command weir runs the event engine and looks after what belongs to it.
//
// Promise: exit code 0 says that all is fine, 1 that the command ran and the
// answer is no, 2 that the command line or the configuration is wrong, 3 that
// the environment failed (a port taken, a broker away, a disk full). With
// --json a command prints one envelope {command, ok, result, errors} on
// standard output and nothing else there; diagnostics go to standard error.
//
// This file is the one place that links transports and plug-in hosts.
package main

import (
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	embedding "github.com/weir-project/weir/engine/program"
	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/plugins/wasm"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/file"
	"github.com/weir-project/weir/transports/http"
	"github.com/weir-project/weir/transports/local"
	"github.com/weir-project/weir/transports/memory"
)

func main() {
	// The data path hardly allocates: collecting twice as often costs nothing that can
	// be measured and keeps a quarter of the memory from growing.
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(50)
	}
	p := &program{
		transports: []transports.Transport{file.New(), local.New(), memory.New(), embedding.New(), http.New()},
		hosts:      []plugins.Host{wasm.New(wasm.Config{})},
		in:         os.Stdin,
		out:        os.Stdout,
		diag:       os.Stderr,
		env:        os.LookupEnv,
		environ:    os.Environ,
		signals: func(c chan<- os.Signal) func() {
			signal.Notify(c, os.Interrupt, syscall.SIGTERM)
			return func() { signal.Stop(c) }
		},
		hangups: func(c chan<- os.Signal) func() {
			signal.Notify(c, syscall.SIGHUP)
			return func() { signal.Stop(c) }
		},
		exit: os.Exit,
	}
	os.Exit(p.run(os.Args[1:]))
}
