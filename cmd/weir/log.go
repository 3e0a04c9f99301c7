package main

import (
	"io"
	"log/slog"

	"github.com/weir-project/weir/engine/config"
)

// newLog writes diagnostics in the form that the node's configuration asks for.
func newLog(w io.Writer, c config.Log) *slog.Logger {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	options := &slog.HandlerOptions{Level: levels[c.Level]}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
